"""What a learner answered and did: `learning.json` in the run folder, which outlives the kernel and the page.

    {"answers": {"04_import_key_material": {"answer": "b", "right": false, "at": "2026-11-27T09:12:00+00:00"}},
     "tasks": {"04_import_key_material": {"began": "…", "scene": {"key": "…"}, "hints": 1, "looks": 3, "done": "…"}}}

`looks` counts how often the learner had the account checked; `done` is the time of the first look that found everything.
It is for the learner and the trainer, and no part of state.json: no plan and no evidence depends on it.
"""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.files import write_whole
from runbook_lib.run.run import Run

FILE = "learning.json"


def answers(run: Run) -> dict[str, dict[str, Any]]:
    """Return the answers by step: `answer`, `right` and `at`; empty if there are none, or the file is damaged."""
    return _part(run, "answers")


def tasks(run: Run) -> dict[str, dict[str, Any]]:
    """Return the tasks that were begun, by step or incident: `began`, `scene`, `hints`, `looks`, and `done` once it is done."""
    return _part(run, "tasks")


def _part(run: Run, name: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads((run.path / FILE).read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return {}
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def answer_of(run: Run, step: str) -> str:
    """Return the letter that was locked in for a step, or ""."""
    return str(answers(run).get(step, {}).get("answer", ""))


def lock_in(run: Run, step: str, answer: str, *, right: bool, at: str) -> str:
    """Keep the first answer to a step's question (mode 0600); return the one that counts. Raises `FileNotWritable`."""
    given = answers(run)
    if step not in given:
        given[step] = {"answer": answer, "right": right, "at": at}
        _write(run, answers=given, tasks=tasks(run))
    return str(given[step]["answer"])


def note_task(run: Run, name: str, **values: Any) -> dict[str, Any]:
    """Add `values` to what is known of a task (mode 0600); return all of it. Raises `FileNotWritable`."""
    known = tasks(run)
    known[name] = {"hints": 0, "looks": 0, **known.get(name, {}), **values}
    _write(run, answers=answers(run), tasks=known)
    return known[name]


def _write(run: Run, **parts: dict[str, dict[str, Any]]) -> None:
    kept = {name: part for name, part in parts.items() if part}
    write_whole(run.path / FILE, (json.dumps(kept, indent=1) + "\n").encode())
