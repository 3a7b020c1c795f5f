"""What a kernel does about cells that failed or were run out of order: no name keeps the value of an earlier cell.

A page's cells depend on each other through a few names. When a cell fails, the names that it sets lose their old value;
a cell that needs a name without a value says in one line which cells to run. An IPython extension: `runbook lab` loads
it into its kernels, and opening a step loads it into any other.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import runbook_lib
from runbook_lib.attended import is_attended
from runbook_lib.errors import CellsNotRun, InputError
from runbook_lib.inputs.base import nearest
from runbook_lib.run.steps import STEP_INPUTS

# The names that the cells of the notebooks set, besides the parameters that each form reads.
PAGE_NAMES = frozenset(
    {"run_id", "exercises", "form", "asked", "step", "policy", "plan", "evidence", "work", *runbook_lib.__all__}
)
_INJECTED = "# Parameters"  # the first line of the cell that papermill injects
_DECLARES = "run_id: str ="  # in each parameters cell, and in no injected one
_WHAT_TO_DO = (
    "run the cells above in order, from the top of the page (menu Run > Run All Above Selected Cell), then this one"
)


def install() -> None:
    """Load this extension into the kernel of this process, once, if there is a person; do nothing in any other process.

    Raises `InputError` for injected parameters that no step has, or that the parameters cell overrides.
    """
    shell = _shell()
    if shell is None:
        return
    require_injected([str(source) for source in shell.user_ns.get("In", [])])
    if is_attended():
        load_ipython_extension(shell)


def load_ipython_extension(shell: Any) -> None:
    """Let `shell` explain missing names, and forget the names of cells that fail."""
    if NameError not in shell.custom_exceptions:
        shell.set_custom_exc((NameError,), _explain)
        shell.events.register("post_run_cell", _forget)


def require_parameters(given: Mapping[str, Any]) -> None:
    """Raise `CellsNotRun` in a kernel whose parameters cell was not run: its form would show other values than the cell."""
    if _shell() is not None and "run_id" not in given:
        raise CellsNotRun(f"the parameters cell was not run in this kernel; {_WHAT_TO_DO}")


def require_injected(sources: Sequence[str]) -> None:
    """Raise `InputError` if what was injected into a notebook, as papermill does, would be ignored.

    `sources` are the cells that a kernel has run, in order. An unknown name is a mistyped one. Without the tag
    `parameters` on the parameters cell, papermill injects above it, and the cell then overrides every value.
    """
    injected = [number for number, source in enumerate(sources) if source.startswith(_INJECTED)]
    known = {name for model in STEP_INPUTS.values() for name in model.model_fields}
    unknown = sorted({name for number in injected for name in assigned(sources[number])} - known)
    if unknown:
        raise InputError(
            [(name, f"is not a parameter of any step{nearest(name, str(sorted(known)))}") for name in unknown]
        )
    declared = [number for number, source in enumerate(sources) if _DECLARES in source]
    if injected and declared and injected[-1] < declared[-1]:
        raise InputError([(
            "parameters", "the parameters cell of this notebook has lost its tag `parameters`, so it overrides the values that "
            "were injected above it; restore the notebook (git checkout, or install the package again)"
        )])  # fmt: skip


def _shell() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


def assigned(source: str) -> set[str]:
    """Return the names that a cell sets; empty for one that is not plain Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _forget(result: Any) -> None:
    """Remove the names that a failed cell sets: none of them may keep the value of an earlier run of the cell."""
    if result.success or (shell := _shell()) is None:
        return
    for name in assigned(str(result.info.raw_cell)) & PAGE_NAMES:
        shell.user_ns.pop(name, None)


def _explain(
    shell: Any, kind: type[BaseException], error: NameError, trace: TracebackType, tb_offset: Any = None
) -> Any:
    """Show a name that a page's own cell should have set as one line; show any other error as IPython does."""
    if error.name not in PAGE_NAMES or (trace.tb_next and trace.tb_next.tb_next):
        lines = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset)
        shell._showtraceback(kind, error, lines)
        return lines
    set_by = [source for source in shell.user_ns.get("In", [])[:-1] if error.name in assigned(str(source))]
    why = "the cell that sets it failed" if set_by else "this kernel is new, or the cell that sets it was not run"
    shown = CellsNotRun(f"{error.name!r} has no value: {why}; {_WHAT_TO_DO}")
    shell._showtraceback(CellsNotRun, shown, shown._render_traceback_())
    return shown._render_traceback_()
