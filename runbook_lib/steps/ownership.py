"""Whose a resource is, and whether a name still refers to the resource that a plan showed.

What this run folder recorded is its own, by resource id. While a create is open, because its response was lost, the tag
`runbook:run` with the mark that this request was sent with counts too, for that kind of resource only: tags are copied by
snapshots, restores and people, and prove nothing by themselves. A run id is a name for people, and proves nothing.

Nor does a resource's name: a colleague may delete the resource and create another of the same name. Right before each act on
a resource that exists, `seen_again` describes it and compares its resource id with the plan's. A subnet group has none, so
that its ARN and tags count; an alias is identified by the key that it points to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runbook_lib.aws import ec2, kms, rds, watch
from runbook_lib.aws.retry import find_until_visible
from runbook_lib.errors import PlanOutdated
from runbook_lib.plan import Change
from runbook_lib.run.records import ClusterRecord, KeyRecord
from runbook_lib.run.steps import (
    CREATE_CLUSTER,
    CREATE_KEY,
    CUT_OVER,
    ENCRYPT_EXISTING_CLUSTER,
    VERIFY_ENCRYPTION,
    WATCH_KEY,
)
from runbook_lib.steps.open_step import MARK_TAG, RUN_ID_TAG, STEP_TAG, OpenStep

KEY, ALIAS = "KMS key", "alias"
CLUSTER, INSTANCE, SNAPSHOT = "DB cluster", "DB instance", "cluster snapshot"
SUBNET_GROUP, SECURITY_GROUP = "subnet group", "security group"
TOPIC, RULE, ALARM = "SNS topic", "EventBridge rule", "CloudWatch alarm"
# They have no resource id: whoever deletes one and creates another of the name gets the same ARN, so the mark counts too.
_WITHOUT_ID = (SUBNET_GROUP, TOPIC, RULE, ALARM)
_BY_REQUEST = (SNAPSHOT, TOPIC, RULE, ALARM)  # several of a kind, each with an intent of its own name


@dataclass(frozen=True)
class Found:
    """A resource as AWS describes it now: what it is, its name, what identifies it, and its tags."""

    resource: str
    name: str
    identity: str
    tags: Mapping[str, str] = field(default_factory=dict)


# What AWS describes ---------------------------------------------------------------------------------------------


def of_key(step: OpenStep, key_id: str) -> Found:
    """Return the identity of a KMS key: its id."""
    return Found(KEY, key_id, key_id, kms.tags_of(step.session, key_id))


def of_cluster(found: Mapping[str, Any]) -> Found:
    """Return the identity of a DB cluster's description: its DbClusterResourceId, which a rename does not change."""
    name, identity = found["DBClusterIdentifier"], str(found.get("DbClusterResourceId", ""))
    return Found(CLUSTER, name, identity, rds.rds_tags(dict(found)))


def of_instance(found: Mapping[str, Any]) -> Found:
    """Return the identity of a DB instance's description: its DbiResourceId."""
    name, identity = found["DBInstanceIdentifier"], str(found.get("DbiResourceId", ""))
    return Found(INSTANCE, name, identity, rds.rds_tags(dict(found)))


def of_snapshot(found: Mapping[str, Any]) -> Found:
    """Return the identity of a cluster snapshot's description: its ARN and creation time, as it has no resource id."""
    name, created = found["DBClusterSnapshotIdentifier"], found.get("SnapshotCreateTime")
    identity = f"{found.get('DBClusterSnapshotArn', '')} {created.isoformat() if created else ''}".strip()
    return Found(SNAPSHOT, name, identity, rds.rds_tags(dict(found)))


def of_subnet_group(step: OpenStep, found: Mapping[str, Any]) -> Found:
    """Return the identity of a subnet group's description: its ARN, as it has neither resource id nor creation time."""
    arn = str(found["DBSubnetGroupArn"])
    return Found(SUBNET_GROUP, str(found["DBSubnetGroupName"]), arn, ec2.tags_of(step.session, arn))


def of_security_group(found: Mapping[str, Any]) -> Found:
    """Return the identity of a security group's description: its GroupId."""
    return Found(SECURITY_GROUP, str(found["GroupName"]), str(found["GroupId"]), ec2.ec2_tags(dict(found)))


