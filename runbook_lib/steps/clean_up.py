"""Step 90: delete what a run made, and nothing else, in the right order; schedule the key's deletion last.

The key is kept while anything still uses it: a cluster, a snapshot or an automated backup.
"""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import ec2, kms, rds
from runbook_lib.aws.rds import find_snapshot, who_uses
from runbook_lib.aws.session import Session, error_code
from runbook_lib.errors import NotConfirmed, WaitTimedOut
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Change, Plan
from runbook_lib.steps import cluster_network, create_key
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table

_GONE = frozenset(
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
    """Return the name of the run's cluster: what must be typed to delete."""
    made = step.made("05_create_cluster").get("db_cluster_identifier")
    asked = step.run.steps.get("05_create_cluster", {}).get("inputs", {}).get("db_cluster_identifier")
    return str(made or asked or step.run.record("00_start")["db_cluster_identifier"])


def users_table(session: Session, key_arn: str) -> Table:
    """Return the table of what still needs the key."""
    rows = [(user.kind, user.name) for user in who_uses(session, key_arn)]
    return Table("Who still uses the key", ("kind", "name"), rows)


def plan_clean_up(step: OpenStep, inputs: CleanUpInputs) -> Plan:
    """Plan the deletions in order; what is gone already is not listed, what others made is refused."""
    session, cluster = step.session, cluster_name(step)
    changes: list[Change] = []
    there = rds.find_cluster(session, cluster)
    ours = there is not None and step.is_ours(rds.rds_tags(there))
    for instance in rds.instances_of(session, cluster) if ours else []:
        name = instance["DBInstanceIdentifier"]
        word = (
            ""
            if step.is_ours(rds.rds_tags(instance))
            else "; this run did not make it, but it is in the cluster: delete it yourself"
        )
        changes.append(
            Change(
                "refuse" if word else "delete",
                "DB instance",
                name,
                f"at once{word}",
                "rds:DeleteDBInstance",
                {"DBInstanceIdentifier": name, "SkipFinalSnapshot": True},
            )
        )
    if there is not None:
        changes.append(_cluster(step, inputs, cluster, there))
    snapshot = step.made("06_verify_encryption").get("db_cluster_snapshot_identifier", "")
    if snapshot and (found := find_snapshot(session, snapshot)) is not None and step.is_ours(rds.rds_tags(found)):
        changes.append(
            Change(
                "delete",
                "cluster snapshot",
                snapshot,
                "taken as evidence; irreversible",
                "rds:DeleteDBClusterSnapshot",
                {"DBClusterSnapshotIdentifier": snapshot},
            )
        )
    changes += _network(step, cluster)
    changes += _key(step, inputs, {(change.resource, change.name) for change in changes if change.action == "delete"})
    return step.plan(inputs, changes)


def _cluster(step: OpenStep, inputs: CleanUpInputs, cluster: str, there: dict[str, Any]) -> Change:
    if not step.is_ours(rds.rds_tags(there)):
        return Change("keep", "DB cluster", cluster, "this run did not make it")
    request: dict[str, Any] = {
        "DBClusterIdentifier": cluster,
        "SkipFinalSnapshot": not inputs.final_db_snapshot_identifier,
    }
    detail = "irreversible: its data and automated backups go with it"
    if inputs.final_db_snapshot_identifier:
        request["FinalDBSnapshotIdentifier"] = inputs.final_db_snapshot_identifier
        detail = f"after a last snapshot, {inputs.final_db_snapshot_identifier}, which needs the key"
    calls = "rds:DeleteDBCluster"
    if there.get("DeletionProtection"):
        detail += "; its deletion protection is taken off first"
        calls = "rds:ModifyDBCluster, " + calls
    return Change("delete", "DB cluster", cluster, detail, calls, request)


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


def _key(step: OpenStep, inputs: CleanUpInputs, leaving: set[tuple[str, str]]) -> list[Change]:
    """Return the rows for alias and key: kept while something that stays needs the key."""
    session = step.session
    made = step.made("01_create_key")
    key_id = made.get("key_id") or (create_key.find_by_run(step) if "01_create_key" in step.run.steps else None)
    metadata = kms.describe(session, key_id) if key_id else None
    if key_id is None or metadata is None or not step.is_ours(kms.tags_of(session, key_id)):
        return []
    aliases = [
        Change("delete", "alias", alias, "", "kms:DeleteAlias", {"AliasName": alias})
        for alias in kms.aliases_of(session, key_id)
        if alias in (made.get("key_alias"), step.run.steps["01_create_key"]["inputs"].get("key_alias"))
    ]
    if metadata["KeyState"] == "PendingDeletion":
        until = f"gone on {metadata['DeletionDate']:%Y-%m-%d}; until then kms:CancelKeyDeletion"
        return [Change("keep", "KMS key", key_id, until), *aliases]
    stays = [
        f"{user.kind} {user.name}"
        for user in who_uses(session, metadata["Arn"])
        if (user.kind, user.name) not in leaving and ("DB cluster", user.leaves_with) not in leaving
    ]
    if inputs.final_db_snapshot_identifier:
        stays.append(f"cluster snapshot {inputs.final_db_snapshot_identifier}")
    if stays:
        return [Change("keep", "KMS key", key_id, f"still needed by {', '.join(dict.fromkeys(stays))}")]
    days = inputs.pending_window_in_days
    deletion = Change(
        "delete",
        "KMS key",
        key_id,
        f"after {days} days, irreversible from then on, also with the material at hand",
        "kms:ScheduleKeyDeletion",
        {"KeyId": key_id, "PendingWindowInDays": days},
    )
    return [deletion, *aliases]


def confirm(step: OpenStep, inputs: CleanUpInputs) -> bool:
    """Say whether deleting was confirmed: False when nothing was typed.

    Raises `NotConfirmed` when something else than the cluster's name was typed.
    """
    typed = inputs.confirm_db_cluster_identifier
    if typed and typed != cluster_name(step):
        raise NotConfirmed(
            f"confirm_db_cluster_identifier is {typed!r}, the run's cluster is {cluster_name(step)!r}; nothing was "
            "deleted: type that name to delete it"
        )
    return bool(typed)


def apply_clean_up(step: OpenStep, plan: Plan, *, confirmed: bool) -> Table | str:
    """Delete what the plan says, in its order; return what is gone and what is pending until when.

    Without confirmation nothing is deleted. What was interrupted goes on when it is called again.
    """
    if not confirmed:
        return f"Nothing was deleted. To delete, type the cluster's name, {cluster_name(step)!r}, and run this again."
    rows: list[tuple[str, str, str]] = []
    with step.applying(plan):
        for change in plan.changes:
            if change.action != "delete":
                continue
            rows.append((change.resource, change.name, _delete(step, change)))
        gone = [f"{resource} {name}: {outcome}" for resource, name, outcome in rows]
        step.run.note(step.name, gone=[*step.made().get("gone", []), *gone])
    return Table("What is gone, and what is pending", ("resource", "name", "outcome"), rows)


def _delete(step: OpenStep, change: Change) -> str:
    """Send one deletion; what is gone already counts as gone. Return the outcome in words."""
    client, request = step.client, dict(change.request)
    rds_client = client("rds")
    try:
        match change.resource:
            case "DB cluster":
                if "ModifyDBCluster" in change.calls:
                    rds_client.modify_db_cluster(
                        DBClusterIdentifier=change.name, DeletionProtection=False, ApplyImmediately=True
                    )
                rds_client.delete_db_cluster(**request)
                _wait_gone(step, lambda: rds.find_cluster(step.session, change.name), change.name)
            case "cluster snapshot":
                rds_client.delete_db_cluster_snapshot(**request)
            case "subnet group":
                rds_client.delete_db_subnet_group(**request)
            case "security group":
                client("ec2").delete_security_group(**request)
            case "alias":
                client("kms").delete_alias(**request)
            case "KMS key":
                metadata = kms.describe(step.session, change.name) or {}
                if users := who_uses(step.session, str(metadata.get("Arn"))):
                    return f"kept: still needed by {', '.join(f'{user.kind} {user.name}' for user in users)}"
                return _schedule_deletion(step, request)
            case "DB instance":
                rds_client.delete_db_instance(**request)
                _wait_gone(step, lambda: rds.find_instance(step.session, change.name), change.name)
    except ClientError as error:
        if error_code(error) == "InvalidDBInstanceState" or error_code(error) == "InvalidDBClusterStateFault":
            find = rds.find_cluster if change.resource == "DB cluster" else rds.find_instance
            there = find(step.session, change.name)
            if there is None or "deleting" not in (there.get("Status"), there.get("DBInstanceStatus")):
                raise
            _wait_gone(step, lambda: find(step.session, change.name), change.name)
        elif error_code(error) not in _GONE:
            raise
    return "gone"


def _schedule_deletion(step: OpenStep, request: dict[str, Any]) -> str:
    """Schedule the key's deletion, or find it scheduled: an answer that got lost is asked for again by the SDK."""
    try:
        date = step.client("kms").schedule_key_deletion(**request)["DeletionDate"]
    except ClientError as error:
        metadata = kms.describe(step.session, request["KeyId"]) or {}
        if error_code(error) != "KMSInvalidStateException" or metadata.get("KeyState") != "PendingDeletion":
            raise
        date = metadata["DeletionDate"]
    step.run.note(step.name, key_deletion_date=f"{date:%Y-%m-%d}")
    return f"pending until {date:%Y-%m-%d}; cancel with kms:CancelKeyDeletion"


def _wait_gone(step: OpenStep, find: Any, name: str) -> None:
    poll = 0.2 if step.session.target == "sandbox" else 20.0
    deadline = time.monotonic() + (120 if step.session.target == "sandbox" else 3600)
    print(f"{name}: deleting")
    while find() is not None:
        if time.monotonic() > deadline:
            raise WaitTimedOut(f"{name} is still being deleted; run this again to go on")
        time.sleep(poll)


def finish_clean_up(step: OpenStep, plan: Plan) -> str:
    """Mark the clean-up finished once nothing of the run is left to delete; return what was found in words."""
    left = [change for change in plan.changes if change.action in ("delete", "refuse")]
    if left:
        return f"left: {', '.join(f'{change.resource} {change.name}' for change in left)}"
    with step.run.locked(what=step.name):
        step.run.finish(step.name)
    kept = [f"{change.resource} {change.name}: {change.detail}" for change in plan.changes]
    return "; ".join(kept) or "nothing of this run is left"
