"""Break the whole chain at every AWS call and every file write, run it again, and look at what there is.

One uninterrupted run of 00 to 06 and 90 lists the points: each HTTP request to AWS that leaves, and each file that
is opened for writing, renamed, removed, or folder made, under the runs folder. Then, in an account and folder of
its own for each, the chain is broken there in each of these ways, and run again with the same run id:

  kill-before, kill-after   SIGKILL just before and just after the call or write
  interrupt                 Ctrl-C (KeyboardInterrupt) in its place
  drop                      the call takes effect, its answer is lost (botocore's own retries included)
  throttle, error           the call is throttled, or answered with a 500, once: the run must not even stop
  invisible                 what the call made cannot be seen for a second: the run must not even stop
  full                      from this write on the disk is full: nothing can be made or opened for writing
  vanish                    the run's folder is taken away (and given back before the second run)

After each: the run is verified; there is exactly one of everything and nothing else; the custody copy, opened with
the recovery key, is the material in the key (KMS takes it again, and refuses any other); 90 leaves nothing but the
key that waits for its deletion. The cells of the notebooks are executed in forked plain processes, by the runner's
own code, not in kernels: the same cells and library calls, some hundred times faster than through papermill.

    python tools/crash_matrix.py [--sample N] [--mode MODE]... [--point TEXT] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import botocore.loaders
import botocore.session

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from crash_attempts import AWAY, CLEAN_UP_PHASE, OF_CALLS_ONLY, RUN, RUN_ID, Attempts, Point  # noqa: E402
from crash_world import World, files_of, problems_of_a_clean_up, problems_of_a_run  # noqa: E402

from runbook_lib.aws import create_once, sandbox_process  # noqa: E402
from runbook_lib.aws.session import Session  # noqa: E402
from runbook_lib.material import recovery_copies  # noqa: E402
from runbook_lib.run.run import Run  # noqa: E402
from runbook_sandbox.instruments import visibility_delays  # noqa: E402

MODES = ("kill-before", "kill-after", "interrupt", "drop", "throttle", "error", "invisible", "full", "vanish")
OF_FILES_ONLY = frozenset({"full", "vanish"})
MUST_NOT_STOP = frozenset({"throttle", "error", "invisible"})
HIDES = frozenset(call.partition(":")[2] for call in visibility.HIDES)


class Matrix:
    """The points of the chain, and what becomes of it at each."""

    def __init__(self, url: str, folder: Path, *, seat: int) -> None:
        self.folder = folder
        self.attempts = Attempts(url, folder, recovery_copies.make_training_recovery_key())
        self.world = World(url)
        self.seat = seat
        self.files: frozenset[str] = frozenset()

    def warm_up(self) -> None:
        """Run once in this process, so that those forked from it have read every service model and template."""
        loader = botocore.loaders.Loader()
        botocore.session.create_loader = lambda *_: loader
        account, runs = self.world.enter(self.seat), self.folder / "warm"
        runs.mkdir()
        for phase in (RUN, CLEAN_UP_PHASE):
            self.attempts.run(runs, account, phase)
        shutil.rmtree(runs)

    def points(self, modes: tuple[str, ...]) -> list[Point]:
        """Run once without breaking anything; return every point."""
        account, runs = self.world.enter(self.seat), self.folder / "whole"
        found = []
        for phase in (RUN, CLEAN_UP_PHASE):
            whole = self.attempts.attempt(runs, account, phase)
            if whole.how != "done":
                raise SystemExit(f"the chain does not run through unbroken: {whole.how}\n{whole.said}")
            if phase == RUN:
                self.files = files_of(runs)
                problems = list(problems_of_a_run(self.world, runs, self.attempts.private, self.files))
            else:
                problems = list(problems_of_a_clean_up(self.world, runs))
            if problems:
                raise SystemExit(f"unbroken, and still: {problems}")
            calls = 0
            for number, what in enumerate(whole.events, 1):
                is_call = what.startswith("aws:")
                for mode in modes:
                    if (mode in OF_CALLS_ONLY and not is_call) or (mode in OF_FILES_ONLY and is_call):
                        continue
                    if mode == "full" and not what.startswith(("file:open", "file:mkdir")):
                        continue
                    if mode == "invisible" and what.removeprefix("aws:") not in HIDES:
                        continue
                    found.append(Point(phase, number, what, mode, calls))
                calls += is_call
        shutil.rmtree(runs)
        return found

    def problems(self, point: Point) -> list[str]:
        """Break the chain at the point, run it again, and say what is not as it must be."""
        account = self.world.enter(self.seat)
        runs = self.folder / f"seat-{self.seat}"
        away = Path(f"{runs}{AWAY}")
        for folder in (runs, away):
            shutil.rmtree(folder, ignore_errors=True)
        runs.mkdir(mode=0o700)
        if point.phase == CLEAN_UP_PHASE and (whole := self.attempts.attempt(runs, account, RUN)).how != "done":
            return [f"the run before it {whole.how}: {whole.said}"]
        if point.mode in OF_CALLS_ONLY:
            self.world.inject(point)
        broken = self.attempts.attempt(runs, account, point.phase, point=point)
        expected = {"kill-before": ("killed",), "kill-after": ("killed",), "interrupt": ("interrupted",),
                    "full": ("stopped",)}  # fmt: skip
        allowed = expected.get(point.mode, ("done",) if point.mode in MUST_NOT_STOP else ("done", "stopped"))
        if broken.how not in allowed:
            return [f"broken, it {broken.how}: {broken.said}"]
        if (away / "state.json").exists():  # without it nothing had begun
            if made := sorted(path.name for path in (runs / RUN_ID).glob("*") if path.name != ".lock"):
                return [f"without its folder it made it anew, with {made}"]
            shutil.rmtree(runs / RUN_ID, ignore_errors=True)  # taken away just before it was locked
            away.rename(runs / RUN_ID)
        if broken.how != "done" and (again := self.attempts.attempt(runs, account, point.phase)).how != "done":
            return [f"run again, it {again.how}: {again.said}"]
        if point.phase == RUN:
            found = list(problems_of_a_run(self.world, runs, self.attempts.private, self.files))
            if found:
                return found
            if (clean := self.attempts.attempt(runs, account, CLEAN_UP_PHASE)).how != "done":
                return [f"90 {clean.how}: {clean.said}"]
        found = list(problems_of_a_clean_up(self.world, runs))
        shutil.rmtree(runs)
        return found


def chosen(points: list[Point], *, sample: int, text: str) -> list[Point]:
    """Return the points to try: those that hold `text`, and of them `sample`, the same each time."""
    kept = [point for point in points if text in str(point)]
    if not sample or sample >= len(kept):
        return kept
    return sorted(random.Random(1).sample(kept, sample), key=kept.index)  # noqa: S311 - a choice of tests


def work(matrix: Matrix, points: list[Point], *, job: int, results: int) -> None:
    """Try every point in folders and an account of this job's own, and tell one line of JSON for each."""
    matrix.folder, matrix.seat = matrix.folder / f"job-{job}", job + 2
    matrix.folder.mkdir()
    for point in points:
        try:
            found = matrix.problems(point)
        except Exception:  # noqa: BLE001 - told as the point's own failure
            found = [traceback.format_exc()]
        os.write(results, (json.dumps([str(point), found]) + "\n").encode())