def _cluster(step: OpenStep, change: Change) -> Found | None:
    found = rds.find_cluster(step.session, change.name)
    return of_cluster(found) if found is not None else None


def _instance(step: OpenStep, change: Change) -> Found | None:
    found = rds.find_instance(step.session, change.name)
    return of_instance(found) if found is not None else None


def _snapshot(step: OpenStep, change: Change) -> Found | None:
    found = rds.find_snapshot(step.session, change.name)
    return of_snapshot(found) if found is not None else None


def _subnet_group(step: OpenStep, change: Change) -> Found | None:
    found = ec2.find_subnet_group(step.session, change.name)
    return of_subnet_group(step, found) if found is not None else None


def _security_group(step: OpenStep, change: Change) -> Found | None:
    found = ec2.security_group(step.session, change.identity)
    return of_security_group(found) if found is not None else None


def of_topic(found: Mapping[str, Any]) -> Found:
    """Return the identity of an SNS topic's description: its ARN."""
    arn = str(found["TopicArn"])
    return Found(TOPIC, arn.rpartition(":")[2], arn, found["Tags"])


def of_rule(found: Mapping[str, Any]) -> Found:
    """Return the identity of an EventBridge rule's description: its ARN."""
    return Found(RULE, str(found["Name"]), str(found["Arn"]), found["Tags"])


def of_alarm(found: Mapping[str, Any]) -> Found:
    """Return the identity of a CloudWatch alarm's description: its ARN."""
    return Found(ALARM, str(found["AlarmName"]), str(found["AlarmArn"]), found["Tags"])


def _topic(step: OpenStep, change: Change) -> Found | None:
    found = watch.find_topic(step.session, change.identity)
    return of_topic(found) if found is not None else None


def _rule(step: OpenStep, change: Change) -> Found | None:
    found = watch.find_rule(step.session, change.name)
    return of_rule(found) if found is not None else None


def _alarm(step: OpenStep, change: Change) -> Found | None:
    found = watch.find_alarm(step.session, change.name)
    return of_alarm(found) if found is not None else None


def _alias(step: OpenStep, change: Change) -> Found | None:
    target = kms.find_alias(step.session, change.name)
    return Found(ALIAS, change.name, target) if target is not None else None


_LOOK: dict[str, Callable[[OpenStep, Change], Found | None]] = {
    CLUSTER: _cluster,
    INSTANCE: _instance,
    SNAPSHOT: _snapshot,
    SUBNET_GROUP: _subnet_group,
    SECURITY_GROUP: _security_group,
    ALIAS: _alias,
    TOPIC: _topic,
    RULE: _rule,
    ALARM: _alarm,
}


# Whose it is ------------------------------------------------------------------------------------------------------


def requests_of(resource: str, name: str) -> tuple[tuple[str, str], ...]:
    """Return the steps that create such a resource, each with the request that its intent is recorded under."""
    snapshot, instance = f"rds:CreateDBClusterSnapshot {name}", f"rds:CreateDBInstance {name}"
    return {
        KEY: ((CREATE_KEY, "kms:CreateKey"),),
        CLUSTER: (
            (CREATE_CLUSTER, "rds:CreateDBCluster"),
            (ENCRYPT_EXISTING_CLUSTER, "rds:RestoreDBClusterFromSnapshot"),
        ),
        INSTANCE: ((CREATE_CLUSTER, instance), (ENCRYPT_EXISTING_CLUSTER, instance)),
        SUBNET_GROUP: ((CREATE_CLUSTER, "rds:CreateDBSubnetGroup"),),
        SECURITY_GROUP: ((CREATE_CLUSTER, "ec2:CreateSecurityGroup"), (CUT_OVER, "ec2:CreateSecurityGroup")),
        SNAPSHOT: ((VERIFY_ENCRYPTION, snapshot), (ENCRYPT_EXISTING_CLUSTER, snapshot)),
        TOPIC: ((WATCH_KEY, f"sns:CreateTopic {name}"),),
        RULE: ((WATCH_KEY, f"events:PutRule {name}"),),
        ALARM: ((WATCH_KEY, f"cloudwatch:PutMetricAlarm {name}"),),
    }[resource]


def is_ours(step: OpenStep, found: Found, *, creator: str = "") -> bool:
    """Return whether this run created the resource; with `creator`, whether that step did.

    An earlier version recorded the ids of key, cluster and security group only, and set no mark: its other resources are
    recognised by the tags with run id and step, as before.
    """
    requests = requests_of(found.resource, found.name)
    return any(_created(step, found, *request) for request in requests if creator in ("", request[0]))


