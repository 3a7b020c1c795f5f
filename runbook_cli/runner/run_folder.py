"""The folder of a run: create it, open the run in it, and reject parameters that changed since the run started."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import FileNotWritable, ParameterChanged, RunNotFound, SandboxUnavailable
from runbook_lib.files import private_folder
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CLEAN_UP, ENCRYPT_KEY_MATERIAL, VERIFY_ENCRYPTION, all_steps, chain

PrintLine = Callable[[str], Any]


def open_run(path: Path) -> Run:
    """Return the run in this folder. Raises `RunNotFound` while 00 has not started it."""
    return Run.open(path.name, runs_dir=path.parent)


def existing_run(path: Path) -> Run | None:
    """Return the run in this folder, or None while 00 has not started it."""
    try:
        return open_run(path)
    except RunNotFound:
        return None


def make_folder(run_id: str, runs_dir: Path, print_line: PrintLine, *, suffix: str = "") -> Path:
    """Return the folder of a run, created if missing. Without a run id, its name is the UTC time, made unique.

    If `run_id` belongs to a sandbox that has ended, its folder is renamed first: its resources no longer exist.
    Raises `FileNotWritable`.
    """
    if run_id:
        _set_aside_if_sandbox_ended(runs_dir / run_id, print_line)
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
        raise FileNotWritable(
            f"cannot create {path} ({error.strerror}); free disk space or fix the permissions, or give --runs-dir DIR"
        ) from error


def _set_aside_if_sandbox_ended(path: Path, print_line: PrintLine) -> None:
    run = existing_run(path)
    if run is None or run.target["target"] != "sandbox":
        return
    try:
        sandbox = sandbox_process.find(path.parent)
    except SandboxUnavailable:
        sandbox = None
    if sandbox is None or sandbox.sandbox_id != run.target["sandbox_id"]:
        aside = run.set_aside()
        print_line(f"run {run.run_id!r} belongs to a sandbox that has ended; it was renamed to {aside.name!r}")


def parameters_of_run(parameters: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the parameters for the notebooks of this run. The caller holds its lock. Raises `ParameterChanged`."""
    given = {"exercises": False, **parameters, "run_id": path.name}
    require_same_parameters(path, given)
    return given


def recorded_values(path: Path) -> dict[str, Any]:
    """Return the values that the finished steps of a run were executed with; empty if there is no run."""
    run = existing_run(path)
    sections = [section for section in run.steps.values() if section["status"] == "finished"] if run else []
    return {name: value for section in sections for name, value in section["inputs"].items() if name != "run_id"}


def require_material_of(parameters: Mapping[str, Any], runs_dir: Path, run_id: str) -> None:
    """Raise `InputError` for files and tokens that would stop 03, while there is neither a folder nor a key.

    Files that a finished 03 has read are not needed any more.
    """
    run = existing_run(runs_dir / run_id) if run_id else None
    if run is None or not run.is_finished(ENCRYPT_KEY_MATERIAL):
        asked, target = EncryptKeyMaterialInputs.read(parameters), StartInputs.read(parameters).target
        if target == "sandbox" and asked.key_material_source == "generate" and not asked.recovery_public_keys:
            return  # nothing is read
        from runbook_lib.steps.judge_material import require_material

        require_material(asked, target=target, runs_dir=runs_dir)


def _is_same(now: Any, was: Any) -> bool:
    """Return whether two values are equal; a relative path is what earlier versions recorded of the same absolute one."""
    if isinstance(now, list) and isinstance(was, list) and len(now) == len(was):
        return all(map(_is_same, now, was))
    if isinstance(now, str) and isinstance(was, str) and now.startswith("/") and was and not was.startswith(("/", "~")):
        return now.endswith("/" + os.path.normpath(was))
    return bool(now == was)


def require_same_parameters(path: Path, given: Mapping[str, Any]) -> None:
    """Raise `ParameterChanged` when a finished step ran with values that differ from those given now."""
    run = existing_run(path)
    if run is None:
        return
    if run.is_finished(CLEAN_UP):
        raise ParameterChanged(f"run_id: run {run.run_id!r} was cleaned up; choose another run_id")
    target = run.target
    for field in ("target", "region", "account_id"):
        asked = getattr(StartInputs.read(given), field)
        if asked and asked != target[field]:
            raise ParameterChanged(
                f"{field}: run {run.run_id!r} is bound to {target[field]!r}, not {asked!r}; choose another run_id"
            )
    # A drill may be repeated with other choices.
    fixed = {step.name for step in (*chain(), *chain(existing=True))} - {VERIFY_ENCRYPTION}
    for name, section in run.steps.items():
        if section["status"] != "finished" or name not in fixed:
            continue
        asked_of_step = all_steps()[name].inputs.read(given).model_dump()
        for field, was in section["inputs"].items():
            if field in asked_of_step and not _is_same(asked_of_step[field], was):
                raise ParameterChanged(
                    f"{field}: {name} of run {run.run_id!r} ran with {was!r}, not {asked_of_step[field]!r}; "
                    "give the old value, or choose another run_id"
                )
