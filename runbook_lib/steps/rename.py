"""Give a DB cluster another name, at once, found by its resource ID, which no rename changes."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.retry import find_until_visible, poll
from runbook_lib.aws.waiting import HOPELESS, poll_interval
from runbook_lib.errors import PlanOutdated, WaitFailed, WaitTimedOut
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.writers import cluster_by_id


def rename(step: OpenStep, resource_id: str, to: str, *, minutes: float) -> dict[str, Any]:
    """Give the cluster with this resource ID a name, and wait; return its description. One that has the name is left alone.

    Without ApplyImmediately the rename waits for the maintenance window (API reference, ModifyDBCluster).
    Raises `PlanOutdated` if another cluster took the name, `WaitFailed` at once for a cluster that does not exist any more
    or cannot become available, and `WaitTimedOut`.
    """

    def seen() -> dict[str, Any]:
        found = find_until_visible(lambda: cluster_by_id(step, resource_id), target=step.session.target)
        if found is None:
            raise WaitFailed(
                f"the cluster with the resource ID {resource_id}, which should be named {to}, does not exist any more; run the "
                "plan cell again, which says what is left to do"
            )
        if (status := str(found["Status"])) in HOPELESS:
            raise WaitFailed(
                f"{found['DBClusterIdentifier']} is {status}: {HOPELESS[status]}; then run the cell or command again"
            )
        return found

    every = poll_interval(step.session.target, 0)
    now, _ = poll(seen, until=lambda one: one["Status"] == "available", every=every, timeout=minutes * 60)
    if now["DBClusterIdentifier"] != to:
        try:
            step.client("rds").modify_db_cluster(
                DBClusterIdentifier=now["DBClusterIdentifier"], NewDBClusterIdentifier=to, ApplyImmediately=True
            )
        except ClientError as error:
            if error_code(error) == "DBClusterAlreadyExistsFault":
                raise PlanOutdated(
                    f"another cluster took the name {to}; rename or delete it, then run this again"
                ) from error
            if (
                error_code(error) != "DBClusterNotFoundFault"
            ):  # an earlier request, whose response was lost, took effect
                raise
    found, done = poll(
        seen,
        until=lambda one: one["DBClusterIdentifier"] == to and one["Status"] == "available",
        every=every,
        timeout=minutes * 60,
    )
    if not done:
        raise WaitTimedOut(
            f"{found['DBClusterIdentifier']} is {found['Status']} and not yet named {to}; run the cell or command again to "
            "continue, or with roll_back to give the names back"
        )
    return found
