"""The chain of notebooks, headless: which steps are left, each executed by papermill, one line as it goes.

Knows notebooks and run folders, and no AWS step but the wait for the cluster. papermill is imported here, and by
the engine that is used here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runbook_kernels
from runbook_cli.parameters import check_parameters
from runbook_lib import errors
from runbook_lib.aws import sandbox_process
from runbook_lib.aws.seats import sandbox_account
from runbook_lib.errors import (
    ParameterChanged,
    RunNotFound,
    RunNotWritable,
    SandboxUnavailable,
    StepFailed,
    WaitFailed,
    WaitTimedOut,
)
from runbook_lib.files import private_folder
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.paths import notebooks_folder, shown
from runbook_lib.run.run import Run, run_lock
from runbook_lib.run.steps import Step, all_steps, chain

if TYPE_CHECKING:
    from runbook_kernels.kernels import Kernels
    from runbook_lib.aws.session import Session

Say = Callable[[str], Any]
CREATE, VERIFY, CLEAN_UP = "05_create_cluster", "06_verify_encryption", "90_clean_up"
# A step that this very call executed cannot have left anything that has expired, for as long as this.
_FRESH_SECONDS = 3600.0


def run_chain(parameters: Mapping[str, Any], *, run_id: str, runs_dir: Path, say: Say) -> Run:
    """Execute what is left of the chain for `run_id` ("": a new one); return the run, verified.

    Finished steps are not executed again; a finished run is verified afresh by 06 alone. Between 05 and 06 the
    cluster is waited for without a kernel. Raises `InputError` before anything is called, `ParameterChanged`,
    `RunLocked`, and `StepFailed` for a notebook that stopped.
    """
    check_parameters({**parameters, "run_id": run_id or "new"})
    runbook_kernels.start()
    path = make_folder(run_id, runs_dir, say)
    with run_lock(path, what="runbook run"), kernel_environment(runs_dir), kernels() as source:
        source.start_ahead()
        given = parameters_of_run(parameters, path)
        say(headline(given, runs_dir))
        steps = Chain(path, given, say, source)
        steps.execute_until_cluster()
        steps.wait()
        steps.execute_rest()
    return Run.open(path.name, runs_dir=runs_dir)


def parameters_of_run(parameters: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what the notebooks of this run are given. Raises `ParameterChanged`; the run's lock is the caller's."""
    given = {"exercises": False, **parameters, "run_id": path.name}
    _require_same_parameters(path, given)
    return given


def headline(given: Mapping[str, Any], runs_dir: Path) -> str:
    """Return the line that says where a run takes place; a sandbox that is needed is started."""
    start = StartInputs.read(given)
    word, account = "REAL AWS", start.account_id
    if start.target == "sandbox":
        word, account = "SANDBOX", sandbox_account(start, sandbox_process.ensure(runs_dir), runs_dir=runs_dir)
    return f"run {start.run_id} · {word} · account {account} · {start.region}"


def make_folder(run_id: str, runs_dir: Path, say: Say, *, suffix: str = "") -> Path:
    """Make the run's folder if it is not there; without a run id, one that nobody has: the time, made unique.

    A sandbox run whose sandbox has ended is moved out of the way first: nothing of it is left to go on with.
    """
    if run_id:
        _set_aside_what_has_gone(run_id, runs_dir, say)
    name = run_id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}{suffix}"
    path, number = runs_dir / name, 1
    try:
        private_folder(runs_dir, parents=True)
        while True:
            try:
                path.mkdir(mode=0o700)
                return path
            except FileExistsError:
                if run_id and path.is_dir():
                    return path
                if run_id:
                    raise
                number += 1
                path = runs_dir / f"{name}-{number}"
    except OSError as error:
        raise RunNotWritable(
            f"cannot make {path} ({error.strerror}); make room or mend the permissions, or give --runs-dir DIR"
        ) from error


def _set_aside_what_has_gone(run_id: str, runs_dir: Path, say: Say) -> None:
    try:
        run = Run.open(run_id, runs_dir=runs_dir)
    except RunNotFound:
        return
    if run.target["target"] != "sandbox":
        return
    try:
        sandbox = sandbox_process.find(runs_dir)
    except SandboxUnavailable:
        sandbox = None
    if sandbox is None or sandbox.sandbox_id != run.target["sandbox_id"]:
        aside = run.set_aside()
        say(f"run {run_id!r} was made in a sandbox that has ended; it is set aside as {aside.name!r}")


def open_run(path: Path) -> Run | None:
    """Return the run in this folder, or None when 00 has not made it yet."""
    try:
        return Run.open(path.name, runs_dir=path.parent)
    except RunNotFound:
        return None


