"""Several runs at once: worker processes for what is left of them, and one wait for all their clusters.

A run takes a worker for 00 to 05 and another for 06; in between nothing is held for it but its lock, which is this
process's from beginning to end. All clusters of an account and Region are asked for together. Whatever is killed,
the state is in the run folders: the same command with the same run ids goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

import runbook_kernels
from runbook_cli.parameters import check_parameters
from runbook_cli.runner import chain
from runbook_lib.aws import sandbox_process
from runbook_lib.aws.waiting import LOST, Watch, seconds_between_looks
from runbook_lib.errors import InputError, ParameterChanged, RunbookError, WaitFailed
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.paths import shown
from runbook_lib.run.run import HOLDER_TOKEN, Run, run_lock

QUEUED, RUNNING, WAITING, VERIFIED, FAILED = "queued", "running", "waiting", "verified", "failed"


@dataclass
class Job:
    """One run of several: what it is to be, and how far it has come."""

    file: Path
    parameters: Mapping[str, Any]
    run_id: str = ""
    path: Path = Path()
    given: dict[str, Any] = field(default_factory=dict)
    state: str = QUEUED
    line: str = ""
    result: tuple[str, str] = ("", "")
    began: float = 0.0
    seconds: float = 0.0
    held: ExitStack = field(default_factory=ExitStack)
    token: str = ""
    worker: Any = None
    ear: Any = None
    cluster: str = ""
    deadline: float = 0.0

    @property
    def name(self) -> str:
        """What the run is called: its id, or the file's name until it has one."""
        return self.path.name or self.run_id or self.file.stem

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it here."""
        return self.state in (VERIFIED, FAILED)


def default_jobs() -> int:
    """Return how many workers there are unless told: two for each core, since a run waits for answers half its time."""
    return 2 * (os.cpu_count() or 1)


def check_jobs(jobs: Sequence[Job]) -> None:
    """Check all parameters, and that no two runs would be one or make the same things. Raises `InputError`."""
    problems: list[tuple[str, str]] = []
    taken: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        try:
            check_parameters({**job.parameters, "run_id": job.run_id or "new"})
        except InputError as error:
            problems += [(f"{job.file}: {name}", message) for name, message in error.problems]
            continue
        start = StartInputs.read(job.parameters)
        names = [("run_id", job.run_id)] if job.run_id else []
        if start.target == "aws":
            names += [(name, getattr(start, name)) for name in ("key_alias", "db_cluster_identifier")]
        for name, value in names:
            where = () if name == "run_id" else (start.account_id, start.region)
            other = taken.setdefault((name, value, *where), job)
            if other is not job:
                problems.append((name, f"{value!r} is asked for by {other.file} and by {job.file}; give each its own"))
    if problems:
        raise InputError(problems)


def run_side_by_side(
    jobs: Sequence[Job], *, runs_dir: Path, workers: int, tell: Callable[[Sequence[Job]], Any], say: chain.Say
) -> None:
    """Execute what is left of every run; each job says at the end whether it is verified or has failed, and why.

    `tell` is called with all jobs whenever one of them has come further. Raises `InputError` before anything is
    called, and `ParameterChanged`; afterwards a run that fails does not keep the others from finishing.
    """
    check_jobs(jobs)
    _refuse_changes(jobs, runs_dir, say)
    if starting := runbook_kernels.start():
        starting.join()  # a process with threads is not to be forked
    chain.import_papermill()
    if any(StartInputs.read(job.parameters).target == "sandbox" for job in jobs):
        sandbox_process.ensure(runs_dir)
    say(f"{len(jobs)} runs, {min(workers, len(jobs))} at a time · runs {shown(runs_dir)}")
    with chain.kernel_environment(runs_dir), ExitStack() as stack:
        for job in jobs:
            stack.enter_context(job.held)
        _Floor(jobs, runs_dir, workers, tell, say).work()


def _refuse_changes(jobs: Sequence[Job], runs_dir: Path, say: chain.Say) -> None:
    """Raise `ParameterChanged` for a run that exists; what else is wrong with one is told when its turn comes."""
    for job in jobs:
        if not job.run_id or not (runs_dir / job.run_id).is_dir():
            continue
        try:
            chain.parameters_of_run(job.parameters, chain.make_folder(job.run_id, runs_dir, say))
        except ParameterChanged:
            raise
        except RunbookError:
            continue


class _Floor:
    """The workers, the queue in front of them, and the clusters that are waited for."""

    def __init__(
        self, jobs: Sequence[Job], runs_dir: Path, workers: int, tell: Callable[[Sequence[Job]], Any], say: chain.Say
    ) -> None:
        self._jobs, self._runs_dir, self._workers, self._tell, self._say = jobs, runs_dir, workers, tell, say
        self._queue = deque(jobs)
        self._watches: dict[tuple[str, ...], tuple[Watch, list[Job]]] = {}
        self._next_look = 0.0
        # Forked workers have everything imported; elsewhere each imports for itself.
        self._context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")

    def work(self) -> None:
        """Work until every job has ended. Interrupted or terminated, end the workers first."""
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            while self._queue or self._running() or self._waiting():
                while self._queue and len(self._running()) < self._workers:
                    self._start(self._queue.popleft())
                self._listen()
                if self._waiting() and time.monotonic() >= self._next_look:
                    self._look()
        finally:
            signal.signal(signal.SIGTERM, before)
            for job in self._running():
                job.worker.terminate()
                job.worker.join()

    def _running(self) -> list[Job]:
        return [job for job in self._jobs if job.worker is not None]

    def _waiting(self) -> list[Job]:
        return [job for _, jobs in self._watches.values() for job in jobs]

    def _start(self, job: Job) -> None:
        first = not job.began
        job.began = job.began or time.monotonic()
        try:
            if first:
                job.path = chain.make_folder(job.run_id, self._runs_dir, self._say, suffix=_suffix(job.file))
                _hold(job)
                job.given = chain.parameters_of_run(job.parameters, job.path)
        except RunbookError as error:
            self._end(job, FAILED, str(error))
            return
        job.ear, mouth = self._context.Pipe(duplex=False)
        job.worker = self._context.Process(
            target=_work, args=(mouth, job.path, job.given, job.token, job.state == QUEUED), daemon=False
        )
        job.state = RUNNING
        job.worker.start()
        mouth.close()
        self._tell(self._jobs)

    def _listen(self) -> None:
        """Take in what the workers say, until the next look is due."""
        ears: dict[Any, Job] = {job.ear: job for job in self._running()}
        left = max(0.0, self._next_look - time.monotonic()) if self._waiting() else None
        if not ears:
            time.sleep(left or 0.0)
        heard: list[Any] = connection.wait(list(ears), left) if ears else []
        for ear in heard:
            job = ears[ear]
            try:
                kind, text = ear.recv()
            except EOFError:
                self._ended(job)
                continue
            if kind == "line":
                job.line = text
                self._tell(self._jobs)
            else:
                job.result = (kind, text)

    def _ended(self, job: Job) -> None:
        job.worker.join()
        status, job.worker = job.worker.exitcode, None
        job.ear.close()
        (kind, text), job.result = job.result, ("", "")
        if kind == WAITING:
            job.state, job.line = WAITING, text
            self._wait_for(job)
            self._tell(self._jobs)
        elif kind:
            self._end(job, kind, text)
        else:
            self._end(job, FAILED, f"its worker ended without a word (status {status})")

    def _wait_for(self, job: Job) -> None:
        """Put the job's cluster with the others of its account and Region, and look at once."""
        try:
            run = Run.open(job.path.name, runs_dir=self._runs_dir)
            key = tuple(run.target.values())
            if key not in self._watches:
                from runbook_lib.aws.session import session_for

                self._watches[key] = (Watch(session_for(run.target, runs_dir=self._runs_dir)), [])
        except RunbookError as error:
            self._end(job, FAILED, str(error))
            return
        made = run.record(chain.CREATE)
        watch, jobs = self._watches[key]
        job.cluster = made["db_cluster_identifier"]
        job.deadline = time.monotonic() + 60 * VerifyEncryptionInputs.read(job.given).wait_timeout_minutes
        watch.add(job.cluster, instances=len(made["db_instance_identifiers"]))
        jobs.append(job)
        if len(jobs) == 1 or self._interval() < 1:
            self._next_look = 0.0

    def _interval(self) -> float:
        waiting = [(VerifyEncryptionInputs.read(job.given), StartInputs.read(job.given)) for job in self._waiting()]
        return min(seconds_between_looks(start.target, verify.poll_seconds) for verify, start in waiting)

    def _look(self) -> None:
        """Ask once for each account and Region; those that are available, or never will be, go on to 06."""
        self._next_look = time.monotonic() + self._interval()
        for watch, jobs in self._watches.values():
            if not jobs:
                continue
            try:
                watch.look()
            except LOST as error:
                self._say(f"no answer ({type(error).__name__}), asking again")
                continue
            except RunbookError as error:
                for job in list(jobs):
                    jobs.remove(job)
                    self._end(job, FAILED, str(error))
                continue
            for job in list(jobs):
                self._judge(watch, jobs, job)

    def _judge(self, watch: Watch, jobs: list[Job], job: Job) -> None:
        try:
            over = watch.is_available(job.cluster)
        except WaitFailed:  # 06 reports it
            over = True
        found = watch.found(job.cluster)
        if line := ", ".join(f"{name}: {status}" for name, status in found.items()):
            job.line = line
        if not over and time.monotonic() < job.deadline:
            return
        jobs.remove(job)
        if over:
            self._queue.appendleft(job)
        else:
            asked = VerifyEncryptionInputs.read(job.given).wait_timeout_minutes
            self._end(job, FAILED, f"{chain.VERIFY}: {watch.too_late(job.cluster, asked)}")
        watch.remove(job.cluster)

    def _end(self, job: Job, state: str, line: str) -> None:
        job.state, job.line, job.seconds = state, " ".join(line.split()), time.monotonic() - job.began
        job.held.close()
        self._tell(self._jobs)


