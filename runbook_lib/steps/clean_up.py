"""Step 90: delete what a run created, and nothing else, in order; schedule the key's deletion last.

The key is kept while a cluster, a snapshot or an automated backup uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import ec2, kms, rds
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.key_users import who_uses
from runbook_lib.aws.retry import poll
from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.errors import NotConfirmed, WaitTimedOut
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Action, Change, Plan
from runbook_lib.run.records import CleanUpRecord, ClusterRecord, KeyRecord, StartRecord, VerificationRecord
from runbook_lib.run.steps import CREATE_CLUSTER, CREATE_KEY
from runbook_lib.steps import cluster_network, create_key
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table, Text

CLUSTER, INSTANCE, SNAPSHOT = "DB cluster", "DB instance", "cluster snapshot"
_FIND: dict[str, Callable[[Session, str], dict[str, Any] | None]] = {
    CLUSTER: rds.find_cluster,
    INSTANCE: rds.find_instance,
}
_DELETED = frozenset(
    {
        "DBInstanceNotFound",
        "DBClusterNotFoundFault",
        "DBSubnetGroupNotFoundFault",
        "InvalidGroup.NotFound",
        "NotFoundException",
        "DBClusterSnapshotNotFoundFault",
    }
)


def cluster_name(step: OpenStep) -> str:
    """Return the name of the run's cluster, which must be typed to delete it."""
    created = ClusterRecord.so_far(step.run).db_cluster_identifier
    requested = step.run.steps.get(CREATE_CLUSTER, {}).get("inputs", {}).get("db_cluster_identifier")
    return str(created or requested or StartRecord.from_run(step.run).db_cluster_identifier)


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: CleanUpInputs) -> Plan:
    """Plan the deletions in order; omit what is deleted, and refuse or keep what others created."""
    cluster = cluster_name(step)
    found = rds.find_cluster(step.session, cluster)
    changes = _instances(step, cluster) if found is not None and step.is_ours(rds.rds_tags(found)) else []
    if found is not None:
        changes += _cluster(step, asked, cluster, found)
    changes += [*_snapshot(step), *_network(step, cluster)]
    changes += _key(step, asked, {(change.resource, change.name) for change in changes if change.action == "delete"})
    return step.plan(asked, changes)


def _instances(step: OpenStep, cluster: str) -> list[Change]:
    changes = []
    for instance in rds.instances_of(step.session, cluster):
        name = instance["DBInstanceIdentifier"]
        ours = step.is_ours(rds.rds_tags(instance))
        detail = "" if ours else "; this run did not create it, but it is in the cluster: delete it yourself"
        request = {"DBInstanceIdentifier": name, "SkipFinalSnapshot": True}
        action: Action = "delete" if ours else "refuse"
        changes.append(Change(action, INSTANCE, name, f"immediately{detail}", "rds:DeleteDBInstance", request))
    return changes


def _snapshot(step: OpenStep) -> list[Change]:
    name = VerificationRecord.so_far(step.run).db_cluster_snapshot_identifier
    found = rds.find_snapshot(step.session, name) if name else None
    if found is None or not step.is_ours(rds.rds_tags(found)):
        return []
    request = {"DBClusterSnapshotIdentifier": name}
    return [Change("delete", SNAPSHOT, name, "taken as evidence; irreversible", "rds:DeleteDBClusterSnapshot", request)]


def _cluster(step: OpenStep, inputs: CleanUpInputs, cluster: str, found: dict[str, Any]) -> list[Change]:
    if not step.is_ours(rds.rds_tags(found)):
        return [Change("keep", CLUSTER, cluster, "this run did not create it")]
    request: dict[str, Any] = {
        "DBClusterIdentifier": cluster,
        "SkipFinalSnapshot": not inputs.final_db_snapshot_identifier,
    }
    detail = "irreversible: its data and automated backups are deleted with it"
    if inputs.final_db_snapshot_identifier:
        request["FinalDBSnapshotIdentifier"] = inputs.final_db_snapshot_identifier
        detail = f"after the final snapshot {inputs.final_db_snapshot_identifier}, which needs the key"
    deletion = Change("delete", CLUSTER, cluster, detail, "rds:DeleteDBCluster", request)
    if not found.get("DeletionProtection"):
        return [deletion]
    off = {"DBClusterIdentifier": cluster, "DeletionProtection": False, "ApplyImmediately": True}
    why = "deletion protection is turned off first"
    return [Change("change", CLUSTER, cluster, why, "rds:ModifyDBCluster", off), deletion]


