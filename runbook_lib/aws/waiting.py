"""Wait for clusters and instances until they are available, or until they cannot become available.

All clusters of one account and Region are polled together, in one paginated call per interval. boto3's waiters keep
polling a cluster that has lost its key; this one stops at once. It keeps no state: a wait can be repeated at any time.
Sources of the statuses: Aurora user guide, Viewing DB cluster status and Viewing DB instance status.
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
    "inaccessible-encryption-credentials": "its KMS key was inaccessible for more than seven days; restore the "
    "cluster from a snapshot or backup",
    "inaccessible-encryption-credentials-recoverable": "its key is inaccessible; enable the key, or import its "
    "material again with `runbook recover`, then start the cluster",
    "cloning-failed": "cloning failed; delete the cluster and run step 05 again",
    "migration-failed": "migration failed; delete the cluster and run step 05 again",
    "deleting": "it is being deleted; wait for that and run step 05 again",
    "failed": "creation failed permanently; delete the cluster and run step 05 again",
    "incompatible-network": "RDS cannot use its VPC, for example because a subnet has no free IP address; "
    "correct the subnets or the subnet group",
    "incompatible-parameters": "its parameter group has a value that the engine version or instance class does "
    "not support; correct the parameter group",
    "insufficient-capacity": "the zone has no capacity for the instance class; choose another class",
    "storage-full": "its storage is full; delete data that is no longer needed, or contact AWS Support",
    "stopped": "it is stopped; start it (rds:StartDBCluster)",
    "stopping": "it is being stopped; start it when it is stopped (rds:StartDBCluster)",
}


AVAILABLE = "available"
CONNECTION_ERRORS = (BotoConnectionError, HTTPClientError)
_AT_ONCE = 100  # the most values in a filter, and records in a page


def statuses(session: Session, identifier: str) -> dict[str, str]:
    """Return the status of a cluster and each of its instances, by name; empty when the cluster does not exist."""
    cluster = rds.find_cluster(session, identifier)
    if cluster is None:
        return {}
    found = {f"cluster {identifier}": str(cluster["Status"])}
    for instance in rds.instances_of(session, identifier):
        found[f"instance {instance['DBInstanceIdentifier']}"] = str(instance["DBInstanceStatus"])
    return found


def poll_interval(target: str, requested: float) -> float:
    """Return the polling interval in seconds: `requested`, or the target's default for 0."""
    return float(requested) or POLL_SECONDS[target]


class Watch:
    """The clusters of one account and Region to wait for, with their statuses at the last poll."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._instances: dict[str, int] = {}
        self._found: dict[str, dict[str, str]] = {}

    def add(self, identifier: str, *, instances: int) -> None:
        """Add a cluster with its number of `instances`."""
        self._instances[identifier] = instances

    def remove(self, identifier: str) -> None:
        """Remove a cluster."""
        self._instances.pop(identifier, None)
        self._found.pop(identifier, None)

    def found(self, identifier: str) -> dict[str, str]:
        """Return the statuses of a cluster and its instances at the last poll, by name."""
        return dict(self._found.get(identifier, {}))

    def poll(self) -> None:
        """Describe all clusters that are not available yet in one call, and the instances of the others in another.

        Each call is paginated. Raises one of `CONNECTION_ERRORS` when AWS does not respond.
        """
        if pending := [name for name in self._instances if not self._is_up(name)]:
            fresh: dict[str, dict[str, str]] = {name: {} for name in pending}
            for cluster in self._describe("describe_db_clusters", "DBClusters", pending):
                name = str(cluster["DBClusterIdentifier"])
                fresh[name][f"cluster {name}"] = str(cluster["Status"])
            self._found.update(fresh)
        if up := [name for name in self._instances if self._is_up(name)]:
            for instance in self._describe("describe_db_instances", "DBInstances", up):
                name = f"instance {instance['DBInstanceIdentifier']}"
                self._found[str(instance["DBClusterIdentifier"])][name] = str(instance["DBInstanceStatus"])

    def is_available(self, identifier: str) -> bool:
        """Return whether the cluster and all its instances are available; raise `WaitFailed` if they cannot become so."""
        found = self._found.get(identifier)
        if found == {}:
            raise WaitFailed(f"cluster {identifier!r} does not exist; run notebooks/05_create_cluster.ipynb again")
        for name, status in (found or {}).items():
            if status in HOPELESS:
                raise WaitFailed(f"{name} is {status}: {HOPELESS[status]}; then run the cell or command again")
        return found is not None and len(found) > self._instances[identifier] and set(found.values()) == {AVAILABLE}

    def too_late(self, identifier: str, minutes: float) -> WaitTimedOut:
        """Return the error for a wait of `minutes`, naming what is not available."""
        late = ", ".join(
            f"{name} is {status}" for name, status in self.found(identifier).items() if status != AVAILABLE
        )
        return WaitTimedOut(
            f"after {minutes:g} minutes {late or 'instances are missing'}; run the cell or command again to keep waiting, "
            "or raise wait_timeout_minutes"
        )

    def _is_up(self, identifier: str) -> bool:
        return self._found.get(identifier, {}).get(f"cluster {identifier}") == AVAILABLE

    def _describe(self, operation: str, key: str, names: list[str]) -> Iterator[dict[str, Any]]:
        paginator = self._session.client("rds").get_paginator(operation)
        for at in range(0, len(names), _AT_ONCE):
            filters = [{"Name": "db-cluster-id", "Values": names[at : at + _AT_ONCE]}]
            for page in paginator.paginate(Filters=filters, PaginationConfig={"PageSize": _AT_ONCE}):
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

    Print one line per change of status, or pass it to `say`; in an attended session, keep a progress table up to date.
    `before_waiting` is called after the first poll if something is not available; only then does `say` get lines.
    Connection errors are retried. The wait can be interrupted and repeated. Raises `WaitFailed` at once for a status
    that cannot become available, and `WaitTimedOut`.
    """
    watch = Watch(session)
    watch.add(identifier, instances=instances)
    began, first = time.monotonic(), True
    progress = Progress(f"cluster {identifier} and its instances ({instances}) to become available")
    print_line = say or progress.say
    before: dict[str, str] = {}
    while True:
        lost = ""
        try:
            watch.poll()
        except CONNECTION_ERRORS as error:
            lost = f"no response ({type(error).__name__}), polling again"
        now = watch.found(identifier)
        done = not lost and watch.is_available(identifier)
        if first and not done and before_waiting:
            before_waiting()
        if not (first and done and say):
            for line in (f"{name}: {status}" for name, status in now.items() if before.get(name) != status):
                print_line(line)
            if lost:
                print_line(lost)
        progress.show(now, done=done)
        if done:
            return now
        if time.monotonic() - began > timeout_minutes * 60:
            raise watch.too_late(identifier, timeout_minutes)
        before, first = now, False
        time.sleep(poll_seconds)
