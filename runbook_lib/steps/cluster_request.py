"""The requests of step 05 for cluster and instances, and how existing resources differ from them; no calls."""

from __future__ import annotations

from typing import Any

from runbook_lib.inputs.rds import PORTS, CreateClusterInputs
from runbook_lib.steps.open_step import OpenStep

MADE = "created by this run, as requested"
AS_IT_IS = "set the parameter to the existing value, or modify the resource"


def instance_names(inputs: CreateClusterInputs) -> list[str]:
    """Return the instance identifiers: the writer, then the readers."""
    return [f"{inputs.db_cluster_identifier}-{number}" for number in range(1, inputs.reader_count + 2)]


def cluster_request(step: OpenStep, inputs: CreateClusterInputs, *, version: str, key_arn: str) -> dict[str, Any]:
    """Return the parameters of rds:CreateDBCluster, but for its network."""
    request: dict[str, Any] = {
        "DBClusterIdentifier": inputs.db_cluster_identifier,
        "Engine": inputs.engine,
        "EngineVersion": version,
        "EngineLifecycleSupport": "open-source-rds-extended-support-disabled",
        "Port": inputs.port or PORTS[inputs.engine],
        "MasterUsername": inputs.master_username,
        "ManageMasterUserPassword": True,
        "StorageEncrypted": True,
        "KmsKeyId": key_arn,
        "BackupRetentionPeriod": inputs.backup_retention_period,
        "DeletionProtection": inputs.deletion_protection,
        "CopyTagsToSnapshot": inputs.copy_tags_to_snapshot,
        "Tags": step.tag_list(inputs.tags),
    }
    optional = {
        "DatabaseName": inputs.database_name,
        "MasterUserSecretKmsKeyId": inputs.master_user_secret_kms_key_id,
        "DBClusterParameterGroupName": inputs.db_cluster_parameter_group_name,
        "EnableCloudwatchLogsExports": inputs.enable_cloudwatch_logs_exports,
    }
    request.update({name: value for name, value in optional.items() if value})
    if inputs.db_instance_class == "db.serverless":
        request["ServerlessV2ScalingConfiguration"] = {
            "MinCapacity": inputs.serverless_min_capacity,
            "MaxCapacity": inputs.serverless_max_capacity,
        }
    return request


def instance_request(step: OpenStep, inputs: CreateClusterInputs, name: str, index: int) -> dict[str, Any]:
    """Return the parameters of rds:CreateDBInstance; `index` 0 is the writer."""
    request: dict[str, Any] = {
        "DBInstanceIdentifier": name,
        "DBClusterIdentifier": inputs.db_cluster_identifier,
        "Engine": inputs.engine,
        "DBInstanceClass": inputs.db_instance_class,
        "PubliclyAccessible": False,
        "PromotionTier": min(inputs.promotion_tier + index, 15),
        "MonitoringInterval": inputs.monitoring_interval,
        "Tags": step.tag_list(inputs.tags),
    }
    optional = {
        "DBParameterGroupName": inputs.db_parameter_group_name,
        "MonitoringRoleArn": inputs.monitoring_role_arn,
    }
    return request | {field: value for field, value in optional.items() if value}


def differences(existing: dict[str, Any], requested: dict[str, Any], fields: tuple[str, ...]) -> str:
    """Return how an existing resource differs from the request, field by field, and what to do; '' when it does not.

    What AWS adds to a value by itself, such as SecondsUntilAutoPause, does not count, nor does the order of a list.
    """
    differs = [
        f"{field} is {existing.get(field)!r}, requested {requested[field]!r}"
        for field in fields
        if field in requested and not _as_requested(existing.get(field), requested[field])
    ]
    return "; ".join([*differs, AS_IT_IS]) if differs else ""


def _as_requested(existing: Any, requested: Any) -> bool:
    if isinstance(requested, dict):
        found = existing if isinstance(existing, dict) else {}
        return all(_as_requested(found.get(name), value) for name, value in requested.items())
    if isinstance(requested, list):
        return sorted(map(repr, existing or [])) == sorted(map(repr, requested))
    if requested in (0, False) and existing is None:
        return True  # AWS leaves out what is off
    return bool(existing == requested)


def short_key(request: dict[str, Any]) -> str:
    """Return the KMS key of a cluster request in short: the first eight characters of its id."""
    return f"key {request['KmsKeyId'].rpartition('/')[2][:8]}…"
