"""Step 90: delete what a run created, and nothing else, in order; schedule the key's deletion last.

The key is kept while anything needs it, or could not be looked at (`key_guard`).
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import ec2, kms, rds
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.retry import poll
from runbook_lib.checks import Checks
from runbook_lib.errors import NotConfirmed, WaitTimedOut
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import clusters
from runbook_lib.run.records import CleanUpRecord, KeyRecord, StartRecord, VerificationRecord
from runbook_lib.run.steps import CREATE_CLUSTER, CREATE_KEY, VERIFY_ENCRYPTION
from runbook_lib.steps import cluster_network, create_key, ownership, reports, restored_cluster, watch_removal
from runbook_lib.steps.key_guard import in_words, what_keeps_the_key
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import ALIAS, CLUSTER, INSTANCE, SECURITY_GROUP, SNAPSHOT, SUBNET_GROUP, Found
from runbook_lib.tables import Table, Text

# Something that is not in the plan uses the resource, or is changing it.
_IN_USE = frozenset(
    {"InvalidDBInstanceState", "InvalidDBClusterStateFault", "InvalidDBSubnetGroupStateFault", "DependencyViolation"}
)
_KEPT = "kept: another resource has this name now, which this run did not create; it was not in the plan"
_DELETED = frozenset(
    {
        "DBInstanceNotFound",
        "DBClusterNotFoundFault",
        "DBSubnetGroupNotFoundFault",
        "InvalidGroup.NotFound",
        "NotFoundException",
        "DBClusterSnapshotNotFoundFault",
        "ResourceNotFoundException",
    }
)


def cluster_name(step: OpenStep) -> str:
    """Return the name of the run's cluster, which must be typed to delete it."""
    created = [record.db_cluster_identifier for record in clusters(step.run)]
    requested = step.run.steps.get(CREATE_CLUSTER, {}).get("inputs", {}).get("db_cluster_identifier")
    return str(created[0] if created else requested or StartRecord.from_run(step.run).db_cluster_identifier)


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: CleanUpInputs) -> Plan:
    """Plan the deletions in order; omit what is deleted, and refuse or keep what others created."""
    cluster, restored = cluster_name(step), restored_cluster.find(step)
    found = restored_cluster.other_than(rds.find_cluster(step.session, cluster), restored)
    changes = rows_of_cluster(step, asked, found) if found is not None else []
    if restored is not None:
        own = restored_cluster.own_snapshot(asked, restored, beside=found)
        changes += restored_cluster.kept_after_cut_over(step, restored) or rows_of_cluster(step, own, restored)
    changes += [*restored_cluster.kept_snapshots(step), *_snapshot(step), *_network(step, cluster)]
    changes += _key(step, asked, {(change.resource, change.name) for change in changes if change.action == "delete"})
    return step.plan(asked, [*changes, *watch_removal.rows(step, changes)])


def _deletion(step: OpenStep, found: Found, call: str, request: dict[str, Any], detail: str = "") -> Change:
    """Return the row that deletes a resource that this run created, or keeps another's of that name."""
    if not ownership.is_ours(step, found):
        return Change("keep", found.resource, found.name, "this run did not create it")
    detail += ownership.by_tags(step, found)
    return Change("delete", found.resource, found.name, detail.removeprefix("; "), call, request, found.identity)


def rows_of_cluster(step: OpenStep, inputs: CleanUpInputs, found: dict[str, Any]) -> list[Change]:
    """Return the rows of the cluster, after those of its instances and of its deletion protection."""
    cluster = found["DBClusterIdentifier"]
    request: dict[str, Any] = {
        "DBClusterIdentifier": cluster,
        "SkipFinalSnapshot": not inputs.final_db_snapshot_identifier,
    }
    detail = "irreversible: its data and automated backups are deleted with it"
    if inputs.final_db_snapshot_identifier:
        request["FinalDBSnapshotIdentifier"] = inputs.final_db_snapshot_identifier
        detail = f"after the final snapshot {inputs.final_db_snapshot_identifier}, which needs the key"
    deletion = _deletion(step, ownership.of_cluster(found), "rds:DeleteDBCluster", request, detail)
    if deletion.action == "keep":
        return [deletion]
    instances = _instances(step, cluster)
    if not found.get("DeletionProtection"):
        return [*instances, deletion]
    off = {"DBClusterIdentifier": cluster, "DeletionProtection": False, "ApplyImmediately": True}
    why = "deletion protection is turned off first"
    unprotect = Change("change", CLUSTER, cluster, why, "rds:ModifyDBCluster", off, deletion.identity)
    return [*instances, unprotect, deletion]


