"""Every difference between an existing cluster and the one that replaces it, over all members of the SDK's shapes; no calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.aws.cluster_settings import ClusterSettings
from runbook_lib.steps.carry_over import Item, carried_tags, instance_names, policy_requests, target_requests

_IDENTITY, _OTHER_NAME = "identifies the cluster", "has the name of the cluster in it"
_STATE, _BY_EVIDENCE = "a state, not a setting", "compared by the evidence of step 06, with the key"
_NOT_AURORA = "not for Aurora"

# Members that are not compared, with the reason. Every other member of the SDK's shape is, known or not.
NOT_COMPARED_OF_CLUSTER: dict[str, str] = {
    "DBClusterIdentifier": "the new cluster has a temporary name",
    "DBClusterArn": _IDENTITY,
    "DbClusterResourceId": _IDENTITY,
    "ClusterCreateTime": "when the cluster was created",
    "Endpoint": _OTHER_NAME,
    "ReaderEndpoint": _OTHER_NAME,
    "CustomEndpoints": "compared with DescribeDBClusterEndpoints",
    "DBClusterMembers": "compared instance by instance",
    "AvailabilityZones": "chosen by Aurora for the storage",
    "MultiAZ": "follows from the instances",
    "Status": _STATE,
    "PercentProgress": _STATE,
    "PendingModifiedValues": _STATE,
    "StatusInfos": _STATE,
    "Capacity": _STATE,
    "AutomaticRestartTime": _STATE,
    "IOOptimizedNextAllowedModificationTime": "starts with the new cluster",
    "AllocatedStorage": "grows with the data",
    "EarliestRestorableTime": "backups of the new cluster start with it",
    "LatestRestorableTime": "backups of the new cluster start with it",
    "EarliestBacktrackTime": "backtracking of the new cluster starts with it",
    "BacktrackConsumedChangeRecords": _STATE,
    "StorageEncrypted": _BY_EVIDENCE,
    "StorageEncryptionType": _BY_EVIDENCE,
    "KmsKeyId": _BY_EVIDENCE,
    "MasterUserSecret": "RDS makes a new secret; compared by whether there is one, and its key",
    "CloneGroupId": "the new cluster shares no storage with a clone",
    "CertificateDetails": "of the new endpoint",
    "TagList": "compared without the tags of AWS and of the run",
    "PerformanceInsightsKMSKeyId": "the key of this run, on the instances",
    "AwsBackupRecoveryPointArn": "of a backup of the source",
    "ReadReplicaIdentifiers": "replicas of the source stay with it; a row of the plan says so",
    "DBSystemId": _NOT_AURORA,
}
NOT_COMPARED_OF_INSTANCE: dict[str, str] = {
    "DBInstanceIdentifier": "instances have new names: names are unique in a Region",
    "DBClusterIdentifier": "the new cluster has a temporary name",
    "DBInstanceArn": _IDENTITY,
    "DbiResourceId": _IDENTITY,
    "InstanceCreateTime": "when the instance was created",
    "Endpoint": "has the name of the instance in it",
    "ListenerEndpoint": "has the name of the instance in it",
    "EnhancedMonitoringResourceArn": "the log stream of the new instance",
    "DBInstanceStatus": _STATE,
    "PendingModifiedValues": _STATE,
    "StatusInfos": _STATE,
    "PercentProgress": _STATE,
    "AllocatedStorage": "grows with the data",
    "LatestRestorableTime": "backups of the new cluster start with it",
    "StorageEncrypted": _BY_EVIDENCE,
    "StorageEncryptionType": _BY_EVIDENCE,
    "KmsKeyId": _BY_EVIDENCE,
    "PerformanceInsightsKMSKeyId": "the key of this run; compared with it",
    "CertificateDetails": "of the new instance; its authority is compared",
    "TagList": "compared without the tags of AWS and of the run",
    "MasterUserSecret": "of the cluster",
    "AutomaticRestartTime": _STATE,
    "DBSystemId": _NOT_AURORA,
}


@dataclass(frozen=True)
class Difference:
    """One member that the new cluster or instance has with another value than the source."""

    where: str
    member: str
    source: Any
    new: Any


def differences(
    source: ClusterSettings,
    new: ClusterSettings,
    *,
    cluster_members: tuple[str, ...],
    instance_members: tuple[str, ...],
) -> list[Difference]:
    """Return every difference between source and new cluster, over all members of the SDK's shapes but those listed above."""
    names = instance_names(source, new.name)
    found = _compared("cluster", source.cluster, new.cluster, cluster_members, NOT_COMPARED_OF_CLUSTER)
    by_name = {str(one["DBInstanceIdentifier"]): one for one in new.instances}
    for one in source.instances:
        name = names[str(one["DBInstanceIdentifier"])]
        where = f"instance {name}"
        if (other := by_name.pop(name, None)) is None:
            found.append(Difference(where, "DBInstanceIdentifier", one["DBInstanceIdentifier"], None))
            continue
        found += _compared(where, one, other, instance_members, NOT_COMPARED_OF_INSTANCE)
    found += [Difference(f"instance {name}", "DBInstanceIdentifier", None, name) for name in by_name]
    for what, read in _LISTED.items():
        was, now = read(source, names), read(new, {name: name for name in by_name_of(new)})
        if was != now:
            found.append(Difference("cluster", what, was, now))
    return found


