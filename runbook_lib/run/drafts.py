"""Drafts: what a person chose in the form of a step and has not applied yet, as `drafts/<step>.json` in the run folder.

A draft is not part of state.json: it needs no lock, and no plan depends on it. It holds no secret: of a field that
names where a secret is read, only the forms `prompt`, `env:NAME` and `file:PATH` are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook_lib.files import private_folder, write_whole
from runbook_lib.inputs.base import Inputs
from runbook_lib.material.secret_sources import names_source
from runbook_lib.run.run import Run

FOLDER = "drafts"


def _file(run: Run, step: str) -> Path:
    return run.path / FOLDER / f"{step}.json"


def read(run: Run, step: str, model: type[Inputs]) -> dict[str, Any]:
    """Return the draft of `step`: field names of `model` to values; empty if there is none or it is damaged."""
    try:
        kept = json.loads(_file(run, step).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: kept[name] for name in model.model_fields if name in kept} if isinstance(kept, dict) else {}


def keep(run: Run, step: str, model: type[Inputs], chosen: Mapping[str, Any]) -> None:
    """Write `chosen` as the draft of `step`, with mode 0600; nothing chosen removes the draft.

    Fields that must be typed each time are left out. Raises `FileNotWritable`.
    """
    kept = {name: value for name, value in chosen.items() if name not in model.typed_each_time}
    kept = {name: value for name, value in kept.items() if name not in model.secret_sources or names_source(value)}
    if kept == read(run, step, model):
        return
    if not kept:
        remove(run, step)
        return
    private_folder(run.path / FOLDER)
    write_whole(_file(run, step), (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode())


def remove(run: Run, step: str) -> None:
    """Delete the draft of `step`, if there is one."""
    _file(run, step).unlink(missing_ok=True)
