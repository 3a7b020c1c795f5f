"""Clusters and instances as AWS shows them: their fields, and what is derived from them.

moto gaps: no StorageEncryptionType, no Performance Insights fields, `default_kms_key_id` where there is no key, and
the same DbiResourceId for all instances.
"""

from __future__ import annotations

from typing import Any

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds import encryption, engines, managed_secrets
from runbook_sandbox.rds.resources import Cluster, Instance, host_suffix, window_start


def describe_cluster(cluster: Cluster) -> dict[str, Any]:
    """Return a cluster as AWS shows it."""
    fields = cluster.shown_fields
    suffix, region = host_suffix(cluster.backend), cluster.region
    members = [
        {"DBInstanceIdentifier": instance.identifier, "IsClusterWriter": instance.identifier == cluster.writer,
         "DBClusterParameterGroupStatus": "in-sync", "PromotionTier": instance.fields["PromotionTier"]}
        for instance in cluster.instances
    ]  # fmt: skip
    shown = fields | cluster.encryption.as_fields | {
        "DBClusterIdentifier": cluster.identifier,
        "DBClusterArn": cluster.arn,
        "DbClusterResourceId": cluster.resource_id,
        "Status": cluster.status or "deleting",
        "ClusterCreateTime": cluster.created,
        "EarliestRestorableTime": window_start(cluster),
        "LatestRestorableTime": clock.now(),
        "Endpoint": f"{cluster.identifier}.cluster-{suffix}.{region}.rds.amazonaws.com",
        "ReaderEndpoint": f"{cluster.identifier}.cluster-ro-{suffix}.{region}.rds.amazonaws.com",
        "MultiAZ": len({instance.fields["AvailabilityZone"] for instance in cluster.instances}) > 1,
        "DBClusterMembers": members,
        "VpcSecurityGroups": _security_groups(cluster),
        "TagList": cluster.get_tags(),
    }  # fmt: skip
    if cluster.secret is not None:
        changing = {"creating": "creating", "resetting-master-credentials": "rotating"}
        shown["MasterUserSecret"] = {
            "SecretArn": cluster.secret.arn, "KmsKeyId": managed_secrets.key_arn(cluster.secret),
            "SecretStatus": changing.get(cluster.status, "active"),
        }  # fmt: skip
    if cluster.status == "stopped" and cluster.stopped_at:
        shown["AutomaticRestartTime"] = cluster.stopped_at + encryption.STOPPED_FOR
    return shown


def describe_instance(instance: Instance) -> dict[str, Any]:
    """Return an instance as AWS shows it, with encryption and other fields of its cluster."""
    cluster = instance.cluster
    fields = instance.shown_fields
    shown = fields | instance.encryption.as_fields | {
        "DBInstanceIdentifier": instance.identifier,
        "DBInstanceArn": instance.arn,
        "DbiResourceId": instance.resource_id,
        "DBInstanceStatus": instance.status or "deleting",
        "DBClusterIdentifier": instance.cluster_id,
        "TagList": instance.get_tags(),
        "AllocatedStorage": 1,
        "DBSecurityGroups": [],
        "StorageType": "aurora",
        "MultiAZ": False,
        "DbInstancePort": 0,
        "PendingModifiedValues": {},
        "ReadReplicaDBInstanceIdentifiers": [],
        "DomainMemberships": [],
        "AssociatedRoles": [],
    }  # fmt: skip
    if instance.status not in ("creating", ""):
        shown["InstanceCreateTime"] = instance.created
    return shown if cluster is None else shown | _fields_of_cluster(instance, cluster)


def _fields_of_cluster(instance: Instance, cluster: Cluster) -> dict[str, Any]:
    """Return what an instance shows of its cluster."""
    fields = cluster.fields
    copied = ("Engine", "EngineVersion", "MasterUsername", "BackupRetentionPeriod", "PreferredBackupWindow",
              "IAMDatabaseAuthenticationEnabled", "EnabledCloudwatchLogsExports", "NetworkType",
              "EngineLifecycleSupport", "DeletionProtection", "ActivityStreamStatus")  # fmt: skip
    shown: dict[str, Any] = {name: fields[name] for name in copied if fields.get(name) is not None}
    shown |= {
        "LicenseModel": engines.license_model(fields["Engine"]),
        "DBName": fields.get("DatabaseName"),
        "LatestRestorableTime": clock.now(),
        "VpcSecurityGroups": _security_groups(cluster),
        "DBSubnetGroup": cluster.backend.subnet_groups.get(fields["DBSubnetGroup"]),
    }
    if instance.status != "creating":
        suffix = host_suffix(cluster.backend)
        shown["Endpoint"] = {
            "Address": f"{instance.identifier}.{suffix}.{instance.region}.rds.amazonaws.com",
            "Port": fields["Port"], "HostedZoneId": fields["HostedZoneId"],
        }  # fmt: skip
    return shown


def _security_groups(cluster: Cluster) -> list[dict[str, str]]:
    return [{"VpcSecurityGroupId": group, "Status": "active"} for group in cluster.fields["security_groups"]]
