"""Faults on demand: throttling, server errors, latency, dropped connections; per operation and count.

Only the plan is here (what to do to the next call of an operation); `control` takes orders for it and `server`
carries it out.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

KINDS = ("throttle", "error", "latency", "drop_before", "drop_after", "invisible")


@dataclass
class Fault:
    """What happens to the next `count` calls of `operation` after the first `after` ones.

    operation: "kms:CreateKey"; "kms:*" and "*" match more. account: one account only, or None for all.
    kind: "throttle" and "error" answer without the call being made; "latency" waits `seconds` and makes it;
    "drop_before" closes the connection instead of making it, "drop_after" makes it and closes the connection.
    "invisible" makes it and hides what it made for `seconds` (`visibility` says from which calls).
    code and status: of kind "error", in place of the service's internal error and 500.
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
        """Say whether this fault concerns a call."""
        if self.account not in (None, account) or self.count <= 0:
            return False
        wanted = self.operation.lower()
        return wanted in ("*", operation.lower(), operation.split(":")[0].lower() + ":*")


_lock = threading.Lock()
_faults: list[Fault] = []


def add(order: Any) -> Fault:
    """Take an order as it comes from JSON. Raises ValueError, naming the field, when it is wrong."""
    if not isinstance(order, dict):
        raise ValueError("a fault is a JSON object")
    names = set(Fault.__dataclass_fields__)
    if unknown := sorted(set(order) - names):
        raise ValueError(f"unknown field {unknown[0]}; a fault has {', '.join(sorted(names))}")
    if not isinstance(order.get("operation"), str) or (order["operation"] != "*" and ":" not in order["operation"]):
        raise ValueError('operation must be like "kms:CreateKey", "kms:*" or "*"')
    if order.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    for name in ("count", "after", "status"):
        if not isinstance(value := order.get(name, 1), int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} must be a whole number, 0 or more")
    if not 400 <= order.get("status", 500) <= 599:
        raise ValueError("status must be between 400 and 599")
    if not isinstance(seconds := order.get("seconds", 0), (int, float)) or not 0 <= seconds <= 600:
        raise ValueError("seconds must be a number between 0 and 600")
    for name in ("account", "code"):
        if not isinstance(order.get(name), (str, type(None))):
            raise ValueError(f"{name} must be text")
    fault = Fault(**order)
    with _lock:
        _faults.append(fault)
    return fault


def pending() -> bool:
    """Say whether there is any; the usual answer is no, and costs nothing."""
    return bool(_faults)


def take(operation: str, account: str) -> list[Fault]:
    """Return the faults for this call ("kms:CreateKey"), and count them down."""
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
    """Return what is still to come."""
    with _lock:
        return [asdict(fault) for fault in _faults]


def clear(account: str | None = None) -> None:
    """Forget the faults ordered for one account, or all faults."""
    with _lock:
        _faults[:] = [fault for fault in _faults if account is not None and fault.account != account]