def _network(step: OpenStep, cluster: str) -> list[Change]:
    session, name, changes = step.session, cluster_network.group_name(cluster), []
    group = ec2.find_subnet_group(session, name)
    if group is not None and step.is_ours(ec2.tags_of(session, group["DBSubnetGroupArn"])):
        changes.append(
            Change("delete", "subnet group", name, "", "rds:DeleteDBSubnetGroup", {"DBSubnetGroupName": name})
        )
    filters = [
        {"Name": "tag:runbook:run-id", "Values": [step.run.run_id]},
        {"Name": "group-name", "Values": [name]},
    ]
    for found in session.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]:
        changes.append(
            Change(
                "delete",
                "security group",
                name,
                found["GroupId"],
                "ec2:DeleteSecurityGroup",
                {"GroupId": found["GroupId"]},
            )
        )
    return changes


def _key(step: OpenStep, inputs: CleanUpInputs, deleted: set[tuple[str, str]]) -> list[Change]:
    """Return the rows for alias and key; the key is kept while anything outside `deleted` needs it."""
    session = step.session
    record = KeyRecord.so_far(step.run)
    key_id = record.key_id or (create_key.find_by_run(step) if CREATE_KEY in step.run.steps else None)
    metadata = kms.describe(session, key_id) if key_id else None
    if key_id is None or metadata is None or not step.is_ours(kms.tags_of(session, key_id)):
        return []
    aliases = [
        Change("delete", "alias", alias, "", "kms:DeleteAlias", {"AliasName": alias})
        for alias in kms.aliases_of(session, key_id)
        if alias in (record.key_alias, step.run.steps[CREATE_KEY]["inputs"].get("key_alias"))
    ]
    if metadata["KeyState"] == "PendingDeletion":
        detail = f"to be deleted on {metadata['DeletionDate']:%Y-%m-%d}; cancel with kms:CancelKeyDeletion"
        return [Change("keep", "KMS key", key_id, detail), *aliases]
    users = [
        f"{user.kind} {user.name}"
        for user in who_uses(session, metadata["Arn"])
        if (user.kind, user.name) not in deleted and (CLUSTER, user.deleted_with) not in deleted
    ]
    if inputs.final_db_snapshot_identifier:
        users.append(f"cluster snapshot {inputs.final_db_snapshot_identifier}")
    if users:
        return [Change("keep", "KMS key", key_id, f"still needed by {', '.join(dict.fromkeys(users))}")]
    days = inputs.pending_window_in_days
    deletion = Change(
        "delete",
        "KMS key",
        key_id,
        f"after {days} days; irreversible then, even with a backup of the key material",
        "kms:ScheduleKeyDeletion",
        {"KeyId": key_id, "PendingWindowInDays": days},
    )
    return [deletion, *aliases]


# Apply ------------------------------------------------------------------------------------------------------------


def is_confirmed(step: OpenStep, asked: CleanUpInputs) -> bool:
    """Return whether the deletion was confirmed; False when nothing was typed.

    Raises `NotConfirmed` when another text than the cluster's name was typed.
    """
    typed = asked.confirm_db_cluster_identifier
    if typed and typed != cluster_name(step):
        raise NotConfirmed(
            f"confirm_db_cluster_identifier is {typed!r}, the run's cluster is {cluster_name(step)!r}; nothing was "
            "deleted: type that name to delete it"
        )
    return bool(typed)


def apply(step: OpenStep, plan: Plan) -> Table | str:
    """Carry out the deletions of the plan in order; return each resource with its outcome.

    Without confirmation nothing is deleted. Resumes when it is called again. Raises `NotConfirmed`, `WaitTimedOut`.
    """
    if not is_confirmed(step, plan.inputs):
        name = cluster_name(step)
        return f"Nothing was deleted. To delete, type the cluster's name, {name!r}, and run the cell or command again."
    deletions = [change for change in plan.changes if change.action == "delete"]
    unprotect = [change for change in plan.changes if change.action == "change"]
    rows: list[tuple[str, str, str]] = []
    with step.applying(plan):
        before = CleanUpRecord.so_far(step.run)
        planned = [*map(list, before.planned), *([change.resource, change.name] for change in deletions)]
        step.run.note(step.name, planned=planned)
        for change in unprotect:
            step.client("rds").modify_db_cluster(**change.request)
        for change in deletions:
            rows.append((change.resource, change.name, _delete(step, change)))
        deleted = [f"{resource} {name}: {outcome}" for resource, name, outcome in rows]
        step.run.note(step.name, gone=[*before.gone, *deleted])
    return Table("Deleted and pending resources", ("resource", "name", "outcome"), rows)


