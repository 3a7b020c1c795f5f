"""Wait for the clusters of several runs: one call per account and Region polls all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from runbook_cli.runner.jobs import Job
from runbook_cli.runner.run_folder import PrintLine, open_run
from runbook_lib.aws.waiting import CONNECTION_ERRORS, Watch, poll_interval
from runbook_lib.errors import RunbookError, WaitFailed
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.clusters import finished_clusters
from runbook_lib.run.steps import VERIFY_ENCRYPTION


class ClusterWaits:
    """The jobs whose clusters are being created, by account and Region, and the time of the next poll."""

    def __init__(self, runs_dir: Path, print_line: PrintLine) -> None:
        self._runs_dir, self._print_line = runs_dir, print_line
        self._watches: dict[tuple[str, ...], tuple[Watch, list[Job]]] = {}
        self._next_poll = 0.0

    def jobs(self) -> list[Job]:
        """Return the jobs that are waiting for their cluster."""
        return [job for _, jobs in self._watches.values() for job in jobs]

    def seconds_left(self) -> float | None:
        """Return the seconds until the next poll, or None when no job is waiting."""
        return max(0.0, self._next_poll - time.monotonic()) if self.jobs() else None

    def add(self, job: Job) -> None:
        """Add the cluster of a job; the first one is polled at once. Raises `RunbookError` if the run is unusable."""
        run = open_run(job.path)
        key = tuple(run.target.values())
        if key not in self._watches:
            from runbook_lib.aws.session import session_for

            self._watches[key] = (Watch(session_for(run.target, runs_dir=self._runs_dir)), [])
        created = finished_clusters(run)[0]
        watch, jobs = self._watches[key]
        job.cluster = created.db_cluster_identifier
        job.deadline = time.monotonic() + 60 * VerifyEncryptionInputs.read(job.given).wait_timeout_minutes
        watch.add(job.cluster, instances=len(created.db_instance_identifiers))
        jobs.append(job)
        if len(jobs) == 1 or self._interval() < 1:
            self._next_poll = 0.0

    def poll(self) -> Iterator[tuple[Job, str]]:
        """Poll each account and Region once; yield each job whose wait is over, with the failure or an empty string.

        A cluster that cannot become available is no failure here: 06 reports it.
        """
        self._next_poll = time.monotonic() + self._interval()
        for watch, jobs in self._watches.values():
            if not jobs:
                continue
            try:
                watch.poll()
            except CONNECTION_ERRORS as error:
                self._print_line(f"no response ({type(error).__name__}), polling again")
                continue
            except RunbookError as error:
                ended = [(job, str(error)) for job in jobs]
            else:
                judged = [(job, _failure(watch, job)) for job in jobs]
                ended = [(job, failure) for job, failure in judged if failure is not None]
            for job, failure in ended:
                jobs.remove(job)
                watch.remove(job.cluster)
                yield job, failure

    def _interval(self) -> float:
        waiting = [(VerifyEncryptionInputs.read(job.given), StartInputs.read(job.given)) for job in self.jobs()]
        return min(poll_interval(start.target, verify.poll_seconds) for verify, start in waiting)


def _failure(watch: Watch, job: Job) -> str | None:
    """Update the job's line; return None while it waits, a failure, or an empty string when 06 can be executed."""
    try:
        is_over = watch.is_available(job.cluster)
    except WaitFailed:  # 06 reports it
        is_over = True
    if line := ", ".join(f"{name}: {status}" for name, status in watch.found(job.cluster).items()):
        job.line = line
    if is_over:
        return ""
    if time.monotonic() < job.deadline:
        return None
    minutes = VerifyEncryptionInputs.read(job.given).wait_timeout_minutes
    return f"{VERIFY_ENCRYPTION}: {watch.too_late(job.cluster, minutes)}"
