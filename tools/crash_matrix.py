"""Break the chain at every AWS call and every file write, run it again, and check the result.

One uninterrupted run of 00 to 06, 20 and 90 records the points: each HTTP request to AWS, and each file in the runs folder
that is opened for writing, renamed or removed, and each folder that is created. For each point and mode, the chain is
broken there, with an account and a runs folder of its own, and run again with the same run id. The modes:

  kill-before, kill-after   SIGKILL just before or just after the call or write
  interrupt                 Ctrl-C (KeyboardInterrupt) instead of it
  drop                      the call takes effect, but its response is lost, also for botocore's retries
  throttle, error           the call is throttled, or fails with status 500, once: the run must not stop
  invisible                 what the call created is not visible for a second: the run must not stop
  full                      the disk is full from this write on: no file can be created or opened for writing
  vanish                    the run's folder is removed (and restored before the second run)
  account, replaced, rival  somebody else acts (crash_others.py says how), at the calls that change something

Afterwards the run must be verified; each resource exists exactly once, and no other exists; the custody copy, decrypted
with the recovery key, is the key material of the key (KMS accepts it again, and rejects any other), after 20 that of
each of the two; and 90 leaves only the key that is pending deletion. For speed, the runner's own code executes the
cells of the notebooks in forked processes, not in kernels: the same cells and library calls, some hundred times faster
than with papermill.

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
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import crash_others  # noqa: E402
from crash_attempts import AWAY, CLEAN_UP_PHASE, OF_CALLS_ONLY, ROTATION, RUN, RUN_ID, Attempts, Point  # noqa: E402
from crash_world import (  # noqa: E402
    World,
    files_of,
    problems_of_a_clean_up,
    problems_of_a_rotation,
    problems_of_a_run,
)

from runbook_lib.aws import retry, sandbox_process  # noqa: E402
from runbook_lib.aws.session import Session  # noqa: E402
from runbook_lib.run.run import Run  # noqa: E402
from runbook_lib.steps import ownership  # noqa: E402
from runbook_sandbox.instruments import visibility_delays  # noqa: E402

BREAKS = ("kill-before", "kill-after", "interrupt", "drop", "throttle", "error", "invisible", "full", "vanish")
MODES = (*BREAKS, *crash_others.MODES)
PHASES = (RUN, ROTATION, CLEAN_UP_PHASE)
UNSAFE = ("retries", "intents", "patience", "account", "look", "marks")
OF_FILES_ONLY = frozenset({"full", "vanish"})
MUST_NOT_STOP = frozenset({"throttle", "error", "invisible"})
HIDES = frozenset(call.partition(":")[2] for call in visibility_delays.HIDES)


class Matrix:
    """The points of the chain, and the problems found after breaking it at each."""

    def __init__(self, url: str, folder: Path, *, seat: int) -> None:
        self.folder = folder
        self.attempts = Attempts(url, folder, recovery_pair())
        self.world = World(url)
        self.seat = seat
        self.files: dict[str, frozenset[str]] = {}

    def warm_up(self) -> None:
        """Run once in this process, so that forked processes have all service models and templates loaded."""
        loader = botocore.loaders.Loader()
        botocore.session.create_loader = lambda *_: loader
        account, runs = self.world.enter(self.seat), self.folder / "warm"
        runs.mkdir()
        for phase in PHASES:
            self.attempts.run(runs, account, phase)
        shutil.rmtree(runs)

    def points(self, modes: tuple[str, ...]) -> list[Point]:
        """Run the chain unbroken; return all points of these modes."""
        found = self._points("sandbox", tuple(mode for mode in modes if mode != "account"))
        return found + (self._points("aws", ("account",)) if "account" in modes else [])

    def _points(self, target: str, modes: tuple[str, ...]) -> list[Point]:
        account, runs = self.world.enter(self.seat), self.folder / "whole"
        found = []
        for phase in PHASES:
            whole = self.attempts.attempt(runs, account, phase, target=target)
            if whole.how != "done":
                raise SystemExit(f"the unbroken chain did not finish: {whole.how}\n{whole.said}")
            self.files[phase] = files_of(runs)
            if problems := self._found(phase, runs):
                raise SystemExit(f"the unbroken chain has problems: {problems}")
            calls = 0
            for mode in modes:
                if mode in crash_others.MODES:
                    found += crash_others.points(phase, whole.events, mode)
            for number, what in enumerate(whole.events, 1):
                is_call = what.startswith("aws:")
                for mode in modes:
                    if mode in crash_others.MODES:
                        continue
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

    def _found(self, phase: str, runs: Path) -> list[str]:
        """Return what is wrong after this phase."""
        if phase == CLEAN_UP_PHASE:
            return list(problems_of_a_clean_up(self.world, runs))
        look = problems_of_a_run if phase == RUN else problems_of_a_rotation
        return list(look(self.world, runs, self.attempts.private, self.files[phase]))

    def problems(self, point: Point) -> list[str]:
        """Break the chain at the point, run it again, and return the problems found."""
        if point.mode in crash_others.MODES:
            return crash_others.problems(self, point)
        account = self.world.enter(self.seat)
        runs = self.folder / f"seat-{self.seat}"
        away = Path(f"{runs}{AWAY}")
        for folder in (runs, away):
            shutil.rmtree(folder, ignore_errors=True)
        runs.mkdir(mode=0o700)
        if point.phase != RUN and (whole := self.attempts.attempt(runs, account, RUN)).how != "done":
            return [f"the run before was {whole.how}: {whole.said}"]
        if point.mode in OF_CALLS_ONLY:
            self.world.inject(point)
        broken = self.attempts.attempt(runs, account, point.phase, point=point)
        expected = {"kill-before": ("killed",), "kill-after": ("killed",), "interrupt": ("interrupted",),
                    "full": ("stopped",)}  # fmt: skip
        allowed = expected.get(point.mode, ("done",) if point.mode in MUST_NOT_STOP else ("done", "stopped"))
        if broken.how not in allowed:
            return [f"the broken attempt was {broken.how}: {broken.said}"]
        if (away / "state.json").exists():  # without the file, the run had not started
            if created := sorted(path.name for path in (runs / RUN_ID).glob("*") if path.name != ".lock"):
                return [f"the run created its removed folder again, with {created}"]
            shutil.rmtree(runs / RUN_ID, ignore_errors=True)  # removed just before it was locked
            away.rename(runs / RUN_ID)
        if broken.how != "done" and (again := self.attempts.attempt(runs, account, point.phase)).how != "done":
            return [f"the second attempt was {again.how}: {again.said}"]
        if point.phase != CLEAN_UP_PHASE:
            if found := self._found(point.phase, runs):
                return found
            if (clean := self.attempts.attempt(runs, account, CLEAN_UP_PHASE)).how != "done":
                return [f"90 was {clean.how}: {clean.said}"]
        found = list(problems_of_a_clean_up(self.world, runs))
        shutil.rmtree(runs)
        return found


def recovery_pair() -> tuple[bytes, bytes]:
    """Return a new recovery key pair in PEM form: with target aws, a training key is refused."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return secret, public


