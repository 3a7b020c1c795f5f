"""Waiting for clusters and instances: until available, or until it is plain that they cannot get there.

All clusters of one account and Region are asked for together, in one paginated call an interval. AWS's own
waiters spin for half an hour on a cluster that has lost its key; this one stops at once. Nothing is kept: whoever
waits anew finds the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.exceptions import HTTPClientError

from runbook_lib.aws import rds
from runbook_lib.aws.session import Session
from runbook_lib.errors import WaitFailed, WaitTimedOut
from runbook_lib.inputs.rds import POLL_SECONDS
from runbook_lib.pages.progress import Progress

HOPELESS = {
    "inaccessible-encryption-credentials": "the key was out of reach for seven days; restore from a backup",
    "inaccessible-encryption-credentials-recoverable": "the key is out of reach; enable it, or bring its material back with "
    "`runbook recover`, then start the cluster",
    "cloning-failed": "cloning failed; delete it and start anew",
    "migration-failed": "migration failed; delete it and start anew",
    "deleting": "it is being deleted",
    "failed": "AWS gave it up; delete it and start anew",
    "incompatible-network": "its subnets or zones cannot hold it; mend the network",
    "incompatible-parameters": "its parameter group does not fit; mend the group",
    "insufficient-capacity": "the zone has no capacity for the class; choose another",
    "storage-full": "its storage is full",
    "stopped": "it is stopped; start it (rds:StartDBCluster)",
    "stopping": "it is being stopped; start it when it is stopped (rds:StartDBCluster)",
}


AVAILABLE = "available"
LOST = (BotoConnectionError, HTTPClientError)
_AT_ONCE = 100  # the values of a filter, and the records of a page


def statuses(session: Session, identifier: str) -> dict[str, str]:
    """Return the status of a cluster and each of its instances, by name; empty when the cluster is gone."""
    cluster = rds.find_cluster(session, identifier)
    if cluster is None:
        return {}
    found = {f"cluster {identifier}": str(cluster["Status"])}
    for instance in rds.instances_of(session, identifier):
        found[f"instance {instance['DBInstanceIdentifier']}"] = str(instance["DBInstanceStatus"])
    return found


def seconds_between_looks(target: str, asked: float) -> float:
    """Return how long to wait between two looks: what was asked, or (0) what suits the target."""
    return float(asked) or POLL_SECONDS[target]


class Watch:
    """Clusters of one account and Region that are waited for, with how they stood at the last look."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._instances: dict[str, int] = {}
        self._found: dict[str, dict[str, str]] = {}

    def add(self, identifier: str, *, instances: int) -> None:
        """Wait for a cluster and its `instances`, too."""
        self._instances[identifier] = instances

    def remove(self, identifier: str) -> None:
        """Wait for this cluster no longer."""
        self._instances.pop(identifier, None)
        self._found.pop(identifier, None)

    def found(self, identifier: str) -> dict[str, str]:
        """Return how a cluster and its instances stood at the last look."""
        return dict(self._found.get(identifier, {}))

    def look(self) -> None:
        """Ask for all clusters that were not available yet in one call, and for the instances of the others in one.

        A call has as many pages as AWS makes of it. Raises one of `LOST` when no answer came.
        """
        if coming := [name for name in self._instances if not self._is_up(name)]:
            fresh: dict[str, dict[str, str]] = {name: {} for name in coming}
            for cluster in self._ask("describe_db_clusters", "DBClusters", coming):
                name = str(cluster["DBClusterIdentifier"])
                fresh[name][f"cluster {name}"] = str(cluster["Status"])
            self._found.update(fresh)
        if up := [name for name in self._instances if self._is_up(name)]:
            for instance in self._ask("describe_db_instances", "DBInstances", up):
                name = f"instance {instance['DBInstanceIdentifier']}"
                self._found[str(instance["DBClusterIdentifier"])][name] = str(instance["DBInstanceStatus"])

    def is_available(self, identifier: str) -> bool:
        """Say whether the cluster and all its instances were available; raise `WaitFailed` if they cannot become so."""
        found = self._found.get(identifier)
        if found == {}:
            raise WaitFailed(f"cluster {identifier!r} is not there; run notebooks/05_create_cluster.ipynb again")
        for name, status in (found or {}).items():
            if status in HOPELESS:
                raise WaitFailed(f"{name} is {status}: {HOPELESS[status]}; then run this again")
        return found is not None and len(found) > self._instances[identifier] and set(found.values()) == {AVAILABLE}

    def too_late(self, identifier: str, minutes: float) -> WaitTimedOut:
        """Return the error that says what was still missing after so many minutes."""
        late = ", ".join(
            f"{name} is {status}" for name, status in self.found(identifier).items() if status != AVAILABLE
        )
        return WaitTimedOut(
            f"after {minutes:g} minutes {late or 'instances are missing'}; run this again to go on waiting, "
            "or raise wait_timeout_minutes"
        )

    def _is_up(self, identifier: str) -> bool:
        return self._found.get(identifier, {}).get(f"cluster {identifier}") == AVAILABLE

    def _ask(self, operation: str, key: str, names: list[str]) -> Iterator[dict[str, Any]]:
        paginator = self._session.client("rds").get_paginator(operation)
        for at in range(0, len(names), _AT_ONCE):
            asked = [{"Name": "db-cluster-id", "Values": names[at : at + _AT_ONCE]}]
            for page in paginator.paginate(Filters=asked, PaginationConfig={"PageSize": _AT_ONCE}):
                yield from page[key]


def wait_until_available(
    session: Session,
    identifier: str,
    *,
    instances: int,
    timeout_minutes: float,
    poll_seconds: float,
    before_waiting: Callable[[], Any] | None = None,
    say: Callable[[str], Any] | None = None,
) -> dict[str, str]:
    """Wait until the cluster and its `instances` are available; return their statuses.

    Prints, or gives to `say`, one line for each change of a status, and keeps a live line current when a person is
    there. `before_waiting` is called when the first look found that there is something to wait for; lines are given
    to `say` only then. Lost connections are waited out. Interrupting does no harm: call it again. Raises
    `WaitFailed` at once for a status that cannot become available, and `WaitTimedOut`.
    """
    watch = Watch(session)
    watch.add(identifier, instances=instances)
    began, first = time.monotonic(), True
    progress = Progress(f"cluster {identifier} and its instances ({instances}) to become available")
    tell = say or progress.say
    before: dict[str, str] = {}
    while True:
        lost = ""
        try:
            watch.look()
        except LOST as error:
            lost = f"no answer ({type(error).__name__}), asking again"
        now = watch.found(identifier)
        done = not lost and watch.is_available(identifier)
        if first and not done and before_waiting:
            before_waiting()
        if not (first and done and say):
            for line in (f"{name}: {status}" for name, status in now.items() if before.get(name) != status):
                tell(line)
            if lost:
                tell(lost)
        progress.show(now, done=done)
        if done:
            return now
        if time.monotonic() - began > timeout_minutes * 60:
            raise watch.too_late(identifier, timeout_minutes)
        before, first = now, False
        time.sleep(poll_seconds)
