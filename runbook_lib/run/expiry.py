"""Time until the imported key material expires, in words and in seconds, from the run's record; no AWS call."""

from __future__ import annotations

from datetime import UTC, datetime

from runbook_lib.run.materials import permanent_materials
from runbook_lib.run.records import ImportRecord
from runbook_lib.run.run import Run


def valid_to(run: Run) -> datetime | None:
    """Return when the first of the key's materials expires (UTC); None if it does not expire or was not imported."""
    recorded = {ImportRecord.so_far(run).valid_to, *(one.valid_to for one in permanent_materials(run))} - {""}
    return min((datetime.fromisoformat(one) for one in recorded), default=None)


def seconds_left(run: Run, *, now: datetime | None = None) -> int | None:
    """Return the seconds until the key material expires, negative after that; None if it does not expire."""
    end = valid_to(run)
    return None if end is None else int((end - (now or datetime.now(UTC))).total_seconds())


def in_words(run: Run, *, now: datetime | None = None) -> str:
    """Return a text such as `expires at 2027-06-30 00:00 UTC, in 217 days`; "" if nothing was imported."""
    return _words(valid_to(run), now or datetime.now(UTC)) if ImportRecord.so_far(run).key_material_id else ""


def of_each(run: Run, *, now: datetime | None = None) -> list[tuple[str, str]]:
    """Return the key check value of each key material that the key needs, oldest first, with how long it lives in words."""
    moment = now or datetime.now(UTC)
    return [
        (one.shown_check_value, _words(datetime.fromisoformat(one.valid_to) if one.valid_to else None, moment))
        for one in permanent_materials(run)
    ]


def how_to_extend(run: Run) -> str:
    """Return the command that imports the same material with a later expiry; "" if no material expires."""
    return f"runbook recover {run.run_id} --valid-to TIME" if valid_to(run) is not None else ""


def _words(end: datetime | None, now: datetime) -> str:
    if end is None:
        return "does not expire"
    left = int((end - now).total_seconds())
    if left <= 0:
        return f"expired at {end:%Y-%m-%d %H:%M} UTC, {_span(-left)} ago"
    return f"expires at {end:%Y-%m-%d %H:%M} UTC, in {_span(left)}"


def _span(seconds: int) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"
