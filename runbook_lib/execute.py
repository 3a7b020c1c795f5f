"""The chain of notebooks, headless: which steps are left, each executed by papermill, one line as it goes.

Knows notebooks and run folders, no AWS step. papermill is imported here and nowhere else.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib import errors
from runbook_lib.errors import ParameterChanged, RunNotFound, RunNotWritable, SandboxGone, StepFailed
from runbook_lib.inputs import StartInputs
from runbook_lib.parameters import check_parameters
from runbook_lib.paths import notebooks_folder, shown
from runbook_lib.run import Run, run_lock
from runbook_lib.sandbox import process
from runbook_lib.seats import sandbox_account
from runbook_lib.session import session_for
from runbook_lib.steps import Step, all_steps, chain

Say = Callable[[str], Any]
VERIFY, CLEAN_UP = "06_verify_encryption", "90_clean_up"


def run_chain(parameters: Mapping[str, Any], *, run_id: str, runs_dir: Path, say: Say) -> Run:
    """Execute what is left of the chain for `run_id` ("": a new one); return the run, verified.

    Finished steps are not executed again; a finished run is verified afresh by 06 alone. Raises `InputError`
    before anything is called, `ParameterChanged`, `RunLocked`, and `StepFailed` for a notebook that stopped.
    """
    check_parameters({**parameters, "run_id": run_id or "new"})
    if run_id:
        _set_aside_what_has_gone(run_id, runs_dir, say)
    path = _folder(run_id, runs_dir)
    run_id = path.name
    given = {"exercises": False, **parameters, "run_id": run_id}
    with run_lock(path, what="runbook run"), _environment(RUNBOOK_RUNS_DIR=str(runs_dir), RUNBOOK_ATTENDED="0"):
        _require_same_parameters(path, given)
        start = StartInputs.read(given)
        word, account = "REAL AWS", start.account_id
        if start.target == "sandbox":
            word, account = "SANDBOX", sandbox_account(start, process.ensure(runs_dir), runs_dir=runs_dir)
        say(f"run {run_id} · {word} · account {account} · {start.region}")
        for step in _left(path):
            _execute(step, path, given, say)
        run = Run.open(run_id, runs_dir=runs_dir)
    return run


def _folder(run_id: str, runs_dir: Path) -> Path:
    """Make the run's folder if it is not there; without a run id, one that nobody has: the time, made unique."""
    name = run_id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    path, number = runs_dir / name, 1
    try:
        runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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
            f"cannot make {path} ({error.strerror}); mend the permissions or give --runs-dir DIR"
        ) from error


def _set_aside_what_has_gone(run_id: str, runs_dir: Path, say: Say) -> None:
    """Move a sandbox run whose sandbox has ended out of the way: nothing of it is left to go on with."""
    try:
        run = Run.open(run_id, runs_dir=runs_dir)
        if run.target["target"] == "sandbox":
            session_for(run.target, runs_dir=runs_dir)
    except RunNotFound:
        return
    except SandboxGone:
        aside = run.set_aside()
        say(f"run {run_id!r} was made in a sandbox that has ended; it is set aside as {aside.name!r}")


def _open(path: Path) -> Run | None:
    try:
        return Run.open(path.name, runs_dir=path.parent)
    except RunNotFound:
        return None


def _require_same_parameters(path: Path, given: Mapping[str, Any]) -> None:
    """Raise `ParameterChanged` when a finished step was made with other values than those given now."""
    run = _open(path)
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
    for name, section in run.steps.items():
        if section["status"] != "finished" or name in (VERIFY, CLEAN_UP):
            continue
        asked_of_step = all_steps()[name].inputs.read(given).model_dump()
        for field, was in section["inputs"].items():
            if field in asked_of_step and asked_of_step[field] != was:
                raise ParameterChanged(
                    f"{field}: {name} of run {run.run_id!r} was made with {was!r}, asked is {asked_of_step[field]!r}; give the old "
                    "value, or choose another run_id"
                )


def _left(path: Path) -> Iterator[Step]:
    """Yield the steps that are to be executed, looking again after each."""
    run = _open(path)
    if run is not None and all(run.is_finished(step.name) for step in chain()):
        yield all_steps()[VERIFY]
        return
    again: set[str] = set()
    for step in chain():
        run = _open(path)
        if run is None or not run.is_finished(step.name):
            if run is not None and (expired := _expired(run)):
                again.update(expired)
                yield from (all_steps()[name] for name in expired)
            yield step


def _expired(run: Run) -> list[str]:
    """Return the finished steps that left something that is valid for some time only and has expired, with those
    that were made from it; empty when what they were needed for is done."""
    names = [step.name for step in chain() if run.is_finished(step.name)]
    for index, name in enumerate(names):
        record = run.record(name)
        if "valid_until" in record and not run.is_finished(record["needed_by"]):
            now = session_for(run.target, runs_dir=run.path.parent).now()
            if datetime.fromisoformat(record["valid_until"]) <= now:
                return names[index:]
    return []


def _output(path: Path, step: Step) -> Path:
    """Return where the next executed copy goes: each attempt's notebook is kept."""
    folder = path / "notebooks"
    folder.mkdir(mode=0o700, exist_ok=True)
    output, attempt = folder / f"{step.name}.ipynb", 1
    while output.exists():
        attempt += 1
        output = folder / f"{step.name}.attempt-{attempt}.ipynb"
    return output


def _execute(step: Step, path: Path, given: Mapping[str, Any], say: Say) -> None:
    output, began = _output(path, step), time.monotonic()
    reason = execute_notebook(notebooks_folder() / f"{step.name}.ipynb", output, _of_step(step, given))
    seconds = time.monotonic() - began
    if reason:
        say(f"  {step.number} {step.words:<26} {seconds:5.1f} s  FAILED")
        raise StepFailed(path.name, step.name, reason, shown(output))
    run = Run.open(path.name, runs_dir=path.parent)
    if not run.is_finished(step.name):
        say(f"  {step.number} {step.words:<26} {seconds:5.1f} s  FAILED")
        raise StepFailed(path.name, step.name, "ended without having finished", shown(output))
    say(f"  {step.number} {step.words:<26} {seconds:5.1f} s  {run.record(step.name).get('summary', 'done')}")


def _of_step(step: Step, given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in step.inputs.model_fields if name in given}


def execute_notebook(source: Path, output: Path, parameters: Mapping[str, Any]) -> str:
    """Execute one notebook; return '' or, when a cell failed, its error in one line.

    The executed copy is written after every cell (0600), without widget state; the kernel is reached through a
    socket file, not a TCP port.
    """
    # JupyterLab brings a JSON Schema format whose parser takes most of a second to build; nothing here uses it.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    mask = os.umask(0o077)
    try:
        papermill.execute_notebook(
            str(source),
            str(output),
            parameters=dict(parameters),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            store_widget_state=False,
            config=Config({"KernelManager": {"transport": "ipc"}}),
        )
    except PapermillExecutionError as error:
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
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables for the kernels that are started meanwhile."""
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
    with run.locked(what="runbook clean-up"), _environment(RUNBOOK_RUNS_DIR=str(run.path.parent), RUNBOOK_ATTENDED="0"):
        output = _output(run.path, step)
        reason = execute_notebook(notebooks_folder() / f"{step.name}.ipynb", output, given)
    if reason:
        raise StepFailed(run.run_id, step.name, reason, shown(output))
    run.reload()
    say(f"The executed notebook is {shown(output)}")
    return list(run.made(CLEAN_UP).get("gone", []))
