"""The tools of the benchmark: new sandboxes, wall-clock and CPU time, and facts about processes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.aws import sandbox_process
from runbook_lib.run.paths import notebooks_folder

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


@dataclass
class Taken:
    """The wall-clock and CPU seconds of repeated measurements."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median of the wall-clock seconds."""
        return statistics.median(self.wall)

    @property
    def work(self) -> float:
        """The median of the CPU seconds."""
        return statistics.median(self.cpu)

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.work:.2f})"


class Place:
    """A new runs folder with a sandbox, and the environment for the commands that use it."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.runs, self.runtime = folder / "runs", runtime
        self.runs.mkdir(mode=0o700)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "JUPYTER_"))},
            "RUNBOOK_RUNS_DIR": str(self.runs),
            "RUNBOOK_ATTENDED": "0",
            "XDG_RUNTIME_DIR": str(runtime),
        }

    def run(self, *command: str, **environment: str) -> str:
        """Run a command; return what it printed. Raises `SystemExit` when it fails."""
        done = subprocess.run(  # noqa: S603 - fixed commands
            command, env=self.environment | environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)[:200]} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def papermill(
        self, name: str, run_id: str, *, stock: tuple[str, ...] = (str(BIN / "papermill"),), **env: str
    ) -> None:
        """Execute one notebook with the papermill command, or with `stock` in its place."""
        self.run(*stock, *_papermill(name, run_id, self.runs), **env)


def _papermill(name: str, run_id: str, folder: Path) -> list[str]:
    words = [str(notebooks_folder() / f"{name}.ipynb"), str(folder / f"{run_id}-{name}.ipynb")]
    return [*words, "-f", "parameters/sandbox.yaml", "-p", "run_id", run_id, "-p", "exercises", "False"]


@contextmanager
def fresh(runtime: Path) -> Iterator[Place]:
    """Yield a place whose sandbox is running; stop the sandbox afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), runtime)
        sandbox_process.ensure(place.runs)
        yield place
        sandbox_process.stop(place.runs)


def parents(runtime: Path) -> list[int]:
    """Return the pids of the processes that kernels are forked from: those that hold the socket folder open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            opened = {os.readlink(path) for path in (entry / "fd").iterdir()}
        except OSError:
            continue
        if str(runtime / "fork-kernel") in opened and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def _cpu_of_kernels(runtime: Path) -> float:
    """Return the CPU seconds of the parents of kernels and of the kernels that have ended."""
    ticks = 0
    for pid in parents(runtime):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(taken: Taken, place: Place, work: Callable[[], Any]) -> None:
    """Run `work` and record its wall-clock and CPU seconds."""
    began, before, kernels = time.perf_counter(), os.times(), _cpu_of_kernels(place.runtime)
    work()
    wall = time.perf_counter() - began
    time.sleep(0.3)  # wait until the last kernel has been reaped
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4]) + _cpu_of_kernels(place.runtime) - kernels
    taken.wall.append(wall)
    taken.cpu.append(cpu)


def pss(pid: int) -> float:
    """Return the proportional set size of a process, in MB."""
    return int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Pss:")[2].split()[0]) / 1024


def children(pid: int) -> list[int]:
    """Return the pids of the children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in listed.read_text().split()] if listed.exists() else []


def open_locks(pid: int) -> int:
    """Return the number of run folders that a process has locked."""
    found = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(path).endswith("/.lock")
        except OSError:  # closed in the meantime
            continue
    return found


@contextmanager
def started(command: list[str], place: Place) -> Iterator[subprocess.Popen[str]]:
    """Start a command; terminate it at the end of the block."""
    with subprocess.Popen(command, env=place.environment, cwd=ROOT, stdout=subprocess.DEVNULL, text=True) as running:  # noqa: S603
        try:
            yield running
        finally:
            running.terminate()


def until(condition: Callable[[], bool], *, interval: float = 0.0, timeout: float = 300.0) -> None:
    """Poll `condition` every `interval` seconds until it is true. Raises `TimeoutError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not true after {timeout:.0f} s")
        time.sleep(interval)