def _delete(step: OpenStep, change: Change) -> str:
    """Send one deletion, or find the resource deleted; return the outcome in words."""
    client, request = step.client("rds"), dict(change.request)
    try:
        match change.resource:
            case "DB cluster":
                client.delete_db_cluster(**request)
            case "DB instance":
                client.delete_db_instance(**request)
            case "cluster snapshot":
                client.delete_db_cluster_snapshot(**request)
            case "subnet group":
                client.delete_db_subnet_group(**request)
            case "security group":
                step.client("ec2").delete_security_group(**request)
            case "alias":
                step.client("kms").delete_alias(**request)
            case "KMS key":
                return _delete_key(step, change.name, request)
    except ClientError as error:
        if error_code(error) not in _DELETED and not _is_being_deleted(step, change, error):
            raise
    if (find := _FIND.get(change.resource)) is not None:
        _wait_deleted(step, lambda: find(step.session, change.name), change.name)
    return "deleted"


def _is_being_deleted(step: OpenStep, change: Change, error: ClientError) -> bool:
    """Return whether the deletion failed because the cluster or instance is already `deleting`."""
    if error_code(error) not in ("InvalidDBInstanceState", "InvalidDBClusterStateFault"):
        return False
    found = _FIND[change.resource](step.session, change.name) or {}
    return "deleting" in (found.get("Status"), found.get("DBInstanceStatus"))


def _delete_key(step: OpenStep, key_id: str, request: dict[str, Any]) -> str:
    """Schedule the key's deletion unless something uses it now; return the outcome in words."""
    metadata = kms.describe(step.session, key_id) or {}
    if users := who_uses(step.session, str(metadata.get("Arn"))):
        return f"kept: still needed by {', '.join(f'{user.kind} {user.name}' for user in users)}"
    return _schedule_deletion(step, request)


def _schedule_deletion(step: OpenStep, request: dict[str, Any]) -> str:
    """Schedule the key's deletion, or find it scheduled by an earlier attempt whose response was lost."""
    try:
        date = step.client("kms").schedule_key_deletion(**request)["DeletionDate"]
    except ClientError as error:
        metadata = kms.describe(step.session, request["KeyId"]) or {}
        if error_code(error) != "KMSInvalidStateException" or metadata.get("KeyState") != "PendingDeletion":
            raise
        date = metadata["DeletionDate"]
    step.run.note(step.name, key_deletion_date=f"{date:%Y-%m-%d}")
    return f"pending until {date:%Y-%m-%d}; cancel with kms:CancelKeyDeletion"


def _wait_deleted(step: OpenStep, find: Callable[[], object], name: str) -> None:
    every, timeout = (0.2, 120.0) if step.session.target == "sandbox" else (20.0, 3600.0)
    print(f"{name}: deleting")
    _, deleted = poll(find, until=lambda found: found is None, every=every, timeout=timeout)
    if not deleted:
        raise WaitTimedOut(f"{name} is still being deleted; run the cell or command again to resume")


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks | Text:
    """Check that everything that applied plans delete is deleted, and finish the step.

    A resource that a rule keeps, such as a key still in use, is not a failure. Without an applied plan there is nothing
    to check. Raises `VerificationFailed`, naming what still exists.
    """
    section = step.run.steps.get(step.name)
    if section is None:
        return Text("The clean-up", "Nothing was deleted, so there is nothing to verify.")
    now = plan(step, CleanUpInputs.check(section["inputs"]))
    remaining = {(change.resource, change.name): change for change in now.changes if change.action != "change"}
    checks = Checks("The clean-up")
    planned = CleanUpRecord.so_far(step.run).planned
    for resource, name in dict.fromkeys(
        [*planned, *(key for key in remaining if remaining[key].action in ("delete", "refuse"))]
    ):
        change = remaining.get((resource, name))
        outcome = (
            "deleted" if change is None else f"{change.action}: {change.detail}" if change.detail else change.action
        )
        checks.holds(
            f"{resource} {name}",
            "deleted, or kept while in use",
            "still exists" if change is not None and change.action in ("delete", "refuse") else outcome,
            lambda found: found != "still exists",
            source="a new plan",
        )
    if checks.rows:
        checks.require_passed()
    step.run.finish(step.name)
    return checks