def _require_same_parameters(path: Path, given: Mapping[str, Any]) -> None:
    """Raise `ParameterChanged` when a finished step was made with other values than those given now."""
    run = open_run(path)
    if run is None:
        return
    if run.is_finished(CLEAN_UP):
        raise ParameterChanged(f"run_id: run {run.run_id!r} was cleaned up; choose another run_id")
    target = run.target
    for field in ("target", "region", "account_id"):
        asked = getattr(StartInputs.read(given), field)
        if asked and asked != target[field]:
            raise ParameterChanged(
                f"{field}: run {run.run_id!r} is fixed to {target[field]!r}, asked is {asked!r}; choose another run_id"
            )
    links = {step.name for step in chain()}  # a drill has its own choices each time
    for name, section in run.steps.items():
        if section["status"] != "finished" or name == VERIFY or name not in links:
            continue
        asked_of_step = all_steps()[name].inputs.read(given).model_dump()
        for field, was in section["inputs"].items():
            if field in asked_of_step and asked_of_step[field] != was:
                raise ParameterChanged(
                    f"{field}: {name} of run {run.run_id!r} was made with {was!r}, asked is {asked_of_step[field]!r}; give the old "
                    "value, or choose another run_id"
                )


class Chain:
    """What is left of one run. The run's lock and the environment of its kernels are the caller's."""

    def __init__(self, path: Path, given: Mapping[str, Any], say: Say, source: Kernels) -> None:
        self._path, self._given, self._say, self._source = path, given, say, source
        self._executed: dict[str, float] = {}
        self._session: Session | None = None
        self._ready: Future[Session] | None = None

    def execute_until_cluster(self, *, ahead: bool = True) -> None:
        """Execute what is left before 06. `ahead`: 06 will follow, here. Raises `StepFailed`."""
        for step in self._left():
            if step.name == CREATE and ahead:
                self._prepare_session()
            self._execute(step, another=ahead or step.name != CREATE)

    def execute_rest(self) -> None:
        """Execute 06. Raises `StepFailed`."""
        self._execute(all_steps()[VERIFY], another=False)

    def wait(self) -> None:
        """Wait until the cluster is available, holding no kernel. Raises `StepFailed` when that takes too long.

        A cluster that cannot become available is 06's to report.
        """
        run = Run.open(self._path.name, runs_dir=self._path.parent)
        made, asked = run.record(CREATE), VerifyEncryptionInputs.read(self._given)
        identifier, instances = made["db_cluster_identifier"], len(made["db_instance_identifiers"])
        session = self._ready.result() if self._ready else self.session()
        from runbook_lib.aws.waiting import seconds_between_looks, wait_until_available

        def now_it_takes_long() -> None:
            self._source.drop()
            self._say(f"     waiting for cluster {identifier} and {instances} instance{'s' * (instances > 1)}")

        try:
            wait_until_available(
                session,
                identifier,
                instances=instances,
                timeout_minutes=asked.wait_timeout_minutes,
                poll_seconds=seconds_between_looks(session.target, asked.poll_seconds),
                before_waiting=now_it_takes_long,
                say=lambda line: self._say(f"     {line}"),
            )
        except WaitFailed as error:
            self._say(f"     {error}")
        except WaitTimedOut as error:
            raise StepFailed(run.run_id, VERIFY, str(error), "") from error

    def session(self) -> Session:
        """Return the runner's clients for this run, made when they are first needed."""
        from runbook_lib.aws.session import session_for

        if self._session is None:
            run = Run.open(self._path.name, runs_dir=self._path.parent)
            self._session = session_for(run.target, runs_dir=self._path.parent)
        return self._session

    def _prepare_session(self) -> None:
        """Make the clients that the wait will need while 05 is executed, which is another process's work."""
        with_thread = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._ready = with_thread.submit(self._session_to_wait_with)
        with_thread.shutdown(wait=False)

    def _session_to_wait_with(self) -> Session:
        import_module("runbook_lib.aws.waiting")
        session = self.session()
        session.client("rds")
        return session

    def _left(self) -> Iterator[Step]:
        """Yield the steps before 06 that are to be executed, looking again after each."""
        again: set[str] = set()
        for step in chain():
            run = open_run(self._path)
            if step.name != VERIFY and run is not None and run.is_finished(step.name):
                continue
            if run is not None and (expired := self._expired(run)):
                again.update(expired)
                yield from (all_steps()[name] for name in expired)
            if step.name != VERIFY:
                yield step

    def _expired(self, run: Run) -> list[str]:
        """Return the finished steps that left something that is valid for some time only and has expired, with those
        that were made from it; empty when what they were needed for is done."""
        names = [step.name for step in chain() if run.is_finished(step.name)]
        for index, name in enumerate(names):
            record = run.record(name)
            if "valid_until" not in record or run.is_finished(record["needed_by"]):
                continue
            if time.monotonic() - self._executed.get(name, -_FRESH_SECONDS) < _FRESH_SECONDS:
                continue
            if datetime.fromisoformat(record["valid_until"]) <= self.session().now():
                return names[index:]
        return []

    def _execute(self, step: Step, *, another: bool) -> None:
        output, began = _output(self._path, step), time.monotonic()
        given = {name: self._given[name] for name in step.inputs.model_fields if name in self._given}
        source = notebooks_folder() / f"{step.name}.ipynb"
        reason = execute_notebook(source, output, given, self._source, another=another)
        run = open_run(self._path)
        if not reason and not (run and run.is_finished(step.name)):
            reason = "ended without having finished"
        line = f"  {step.number} {step.words:<26} {time.monotonic() - began:5.1f} s  "
        if reason or run is None:
            self._say(line + "FAILED")
            raise StepFailed(self._path.name, step.name, reason, shown(output))
        self._executed[step.name] = time.monotonic()
        self._say(line + run.record(step.name).get("summary", "done"))