def _instances(step: OpenStep, cluster: str) -> list[Change]:
    changes = []
    for instance in rds.instances_of(step.session, cluster):
        name = instance["DBInstanceIdentifier"]
        request = {"DBInstanceIdentifier": name, "SkipFinalSnapshot": True}
        change = _deletion(step, ownership.of_instance(instance), "rds:DeleteDBInstance", request, "immediately")
        if change.action == "keep":
            why = "this run did not create it, but it is in the cluster: delete it yourself"
            change = Change("refuse", INSTANCE, name, why)
        changes.append(change)
    return changes


def _snapshot(step: OpenStep) -> list[Change]:
    """Return the rows of the evidence snapshots, also of one whose creation 06 did not come to record."""
    noted = VerificationRecord.so_far(step.run).db_cluster_snapshot_identifier
    changes, why = [], "taken as evidence; irreversible"
    of_evidence = ownership.names_of(step, SNAPSHOT, creator=VERIFY_ENCRYPTION)
    for name in dict.fromkeys([*([noted] if noted else []), *of_evidence]):
        if (found := rds.find_snapshot(step.session, name)) is not None:
            request = {"DBClusterSnapshotIdentifier": name}
            changes.append(_deletion(step, ownership.of_snapshot(found), "rds:DeleteDBClusterSnapshot", request, why))
    return changes


def _network(step: OpenStep, cluster: str) -> list[Change]:
    """Return the rows of subnet and security groups: those named after the cluster, and others that 05 recorded."""
    session, name, changes = step.session, cluster_network.group_name(cluster), []
    for one in dict.fromkeys([name, *ownership.names_of(step, SUBNET_GROUP)]):
        if (group := ec2.find_subnet_group(session, one)) is not None:
            found, request = ownership.of_subnet_group(step, group), {"DBSubnetGroupName": one}
            changes.append(_deletion(step, found, "rds:DeleteDBSubnetGroup", request))
    named = {group["GroupId"]: group for group in ec2.security_groups_named(session, name)}
    for group_id in ownership.names_of(step, SECURITY_GROUP):
        if group_id not in named and (group := ec2.security_group(session, group_id)) is not None:
            named[group_id] = group
    for group_id, group in named.items():
        found, call = ownership.of_security_group(group), "ec2:DeleteSecurityGroup"
        row = _deletion(step, found, call, {"GroupId": group_id}, group_id)
        changes.append(restored_cluster.kept_group(step, group_id) or row)
    return changes


def _key(step: OpenStep, inputs: CleanUpInputs, deleted: set[tuple[str, str]]) -> list[Change]:
    """Return the rows for alias and key; the key is kept while anything outside `deleted` needs it."""
    session = step.session
    record = KeyRecord.so_far(step.run)
    key_id = record.key_id or (create_key.find_by_run(step) if CREATE_KEY in step.run.steps else None)
    metadata = kms.describe(session, key_id) if key_id else None
    if key_id is None or metadata is None or not ownership.is_ours(step, ownership.of_key(step, key_id)):
        return []
    aliases = [
        Change("delete", ALIAS, alias, "", "kms:DeleteAlias", {"AliasName": alias}, key_id)
        for alias in kms.aliases_of(session, key_id)
        if alias in (record.key_alias, *record.earlier_aliases, step.run.steps[CREATE_KEY]["inputs"].get("key_alias"))
    ]
    if metadata["KeyState"] == "PendingDeletion":
        detail = f"to be deleted on {metadata['DeletionDate']:%Y-%m-%d}; cancel with kms:CancelKeyDeletion"
        return [Change("keep", "KMS key", key_id, detail), *aliases]
    keeps = what_keeps_the_key(step, metadata["Arn"], deleted=deleted, ignore_grant_ids=inputs.ignore_grant_ids)
    if inputs.final_db_snapshot_identifier:
        keeps.insert(0, f"{ownership.SNAPSHOT} {inputs.final_db_snapshot_identifier}")
    if keeps:
        return [Change("keep", "KMS key", key_id, in_words(list(dict.fromkeys(keeps)), metadata["Arn"]))]
    days = inputs.pending_window_in_days
    why = f"after {days} days; irreversible then, even with a backup of the key material"
    request = {"KeyId": key_id, "PendingWindowInDays": days}
    return [Change("delete", "KMS key", key_id, why, "kms:ScheduleKeyDeletion", request), *aliases]


