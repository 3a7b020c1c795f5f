"""A restored cluster: the snapshot, the restore under the run's key, its instances, and what is set afterwards.

For 10, and for 11, which takes the last snapshot and restores that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import rds
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.retry import poll, retry_until_visible
from runbook_lib.aws.waiting import poll_interval, wait_until_available
from runbook_lib.errors import KeyNotUsable, WaitFailed, WaitTimedOut
from runbook_lib.plan import Change, Plan
from runbook_lib.steps import ownership
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, INSTANCE, SNAPSHOT
from runbook_lib.steps.restore_plan import set_afterwards


def cluster_row(plan: Plan) -> Change:
    """Return the row of the restored cluster."""
    return next(one for one in plan.changes if one.resource == CLUSTER and "SnapshotIdentifier" in one.request)


def carry_out(step: OpenStep, plan: Plan, *, minutes: float) -> dict[str, Any]:
    """Create what the plan says, each at most once, and wait for it; return the cluster. `step` is 10, whose record it is.

    Raises `KeyNotUsable`, `WaitFailed`, `WaitTimedOut`, `PlanOutdated`, and what `create_once` raises.
    """
    snapshot, restore = plan.change(SNAPSHOT), cluster_row(plan)
    take_snapshot(step, snapshot, minutes=minutes)
    cluster = _restore(step, restore)
    instances = [one for one in plan.changes if one.resource == INSTANCE and one.request]
    step.run.note(
        step.name,
        db_cluster_identifier=restore.name,
        db_cluster_arn=cluster["DBClusterArn"],
        db_cluster_resource_id=cluster["DbClusterResourceId"],
        db_cluster_snapshot_identifier=snapshot.name,
        vpc_security_group_ids=restore.request["VpcSecurityGroupIds"],
        db_instance_identifiers=sorted(one.name for one in instances),
        public_db_instance_identifiers=[one.name for one in instances if one.request.get("PubliclyAccessible")],
    )
    same = replace(restore, identity=cluster["DbClusterResourceId"])
    for one in instances:
        ownership.require_same(step, same)
        _create(step, one)
    _wait_for_cluster(step, restore.name, len(instances), minutes)
    ownership.require_same(step, same)  # hours may have passed
    set_afterwards(step, plan, str(cluster["DBClusterArn"]))
    _wait_for_cluster(step, restore.name, len(instances), minutes, say=print)
    return cluster


def take_snapshot(step: OpenStep, change: Change, *, minutes: float) -> None:
    """Take the snapshot at most once, and wait for it. Raises `WaitFailed`, `WaitTimedOut`, and what `create_once` raises."""
    _create(step, change)
    _wait_for_snapshot(step, change.name, minutes=minutes)


def _create(step: OpenStep, change: Change) -> dict[str, Any]:
    """Create a snapshot, cluster or instance at most once, or keep it."""
    session, client = step.session, step.client("rds", retry=False)
    find, of, create, answer, suffix = {
        SNAPSHOT: (
            rds.find_snapshot, ownership.of_snapshot, client.create_db_cluster_snapshot, "DBClusterSnapshot", f" {change.name}",
        ),
        CLUSTER: (
            rds.find_cluster, ownership.of_cluster, client.restore_db_cluster_from_snapshot, "DBCluster", "",
        ),
        INSTANCE: (
            rds.find_instance, ownership.of_instance, client.create_db_instance, "DBInstance", f" {change.name}",
        ),
    }[change.resource]  # fmt: skip
    if change.action == "keep":
        ownership.keep(step, change)
        return find(session, change.name) or {}

    def ours() -> dict[str, Any] | None:
        found = find(session, change.name)
        return found if found is not None and ownership.is_ours(step, of(found), creator=step.name) else None

    return create_once(
        step.run,
        step.name,
        f"{change.calls}{suffix}",
        find=ours,
        create=lambda: retry_until_visible(
            lambda: dict(create(**step.marked(change.request))[answer]),
            codes=("DBClusterNotFoundFault", "DBClusterSnapshotNotFoundFault", "KMSKeyNotAccessibleFault"),
            target=session.target,
        ),
        identity=lambda made: of(made).identity,
    )


def _restore(step: OpenStep, change: Change) -> dict[str, Any]:
    try:
        return _create(step, change)
    except ClientError as error:
        if error_code(error) != "KMSKeyNotAccessibleFault":
            raise
        raise KeyNotUsable(
            f"{error_text(error)}; check that the keys of the snapshot and of this run are Enabled, and that you may call "
            "kms:CreateGrant and kms:DescribeKey on both through RDS"
        ) from error


def _wait_for_snapshot(step: OpenStep, name: str, *, minutes: float) -> None:
    every = poll_interval(step.session.target, 0)
    found, done = poll(
        lambda: rds.find_snapshot(step.session, name) or {},
        until=lambda one: one.get("Status") not in (None, "creating"),
        every=every,
        timeout=minutes * 60,
    )
    if not done:
        percent = found.get("PercentProgress", 0)
        raise WaitTimedOut(
            f"snapshot {name} is at {percent} % after {minutes:g} minutes; run the cell or command again to wait"
        )
    if found["Status"] != "available":
        raise WaitFailed(f"snapshot {name} is {found['Status']}; delete it, then run the cell or command again")


def _wait_for_cluster(step: OpenStep, name: str, instances: int, minutes: float, *, say: Any = None) -> None:
    wait_until_available(
        step.session, name, instances=instances, timeout_minutes=minutes,
        poll_seconds=poll_interval(step.session.target, 0), say=say,
    )  # fmt: skip
