"""Waiting for clusters and instances: until available, or until it is plain that they cannot get there.

AWS's own waiters spin for half an hour on a cluster that has lost its key; this one stops at once.
"""

from __future__ import annotations

import time

from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.exceptions import HTTPClientError

from runbook_lib import rds
from runbook_lib.errors import WaitFailed, WaitTimedOut
from runbook_lib.progress import Progress
from runbook_lib.session import Session

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


def statuses(session: Session, identifier: str) -> dict[str, str]:
    """Return the status of a cluster and each of its instances, by name; empty when the cluster is gone."""
    cluster = rds.find_cluster(session, identifier)
    if cluster is None:
        return {}
    found = {f"cluster {identifier}": str(cluster["Status"])}
    for instance in rds.instances_of(session, identifier):
        found[f"instance {instance['DBInstanceIdentifier']}"] = str(instance["DBInstanceStatus"])
    return found


def wait_until_available(
    session: Session,
    identifier: str,
    *,
    instances: int,
    timeout_minutes: float,
    poll_seconds: float,
) -> dict[str, str]:
    """Wait until the cluster and its `instances` are available; return their statuses.

    Prints one line for each change of a status, and keeps a live line current when a person is there. Lost connections are waited out. Interrupting does no harm: call
    it again. Raises `WaitFailed` at once for a status that cannot become available, and `WaitTimedOut`.
    """
    began = time.monotonic()
    progress = Progress(f"cluster {identifier} and its instances ({instances}) to become available")
    before: dict[str, str] = {}
    while True:
        try:
            now = statuses(session, identifier)
        except (BotoConnectionError, HTTPClientError) as error:
            progress.say(f"no answer ({type(error).__name__}), asking again")
            now = before
        else:
            if not now:
                raise WaitFailed(f"cluster {identifier!r} is not there; run notebooks/05_create_cluster.ipynb again")
            for name, status in now.items():
                if before.get(name) != status:
                    progress.say(f"{name}: {status}")
        for name, status in now.items():
            if status in HOPELESS:
                raise WaitFailed(f"{name} is {status}: {HOPELESS[status]}; then run this again")
        done = len(now) == 1 + instances and set(now.values()) == {"available"}
        progress.show(now, done=done)
        if done:
            return now
        if time.monotonic() - began > timeout_minutes * 60:
            late = ", ".join(f"{name} is {status}" for name, status in now.items() if status != "available")
            raise WaitTimedOut(
                f"after {timeout_minutes:g} minutes {late or 'instances are missing'}; run this again to go on waiting, "
                "or raise wait_timeout_minutes"
            )
        before = now
        time.sleep(poll_seconds)