def by_name_of(settings: ClusterSettings) -> list[str]:
    """Return the names of the cluster's instances."""
    return [str(one["DBInstanceIdentifier"]) for one in settings.instances]


def _compared(
    where: str, source: Item, new: Item, members: tuple[str, ...], not_compared: Mapping[str, str]
) -> list[Difference]:
    found = [
        Difference(where, member, source.get(member), new.get(member))
        for member in dict.fromkeys([*members, *source, *new])
        if member not in not_compared and _plain(member, source.get(member)) != _plain(member, new.get(member))
    ]
    was, now = carried_tags(source), carried_tags(new)
    return [*found, Difference(where, "TagList", was, now)] if was != now else found


def _plain(member: str, value: Any) -> Any:
    """Return a value as it is compared: absent and off are alike, lists have no order, and the status of a part is left out."""
    if member == "StorageType" and value in (None, "", "aurora"):
        return None
    if value in (None, False, 0, "", [], {}) or value == "disabled":
        return None
    if isinstance(value, list):
        return sorted((_plain("", one) for one in value), key=_sorted_as)
    if isinstance(value, dict):
        return {name: _plain("", one) for name, one in value.items() if name not in ("Status", "ParameterApplyStatus")}
    return value


def _sorted_as(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _endpoints(settings: ClusterSettings, names: Mapping[str, str]) -> list[Any]:
    return sorted(
        [one["CustomEndpointType"]]
        + [sorted(names.get(name, name) for name in one.get(members) or []) for members in ("StaticMembers", "ExcludedMembers")]
        for one in settings.custom_endpoints
    )  # fmt: skip


def _targets(settings: ClusterSettings, _: Mapping[str, str]) -> list[Any]:
    found = target_requests(settings, identifier="")
    return sorted(({**one, "SuspendedState": None} for one in found), key=_sorted_as)


def _policies(settings: ClusterSettings, _: Mapping[str, str]) -> list[Any]:
    return sorted(policy_requests(settings, identifier=""), key=_sorted_as)


def _secret(settings: ClusterSettings, _: Mapping[str, str]) -> Any:
    return (settings.secret_key or "aws/secretsmanager") if settings.cluster.get("MasterUserSecret") else None


# What is compared in another form than the members of the shape.
_LISTED = {
    "custom endpoints": _endpoints,
    "scalable targets": _targets,
    "scaling policies": _policies,
    "MasterUserSecret": _secret,
}
