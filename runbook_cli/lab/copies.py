"""The copies of the notebooks that JupyterLab works on: without outputs, in `_notebooks` of the runs folder.

`.shipped.json` beside them holds the digest of the cells that each copy was made with. A copy whose cells are still those
is renewed when the package has other ones; an edited copy is kept.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from runbook_lib.files import private_folder, write_whole
from runbook_lib.run.paths import notebooks_folder

FOLDER = "_notebooks"  # no run id starts with an underscore
_SHIPPED = ".shipped.json"


def renew(runs_dir: Path) -> list[str]:
    """Create or renew the copies in `runs_dir`; return the names of edited ones that differ from the package's.

    Raises `FileNotWritable`.
    """
    folder, kept = private_folder(runs_dir / FOLDER, parents=True), []
    shipped = _read(folder / _SHIPPED)
    for source in sorted(notebooks_folder().glob("*.ipynb")):
        notebook = json.loads(source.read_text(encoding="utf-8"))
        now, copy = digest(notebook), folder / source.name
        found = _read(copy)
        if found and digest(found) not in (now, shipped.get(source.name)):
            kept.append(source.name)
            continue
        if not found or digest(found) != now or has_outputs(found):
            without_outputs(notebook)
            write_whole(copy, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
        shipped[source.name] = now
    write_whole(folder / _SHIPPED, json.dumps(shipped, indent=1).encode(), durable=False)
    return kept


def names() -> frozenset[str]:
    """Return the file names of the notebooks of this package."""
    return frozenset(file.name for file in notebooks_folder().glob("*.ipynb"))


def digest(notebook: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a notebook's cells: their type and source, whatever a front end saved besides."""
    cells = [(cell.get("cell_type"), "".join(cell.get("source", ""))) for cell in notebook.get("cells", [])]
    return sha256(json.dumps(cells).encode()).hexdigest()


def has_outputs(notebook: dict[str, Any]) -> bool:
    """Return whether a cell has outputs or an execution count."""
    return any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.get("cells", []))


def without_outputs(notebook: dict[str, Any]) -> None:
    """Remove the outputs and execution counts of all cells."""
    for cell in notebook.get("cells", []):
        if cell.get("cell_type") == "code":
            cell["outputs"], cell["execution_count"] = [], None


def _read(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`; empty if there is none or it is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
