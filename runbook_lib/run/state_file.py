"""The content of state.json: its format, what is checked when it is read, and how an earlier format is read.

Format 2: `{"format": 2, "run_id", "created", "mark", "folder", "target": {"target", "account_id", "region", "sandbox_id"},
"steps": {<step>: {"status": "started" | "finished", "started", "finished", "inputs", "intents", "record", "applied"}}}`.
`applied` holds the inputs of the last apply that ended without an error; it is absent until one has. `mark` is a random id of
the run folder, the tag `runbook:run` of what the run creates; `folder` identifies the folder that the mark was drawn for, so
that a copy of it draws another. `intents` is `{<request>: {"at", "outcome", "marks", "resources"}}`: the marks that the
request was sent with, and the resource ids that it created.

Format 1 has no `mark`, `folder`, `marks` and `resources`. Reading it gives each intent the mark "", which means: tagged with
the run's id and step only. It is written as format 2 at the next write.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 2
# A run's name is a name in the runs folder: it neither climbs out of it nor hides.
RUN_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_TARGET = ("target", "account_id", "region", "sandbox_id")
_PATTERNS = {
    "run_id": RUN_ID, "target": "sandbox|aws", "account_id": r"\d{12}", "region": r"[a-z0-9-]{1,40}",
    "sandbox_id": r"[A-Za-z0-9-]{0,64}", "mark": r"([0-9a-f]{32})?",
}  # fmt: skip


class Intent(NamedTuple):
    """A request that creates a resource: its outcome, the marks it was sent with, and the resource ids it created.

    The outcome is "" if it was never sent; see `aws/create_once.py` for the others.
    """

    outcome: str
    marks: tuple[str, ...]
    resources: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether it may have created a resource whose id is not recorded."""
        return self.outcome == "unclear" or (self.outcome in ("made", "found") and not self.resources)


def read_state(text: str) -> dict[str, Any]:
    """Return the parsed state in format 2; raise ValueError, naming what is wrong. A newer format is not checked further."""
    try:
        state = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(state, dict) or type(state.get("format")) is not int:
        raise ValueError("no format number")
    if state["format"] > FORMAT:
        return state
    if state["format"] < FORMAT:
        state |= {"mark": "", "folder": ""}
    shape = {"run_id": str, "created": str, "mark": str, "folder": str, "target": dict, "steps": dict}
    if wrong := [name for name, kind in shape.items() if not isinstance(state.get(name), kind)]:
        raise ValueError(f"wrong: {', '.join(wrong)}")
    if wrong := [name for name in _TARGET if not isinstance(state["target"].get(name), str)]:
        raise ValueError(f"wrong in target: {', '.join(wrong)}")
    if wrong := [
        name for name, rule in _PATTERNS.items() if not re.fullmatch(rule, {**state, **state["target"]}[name])
    ]:
        raise ValueError(f"wrong: {', '.join(wrong)}")
    for name, section in state["steps"].items():
        if not _is_section(section, state["format"]):
            raise ValueError(f"wrong in steps: {name}")
    state["format"] = FORMAT
    return state


def _is_section(section: Any, number: int) -> bool:
    """Return whether this is the section of a step; give the intents of format 1 what format 2 has."""
    if not isinstance(section, dict) or section.get("status") not in ("started", "finished"):
        return False
    if not all(isinstance(section.get(part), dict) for part in ("inputs", "intents", "record")):
        return False
    times = ("started", "finished") if section["status"] == "finished" else ("started",)
    if not all(isinstance(section.get(time), str) for time in times):
        return False
    for intent in section["intents"].values():
        if not isinstance(intent, dict):
            return False
        if number < FORMAT:
            intent |= {"marks": [""], "resources": []}
        if not all(_is_list_of_texts(intent.get(part)) for part in ("marks", "resources")):
            return False
    return True


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def identity_of(folder: Path) -> str:
    """Return what identifies a folder on its file system: a rename keeps it, a copy has another. "" if it does not exist."""
    try:
        found = folder.stat()
    except OSError:
        return ""  # the write that follows says so
    return f"{found.st_dev:x}-{found.st_ino:x}"
