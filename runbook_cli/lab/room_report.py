"""What `runbook lab` tells the room about its learner, and what it does when the trainer moves the seat forward.

The report has the names and states of steps, the answers, and how many hints were read; no parameter and no output. The
only order that is carried out is to execute the steps of the learner's own run before a given one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runbook_cli.run_state import next_step
from runbook_lib.aws import sandbox_process, seat_file
from runbook_lib.inputs.base import Inputs
from runbook_lib.run import learning
from runbook_lib.run.current import current_file, read_current
from runbook_lib.run.run import Run, all_runs
from runbook_lib.run.steps import all_steps

_EVERY_SECONDS = 2.0
_TIMEOUT = 5.0


class RoomReport:
    """Reports the seat of a runs folder every two seconds; does nothing in a folder without a seat."""

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._last = -_EVERY_SECONDS
        self._work: subprocess.Popen[bytes] | None = None
        self._order: dict[str, Any] = {}

    def tick(self) -> None:
        """Send a report if one is due, and begin what the trainer ordered. A room that does not answer is asked again."""
        place = seat_file.read(self._runs_dir)
        if place is None or not place.seat or time.monotonic() - self._last < _EVERY_SECONDS:
            return
        self._last = time.monotonic()
        runs = all_runs(self._runs_dir)
        current = next((run for run in runs if run.path.name == self._name()), None)
        order = send(place, {**progress(current, runs), "order": self._state_of_order()}).get("order") or {}
        if self._work is None and order.get("state") == "waiting" and order.get("forward") in all_steps():
            self._begin(order)

    def _name(self) -> str:
        return read_current(current_file(self._runs_dir, "sandbox")) or str(Inputs.model_fields["run_id"].default)

    def _begin(self, order: dict[str, Any]) -> None:
        self._order = {"id": order["id"], "forward": order["forward"]}
        command = [sys.executable, "-m", "runbook_cli.main", "run", "--run-id", self._name(), "--quiet"]
        command += ["--before", order["forward"][:2], "--runs-dir", str(self._runs_dir)]
        self._work = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def _state_of_order(self) -> dict[str, Any] | None:
        if self._work is None:
            return None
        code = self._work.poll()
        if code is None:
            return {**self._order, "state": "running", "line": ""}
        said = self._work.communicate()[1].decode(errors="replace").strip().splitlines()
        self._work = None
        line = f"moved to {self._order['forward']}" if code == 0 else (said or ["the steps failed"])[0]
        return {**self._order, "state": "failed" if code else "done", "line": line}

    def stop(self) -> None:
        """End what the trainer ordered; the run can be resumed."""
        if self._work is not None:
            self._work.terminate()


def progress(run: Run | None, runs: Sequence[Run] = ()) -> dict[str, Any]:
    """Return where a run is: the state of each step, the answers and the tasks; incidents have `runs` of their own."""
    if run is None:
        return {}
    steps = {name: section["status"] for name, section in run.steps.items()}
    begun = [name for name, state in steps.items() if state != "finished"]
    here = [one for one in runs if one.target["sandbox_id"] == run.target["sandbox_id"]]
    tasks = {name: task for one in here for name, task in learning.tasks(one).items() if name not in all_steps()}
    return {
        "run": run.run_id, "sandbox_id": run.target["sandbox_id"], "at": begun[-1] if begun else next_step(run),
        "steps": steps, "answers": learning.answers(run), "tasks": {**tasks, **learning.tasks(run)},
    }  # fmt: skip


def send(place: seat_file.Seat, report: dict[str, Any]) -> dict[str, Any]:
    """Send a report with the seat's token; return the room's answer, empty if there was none."""
    request = urllib.request.Request(  # noqa: S310 - its scheme was checked when the seat was read
        place.url + "/room/report",
        data=json.dumps({**report, "name": place.name}).encode(),
        headers={"Content-Type": "application/json", **seat_file.headers(place.url)},
    )
    try:
        with sandbox_process.opener.open(request, timeout=_TIMEOUT) as answer:
            found = json.load(answer)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