def chosen(points: list[Point], *, sample: int, text: str) -> list[Point]:
    """Return the points that contain `text`, or a sample of them, which is the same in each call."""
    kept = [point for point in points if text in str(point)]
    if not sample or sample >= len(kept):
        return kept
    return sorted(random.Random(1).sample(kept, sample), key=kept.index)  # noqa: S311 - a choice of tests


def work(matrix: Matrix, points: list[Point], *, job: int, results: int) -> None:
    """Try the points with folders and an account of this job; write one line of JSON for each to `results`."""
    matrix.folder, matrix.seat = matrix.folder / f"job-{job}", job + 2
    matrix.folder.mkdir()
    for point in points:
        try:
            found = matrix.problems(point)
        except Exception:  # noqa: BLE001 - reported as the failure of this point
            found = [traceback.format_exc()]
        os.write(results, (json.dumps([str(point), found]) + "\n").encode())


def serve_sandbox() -> None:
    """Serve a sandbox that reuses four RSA keys: generating them takes most of the time and is not tested here."""
    from runbook_sandbox.kms import wrapping_keys
    from runbook_sandbox.server import server

    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(4)]

    def generate(_: str) -> rsa.RSAPrivateKey:
        keys.append(keys.pop(0))
        return keys[0]

    wrapping_keys._generate = generate
    server.serve(announce=lambda url: print(url, flush=True))


def main() -> int:
    """Try the requested points; print their number and the failures. Return 1 if one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, default=0, help="number of points to try, always the same ones; 0: all")
    parser.add_argument("--mode", action="append", choices=MODES, help="use only this mode; repeatable")
    parser.add_argument("--point", default="", help="try only points that contain this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print the points and try none")
    parser.add_argument("--unsafe", choices=UNSAFE, help="disable a safeguard: the matrix must then fail")
    parser.add_argument("--sandbox", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sandbox:
        serve_sandbox()
        return 0
    disable(asked.unsafe or "")
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
    """Try the points in `asked.jobs` processes; return the exit code."""
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


def disable(safeguard: str) -> None:
    """Disable one of the runbook's safeguards, to check that the matrix detects it."""
    if safeguard == "retries":
        client = Session.client
        Session.client = lambda self, service, *, region="", retry=True: client(self, service, region=region)
    if safeguard == "intents":
        Run.is_unclear = Run.was_sent = lambda *_: False
    if safeguard == "patience":
        retry._SANDBOX_PAUSES = (0.0,)
    if safeguard == "account":
        Session._require_account = lambda *_: None
    if safeguard == "look":
        seen = ownership.seen_again
        ownership.seen_again = lambda step, change: "deleted" if seen(step, change) == "deleted" else "same"
    if safeguard == "marks":
        ownership.is_ours = lambda step, found, **_: found.tags.get("runbook:run-id") == step.run.run_id


if __name__ == "__main__":
    sys.exit(main())
