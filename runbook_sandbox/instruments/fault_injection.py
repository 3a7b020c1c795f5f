"""Fault injection: throttling, server errors, latency, dropped connections, visibility delays; by operation and count.

This module only holds what is to happen to the next calls of an operation. `server.control_commands` adds faults, and
`server.middleware` carries them out.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

KINDS = ("throttle", "error", "latency", "drop_before", "drop_after", "invisible")


@dataclass
class Fault:
    """What happens to the next `count` calls of `operation`, after skipping `after` calls.

    operation: "kms:CreateKey"; "kms:*" and "*" match more. account: one account only, or None for all.
    kind: "throttle" and "error" return an error without making the call; "latency" waits `seconds` and makes it;
    "drop_before" closes the connection instead of making it, "drop_after" makes it and closes the connection;
    "invisible" makes it and hides the created resource for `seconds` (see `visibility_delays`).
    code and status: for kind "error", instead of the service's internal error and 500.
    """

    operation: str
    kind: str
    count: int = 1
    after: int = 0
    seconds: float = 0.0
    account: str | None = None
    code: str | None = None
    status: int = 500

    def matches(self, operation: str, account: str) -> bool:
        """Return whether this fault applies to a call."""
        if self.account not in (None, account) or self.count <= 0:
            return False
        wanted = self.operation.lower()
        return wanted in ("*", operation.lower(), operation.split(":")[0].lower() + ":*")


_lock = threading.Lock()
_faults: list[Fault] = []


def add(command: Any) -> Fault:
    """Add a fault from its JSON. Raises ValueError naming the invalid field."""
    if not isinstance(command, dict):
        raise ValueError(f"a fault must be a JSON object, not {command!r}")
    names = set(Fault.__dataclass_fields__)
    if unknown := sorted(set(command) - names):
        raise ValueError(f"unknown field {unknown[0]}; the fields of a fault are {', '.join(sorted(names))}")
    if not isinstance(command.get("operation"), str) or (
        command["operation"] != "*" and ":" not in command["operation"]
    ):
        raise ValueError(f'operation {command.get("operation")!r} must be like "kms:CreateKey", "kms:*" or "*"')
    if command.get("kind") not in KINDS:
        raise ValueError(f"kind {command.get('kind')!r} must be one of {', '.join(KINDS)}")
    for name in ("count", "after", "status"):
        if not isinstance(value := command.get(name, 1), int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} {value!r} must be a whole number, 0 or more")
    if not 400 <= command.get("status", 500) <= 599:
        raise ValueError(f"status {command['status']} must be between 400 and 599")
    if not isinstance(seconds := command.get("seconds", 0), (int, float)) or not 0 <= seconds <= 600:
        raise ValueError(f"seconds {seconds!r} must be a number between 0 and 600")
    for name in ("account", "code"):
        if not isinstance(command.get(name), (str, type(None))):
            raise ValueError(f"{name} {command[name]!r} must be a string")
    fault = Fault(**command)
    with _lock:
        _faults.append(fault)
    return fault


def pending() -> bool:
    """Return whether any faults remain; called for every request."""
    return bool(_faults)


def take(operation: str, account: str) -> list[Fault]:
    """Return the faults that apply to this call ("kms:CreateKey"), and count them down."""
    due: list[Fault] = []
    with _lock:
        for fault in _faults:
            if not fault.matches(operation, account):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            fault.count -= 1
            due.append(fault)
        _faults[:] = [fault for fault in _faults if fault.count > 0]
    return due


def as_json() -> list[dict[str, Any]]:
    """Return the remaining faults."""
    with _lock:
        return [asdict(fault) for fault in _faults]


def clear(account: str | None = None) -> None:
    """Remove the faults of one account, or all faults."""
    with _lock:
        _faults[:] = [fault for fault in _faults if account is not None and fault.account != account]
