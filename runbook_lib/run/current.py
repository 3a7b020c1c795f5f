"""The current run of a JupyterLab session: a page whose parameters cell is as shipped works on it.

`runbook lab` keeps its name in a file of the runs folder and gives the path of that file to the kernels that it starts,
in RUNBOOK_CURRENT_RUN. Without a person, in papermill and nbval for example, the variable has no effect.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from runbook_lib.attended import is_attended
from runbook_lib.files import write_whole
from runbook_lib.inputs.base import RUN_ID, Inputs

VARIABLE = "RUNBOOK_CURRENT_RUN"
TARGET_VARIABLE = "RUNBOOK_LAB_TARGET"
_ASSIGNED = re.compile(r"^run_id\s*(?::[^=]*)?=", re.MULTILINE)
_AS_SHIPPED = re.compile(r"^run_id: str = ", re.MULTILINE)


def current_file(runs_dir: Path, target: str) -> Path:
    """Return the file that names the current run of the lab with this target."""
    return runs_dir / (".current-run" if target == "sandbox" else f".current-run-{target}")


def read_current(file: Path) -> str:
    """Return the run that `file` names; "" if the file does not exist or names no run."""
    try:
        name = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return name if RUN_ID.fullmatch(name) else ""


def current_run() -> str:
    """Return the current run of the lab that started this kernel; "" in any other process, or if none is chosen."""
    named = os.environ.get(VARIABLE, "")
    return read_current(Path(named)) if named and is_attended() else ""


def make_current(run_id: str) -> None:
    """Make `run_id` the current run of the lab that started this kernel; do nothing in any other process."""
    named = os.environ.get(VARIABLE, "")
    if named and is_attended() and read_current(Path(named)) != run_id:
        write_whole(Path(named), f"{run_id}\n".encode(), durable=False)


def lab_target() -> str:
    """Return the target of the lab that started this kernel, `sandbox` or `aws`; "" in any other process."""
    named = os.environ.get(TARGET_VARIABLE, "") if is_attended() else ""
    return named if named in ("sandbox", "aws") else ""


def followed(run_id: str) -> str:
    """Return the run that a page with this `run_id` works on: the current run if the parameters cell is as shipped."""
    return (current_run() or run_id) if is_as_shipped(run_id) else run_id


def is_as_shipped(run_id: str) -> bool:
    """Return whether `run_id` is the value that the parameters cell is shipped with, and no other cell has set it."""
    if run_id != Inputs.model_fields["run_id"].default:
        return False
    try:
        from IPython import get_ipython
    except ImportError:
        return True
    cells = getattr(get_ipython(), "user_ns", {}).get("In", [])
    assigning = [str(cell) for cell in cells if _ASSIGNED.search(str(cell))]
    return not assigning or bool(_AS_SHIPPED.search(assigning[-1]))
