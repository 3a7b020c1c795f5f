"""Choose the sandbox account of a run: the one given, a learner's seat, or one of its own."""

from __future__ import annotations

import os
from pathlib import Path

from runbook_lib.aws import seat_file
from runbook_lib.aws.sandbox_accounts import MAX_SEAT, account_of_seat
from runbook_lib.aws.sandbox_process import Sandbox
from runbook_lib.errors import InputError
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.run import Run, all_runs

# Accounts of runs that need one of their own come after those of a room full of learners.
_FIRST_OWN_SEAT = 5_001
_NAMES = ("key_alias", "db_cluster_identifier")


def seat_account() -> str:
    """Return the sandbox account of this learner's seat (RUNBOOK_SEAT), or the default account.

    Raises `InputError` for a seat that is not a valid number.
    """
    seat = os.environ.get("RUNBOOK_SEAT", "") or "0"
    try:
        return account_of_seat(int(seat))
    except ValueError as error:
        raise InputError(
            [("RUNBOOK_SEAT", f"{seat!r} is not a valid seat ({error}); set it to a number from 1, or unset it")]
        ) from None


def sandbox_account(inputs: StartInputs, sandbox: Sandbox, *, runs_dir: Path) -> str:
    """Return the sandbox account of a run: the one given, else the seat's, else the first without a conflict.

    An existing run keeps its account. A new run gets the default account, or one of its own when another run of this
    folder uses its names there, so that consecutive runs do not collide.
    """
    if not inputs.account_id and (place := seat_file.seat_at(sandbox.url)) and place.seat:
        return account_of_seat(place.seat)
    if inputs.account_id or os.environ.get("RUNBOOK_SEAT"):
        return inputs.account_id or seat_account()
    runs = [run for run in all_runs(runs_dir) if run.target["sandbox_id"] == sandbox.sandbox_id]
    for run in runs:
        if run.run_id == inputs.run_id:
            return run.target["account_id"]
    taken = {run.target["account_id"] for run in runs if _uses_names_of(run, inputs)}
    candidates = (account_of_seat(seat) for seat in (None, *range(_FIRST_OWN_SEAT, MAX_SEAT)))
    return next(account for account in candidates if account not in taken)


def _uses_names_of(run: Run, inputs: StartInputs) -> bool:
    if run.is_finished("90_clean_up"):
        return False
    inputs_of_run = run.steps.get("00_start", {}).get("inputs")
    return inputs_of_run is None or any(inputs_of_run.get(name) == getattr(inputs, name) for name in _NAMES)
