"""What becomes of a page when JupyterLab saves it: the walk is kept in its run, the copy stays without outputs.

A page says in its first output which run it works on; its executed notebook is kept in that run's folder, one file for
each time that the step was opened. The copy in `_notebooks` serves all runs, so that nothing of one run is stored in it.

A saved widget view shows only "Loading widget" when the notebook is opened. Each form also has an HTML output, so
the widget view is removed from the file; the open page keeps it.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from runbook_cli.lab import copies
from runbook_cli.runner.notebook import output_path
from runbook_lib.errors import RunbookError
from runbook_lib.files import write_whole
from runbook_lib.run.run import STATE
from runbook_lib.run.steps import Step, all_steps

_WIDGET = "application/vnd.jupyter.widget-view+json"
_OPENED = re.compile(r"(\d\d_\w+) of run '([A-Za-z0-9][A-Za-z0-9._-]{0,62})' · ")


def on_save(model: dict[str, Any], path: str = "", **_: Any) -> None:
    """Keep the walk and clear the copy: a pre-save hook of Jupyter's ContentsManager; `path` is relative to the runs."""
    without_widgets(model)
    if model.get("type") != "notebook" or not isinstance(notebook := model.get("content"), dict):
        return
    place = PurePosixPath(path.strip("/"))
    if place.parent != PurePosixPath(copies.FOLDER):
        return
    try:
        keep(notebook, Path(os.environ["RUNBOOK_RUNS_DIR"]))
    except (OSError, RunbookError) as error:
        logging.getLogger(__name__).error("the executed notebook %s is not kept: %s", path, error)
    if place.name in copies.names():
        copies.without_outputs(notebook)


def keep(notebook: dict[str, Any], runs_dir: Path) -> Path | None:
    """Write an executed notebook into the run that its first output names; return its path, None if it names none.

    Outputs below that one that are older than it belong to another opening of the step, and are left out.
    Raises `FileNotWritable`.
    """
    found = _opened(notebook)
    if found is None or not (runs_dir / found[1] / STATE).is_file():
        return None
    step, run_id, attempt, index = found
    kept = copy.deepcopy(notebook)
    cells = kept["cells"]
    for cell in cells[index + 1 :]:
        if cell.get("cell_type") == "code" and (cell.get("execution_count") or 0) < cells[index]["execution_count"]:
            cell["outputs"], cell["execution_count"] = [], None
    path = _path_of(runs_dir / run_id, step, attempt)
    write_whole(path, (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode(), durable=False)
    return path


def _opened(notebook: dict[str, Any]) -> tuple[Step, str, str, int] | None:
    """Return step, run and attempt that the first output of this kind names, and the index of its cell."""
    for index, cell in enumerate(notebook.get("cells", [])):
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/plain", ""))
            if (match := _OPENED.match(text)) and match[1] in all_steps() and cell.get("execution_count"):
                return all_steps()[match[1]], match[2], _attempt(output), index
    return None


def _attempt(output: dict[str, Any]) -> str:
    return str(output.get("metadata", {}).get("runbook", {}).get("attempt", ""))


def _path_of(run_folder: Path, step: Step, attempt: str) -> Path:
    """Return the file that keeps this attempt: the one that was written before, or a new one."""
    for file in sorted((run_folder / "notebooks").glob(f"{step.name}*.ipynb")):
        try:
            found = _opened(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
        if found is not None and attempt and found[2] == attempt:
            return file
    return output_path(run_folder, step)


def without_widgets(model: dict[str, Any], **_: Any) -> None:
    """Remove widget views from a contents model: a saved one shows nothing without its kernel.

    An output without an HTML alternative keeps its widget view.
    """
    if model.get("type") != "notebook" or not isinstance(notebook := model.get("content"), dict):
        return
    notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if _WIDGET in data and "text/html" in data:
                del data[_WIDGET]