def _output(path: Path, step: Step) -> Path:
    """Return where the next executed copy goes: each attempt's notebook is kept. Raises `RunNotWritable`."""
    folder = private_folder(path / "notebooks")
    output, attempt = folder / f"{step.name}.ipynb", 1
    while output.exists():
        attempt += 1
        output = folder / f"{step.name}.attempt-{attempt}.ipynb"
    return output


def kernels() -> Kernels:
    """Return where the kernels of notebooks that follow each other come from."""
    from runbook_kernels.kernels import Kernels

    return Kernels("python3")


def import_papermill() -> Any:
    """Return papermill, imported without what it does not need."""
    import_module("runbook_cli.runner.lean")
    import papermill

    return papermill


def execute_notebook(
    source: Path, output: Path, parameters: Mapping[str, Any], from_where: Kernels, *, another: bool = False
) -> str:
    """Execute one notebook; return '' or, when a cell failed, its error in one line.

    The executed copy is written before every code cell and at the end (0600), without widget state. With `another`
    the kernel of a notebook that will follow is started meanwhile.
    """
    papermill = import_papermill()
    from nbclient.exceptions import DeadKernelError

    mask = os.umask(0o077)
    try:
        papermill.execute_notebook(
            str(source),
            str(output),
            parameters=dict(parameters),
            engine_name=runbook_kernels.PROVISIONER,
            kernel_name=from_where.kernel_name,
            progress_bar=False,
            log_output=False,
            store_widget_state=False,
            kernels=from_where,
            another=another,
        )
    except papermill.PapermillExecutionError as error:
        return one_line(error.ename, error.evalue)
    except DeadKernelError:
        return "the notebook's kernel died (killed, or out of memory)"
    except OSError as error:
        raise RunNotWritable(f"cannot write {output} ({error.strerror}); make room or mend the permissions") from error
    finally:
        os.umask(mask)
    return ""


def one_line(ename: str, evalue: str) -> str:
    """Return an error of a cell as one readable line."""
    text = " ".join(str(evalue).split()) or "no message"
    return text if hasattr(errors, ename) else f"{ename}: {text}"


@contextmanager
def kernel_environment(runs_dir: Path) -> Iterator[None]:
    """Set the environment that the kernels which are started meanwhile shall find, and how they are started."""
    values = {"RUNBOOK_RUNS_DIR": str(runs_dir), "RUNBOOK_ATTENDED": "0", **runbook_kernels.environment()}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def clean_up(run: Run, parameters: Mapping[str, Any], *, say: Say) -> list[str]:
    """Execute 90 for a run, headless; return what is gone, in words. Raises `StepFailed`."""
    step = all_steps()[CLEAN_UP]
    given = {**parameters, "run_id": run.run_id}
    step.inputs.check(given)
    with run.locked(what="runbook clean-up"), kernel_environment(run.path.parent), kernels() as source:
        output = _output(run.path, step)
        reason = execute_notebook(notebooks_folder() / f"{step.name}.ipynb", output, given, source)
    if reason:
        raise StepFailed(run.run_id, step.name, reason, shown(output))
    run.reload()
    say(f"The executed notebook is {shown(output)}")
    return list(run.made(CLEAN_UP).get("gone", []))
