"""Clusters and instances as AWS shows them: what they hold, and what follows from it.

moto gaps: no StorageEncryptionType, no Performance Insights fields, `default_kms_key_id` where there is no key, and
one DbiResourceId for all.
"""

from __future__ import annotations

from typing import Any

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds import encryption as rds_encryption
from runbook_sandbox.rds import engines, secrets
from runbook_sandbox.rds.records import Cluster, Instance, host_suffix, window_start


def describe_cluster(cluster: Cluster) -> dict[str, Any]:
    """Return a cluster as AWS shows it."""
    fields = {name: value for name, value in cluster.fields.items() if name[:1].isupper() and value is not None}
    suffix, region = host_suffix(cluster.backend), cluster.region
    members = [
        {"DBInstanceIdentifier": instance.identifier, "IsClusterWriter": instance.identifier == cluster.writer,
         "DBClusterParameterGroupStatus": "in-sync", "PromotionTier": instance.fields["PromotionTier"]}
        for instance in cluster.instances
    ]  # fmt: skip
    shown = fields | cluster.encryption.wire | {
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
        "VpcSecurityGroups": [
            {"VpcSecurityGroupId": group, "Status": "active"} for group in cluster.fields["security_groups"]
        ],
        "TagList": cluster.get_tags(),
    }  # fmt: skip
    if cluster.secret is not None:
        shown["MasterUserSecret"] = {
            "SecretArn": cluster.secret.arn, "KmsKeyId": secrets.key_arn(cluster.secret),
            "SecretStatus": {"creating": "creating", "resetting-master-credentials": "rotating"}.get(cluster.status, "active"),
        }  # fmt: skip
    if cluster.status == "stopped" and cluster.stopped_at:
        shown["AutomaticRestartTime"] = cluster.stopped_at + rds_encryption.STOPPED_FOR
    return shown


def describe_instance(instance: Instance) -> dict[str, Any]:
    """Return an instance as AWS shows it; encryption and more are its cluster's."""
    cluster = instance.cluster
    fields = {name: value for name, value in instance.fields.items() if name[:1].isupper() and value is not None}
    shown = fields | instance.encryption.wire | {
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
    if cluster is not None:
        group = cluster.backend.subnet_groups.get(cluster.fields["DBSubnetGroup"])
        shown |= {
            name: cluster.fields[name]
            for name in ("Engine", "EngineVersion", "MasterUsername", "BackupRetentionPeriod", "PreferredBackupWindow",
                         "IAMDatabaseAuthenticationEnabled", "EnabledCloudwatchLogsExports", "NetworkType",
                         "EngineLifecycleSupport", "DeletionProtection", "ActivityStreamStatus")
            if cluster.fields.get(name) is not None
        }  # fmt: skip
        mysql = cluster.fields["Engine"] == engines.MYSQL
        shown |= {
            "LicenseModel": "general-public-license" if mysql else "postgresql-license",
            "DBName": cluster.fields.get("DatabaseName"),
            "LatestRestorableTime": clock.now(),
            "VpcSecurityGroups": [
                {"VpcSecurityGroupId": group_id, "Status": "active"} for group_id in cluster.fields["security_groups"]
            ],
            "DBSubnetGroup": group,
        }
        if instance.status != "creating":
            suffix = host_suffix(cluster.backend)
            shown["Endpoint"] = {
                "Address": f"{instance.identifier}.{suffix}.{instance.region}.rds.amazonaws.com",
                "Port": cluster.fields["Port"], "HostedZoneId": cluster.fields["HostedZoneId"],
            }  # fmt: skip
    return shown
