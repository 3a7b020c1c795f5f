"""How several runs stand: one line each, kept current on a terminal, written once it has ended in a log."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from runbook_cli.runner.several import Job


class Board:
    """Where the progress of several runs is shown."""

    def __init__(self, stream: TextIO, say: Callable[[str], Any]) -> None:
        self._stream, self._write = stream, say
        self._live = stream.isatty()
        self._lines = 0
        self._told: set[int] = set()

    def say(self, line: str) -> None:
        """Say something that stays."""
        self._wipe()
        self._write(line)

    def tell(self, jobs: Sequence[Job]) -> None:
        """Say which runs have ended since, and show how the others stand."""
        self._wipe()
        for number, job in enumerate(jobs):
            if job.has_ended and number not in self._told:
                self._told.add(number)
                self._write(line_of(job, jobs))
        if self._live:
            columns, rows = shutil.get_terminal_size()
            at_work = [line_of(job, jobs)[: columns - 1] for job in jobs if job.began and not job.has_ended]
            hidden = len(at_work) - (rows - 2)
            shown = [*at_work[: rows - 3], f"  and {hidden + 1} more"] if hidden > 0 else at_work
            self._stream.write("".join(f"{line}\n" for line in shown))
            self._stream.flush()
            self._lines = len(shown)

    def _wipe(self) -> None:
        if self._lines:
            self._stream.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0


def line_of(job: Job, jobs: Sequence[Job]) -> str:
    """Return the one line of a run."""
    wide = max(len(one.name) for one in jobs)
    state = job.state.upper() if job.state == "failed" else job.state
    took = f"{job.seconds:6.1f} s" if job.has_ended else " " * 8
    return f"  {job.name:<{wide}}  {state:<8} {took}  {job.line}".rstrip()


def summary(jobs: Sequence[Job]) -> list[str]:
    """Return the table of what came of all runs, in the order in which they were asked for."""
    verified = sum(job.state == "verified" for job in jobs)
    rows = [line_of(job, jobs) for job in jobs]
    return [f"{verified} of {len(jobs)} runs verified", *rows]