def _created(step: OpenStep, found: Found, creator: str, request: str) -> bool:
    """Return whether this step of the run created the resource with this request."""
    intent = step.run.intent(creator, request)
    marked = found.tags.get(MARK_TAG, "") in intent.marks and found.tags.get(STEP_TAG) == creator
    if found.identity in intent.resources:
        return marked or found.resource not in _WITHOUT_ID
    if intent.outcome != "unclear" and (earlier := _recorded_earlier(step, found, creator)):
        return found.identity == earlier
    return intent.is_open and marked and found.tags.get(RUN_ID_TAG) == step.run.run_id


def _recorded_earlier(step: OpenStep, found: Found, creator: str) -> str:
    """Return the id that a step noted in its record, as format 1 did; "" for none."""
    if found.resource == KEY:
        return KeyRecord.so_far(step.run).key_id
    if creator != CREATE_CLUSTER:
        return ""
    record = ClusterRecord.so_far(step.run)
    if found.resource == SECURITY_GROUP:
        return record.made_security_group_id
    return record.db_cluster_resource_id if found.resource == CLUSTER else ""


def names_of(step: OpenStep, resource: str, *, creator: str = "") -> list[str]:
    """Return what this run recorded of a kind, as it is looked up: snapshots and subnet groups by name, others by id.

    `creator` limits them to those of one step.
    """
    found: list[str] = []
    for one, request in requests_of(resource, ""):
        if creator not in ("", one):
            continue
        intents = step.run.steps.get(one, {}).get("intents", {})
        if resource in _BY_REQUEST:
            found += [what.removeprefix(request) for what in intents if what.startswith(request)]
            continue
        recorded = intents.get(request, {}).get("resources", [])
        found += [one.rpartition(":")[2] for one in recorded] if resource == SUBNET_GROUP else recorded
    return found


def by_tags(step: OpenStep, found: Found) -> str:
    """Return the words for a resource of this run that an earlier version created without a mark; "" for any other."""
    for creator, request in requests_of(found.resource, found.name):
        intent = step.run.intent(creator, request)
        if found.identity in intent.resources or _recorded_earlier(step, found, creator):
            return ""
        if "" in intent.marks:
            return "; created by an earlier version: recognised by its tags"
    return ""


def record(step: OpenStep, resource: str, name: str, identity: str) -> None:
    """Record the id of a resource of this run that a plan keeps, whose create is still open."""
    for request in requests_of(resource, name):
        if identity and (intent := step.run.intent(*request)).outcome and intent.is_open:
            step.run.settle(*request, "found", resource=identity)


# Right before an act ----------------------------------------------------------------------------------------------

Seen = Literal["same", "deleted", "replaced"]


def seen_again(step: OpenStep, change: Change) -> Seen:
    """Describe the resource of a plan's row again: it is the same and this run's, or deleted, or replaced by another.

    One that is now another's counts as replaced. A row without identity names what the run did not create: the same.
    """
    if not change.identity:
        return "same"
    found = _LOOK[change.resource](step, change)
    if found is None:
        return "deleted"
    ours = found.resource == ALIAS or is_ours(step, found)
    return "same" if ours and found.identity == change.identity else "replaced"


def keep(step: OpenStep, change: Change) -> None:
    """Apply a row that keeps a resource of this run: require that it is the same, and record its id if its create is open.

    Raises `PlanOutdated`.
    """
    require_same(step, change)
    if change.resource in _LOOK and change.resource != ALIAS:
        record(step, change.resource, change.name, change.identity)


def require_same(step: OpenStep, change: Change) -> None:
    """Raise `PlanOutdated` unless the resource of the row is still the one of the plan; a new one may take seconds to appear."""

    def visible() -> Seen | None:
        seen = seen_again(step, change)
        return None if seen == "deleted" else seen

    if not change.identity:
        return
    if (seen := find_until_visible(visible, target=step.session.target) or "deleted") != "same":
        now = "does not exist any more" if seen == "deleted" else "is now another resource of the same name"
        raise PlanOutdated(
            f"nothing was done to {change.resource} {change.name}: what the plan showed {now}; run the plan cell again"
        )