def _suffix(file: Path) -> str:
    return "-" + re.sub(r"[^A-Za-z0-9._-]", "-", file.stem)[:40]


def _hold(job: Job) -> None:
    """Hold the lock of the job's run until the job ends; lend it to the job's workers only."""
    job.held.enter_context(run_lock(job.path, what="runbook run"))
    job.token = os.environ.pop(HOLDER_TOKEN, "")


def _work(mouth: Any, path: Path, given: dict[str, Any], token: str, first: bool) -> None:
    """Be a worker: execute 00 to 05, or 06, and say each line, then how it ended."""

    def say(line: str) -> None:
        mouth.send(("line", line.strip()))

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    os.environ[HOLDER_TOKEN] = token
    try:
        with chain.kernel_environment(path.parent), chain.kernels() as source:
            source.start_ahead()
            steps = chain.Chain(path, given, say, source)
            if first:
                steps.execute_until_cluster(ahead=False)
                mouth.send((WAITING, "its cluster is being created"))
                return
            steps.execute_rest()
            verdict = Run.open(path.name, runs_dir=path.parent).record(chain.VERIFY)["verdict"]
            mouth.send((VERIFIED, verdict))
    except RunbookError as error:
        mouth.send((FAILED, str(error)))
    except KeyboardInterrupt:
        mouth.send((FAILED, "interrupted"))


def _end_with_parent() -> None:
    """End this worker, and with it its kernels, when the process that started it has been killed."""
    if parent := multiprocessing.parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)
