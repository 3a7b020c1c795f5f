"""Measure a room: learners who all walk through 00 to 06 at the same time, with questions and tasks, and the trainer's page.

python tools/measure_room.py --seats 30

Each learner is a process of its own on this machine, without any pause for thought, and reports its progress every two
seconds as `runbook lab` does. A call's time is what the learner's SDK waits for the answer.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from botocore.httpsession import URLLib3Session

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from walk import Walk

from runbook_cli.lab import room_report
from runbook_lib import preload
from runbook_lib.aws import seat_file
from runbook_lib.errors import RunbookError
from runbook_lib.run.run import Run
from runbook_lib.steps import exercises
from runbook_lib.steps.tasks import work

_STEPS = ("00", "01", "02", "03", "04", "05", "06")


def learn(folder: Path, seat: int, url: str, start: Any, results: Any) -> None:
    """Walk through the steps as one learner; put the times of all calls, and the errors, into `results`."""
    os.environ.update(RUNBOOK_RUNS_DIR=str(folder), RUNBOOK_ATTENDED="1")
    taken, failed, ended = [], [], threading.Event()
    send = URLLib3Session.send

    def timed(session: Any, request: Any) -> Any:
        begun = time.perf_counter()
        answer = send(session, request)
        taken.append((time.perf_counter() - begun, _name(request)))
        if answer.status_code >= 500:
            failed.append(f"seat {seat}: {answer.status_code} {request.url}")
        return answer

    URLLib3Session.send = timed
    reporter = threading.Thread(target=_report, args=(folder, ended), daemon=True)
    start.wait()
    reporter.start()
    begun = time.perf_counter()
    try:
        walk = Walk(folder, url)
        with contextlib.redirect_stdout(io.StringIO()):
            walk.start().pair(wrapping_key_spec="RSA_4096").encrypt()
            walk.bring_in()
            walk.cluster()
            for number in _STEPS:
                _question_and_task(walk.step(number))
    except Exception as error:  # noqa: BLE001 - counted and printed
        failed.append(f"seat {seat}: {type(error).__name__}: {error}")
    ended.set()
    reporter.join()
    results.put((time.perf_counter() - begun, taken, failed))


def _name(request: Any) -> str:
    target = request.headers.get("X-Amz-Target", b"")
    form = urllib.parse.parse_qs(
        request.body if isinstance(request.body, str) else (request.body or b"").decode("latin-1")
    )
    return (target.decode() if isinstance(target, bytes) else target) or form.get("Action", ["?"])[0]


def _question_and_task(step: Any) -> None:
    exercises.try_it(step, answer="a")
    task = work.task(step)
    for act in (task.hint, task.check):
        with contextlib.suppress(RunbookError):  # the task is not done: the check says what is missing
            act()


def _report(folder: Path, ended: threading.Event) -> None:
    """Report as the lab does, until the walk has ended, and once more."""
    place = seat_file.read(folder)
    while place is not None:
        last = ended.wait(2.0)
        with contextlib.suppress(RunbookError):
            room_report.send(place, room_report.progress(Run.open("demo", runs_dir=folder)))
        if last:
            return


class Trainer:
    """The trainer's page, asked as its script asks."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
        )
        self._opener.open(f"{url}/room/enter", urllib.parse.urlencode({"token": token}).encode()).read()
        self.taken: list[float] = []

    def look(self) -> list[dict[str, Any]]:
        """Return what the page shows of all seats."""
        begun = time.perf_counter()
        with self._opener.open(f"{self._url}/room/state", timeout=60) as answer:
            seats: list[dict[str, Any]] = json.load(answer)["seats"]
        self.taken.append(time.perf_counter() - begun)
        return seats


def measure(folder: Path, seats: int) -> int:
    """Serve a room, let all seats walk, print the figures; return the number of errors."""
    command = [sys.executable, "-m", "runbook_cli.main", "room", "--seats", str(seats), "--port", "0"]
    command += ["--runs-dir", str(folder / "trainer")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as room:  # noqa: S603
        try:
            line = next(line for line in room.stdout or [] if line.startswith("Trainer"))
            return _walks(folder, line.split()[1].removesuffix("/room"), seats)
        finally:
            room.terminate()


def _walks(folder: Path, url: str, seats: int) -> int:
    tokens = json.loads((folder / "trainer" / "_room" / "room.json").read_text(encoding="utf-8"))["tokens"]
    forked = multiprocessing.get_context("fork")
    start, results, learners = forked.Barrier(seats + 1), forked.Queue(), []
    preload.everything()
    for seat in range(1, seats + 1):
        own = folder / f"seat-{seat}" / "runs"
        own.mkdir(parents=True, mode=0o700)
        seat_file.write(own, seat_file.Seat(url, seat, tokens[str(seat)], f"Learner {seat}"))
        learners.append(forked.Process(target=learn, args=(own, seat, url, start, results)))
        learners[-1].start()
    trainer, found = Trainer(url, tokens["0"]), []
    start.wait()
    begun = time.perf_counter()
    while len(found) < seats:
        trainer.look()
        with contextlib.suppress(Exception):
            while True:
                found.append(results.get(timeout=2.0))
    shown = trainer.look()
    failed = [line for _, _, lines in found for line in lines]
    unseen = [one["seat"] for one in shown if len(one["steps"]) < len(_STEPS) or len(one["answers"]) < len(_STEPS)]
    failed += [f"the page does not show the end of seat {seat}" for seat in unseen]
    timed = sorted(one for _, times, _ in found for one in times)
    taken, slowest = [seconds for seconds, _ in timed], timed[-1][1].rpartition(".")[2]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{seats} seats: {time.perf_counter() - begun:.0f} s, {len(taken)} calls, {len(failed)} errors; load {load}")
    print(f"  a call: median {statistics.median(taken) * 1000:.0f} ms, 95 of 100 within "
          f"{taken[int(len(taken) * 0.95)] * 1000:.0f} ms, longest {taken[-1]:.1f} s ({slowest})")  # fmt: skip
    print(f"  the trainer's page: {len(trainer.taken)} times, median {statistics.median(trainer.taken) * 1000:.0f} ms, "
          f"longest {max(trainer.taken) * 1000:.0f} ms")  # fmt: skip
    print(*(f"  {line}" for line in failed[:5]), sep="\n", end="")
    return len(failed)


def main() -> int:
    """Print the figures; return 1 if there was an error."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--seats", type=int, default=30, help="number of learners")
    with tempfile.TemporaryDirectory() as folder:
        return 1 if measure(Path(folder), options.parse_args().seats) else 0


if __name__ == "__main__":
    raise SystemExit(main())
