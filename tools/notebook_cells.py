"""Execute a notebook's code cells in this process: for tests that need hundreds of runs, and no kernel.

The cells are the notebook's own, in order, with the parameters after its parameters cell, and each last value is
shown as a front end would. `execute_cells` stands in for `runbook_cli.runner.notebook.execute_notebook`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from runbook_cli.runner.notebook import one_line
from runbook_lib.errors import RunbookError


def execute_cells(source: Path, output: Path, parameters: Mapping[str, Any]) -> str:
    """Return '' or, when a cell failed as a notebook's may, its error in one line; nothing is written to `output`."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        for number, cell in enumerate(json.loads(source.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] != "code":
                continue
            _show(_execute("".join(cell["source"]), namespace, f"{source.stem}[{number}]"))
            if "parameters" in cell["metadata"].get("tags", ()):
                namespace.update(parameters)
    except (RunbookError, BotoCoreError, ClientError) as error:
        return one_line(type(error).__name__, str(error))
    return ""


def _execute(code: str, namespace: dict[str, Any], name: str) -> Any:
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)  # noqa: S102 - the runbook's own notebooks
    if last is not None:
        return eval(compile(ast.Expression(last.value), name, "eval"), namespace)  # noqa: S307 - the same
    return None


def _show(value: Any) -> None:
    repr(value)
    getattr(value, "_repr_html_", str)()
