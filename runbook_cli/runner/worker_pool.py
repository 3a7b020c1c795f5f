"""The pool of worker processes for several runs: the queue, the workers, and the jobs waiting for a cluster."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from runbook_cli.runner.cluster_waits import ClusterWaits
from runbook_cli.runner.jobs import FAILED, QUEUED, RUNNING, WAITING, Job
from runbook_cli.runner.run_folder import PrintLine, make_folder, parameters_of_run
from runbook_cli.runner.worker import LINE, work
from runbook_lib.errors import RunbookError
from runbook_lib.run.lock import HOLDER_TOKEN, run_lock


class WorkerPool:
    """Execute jobs in at most `workers` processes; call `show` with all jobs when one makes progress."""

    def __init__(
        self,
        jobs: Sequence[Job],
        runs_dir: Path,
        workers: int,
        show: Callable[[Sequence[Job]], Any],
        print_line: PrintLine,
    ) -> None:
        self._jobs, self._runs_dir, self._workers = jobs, runs_dir, workers
        self._show, self._print_line = show, print_line
        self._queue = deque(jobs)
        self._waits = ClusterWaits(runs_dir, print_line)
        # Forked workers inherit the imported modules; on other systems each imports them again.
        self._context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")

    def run(self) -> None:
        """Return when every job has ended. On an interrupt or SIGTERM, terminate the workers first."""
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            while self._queue or self._running() or self._waits.jobs():
                while self._queue and len(self._running()) < self._workers:
                    self._start(self._queue.popleft())
                self._read_messages(self._waits.seconds_left())
                if self._waits.seconds_left() == 0:
                    self._poll_clusters()
        finally:
            signal.signal(signal.SIGTERM, before)
            for job in self._running():
                job.worker.terminate()
                job.worker.join()

    def _running(self) -> list[Job]:
        return [job for job in self._jobs if job.worker is not None]

    def _start(self, job: Job) -> None:
        """Start a worker for a job; the first time, create the folder of its run and lock it."""
        first = not job.began
        job.began = job.began or time.monotonic()
        try:
            if first:
                job.path = make_folder(job.run_id, self._runs_dir, self._print_line, suffix=_suffix(job.file))
                _lock(job)
                job.given = parameters_of_run(job.parameters, job.path)
        except RunbookError as error:
            self._end(job, FAILED, str(error))
            return
        job.reader, writer = self._context.Pipe(duplex=False)
        job.worker = self._context.Process(
            target=work, args=(writer, job.path, job.given, job.token, job.state == QUEUED), daemon=False
        )
        job.state = RUNNING
        job.worker.start()
        writer.close()
        self._show(self._jobs)

    def _read_messages(self, timeout: float | None) -> None:
        """Handle the messages of the workers; wait at most `timeout` seconds (None: no limit) for one."""
        readers: dict[Any, Job] = {job.reader: job for job in self._running()}
        if not readers:
            time.sleep(timeout or 0.0)
            return
        ready: list[Any] = connection.wait(list(readers), timeout)
        for reader in ready:
            job = readers[reader]
            try:
                kind, text = reader.recv()
            except EOFError:
                self._worker_ended(job)
                continue
            if kind == LINE:
                job.line = text
                self._show(self._jobs)
            else:
                job.result = (kind, text)

    def _worker_ended(self, job: Job) -> None:
        job.worker.join()
        status, job.worker = job.worker.exitcode, None
        job.reader.close()
        (kind, text), job.result = job.result, ("", "")
        if kind == WAITING:
            job.state, job.line = WAITING, text
            try:
                self._waits.add(job)
            except RunbookError as error:
                self._end(job, FAILED, str(error))
            else:
                self._show(self._jobs)
        elif kind:
            self._end(job, kind, text)
        else:
            self._end(job, FAILED, f"its worker process ended unexpectedly (exit status {status}); resume the run")

    def _poll_clusters(self) -> None:
        """Queue the jobs whose cluster is available, ahead of the others; fail those that timed out."""
        for job, failure in self._waits.poll():
            if failure:
                self._end(job, FAILED, failure)
            else:
                self._queue.appendleft(job)
        self._show(self._jobs)

    def _end(self, job: Job, state: str, line: str) -> None:
        job.state, job.line, job.seconds = state, " ".join(line.split()), time.monotonic() - job.began
        job.held.close()
        self._show(self._jobs)


def _suffix(file: Path) -> str:
    return "-" + re.sub(r"[^A-Za-z0-9._-]", "-", file.stem)[:40]


def _lock(job: Job) -> None:
    """Hold the lock of the job's run until the job ends; only the job's own workers may use it."""
    job.held.enter_context(run_lock(job.path, what="runbook run"))
    job.token = os.environ.pop(HOLDER_TOKEN, "")
