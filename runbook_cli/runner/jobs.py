"""A job is one of several runs: its parameters and state, and the check that no two jobs use the same names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_cli.parameters import check_parameters
from runbook_lib.errors import InputError
from runbook_lib.inputs.start import StartInputs

QUEUED, RUNNING, WAITING, VERIFIED, FAILED = "queued", "running", "waiting", "verified", "failed"


@dataclass
class Job:
    """One of several runs: parameters, run folder, state, and the worker or cluster that it waits for."""

    file: Path
    parameters: Mapping[str, Any]
    run_id: str = ""
    path: Path = Path()
    given: dict[str, Any] = field(default_factory=dict)
    state: str = QUEUED
    line: str = ""
    result: tuple[str, str] = ("", "")
    began: float = 0.0
    seconds: float = 0.0
    held: ExitStack = field(default_factory=ExitStack)
    token: str = ""
    worker: Any = None
    reader: Any = None
    cluster: str = ""
    deadline: float = 0.0

    @property
    def name(self) -> str:
        """The run id, or the name of the parameter file until the run has an id."""
        return self.path.name or self.run_id or self.file.stem

    @property
    def has_ended(self) -> bool:
        """Whether the job is verified or has failed."""
        return self.state in (VERIFIED, FAILED)


def default_jobs() -> int:
    """Return the default number of workers: two per core, since a run waits for responses half of its time."""
    return 2 * (os.cpu_count() or 1)


def check_jobs(jobs: Sequence[Job]) -> None:
    """Check all parameters, and that no two jobs share a run id or create the same resources. Raises `InputError`."""
    problems: list[tuple[str, str]] = []
    taken: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        try:
            check_parameters({**job.parameters, "run_id": job.run_id or "new"})
        except InputError as error:
            problems += [(f"{job.file}: {name}", message) for name, message in error.problems]
            continue
        start = StartInputs.read(job.parameters)
        names = [("run_id", job.run_id)] if job.run_id else []
        if start.target == "aws":
            names += [(name, getattr(start, name)) for name in ("key_alias", "db_cluster_identifier")]
        for name, value in names:
            where = () if name == "run_id" else (start.account_id, start.region)
            other = taken.setdefault((name, value, *where), job)
            if other is not job:
                problems.append((name, f"{value!r} is used by both {other.file} and {job.file}; give each its own"))
    if problems:
        raise InputError(problems)
