"""The folders of notebooks, parameter files and runs: in a checkout, or inside the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from runbook_lib.files import require_own_folder

_PACKAGE = Path(__file__).resolve().parent.parent  # runbook_lib/


def checkout() -> Path | None:
    """Return the checkout that this package is imported from, or None if it is installed without one."""
    top = _PACKAGE.parent
    return top if (top / "notebooks").is_dir() and (top / "pyproject.toml").is_file() else None


def notebooks_folder() -> Path:
    """Return the folder of the step notebooks."""
    top = checkout()
    return top / "notebooks" if top else _PACKAGE / "_notebooks"


def parameters_folder() -> Path:
    """Return the folder of the parameter files."""
    top = checkout()
    return top / "parameters" if top else _PACKAGE / "_parameters"


def runs_folder(given: Path | str | None = None) -> Path:
    """Return the runs folder: `given`, else RUNBOOK_RUNS_DIR, else `runs` in the checkout or, installed, in the current folder.

    Raises `PrivateFileUnsafe` if others may change the folder.
    """
    if named := given or os.environ.get("RUNBOOK_RUNS_DIR"):
        return require_own_folder(Path(named).expanduser().absolute())
    return require_own_folder((checkout() or Path.cwd()) / "runs")


def shown(path: Path) -> str:
    """Return `path` for display: relative to the checkout or the current folder if it is inside one, else absolute."""
    for base in (checkout(), Path.cwd()):
        if base and path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)