# Apply ------------------------------------------------------------------------------------------------------------


def is_confirmed(step: OpenStep, asked: CleanUpInputs) -> bool:
    """Return whether the deletion was confirmed; False when nothing was typed. Raises `NotConfirmed` for another name."""
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
        return f"Nothing was deleted. To delete, type the cluster's name, {cluster_name(step)!r}, and run this again."
    deletions = [one for one in plan.changes if one.action == "delete"]
    rows: list[tuple[str, str, str]] = []
    with step.applying(plan):
        before = CleanUpRecord.so_far(step.run)
        planned = [*map(list, before.planned), *([change.resource, change.name] for change in deletions)]
        step.run.note(step.name, planned=planned)
        for change in (one for one in plan.changes if one.action in ("delete", "change")):
            rows.append((change.resource, change.name, carry_out(step, change, plan.inputs)))
        deleted = [f"{resource} {name}: {outcome}" for resource, name, outcome in rows]
        step.run.note(step.name, gone=[*before.gone, *deleted])
    return Table("Deleted and pending resources", ("resource", "name", "outcome"), rows)


def carry_out(step: OpenStep, change: Change, asked: CleanUpInputs) -> str:
    """Send the request of one row if the name still refers to the resource of the plan; return the outcome in words."""
    if (seen := ownership.seen_again(step, change)) != "same":
        return "deleted" if seen == "deleted" else _KEPT
    client, request = step.client("rds"), dict(change.request)
    try:
        match change.resource:
            case ownership.CLUSTER if change.action == "change":
                client.modify_db_cluster(**request)
                return "no longer protected"
            case ownership.CLUSTER:
                client.delete_db_cluster(**request)
            case ownership.INSTANCE:
                client.delete_db_instance(**request)
            case ownership.SNAPSHOT:
                client.delete_db_cluster_snapshot(**request)
            case ownership.SUBNET_GROUP:
                client.delete_db_subnet_group(**request)
            case ownership.SECURITY_GROUP:
                step.client("ec2").delete_security_group(**request)
            case ownership.ALIAS:
                step.client("kms").delete_alias(**request)
            case ownership.ALARM | ownership.RULE | ownership.TOPIC:
                return watch_removal.delete(step, change)
            case ownership.KEY:
                return _delete_key(step, change.name, request, asked)
    except ClientError as error:
        if error_code(error) in _IN_USE and not _is_being_deleted(step, change):
            return f"kept: {error_text(error)}"
        if error_code(error) not in _DELETED | _IN_USE:
            raise
    if change.resource in (CLUSTER, INSTANCE):
        _wait_deleted(step, change)
    return "deleted"


def _is_being_deleted(step: OpenStep, change: Change) -> bool:
    """Return whether the deletion failed because the cluster or instance is already `deleting`."""
    if change.resource not in (CLUSTER, INSTANCE):
        return False
    find = rds.find_cluster if change.resource == CLUSTER else rds.find_instance
    found = find(step.session, change.name) or {}
    return "deleting" in (found.get("Status"), found.get("DBInstanceStatus"))


def _delete_key(step: OpenStep, key_id: str, request: dict[str, Any], asked: CleanUpInputs) -> str:
    """Schedule the key's deletion unless something uses it now; return the outcome in words."""
    arn = str((kms.describe(step.session, key_id) or {}).get("Arn"))
    if keeps := what_keeps_the_key(step, arn, ignore_grant_ids=asked.ignore_grant_ids):
        return f"kept: {in_words(keeps, arn)}"
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


def _wait_deleted(step: OpenStep, change: Change) -> None:
    """Poll until the name is free, or refers to another resource."""
    every, timeout = (0.2, 120.0) if step.session.target == "sandbox" else (20.0, 3600.0)
    print(f"{change.name}: deleting")
    seen, _ = poll(
        lambda: ownership.seen_again(step, change), until=lambda seen: seen != "same", every=every, timeout=timeout
    )
    if seen == "same":
        raise WaitTimedOut(f"{change.name} is still being deleted; run the cell or command again to resume")


def watched_until(step: OpenStep) -> str:
    """Return the date on which the key is deleted, if something of this run watches it until then; else ""."""
    return CleanUpRecord.so_far(step.run).key_deletion_date if ownership.names_of(step, ownership.RULE) else ""


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
        reports.add_result(step, checks)
        checks.require_passed()
    step.run.finish(step.name)
    return checks
