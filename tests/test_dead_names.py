"""The library holds what the runbook uses: a public name that only tests call belongs in tests."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("runbook_lib", "runbook_cli", "runbook_sandbox", "runbook_kernels", "tools")
# Called from outside: by readers in cells of their own, and by IPython.
FOR_READERS = {"to_frame"}


def _used(tree: ast.AST) -> Counter[str]:
    """Count the names that a piece of code reads, calls or imports."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found[node.id] += 1
        elif isinstance(node, ast.Attribute):
            found[node.attr] += 1
        elif isinstance(node, ast.alias):
            found[node.name.rpartition(".")[2]] += 1
    return found


def _defined(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield the public functions, classes, methods and constants of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            yield from ((one.name, one) for one in node.body if isinstance(one, ast.FunctionDef))
        if isinstance(node, ast.Assign):
            yield from ((one.id, ast.Pass()) for one in node.targets if isinstance(one, ast.Name))


def _unused(modules: dict[str, ast.Module], texts: str) -> set[str]:
    """Return the public names of `modules` that neither they, nor the notebooks, nor `texts` use."""
    used: Counter[str] = Counter()
    for tree in modules.values():
        used += _used(tree)
    words = set(re.findall(r"\w+", texts))
    return {
        f"{path}: {name}"
        for path, tree in modules.items()
        for name, node in _defined(tree)
        if path.startswith("runbook_lib/") and not name.startswith("_") and name not in words | FOR_READERS
        if used[name] <= _used(node)[name]
    }


def _modules() -> dict[str, ast.Module]:
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    found = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        found[path.name] = ast.parse(code)
    return found


def test_every_public_name_of_the_library_is_used_by_the_runbook() -> None:
    """By another module, a notebook, a template or an entry point; a test's use does not count."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "runbook_lib" / "templates").glob("*.html")]
    texts.append((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set() == _unused(_modules(), "\n".join(texts))


def test_a_name_that_nobody_uses_is_found() -> None:
    """The twin: a function that only calls itself is dead, one that is imported elsewhere is not."""
    modules = {
        "runbook_lib/one.py": ast.parse("def dead():\n    return dead()\n\ndef alive():\n    return 1\n"),
        "runbook_cli/two.py": ast.parse("from runbook_lib.one import alive\n"),
    }
    assert {"runbook_lib/one.py: dead"} == _unused(modules, "")
