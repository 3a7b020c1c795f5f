"""The progress of several runs: one line per run, updated in place on a terminal, else printed when a run ends."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from runbook_cli.runner.jobs import FAILED, VERIFIED, Job
from runbook_cli.runner.run_folder import PrintLine
from runbook_lib.texts import visible


class ProgressTable:
    """The table of progress on `stream`; lines that stay are printed with `print_line`."""

    def __init__(self, stream: TextIO, print_line: PrintLine) -> None:
        self._stream, self._print_line = stream, print_line
        self._live = stream.isatty()
        self._line_count = 0
        self._printed: set[int] = set()

    def print_line(self, line: str) -> None:
        """Print a line that stays, above the table."""
        self._wipe()
        self._print_line(line)

    def show(self, jobs: Sequence[Job]) -> None:
        """Print the runs that have ended since the last call, and update the table of the active ones."""
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
    """Return the line of a run: name, state, seconds, latest message."""
    wide = max(len(one.name) for one in jobs)
    state = job.state.upper() if job.state == FAILED else job.state
    took = f"{job.seconds:6.1f} s" if job.has_ended else " " * 8
    return visible(f"  {job.name:<{wide}}  {state:<8} {took}  {job.line}".rstrip())


def summary(jobs: Sequence[Job]) -> list[str]:
    """Return the lines of the final table: how many runs were verified, then each run in the order given."""
    verified = sum(job.state == VERIFIED for job in jobs)
    rows = [line_of(job, jobs) for job in jobs]
    return [f"{verified} of {len(jobs)} runs verified", *rows]
