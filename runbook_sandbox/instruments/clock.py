"""The sandbox's one movable clock: tokens, expiry, deletion windows and the Date header read it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

_lock = threading.Lock()
_offset = timedelta()


def now() -> datetime:
    """Return the sandbox's present time, aware, in UTC."""
    return datetime.now(UTC) + _offset


def advance(by: timedelta) -> datetime:
    """Move the clock forward (or back) by `by`; return the new present time."""
    global _offset
    with _lock:
        _offset += by
    return now()


def reset() -> None:
    """Return to the machine's own time."""
    global _offset
    with _lock:
        _offset = timedelta()
