"""What a learner answered: `learning.json` in the run folder, which outlives the kernel and the page.

    {"answers": {"04_import_key_material": {"answer": "b", "right": false, "at": "2026-11-27T09:12:00+00:00"}}}

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
    try:
        found = json.loads((run.path / FILE).read_text(encoding="utf-8"))["answers"]
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
        write_whole(run.path / FILE, (json.dumps({"answers": given}, indent=1) + "\n").encode())
    return str(given[step]["answer"])
