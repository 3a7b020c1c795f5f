"""What the trainer sees of each seat: the progress that the learner's lab reports, and what the trainer told the lab to do.

All of it comes from a learner's machine, so it is cut to known names and lengths here; the pages escape it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.aws.sandbox_accounts import account_of_seat
from runbook_lib.run.steps import all_steps
from runbook_lib.texts import visible
from runbook_sandbox.server import control_commands

_LONGEST = 200
_MOST = 40
_OFFLINE_SECONDS = 20.0


@dataclass
class Seat:
    """One learner. Times are those of `time.monotonic`."""

    number: int
    name: str = ""
    run: str = ""
    at: str = ""
    since: float = 0.0
    seen: float = 0.0
    called: float = 0.0
    steps: dict[str, str] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)
    outcome: str = ""
    resets: int = 0


class Seats:
    """All seats of a room."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._seats = {number: Seat(number) for number in numbers}
        self._lock = threading.Lock()
        self._orders = 0

    def called(self, number: int, moment: float) -> None:
        """Note that a seat called AWS; once for each request, so no lock."""
        self._seats[number].called = moment

    def report(self, number: int, body: Any) -> dict[str, Any]:
        """Take over a seat's progress; return the order that its lab is to carry out, if any. Raises ValueError."""
        if not isinstance(body, dict):
            raise ValueError("a report must be a JSON object")
        now = time.monotonic()
        with self._lock:
            seat = self._seats[number]
            seat.name, seat.seen = _text(body.get("name"), 60), now
            current = body.get("sandbox_id") == control_commands.id_for(account_of_seat(number))
            known = body if current else {}
            at = str(known.get("at", "")) if known.get("at") in all_steps() else ""
            run = _text(known.get("run"), 64)
            if (at, run) != (seat.at, seat.run) or not seat.since:
                seat.at, seat.run, seat.since = at, run, now
            seat.steps = {name: _text(one, 20) for name, one in _mapping(known, "steps") if name in all_steps()}
            seat.answers = {
                name: {"answer": _text(one.get("answer"), _LONGEST), "right": one.get("right") is True}
                for name, one in _mapping(known, "answers")
                if isinstance(one, dict)
            }
            seat.tasks = {
                name: {"hints": _number(one.get("hints")), "looks": _number(one.get("looks")), "done": bool(one.get("done"))}
                for name, one in _mapping(known, "tasks")
                if isinstance(one, dict)
            }  # fmt: skip
            done = body.get("order")
            if isinstance(done, dict) and seat.order and done.get("id") == seat.order["id"]:
                seat.order["state"], seat.outcome = _text(done.get("state"), 10), _text(done.get("line"), _LONGEST)
                if seat.order["state"] in ("done", "failed"):
                    seat.order = {}
            return {"order": seat.order or None}

    def reset(self, number: int) -> str:
        """Empty the accounts of a seat; return what was done. Raises ValueError for a seat that the room does not have."""
        seat = self._known(number)
        account = control_commands.reset_seat(number)
        with self._lock:
            seat.steps, seat.answers, seat.tasks, seat.order = {}, {}, {}, {}
            seat.at, seat.run, seat.since, seat.outcome = "", "", time.monotonic(), ""
            seat.resets += 1
        return f"seat {number}, account {account}, is empty; open notebooks of the learner say so"

    def forward(self, number: int, step: str) -> str:
        """Let the seat's lab execute the steps before `step`. Raises ValueError."""
        seat = self._known(number)
        if step not in all_steps():
            raise ValueError(f"{step!r} is not a step; choose one of {', '.join(all_steps())}")
        with self._lock:
            self._orders += 1
            seat.order = {"id": self._orders, "forward": step, "state": "waiting"}
            seat.outcome = ""
        online = time.monotonic() - seat.seen < _OFFLINE_SECONDS if seat.seen else False
        return f"seat {number} moves to {step}" + ("" if online else " as soon as its lab runs")

    def _known(self, number: Any) -> Seat:
        if number not in self._seats:
            raise ValueError(f"seat {number!r} is not one of this room, which has 1 to {max(self._seats, default=0)}")
        return self._seats[number]

    def as_json(self, number: int | None = None) -> list[dict[str, Any]]:
        """Return all seats, or one, as the pages show them; ages are in seconds, None for never."""
        now = time.monotonic()
        with self._lock:
            chosen = [self._seats[number]] if number is not None else list(self._seats.values())
            return [
                {
                    "seat": one.number, "name": one.name, "run": one.run, "at": one.at, "steps": dict(one.steps),
                    "answers": dict(one.answers), "tasks": dict(one.tasks), "resets": one.resets,
                    "here_for": round(now - one.since) if one.since else None,
                    "last_call": round(now - one.called) if one.called else None,
                    "online": bool(one.seen) and now - one.seen < _OFFLINE_SECONDS,
                    "order": one.order.get("forward", ""), "outcome": one.outcome,
                }
                for one in chosen
            ]  # fmt: skip


def _text(value: Any, longest: int) -> str:
    return visible(value[:longest]) if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return min(max(value, 0), 9999) if isinstance(value, int) and not isinstance(value, bool) else 0


def _mapping(body: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    found = body.get(name)
    items = found.items() if isinstance(found, dict) else ()
    return [(_text(key, 64), one) for key, one in list(items)[:_MOST]]