def serve_sandbox() -> None:
    """Serve a sandbox that makes its RSA keys once; they take most of the time and are not what is tried."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    from runbook_sandbox.kms import wrapping_keys
    from runbook_sandbox.server import server

    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(4)]

    def generate(_: str) -> rsa.RSAPrivateKey:
        keys.append(keys.pop(0))
        return keys[0]

    wrapping_keys._generate = generate
    server.serve(announce=lambda url: print(url, flush=True))


def main() -> int:
    """Try the points asked for; say how many there are and which fail. Exit 1 when one does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, default=0, help="so many points, the same ones each time")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this way of breaking; may be repeated")
    parser.add_argument("--point", default="", help="only points that hold this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="say the points and try none")
    parser.add_argument(
        "--unsafe", choices=("retries", "intents", "patience"), help="take a guard away: the matrix must then fail"
    )
    parser.add_argument("--sandbox", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sandbox:
        serve_sandbox()
        return 0
    take_away(asked.unsafe or "")
    folder = Path(tempfile.mkdtemp(prefix="crash-matrix-"))
    sandbox = subprocess.Popen([sys.executable, __file__, "--sandbox"], stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        url = sandbox.stdout.readline().strip()  # type: ignore[union-attr]
        sandbox_process.call(url, "/runbook/progression", body={"mode": "immediate"}, method="POST")
        return try_points(url, folder, asked)
    finally:
        sandbox.terminate()
        sandbox.wait()
        shutil.rmtree(folder, ignore_errors=True)


def try_points(url: str, folder: Path, asked: argparse.Namespace) -> int:
    """Try the points with as many processes as asked for; return the exit code."""
    matrix = Matrix(url, folder, seat=1)
    matrix.warm_up()
    points = matrix.points(tuple(asked.mode or MODES))
    tried = chosen(points, sample=asked.sample, text=asked.point)
    if asked.list:
        print("\n".join(map(str, tried)))
        return 0
    began, failed = time.monotonic(), 0
    reader, writer = os.pipe()
    jobs = max(1, min(asked.jobs, len(tried)))
    for job in range(jobs):
        if os.fork() == 0:
            work(matrix, tried[job::jobs], job=job, results=writer)
            os._exit(0)
    os.close(writer)
    done = 0
    with os.fdopen(reader) as results:
        for line in results:
            name, found = json.loads(line)
            done, failed = done + 1, failed + bool(found)
            if found:
                print(f"FAILED {name}\n  " + "\n  ".join(found), flush=True)
            elif done % 100 == 0:
                print(f"{done} of {len(tried)} points, {failed} failed", flush=True)
    for _ in range(jobs):
        os.wait()
    by_mode = ", ".join(f"{number} {mode}" for mode, number in Counter(point.mode for point in tried).items())
    print(f"{done} of {len(points)} points tried ({by_mode}) in {time.monotonic() - began:.0f} s: {failed} failed")
    return 1 if failed or done != len(tried) else 0


def take_away(guard: str) -> None:
    """Take one of the runbook's guards away, to see that the matrix notices."""
    if guard == "retries":
        client = Session.client
        Session.client = lambda self, service, *, region="", retry=True: client(self, service, region=region)
    if guard == "intents":
        Run.is_unclear = Run.was_sent = lambda *_: False
    if guard == "patience":
        create_once._PATIENCE = (0.0,)


if __name__ == "__main__":
    sys.exit(main())
