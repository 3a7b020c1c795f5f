"""How many dated reports and executed notebooks a run keeps: a nightly verification writes both every night."""

from __future__ import annotations

import json
import re
from pathlib import Path

_REPORT = re.compile(r"(\d{8}T\d{6}Z)(?:-(\d+))?-report\.(json|html)")
_NOTEBOOK = re.compile(r"(.+?)(?:\.attempt-(\d+))?\.ipynb")


def keep_newest(run: Path, number: int) -> list[Path]:
    """Delete all but the newest `number` dated reports, and executed notebooks of each step; return what was deleted.

    The first report stays, and each that was not verified: they say when something began. So does the first notebook of
    each step. Anything else in the folders stays too.
    """
    deleted = [path for pair in _old_reports(run / "reports", number) for path in pair]
    deleted += _old_notebooks(run / "notebooks", number)
    for path in deleted:
        path.unlink(missing_ok=True)
    return deleted


def _old_reports(folder: Path, number: int) -> list[list[Path]]:
    found: dict[tuple[str, int], list[Path]] = {}
    for path in folder.glob("*-report.*"):
        if match := _REPORT.fullmatch(path.name):
            found.setdefault((match[1], int(match[2] or 1)), []).append(path)
    pairs = [found[stamp] for stamp in sorted(found)]
    return [pair for pair in pairs[1:-number] if _is_verified(pair)]


def _is_verified(pair: list[Path]) -> bool:
    try:
        return any(json.loads(path.read_bytes())["verified"] is True for path in pair if path.suffix == ".json")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _old_notebooks(folder: Path, number: int) -> list[Path]:
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob("*.ipynb"):
        if match := _NOTEBOOK.fullmatch(path.name):
            found.setdefault(match[1], []).append((int(match[2] or 1), path))
    return [path for attempts in found.values() for _, path in sorted(attempts)[1:-number]]
