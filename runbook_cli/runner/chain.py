"""Run the chain of notebooks headless: find the steps that are left, execute them in order, print one line for each.

The only AWS call made here is the wait for the cluster; `notebook` executes each notebook.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runbook_kernels
from runbook_cli.parameters import check_parameters
from runbook_cli.run_state import target_label
from runbook_cli.runner import notebook
from runbook_cli.runner.run_folder import (
    PrintLine,
    existing_run,
    make_folder,
    open_run,
    parameters_of_run,
    require_material_of,
)
from runbook_cli.surroundings import require_files
from runbook_lib.aws import sandbox_process
from runbook_lib.aws.seats import sandbox_account
from runbook_lib.errors import StepFailed, WaitFailed, WaitTimedOut
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.clusters import finished_clusters
from runbook_lib.run.lock import run_lock
from runbook_lib.run.paths import notebooks_folder, shown
from runbook_lib.run.records import was_restored
from runbook_lib.run.run import Run
from runbook_lib.run.steps import (
    CLEAN_UP,
    CLUSTER_STEPS,
    ENCRYPT_KEY_MATERIAL,
    GET_PARAMETERS_FOR_IMPORT,
    VERIFY_ENCRYPTION,
    Step,
    all_steps,
    chain,
)

if TYPE_CHECKING:
    from runbook_kernels.kernels import Kernels
    from runbook_lib.aws.session import Session

# For this long after a step was executed here, what it produced cannot have expired.
_FRESH_SECONDS = 3600.0
# A run has one of these two steps, in the same place.
_NUMBERS = dict.fromkeys(CLUSTER_STEPS, tuple(name[:2] for name in CLUSTER_STEPS))


def run_chain(
    parameters: Mapping[str, Any], *, run_id: str, runs_dir: Path, print_line: PrintLine, before: str = ""
) -> Run:
    """Execute the steps that are left of run `run_id` (empty: a new run); return the verified run.

    With `before`, two digits, stop before that step; the run is then not verified, unless the step comes after 06.

    Finished steps are not executed again, except 06, which verifies a finished run again. No kernel runs while the
    cluster is being created between 05 and 06. Raises `InputError` before any AWS call, `ParameterChanged`,
    `RunLocked`, and `StepFailed` when a notebook stopped.
    """
    check_parameters({**parameters, "run_id": run_id or "new"})
    require_material_of(parameters, runs_dir, run_id)
    require_files()
    runbook_kernels.start()
    path = make_folder(run_id, runs_dir, print_line)
    with run_lock(path, what="runbook run"), notebook.kernel_environment(runs_dir), notebook.kernels() as source:
        source.start_ahead()
        given = parameters_of_run(parameters, path)
        print_line(headline(given, runs_dir))
        steps = Chain(path, given, print_line, source, before=before)
        steps.execute_until_cluster()
        if steps.verifies:
            steps.wait()
            steps.execute_rest()
    return open_run(path)


def headline(given: Mapping[str, Any], runs_dir: Path) -> str:
    """Return the line that shows run, target, account and Region; start the sandbox if the target needs one."""
    start = StartInputs.read(given)
    account = start.account_id
    if start.target == "sandbox":
        account = sandbox_account(start, sandbox_process.ensure(runs_dir), runs_dir=runs_dir)
    return f"run {start.run_id} · {target_label(start.target)} · account {account} · {start.region}"


class Chain:
    """The steps that are left of one run. The caller holds the run's lock and sets the kernels' environment."""

    def __init__(
        self, path: Path, given: Mapping[str, Any], print_line: PrintLine, source: Kernels, *, before: str = ""
    ) -> None:
        self._path, self._given, self._print_line, self._source = path, given, print_line, source
        steps = chain(existing=bool(given.get("source_db_cluster_identifier")))
        self._steps = list(takewhile(lambda step: before not in _NUMBERS.get(step.name, (step.number,)), steps))
        self.verifies = self._steps == steps
        self._executed: dict[str, float] = {}
        self._session: Session | None = None
        self._ready: Future[Session] | None = None

    def execute_until_cluster(self, *, ahead: bool = True) -> None:
        """Execute the steps that are left before 06. Raises `StepFailed`.

        `ahead`: 06 follows in this process, so prepare its kernel and the clients of the wait meanwhile.
        """
        for step in self._left():
            if step.name in CLUSTER_STEPS and ahead:
                self._prepare_session()
            self._execute(step, another=ahead or step.name not in CLUSTER_STEPS)

    def execute_rest(self) -> None:
        """Execute 06. Raises `StepFailed`."""
        self._execute(all_steps()[VERIFY_ENCRYPTION], another=False)

    def wait(self) -> None:
        """Wait until the cluster is available, without a running kernel. Raises `StepFailed` on a timeout.

        A cluster that cannot become available is not an error here, nor is a refusal by AWS: 06 reports it.
        """
        run = open_run(self._path)
        (created, *_), asked = finished_clusters(run), VerifyEncryptionInputs.read(self._given)
        identifier, instances = created.db_cluster_identifier, len(created.db_instance_identifiers)
        session = self._ready.result() if self._ready else self.session()
        from runbook_lib.aws.answers import REFUSALS, refusal_text
        from runbook_lib.aws.waiting import poll_interval, wait_until_available

        def release_kernel() -> None:
            self._source.drop()
            self._print_line(f"     waiting for cluster {identifier} and {instances} instance{'s' * (instances > 1)}")

        try:
            wait_until_available(
                session,
                identifier,
                instances=instances,
                timeout_minutes=asked.wait_timeout_minutes,
                poll_seconds=poll_interval(session.target, asked.poll_seconds),
                before_waiting=release_kernel,
                say=lambda line: self._print_line(f"     {line}"),
            )
        except WaitFailed as error:
            self._print_line(f"     {error}")
        except WaitTimedOut as error:
            raise StepFailed(run.run_id, VERIFY_ENCRYPTION, str(error), "") from error
        except REFUSALS as error:
            self._print_line(f"     not available: {refusal_text(error)}")

    def session(self) -> Session:
        """Return the AWS session of this run, created on first use."""
        from runbook_lib.aws.session import session_for

        if self._session is None:
            run = open_run(self._path)
            self._session = session_for(run.target, runs_dir=self._path.parent)
        return self._session

    def _prepare_session(self) -> None:
        """Create the clients for the wait in a thread, while a kernel executes 05."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._ready = executor.submit(self._session_for_wait)
        executor.shutdown(wait=False)

    def _session_for_wait(self) -> Session:
        import_module("runbook_lib.aws.waiting")
        session = self.session()
        session.client("rds")
        return session

    def _left(self) -> Iterator[Step]:
        """Yield the steps to execute before 06; each is chosen after the previous one has been executed."""
        for step in self._steps:
            run = existing_run(self._path)
            if step.name != VERIFY_ENCRYPTION and run is not None and run.is_finished(step.name):
                continue
            if run is not None and step.name == ENCRYPT_KEY_MATERIAL and was_restored(run):
                yield all_steps()[GET_PARAMETERS_FOR_IMPORT]
            if run is not None and (expired := self._expired(run)):
                yield from (all_steps()[name] for name in expired)
            if step.name != VERIFY_ENCRYPTION:
                yield step

    def _expired(self, run: Run) -> list[str]:
        """Return the first finished step whose result has expired, such as an import token, and the steps after it.

        Empty when the step that needs the result has finished.
        """
        names = [step.name for step in self._steps if run.is_finished(step.name)]
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
        output, began = notebook.output_path(self._path, step), time.monotonic()
        given = {name: self._given[name] for name in step.inputs.model_fields if name in self._given}
        source = notebooks_folder() / f"{step.name}.ipynb"
        reason = notebook.execute_notebook(source, output, given, self._source, another=another)
        run = existing_run(self._path)
        if not reason and not (run and run.is_finished(step.name)):
            reason = "the notebook ended, but the step did not finish"
        line = f"  {step.number} {step.words:<26} {time.monotonic() - began:5.1f} s  "
        if reason or run is None:
            if run is not None and step.name == VERIFY_ENCRYPTION:
                import_module("runbook_lib.steps.reports").mark_not_verified(run, reason)
            self._print_line(line + "FAILED")
            raise StepFailed(self._path.name, step.name, reason, shown(output))
        self._executed[step.name] = time.monotonic()
        self._print_line(line + run.record(step.name).get("summary", "done"))


def clean_up(run: Run, parameters: Mapping[str, Any], *, print_line: PrintLine) -> list[str]:
    """Execute 90 for a run, headless; return one line for each resource that was deleted. Raises `StepFailed`."""
    execute_one(run, CLEAN_UP, parameters, what="runbook clean-up", print_line=print_line)
    return list(run.made(CLEAN_UP).get("gone", []))


def execute_one(run: Run, name: str, parameters: Mapping[str, Any], *, what: str, print_line: PrintLine) -> None:
    """Execute one notebook that is not part of the chain, headless. Raises `StepFailed`."""
    step = all_steps()[name]
    given = {**parameters, "run_id": run.run_id}
    step.inputs.check(given)
    require_files()
    with (
        run.locked(what=what),
        notebook.kernel_environment(run.path.parent),
        notebook.kernels() as source,
    ):
        output = notebook.output_path(run.path, step)
        reason = notebook.execute_notebook(notebooks_folder() / f"{step.name}.ipynb", output, given, source)
    if reason:
        raise StepFailed(run.run_id, step.name, reason, shown(output))
    run.reload()
    print_line(f"Executed notebook: {shown(output)}")
