"""The run that 00 begins with: the current run of the lab, its recorded values and its draft, or the name of a new run."""

from __future__ import annotations

import re
from pathlib import Path

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import InputError, RunNotFound, RunUnreadable, SandboxUnavailable
from runbook_lib.inputs.start import StartInputs
from runbook_lib.pages.form import Known
from runbook_lib.run import drafts
from runbook_lib.run.current import followed, is_as_shipped, lab_target
from runbook_lib.run.paths import runs_folder
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CLEAN_UP, START
from runbook_lib.steps.open_step import earlier


def known_at_first(run_id: str) -> Known:
    """Return what is known when the form of 00 is first shown, for the parameter `run_id`.

    If that is as shipped and its run has ended, the form begins with the name of a new run.
    """
    chosen, why = followed(run_id), "The current run of this lab"
    run = _existing(chosen)
    if run is not None and is_as_shipped(run_id) and (ended := why_ended(run)):
        chosen, why = free_name(chosen, runs_folder()), f"A new run, because {ended}"
    known = known_of(chosen)
    return Known({**known.earlier, "run_id": (chosen, why)}, known.draft)


def known_of(run_id: str) -> Known:
    """Return the values that run `run_id` was started with, and its draft; of a new run, the target of the lab."""
    run = _existing(run_id)
    if run is None:
        return Known({"target": (target, "The target of this lab")} if (target := lab_target()) else {})
    fixed = {name: (run.target[name], "The run is fixed to it") for name in ("target", "account_id", "region")}
    return Known({**fixed, **earlier(run, START)}, drafts.read(run, START, StartInputs))


def _existing(run_id: str) -> Run | None:
    """Return the run if it can be read; `start.open_run` reports why it cannot."""
    try:
        return Run.open(run_id)
    except (InputError, RunNotFound, RunUnreadable):
        return None


def why_ended(run: Run) -> str:
    """Return why nothing more can be done in `run`, as a clause; an empty text if something can."""
    if run.is_finished(CLEAN_UP):
        return f"run {run.run_id!r} was cleaned up"
    if lab_target() == "aws" and run.target["target"] == "sandbox":
        return f"run {run.run_id!r} is a run in the sandbox"
    return f"the sandbox of run {run.run_id!r} has ended" if sandbox_ended(run) else ""


def sandbox_ended(run: Run) -> bool:
    """Return whether this is a run in a sandbox that does not run any more; no sandbox is started."""
    if run.target["target"] != "sandbox":
        return False
    try:
        found = sandbox_process.find(run.path.parent)
    except SandboxUnavailable:
        found = None
    return found is None or found.sandbox_id != run.target["sandbox_id"]


def free_name(run_id: str, folder: Path) -> str:
    """Return the first of `<run_id>-2`, `<run_id>-3` and so on that the runs folder does not have."""
    stem, number = re.sub(r"-\d+$", "", run_id), 2
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"
