"""What a form says while somebody types a path or a time, before any cell reads the form; no private file is opened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.inputs.base import Inputs
from runbook_lib.inputs.kms import LONGEST
from runbook_lib.material.sources import read_recovery_public_keys
from runbook_lib.pages.form_groups import belongs


def problems_now(model: type[Inputs], values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the files and times in valid `values`, by field: the plan would refuse them."""
    found: dict[str, str] = {}
    for name, declared in model.model_fields.items():
        value, extra = values.get(name), declared.json_schema_extra or {}
        if not value or not belongs(name, values) or not isinstance(extra, dict):
            continue
        if extra.get("format") == "path" and not Path(str(value)).expanduser().is_file():
            found[name] = f"{value!r}: The file does not exist; write the path of an existing file"
        elif extra.get("format") == "date-time" and (problem := _too_early_or_late(str(value))):
            found[name] = problem
        elif name == "recovery_public_keys" and isinstance(value, list):
            found.update(_unreadable(name, value))
    return found


def _too_early_or_late(value: str) -> str:
    """Return what is wrong with a time at which key material expires, by the clock of this machine."""
    moment, now = datetime.fromisoformat(value), datetime.now(UTC)
    if now < moment <= now + LONGEST:
        return ""
    return f"{value} is {'past' if moment <= now else 'more than 365 days away'}; choose a time within a year"


def _unreadable(name: str, paths: list[str]) -> dict[str, str]:
    try:
        read_recovery_public_keys(paths)
    except RunbookError as error:
        return {name: str(error)}
    return {}
