"""How the settings of an existing cluster become requests for the new one; no calls. `settings_difference` compares them.

Sources: API reference of RestoreDBClusterFromSnapshot, CreateDBInstance and ModifyDBCluster, whose defaults for omitted
parameters are not the source's values; Aurora user guide, Restoring from a DB cluster snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.aws.cluster_settings import ClusterSettings
from runbook_lib.aws.rds import rds_tags

Item = Mapping[str, Any]

# The restore's parameters that have the value of a member of DBCluster, by name. None, 0 and False are sent too, since an
# omitted parameter means AWS's default, except for those in `_OMIT_WHEN_OFF`.
_OF_CLUSTER = {
    "Engine": "Engine",
    "EngineVersion": "EngineVersion",
    "EngineLifecycleSupport": "EngineLifecycleSupport",
    "Port": "Port",
    "DBSubnetGroupName": "DBSubnetGroup",
    "DBClusterParameterGroupName": "DBClusterParameterGroup",
    "EnableIAMDatabaseAuthentication": "IAMDatabaseAuthenticationEnabled",
    "BacktrackWindow": "BacktrackWindow",
    "EnableCloudwatchLogsExports": "EnabledCloudwatchLogsExports",
    "DeletionProtection": "DeletionProtection",
    "CopyTagsToSnapshot": "CopyTagsToSnapshot",
    "StorageType": "StorageType",
    "NetworkType": "NetworkType",
    "BackupRetentionPeriod": "BackupRetentionPeriod",
    "PreferredBackupWindow": "PreferredBackupWindow",
}
_OMIT_WHEN_OFF = frozenset({"BacktrackWindow", "EnableCloudwatchLogsExports"})  # Backtrack is refused for PostgreSQL
# New in the SDK's model of the restore; with an older one ModifyDBCluster sets them afterwards.
_OR_MODIFY = ("BackupRetentionPeriod", "PreferredBackupWindow")

_OF_INSTANCE = {
    "Engine": "Engine",
    "DBInstanceClass": "DBInstanceClass",
    "AvailabilityZone": "AvailabilityZone",
    "PreferredMaintenanceWindow": "PreferredMaintenanceWindow",
    "AutoMinorVersionUpgrade": "AutoMinorVersionUpgrade",
    "PubliclyAccessible": "PubliclyAccessible",
    "PromotionTier": "PromotionTier",
    "CACertificateIdentifier": "CACertificateIdentifier",
    "MonitoringInterval": "MonitoringInterval",
    "MonitoringRoleArn": "MonitoringRoleArn",
    "EnablePerformanceInsights": "PerformanceInsightsEnabled",
    "PerformanceInsightsRetentionPeriod": "PerformanceInsightsRetentionPeriod",
}


def carried_tags(resource: Item) -> dict[str, str]:
    """Return a resource's tags without those of AWS (`aws:`) and of a run (`runbook:`)."""
    return {key: value for key, value in rds_tags(dict(resource)).items() if not key.startswith(("aws:", "runbook:"))}


def restore_request(
    source: Item, *, identifier: str, snapshot: str, key_arn: str, tags: list[dict[str, str]], known: frozenset[str]
) -> dict[str, Any]:
    """Return the parameters of rds:RestoreDBClusterFromSnapshot; `known` are those that the SDK has."""
    request: dict[str, Any] = {
        "DBClusterIdentifier": identifier,
        "SnapshotIdentifier": snapshot,
        "KmsKeyId": key_arn,
        "VpcSecurityGroupIds": [one["VpcSecurityGroupId"] for one in source.get("VpcSecurityGroups", [])],
        "Tags": tags,
    }
    for parameter, member in _OF_CLUSTER.items():
        value = source.get(member)
        if parameter not in known or value is None or (parameter in _OMIT_WHEN_OFF and not value):
            continue
        request[parameter] = value
    request.setdefault("StorageType", "aurora")  # DescribeDBClusters leaves out the standard type
    if scaling := source.get("ServerlessV2ScalingConfiguration"):
        wanted = ("MinCapacity", "MaxCapacity", "SecondsUntilAutoPause")
        request["ServerlessV2ScalingConfiguration"] = {name: scaling[name] for name in wanted if name in scaling}
    if "AssociatedRoles" in known and (roles := roles_of(source)):
        request["AssociatedRoles"] = roles
    if domains := source.get("DomainMemberships"):
        request |= {"Domain": domains[0]["Domain"], "DomainIAMRoleName": domains[0]["IAMRoleName"]}
    return request


def roles_of(source: Item) -> list[dict[str, str]]:
    """Return the IAM roles of a cluster with their features, without their status."""
    return [
        {name: one[name] for name in ("RoleArn", "FeatureName") if one.get(name)}
        for one in source.get("AssociatedRoles", [])
    ]


