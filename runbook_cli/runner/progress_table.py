"""How several runs stand: one line each, kept current on a terminal, written once it has ended in a log."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from runbook_cli.runner.jobs import FAILED, VERIFIED, Job
from runbook_cli.runner.run_folder import PrintLine


class ProgressTable:
    """Where the progress of several runs is shown."""

    def __init__(self, stream: TextIO, print_line: PrintLine) -> None:
        self._stream, self._print_line = stream, print_line
        self._live = stream.isatty()
        self._line_count = 0
        self._printed: set[int] = set()

    def print_line(self, line: str) -> None:
        """Say something that stays."""
        self._wipe()
        self._print_line(line)

    def show(self, jobs: Sequence[Job]) -> None:
        """Say which runs have ended since, and show how the others stand."""
        self._wipe()
        for number, job in enumerate(jobs):
            if job.has_ended and number not in self._printed:
                self._printed.add(number)
                self._print_line(line_of(job, jobs))
        if self._live:
            columns, rows = shutil.get_terminal_size()
            at_work = [line_of(job, jobs)[: columns - 1] for job in jobs if job.began and not job.has_ended]
            hidden = len(at_work) - (rows - 2)
            shown = [*at_work[: rows - 3], f"  and {hidden + 1} more"] if hidden > 0 else at_work
            self._stream.write("".join(f"{line}\n" for line in shown))
            self._stream.flush()
            self._line_count = len(shown)

    def _wipe(self) -> None:
        if self._line_count:
            self._stream.write(f"\x1b[{self._line_count}F\x1b[J")
            self._line_count = 0


def line_of(job: Job, jobs: Sequence[Job]) -> str:
    """Return the one line of a run."""
    wide = max(len(one.name) for one in jobs)
    state = job.state.upper() if job.state == FAILED else job.state
    took = f"{job.seconds:6.1f} s" if job.has_ended else " " * 8
    return f"  {job.name:<{wide}}  {state:<8} {took}  {job.line}".rstrip()


def summary(jobs: Sequence[Job]) -> list[str]:
    """Return the table of what came of all runs, in the order in which they were asked for."""
    verified = sum(job.state == VERIFIED for job in jobs)
    rows = [line_of(job, jobs) for job in jobs]
    return [f"{verified} of {len(jobs)} runs verified", *rows]
