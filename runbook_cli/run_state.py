"""The state of a run, as the commands and the start page show it."""

from __future__ import annotations

from runbook_lib.run.clusters import chain_of
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CLEAN_UP


def next_step(run: Run) -> str:
    """Return the name of the first step of the chain that has not finished, or an empty string when none is left."""
    if run.is_finished(CLEAN_UP):
        return ""
    return next((step.name for step in chain_of(run) if not run.is_finished(step.name)), "")


def target_label(target: str) -> str:
    """Return SANDBOX or REAL AWS for the target `sandbox` or `aws`."""
    return "SANDBOX" if target == "sandbox" else "REAL AWS"