def modify_request(
    settings: ClusterSettings, *, identifier: str, key_arn: str, known: frozenset[str]
) -> dict[str, Any]:
    """Return the parameters of rds:ModifyDBCluster for what the restore does not take, or {} for none."""
    source = settings.cluster
    request: dict[str, Any] = {"PreferredMaintenanceWindow": source.get("PreferredMaintenanceWindow")}
    request |= {name: source.get(name) for name in _OR_MODIFY if name not in known}
    if source.get("DatabaseInsightsMode") == "advanced":
        request["DatabaseInsightsMode"] = "advanced"  # refused without Performance Insights, kept for 465 days or more
    if source.get("PerformanceInsightsEnabled"):
        request |= {"EnablePerformanceInsights": True, "PerformanceInsightsKMSKeyId": key_arn}
        request["PerformanceInsightsRetentionPeriod"] = source.get("PerformanceInsightsRetentionPeriod")
    if source.get("LocalWriteForwardingStatus") in ("enabled", "enabling"):
        request["EnableLocalWriteForwarding"] = True
    if source.get("MasterUserSecret"):
        request["ManageMasterUserPassword"] = True
        if settings.secret_key:
            request["MasterUserSecretKmsKeyId"] = settings.secret_key
    request = {name: value for name, value in request.items() if value is not None}
    return {"DBClusterIdentifier": identifier, "ApplyImmediately": True, **request} if request else {}


def instance_requests(
    settings: ClusterSettings, *, identifier: str, key_arn: str, tags: Mapping[str, list[dict[str, str]]]
) -> list[dict[str, Any]]:
    """Return the parameters of rds:CreateDBInstance for each instance, the writer first; `tags` by the source's name."""
    requests = []
    for number, source in enumerate(settings.instances, start=1):
        request: dict[str, Any] = {
            "DBInstanceIdentifier": f"{identifier}-{number}",
            "DBClusterIdentifier": identifier,
            "Tags": tags[source["DBInstanceIdentifier"]],
        }
        request |= {name: source[member] for name, member in _OF_INSTANCE.items() if source.get(member) is not None}
        if groups := source.get("DBParameterGroups"):
            request["DBParameterGroupName"] = groups[0]["DBParameterGroupName"]
        if request.get("EnablePerformanceInsights"):
            request["PerformanceInsightsKMSKeyId"] = key_arn
        else:
            request.pop("PerformanceInsightsRetentionPeriod", None)
        requests.append(request)
    return requests


def instance_names(settings: ClusterSettings, identifier: str) -> dict[str, str]:
    """Return the new name of each of the source's instances, the writer first."""
    return {
        str(one["DBInstanceIdentifier"]): f"{identifier}-{number}"
        for number, one in enumerate(settings.instances, start=1)
    }


def endpoint_requests(settings: ClusterSettings, *, identifier: str, suffix: str) -> list[dict[str, Any]]:
    """Return the parameters of rds:CreateDBClusterEndpoint for each custom endpoint, under a temporary name."""
    names = instance_names(settings, identifier)
    requests = []
    for one in settings.custom_endpoints:
        request = {
            "DBClusterIdentifier": identifier,
            "DBClusterEndpointIdentifier": f"{one['DBClusterEndpointIdentifier']}{suffix}",
            "EndpointType": one["CustomEndpointType"],
        }
        for members in ("StaticMembers", "ExcludedMembers"):
            if one.get(members):
                request[members] = [names[name] for name in one[members] if name in names]
        requests.append(request)
    return requests


def target_requests(settings: ClusterSettings, *, identifier: str) -> list[dict[str, Any]]:
    """Return the parameters of application-autoscaling:RegisterScalableTarget."""
    kept = ("ServiceNamespace", "ScalableDimension", "MinCapacity", "MaxCapacity", "SuspendedState")
    return [
        {name: one[name] for name in kept if name in one} | {"ResourceId": f"cluster:{identifier}"}
        for one in settings.scalable_targets
    ]


def policy_requests(settings: ClusterSettings, *, identifier: str) -> list[dict[str, Any]]:
    """Return the parameters of application-autoscaling:PutScalingPolicy."""
    kept = (
        "PolicyName", "ServiceNamespace", "ScalableDimension", "PolicyType", "StepScalingPolicyConfiguration",
        "TargetTrackingScalingPolicyConfiguration", "PredictiveScalingPolicyConfiguration",
    )  # fmt: skip
    return [
        {name: one[name] for name in kept if one.get(name)} | {"ResourceId": f"cluster:{identifier}"}
        for one in settings.scaling_policies
    ]
