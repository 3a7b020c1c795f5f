"""The notebooks' own code cells, run in this process: what a notebook does, without a kernel."""

from __future__ import annotations

from typing import Any

import nbformat

from runbook_lib.run.paths import notebooks_folder


def run_cells(name: str, *, times: int = 1, **parameters: Any) -> dict[str, Any]:
    """Run the code cells of notebook `name` in order, as papermill would: parameters after the tagged cell.

    With `times` each cell is run so often before the next. Returns the names that the cells leave; errors pass
    through. Exercises are off unless asked for.
    """
    left: dict[str, Any] = {}
    for cell in nbformat.read(notebooks_folder() / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for _ in range(times):
            exec(compile(cell.source, name, "exec"), left)  # noqa: S102 - our own notebooks
        if "parameters" in cell.metadata.get("tags", []):
            left.update({"exercises": False, **parameters})
    return left


def run_steps(*names: str, times: int = 1, **parameters: Any) -> None:
    """Run several notebooks of one run, each with those of `parameters` that it takes."""
    from runbook_lib.run.steps import STEP_INPUTS

    for name in names:
        run_cells(
            name,
            times=times,
            **{key: value for key, value in parameters.items() if key in STEP_INPUTS[name].model_fields},
        )
