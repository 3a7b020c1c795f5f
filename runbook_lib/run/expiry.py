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
    imported = ImportRecord.so_far(run)
    end, left = valid_to(run), seconds_left(run, now=now)
    if not imported.key_material_id:
        return ""
    if end is None or left is None:
        return "does not expire"
    if left <= 0:
        return f"expired at {end:%Y-%m-%d %H:%M} UTC, {_span(-left)} ago"
    return f"expires at {end:%Y-%m-%d %H:%M} UTC, in {_span(left)}"


def of_each(run: Run, *, now: datetime | None = None) -> list[str]:
    """Return a text for each key material of a key that was rotated, oldest first; [] for a key with one material."""
    found = []
    for one in permanent_materials(run):
        end = datetime.fromisoformat(one.valid_to) if one.valid_to else None
        left = int((end - (now or datetime.now(UTC))).total_seconds()) if end else 0
        words = f"{'expires' if left > 0 else 'expired'} at {end:%Y-%m-%d %H:%M} UTC" if end else "does not expire"
        found.append(f"key check value {one.shown_check_value} {words}")
    return found if len(found) > 1 else []


def _span(seconds: int) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"
