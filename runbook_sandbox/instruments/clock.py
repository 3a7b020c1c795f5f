"""The sandbox's clock, which can be moved. Tokens, expiry, deletion windows and the Date header use it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

# The clock stays within these years, so that expiry dates and waiting periods can be added to every time.
FIRST_YEAR, LAST_YEAR = 2000, 9000
_lock = threading.Lock()
_offset = timedelta()


def now() -> datetime:
    """Return the sandbox's current time, in UTC with time zone."""
    return datetime.now(UTC) + _offset


def advance(by: timedelta) -> datetime:
    """Move the clock forward by `by` (back if negative); return the new time.

    Raises OverflowError, with the clock unchanged, for a time before FIRST_YEAR or from LAST_YEAR on.
    """
    global _offset
    with _lock:
        moved = datetime.now(UTC) + _offset + by
        if not FIRST_YEAR <= moved.year < LAST_YEAR:
            raise OverflowError(moved)
        _offset += by
    return moved


def reset() -> None:
    """Reset the clock to the machine's time."""
    global _offset
    with _lock:
        _offset = timedelta()
