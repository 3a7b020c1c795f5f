"""Checks of CreateDBInstance for a new member of a DB cluster.

moto gap: it accepts any engine, version, class and key for a member.
"""

from __future__ import annotations

from typing import Any

from runbook_sandbox.rds import checks, encryption, engines, placement
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.errors import bad_combination, bad_value, raise_error
from runbook_sandbox.rds.resources import LOST, Cluster

MOST_READERS = 15
# Settings of the cluster that AWS rejects for a member, with what its message calls them.
SET_ON_CLUSTER = {
    "KmsKeyId": "KMS key", "MasterUsername": "master user name", "MasterUserPassword": "master user password",
    "ManageMasterUserPassword": "master user password", "DBName": "database name", "Port": "port",
    "VpcSecurityGroupIds": "VPC security groups", "BackupRetentionPeriod": "backup retention period",
    "PreferredBackupWindow": "backup window", "AllocatedStorage": "allocated storage", "Iops": "Iops",
    "DeletionProtection": "deletion protection", "EnableIAMDatabaseAuthentication": "IAM database authentication",
    "EnableCloudwatchLogsExports": "CloudWatch logs exports", "StorageType": "storage type", "MultiAZ": "MultiAZ",
}  # fmt: skip


def check_new_member(handler: RdsBase, cluster: Cluster, engine: str, given: dict[str, Any]) -> None:
    """Check a request for a new member of `cluster`: settings, class, then the state of the cluster."""
    _check_settings(handler, cluster, engine, given)
    _check_class(cluster, given)
    promotion_tier(given)
    checks.monitoring(given, handler._roles)
    checks.insights(given)
    checks.windows(None, given.get("PreferredMaintenanceWindow"))
    checks.tags(given.get("Tags"))
    if cluster.status in ("deleting", "stopped", "stopping", *LOST):
        raise_error(
            "InvalidDBClusterStateFault", f"The DB cluster {cluster.identifier} is in the state {cluster.status}."
        )
    encryption.require_key(cluster)
    if len(cluster.instances) > MOST_READERS:
        raise_error("InstanceQuotaExceeded", f"A DB cluster has at most {MOST_READERS} readers.")


def promotion_tier(given: dict[str, Any]) -> None:
    """Check PromotionTier: 0 to 15."""
    if not 0 <= given.get("PromotionTier", 1) <= 15:
        bad_value(f"Invalid promotion tier: {given['PromotionTier']}. Valid values: 0 - 15")


def _check_settings(handler: RdsBase, cluster: Cluster, engine: str, given: dict[str, Any]) -> None:
    """Reject settings that belong to the cluster, and values that differ from the cluster's."""
    fields = cluster.fields
    if engine != fields["Engine"]:
        bad_combination(
            f"The engine name requested for your DB instance ({engine}) doesn't match the engine name of your DB "
            f"cluster ({fields['Engine']})."
        )
    for name, words in SET_ON_CLUSTER.items():
        if name in given and given[name] is not False:
            _set_on_cluster(words)
    if given.get("StorageEncrypted") not in (None, cluster.encryption.type == "sse-kms"):
        _set_on_cluster("storage encryption")
    if given.get("EngineVersion") and given["EngineVersion"] != fields["EngineVersion"]:
        engines.find_version(engine, given["EngineVersion"])
        bad_combination(
            f"The engine version requested for your DB instance ({given['EngineVersion']}) doesn't match that of "
            f"your DB cluster ({fields['EngineVersion']})."
        )
    if given.get("DBSubnetGroupName", fields["DBSubnetGroup"]).lower() != fields["DBSubnetGroup"]:
        placement.subnet_group(handler.backend, given["DBSubnetGroupName"])
        _set_on_cluster("DB subnet group")


def _set_on_cluster(words: str) -> None:
    bad_combination(f"The requested DB Instance will be a member of a DB Cluster. Set {words} for the DB Cluster.")


def _check_class(cluster: Cluster, given: dict[str, Any]) -> None:
    fields = cluster.fields
    if not given.get("DBInstanceClass"):
        bad_value("The parameter DBInstanceClass must be provided and must not be blank.")
    engines.check_class(engines.find_version(fields["Engine"], fields["EngineVersion"]), given["DBInstanceClass"])
    if given["DBInstanceClass"] == "db.serverless" and not fields.get("ServerlessV2ScalingConfiguration"):
        raise_error(
            "InvalidDBClusterStateFault",
            "Set the Serverless v2 scaling configuration on the parent DB cluster before creating a Serverless v2 DB "
            "instance.",
        )
