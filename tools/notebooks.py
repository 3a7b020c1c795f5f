"""Refresh the notebooks: generate heads and parameters cells, execute all in order, store clean outputs.

`python tools/notebooks.py` (or `make notebooks`) runs against a fresh sandbox with seeded ids, so that a second
refresh changes only what is never seeded: key material and what comes from it, and times.
`--check` executes nothing and exits 1 when a head or parameters cell is not what would be generated, or when outputs
or execution counts are missing: the pages are read with their outputs, and nbval compares nothing in a stripped one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, get_origin

import nbformat

from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.steps import Step, all_steps, head

SEED = "7"
_TYPES = {str: "str", bool: "bool", int: "int", float: "float"}


def parameters_cell(step: Step) -> str:
    """Return the source of a step's parameters cell: one typed, commented line per field of its inputs model."""
    lines = []
    for name, field in step.inputs.model_fields.items():
        annotation: Any = field.annotation
        kind = {list: "list", dict: "dict"}.get(get_origin(annotation)) or _TYPES.get(annotation, "str")
        default = field.default
        shown = f'"{default}"' if isinstance(default, str) else repr(default)
        lines.append(f"{name}: {kind} = {shown}  # {field.title}. {field.description}")
    return "\n".join(lines)


def generate(step: Step, notebook: Any) -> None:
    """Put the generated head and parameters cells in place."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "head" in tags:
            cell.source = head(step.name)
        if "parameters" in tags:
            cell.source = parameters_cell(step)


def clean(notebook: Any) -> None:
    """Keep source, tags, outputs and counts; drop everything else that a front end or papermill left."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        # With these, nbconvert --to script writes a .py; a version would change with every interpreter.
        "language_info": {
            "name": "python",
            "file_extension": ".py",
            "mimetype": "text/x-python",
            "nbconvert_exporter": "python",
        },
        "keep_output": True,  # nbstripout keeps the outputs of a notebook with this
    }
    for number, cell in enumerate(notebook.cells, 1):
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        cell["id"] = f"cell-{number:02}"


def is_stripped(notebook: Any) -> bool:
    """Return whether a tool such as nbstripout removed outputs, counts, or the metadata that asks it to keep outputs."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    return (
        counts != list(range(1, len(code) + 1))
        or not any(cell.outputs for cell in code)
        or notebook.metadata.get("keep_output") is not True
    )


def check() -> int:
    """Print which notebooks are not up to date or are stripped, and how to repair them; return the exit code."""
    stale, stripped = [], []
    for step in all_steps().values():
        path = notebooks_folder() / f"{step.name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        generate(step, notebook)
        stale += [path.name] if nbformat.writes(notebook) != before else []
        stripped += [path.name] if is_stripped(notebook) else []
    if stale:
        print(f"not up to date: {', '.join(stale)}; run: make notebooks")
    if stripped:
        print(f"without outputs or execution counts (nbstripout?): {', '.join(stripped)}; restore them from git, "
              "or run: make notebooks")  # fmt: skip
    return 1 if stale or stripped else 0


def main() -> int:
    """Refresh, or check, every notebook."""
    if "--check" in sys.argv[1:]:
        return check()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(RUNBOOK_RUNS_DIR=folder, RUNBOOK_SANDBOX_SEED=SEED, RUNBOOK_ATTENDED="0")
        os.environ.pop("RUNBOOK_SANDBOX_ENDPOINT", None)
        for step in all_steps().values():
            path = notebooks_folder() / f"{step.name}.ipynb"
            notebook = nbformat.read(path, as_version=4)
            generate(step, notebook)
            _execute(notebook)
            clean(notebook)
            nbformat.write(notebook, path)
            print(f"{path.name}: executed")
        from runbook_lib.aws import sandbox_process

        sandbox_process.stop(Path(folder))
    return 0


def _execute(notebook: Any) -> None:
    from nbclient import NotebookClient
    from traitlets.config import Config

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=120,
        record_timing=False,
        store_widget_state=False,
        config=Config({"KernelManager": {"transport": "ipc"}}),
    )
    client.execute()


if __name__ == "__main__":
    sys.exit(main())
