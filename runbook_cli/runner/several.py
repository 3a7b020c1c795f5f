"""Several runs in parallel: worker processes execute the notebooks, and this process waits for all clusters.

A run occupies a worker for 00 to 05 and another for 06. While its cluster is being created, it holds only its lock,
which this process keeps from start to end. All clusters of an account and Region are polled in one call. All state is
in the run folders: after a kill, the same command with the same run ids resumes the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import runbook_kernels
from runbook_cli.runner import notebook
from runbook_cli.runner.jobs import Job, check_jobs
from runbook_cli.runner.run_folder import PrintLine, make_folder, parameters_of_run, require_material_of
from runbook_cli.runner.worker_pool import WorkerPool
from runbook_cli.surroundings import require_files
from runbook_lib.aws import sandbox_process
from runbook_lib.errors import ParameterChanged, RunbookError
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.paths import shown


def run_side_by_side(
    jobs: Sequence[Job],
    *,
    runs_dir: Path,
    workers: int,
    show: Callable[[Sequence[Job]], Any],
    print_line: PrintLine,
) -> None:
    """Execute the steps that are left of every run; afterwards the state of each job is VERIFIED or FAILED.

    `show` is called with all jobs whenever one of them makes progress. Raises `InputError` and `ParameterChanged`
    before any run is started; a run that fails later does not stop the others.
    """
    check_jobs(jobs)
    require_files()
    for job in jobs:
        require_material_of(job.parameters, runs_dir, job.run_id)
    _refuse_changes(jobs, runs_dir, print_line)
    if starting := runbook_kernels.start():
        starting.join()  # do not fork a process that has threads
    notebook.import_papermill()
    if any(StartInputs.read(job.parameters).target == "sandbox" for job in jobs):
        sandbox_process.ensure(runs_dir)
    print_line(f"{len(jobs)} runs, {min(workers, len(jobs))} at a time · runs {shown(runs_dir)}")
    with notebook.kernel_environment(runs_dir), ExitStack() as stack:
        for job in jobs:
            stack.enter_context(job.held)
        WorkerPool(jobs, runs_dir, workers, show, print_line).run()


def _refuse_changes(jobs: Sequence[Job], runs_dir: Path, print_line: PrintLine) -> None:
    """Raise `ParameterChanged` if the parameters of an existing run changed; other errors are reported by its job."""
    for job in jobs:
        if not job.run_id or not (runs_dir / job.run_id).is_dir():
            continue
        try:
            parameters_of_run(job.parameters, make_folder(job.run_id, runs_dir, print_line))
        except ParameterChanged:
            raise
        except RunbookError:
            continue
