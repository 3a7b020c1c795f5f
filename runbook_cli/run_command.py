"""`runbook run`: one run, or several side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from runbook_cli.common import echo, parameter_option, print_line, report_errors, runs_dir_option
from runbook_cli.environment import environment_variables
from runbook_lib import errors
from runbook_lib.run.paths import parameters_folder, runs_folder, shown

_kernel_option = click.option(
    "--kernel",
    type=click.Choice(["forked", "plain"]),
    help="forked: fork kernels from a preloaded process (default on Linux); plain: start each as a new process.",
)


@click.command()
@click.argument("parameters", nargs=-1, type=click.Path(path_type=Path))
@click.option("--run-id", help="Name of the run; an existing run resumes where it stopped. Default: a new name.")
@runs_dir_option
@parameter_option
@click.option("--jobs", type=click.IntRange(min=1), help="Maximum number of parallel runs. Default: two per core.")
@_kernel_option
@click.option(
    "--before",
    type=click.Choice(["01", "02", "03", "04", "05", "06", "10", "11", "20", "21", "80", "90"]),
    metavar="STEP",
    help="Stop before this step, such as 05; finished steps keep their values.",
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--keep-reports", type=click.IntRange(min=1), metavar="N",
              help="After a success, keep the first and the newest N dated reports and executed notebooks.")  # fmt: skip
@report_errors
def run(
    parameters: tuple[Path, ...],
    run_id: str | None,
    runs_dir: Path | None,
    overrides: tuple[tuple[str, str], ...],
    jobs: int | None,
    kernel: str | None,
    before: str | None,
    quiet: bool,
    keep_reports: int | None,
) -> None:
    """Run notebooks 00 to 06, as one or several runs.

    PARAMETERS is a YAML file; default: parameters/sandbox.yaml. With several files, or a folder of files, each file is
    a run of its own, and the runs are executed in parallel.
    """
    if kernel:
        setting = {"RUNBOOK_KERNEL": "plain" if kernel == "plain" else ""}
        click.get_current_context().with_resource(environment_variables(setting))
    if run_id == "":
        raise errors.InputError([("--run-id", "is empty; give the run a name, or omit the option for a new one")])
    files = _files(parameters)
    if before and len(files) > 1:
        raise errors.InputError([("--before", f"stops one run, and {len(files)} were given; give one parameter file")])
    words = [*(["--run-id", run_id] if run_id else []), *(word for pair in overrides for word in ("-p", *pair))]
    if len(files) > 1:
        if named := [word for word in ("--run-id", "run_id") if word in words]:
            problem = f"would name {len(files)} runs; set a run_id in each file, or omit it for new names"
            raise errors.InputError([(named[0], problem)])
        done = _run_several(files, runs_dir, overrides, jobs, quiet)
    else:
        done = [_run_one(files[0] if parameters else None, run_id, runs_dir, overrides, quiet, before or "")]
    for path in done if keep_reports else ():
        from runbook_cli.runner.retention import keep_newest

        keep_newest(path, keep_reports or 1)


def _files(parameters: tuple[Path, ...]) -> list[Path]:
    """Return the parameter files: those named, and all files of each folder that is named."""
    found: list[Path] = []
    for path in parameters or (parameters_folder() / "sandbox.yaml",):
        inside = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
        if not inside:
            raise errors.ParameterFileInvalid(f"no parameter file (.yaml) in {path}; give a folder that contains some")
        found += inside
    return found


def _run_one(
    parameters: Path | None,
    run_id: str | None,
    runs_dir: Path | None,
    overrides: tuple[tuple[str, str], ...],
    quiet: bool,
    before: str = "",
) -> Path:
    from runbook_cli.parameters import values_from
    from runbook_cli.runner.chain import run_chain
    from runbook_cli.runner.run_folder import recorded_values
    from runbook_lib.run.steps import VERIFY_ENCRYPTION

    values = values_from(parameters, overrides)
    name, folder = _run_id(values) if run_id is None else run_id, runs_folder(runs_dir)
    if before and name:
        named = {key for key, _ in overrides}
        values |= {key: value for key, value in recorded_values(folder / name).items() if key not in named}
    if before in ("10", "11") and not values.get("source_db_cluster_identifier"):
        problem = f"{before} is for a run with an existing cluster: set source_db_cluster_identifier (in 00), or give another step"
        raise errors.InputError([("--before", problem)])
    try:
        done = run_chain(values, run_id=name, runs_dir=folder, print_line=_printer(quiet), before=before)
    except errors.StepFailed as error:
        _report_failure(str(error), parameters, error.run_id, runs_dir, overrides, notebook=error.output)
        sys.exit(1)
    if before:
        _printer(quiet)(f"Stopped before {before}: {shown(done.path)}")
    elif not quiet:
        path = shown(done.path)
        print_line(f"Verified: {done.record(VERIFY_ENCRYPTION)['verdict']}")
        print_line(
            f"Report {path}/report.html · notebooks {path}/notebooks · next: runbook lab, or runbook clean-up {done.run_id}"
        )
    return done.path


def _run_several(
    files: list[Path], runs_dir: Path | None, overrides: tuple[tuple[str, str], ...], workers: int | None, quiet: bool
) -> list[Path]:
    from runbook_cli.parameters import values_from
    from runbook_cli.runner.jobs import FAILED, Job, default_jobs
    from runbook_cli.runner.progress_table import ProgressTable, summary
    from runbook_cli.runner.several import run_side_by_side

    jobs = []
    for file in files:
        values = values_from(file, overrides)
        jobs.append(Job(file, values, run_id=_run_id(values)))
    table = ProgressTable(sys.stdout, _printer(quiet))
    run_side_by_side(
        jobs,
        runs_dir=runs_folder(runs_dir),
        workers=workers or default_jobs(),
        show=(lambda _: None) if quiet else table.show,
        print_line=table.print_line,
    )
    for line in [] if quiet else summary(jobs):
        print_line(line)
    failed = [job for job in jobs if job.state == FAILED]
    for job in failed:
        _report_failure(f"run {job.name}: {job.line}", job.file, job.name, runs_dir, overrides)
    if failed:
        sys.exit(1)
    return [job.path for job in jobs]


def _printer(quiet: bool) -> Callable[[str], Any]:
    return (lambda _: None) if quiet else print_line


def _run_id(values: Mapping[str, Any]) -> str:
    return str(values.get("run_id") or "")


def _report_failure(
    problem: str,
    parameters: Path | None,
    run_id: str,
    runs_dir: Path | None,
    overrides: tuple[tuple[str, str], ...],
    *,
    notebook: str = "",
) -> None:
    """Print what failed and where, the executed notebook if there is one, and the command that resumes the run."""
    again = _command_to_resume(parameters, run_id, runs_dir, overrides)
    echo(f"error: {problem}", err=True)
    if place := _place(run_id, runs_dir):
        echo(f"  {place}", err=True)
    if notebook:
        echo(f"  the executed notebook is {notebook}", err=True)
    echo(f"  fix it, then resume with: {again}", err=True)


def _place(run_id: str, runs_dir: Path | None) -> str:
    """Return target, account and Region of a run for the mail of a failure; "" before 00 has recorded them."""
    from runbook_lib.run.run import Run

    try:
        target = Run.open(run_id, runs_dir=runs_folder(runs_dir)).target
    except errors.RunbookError:
        return ""
    return f"run {run_id}: {target['target']}, account {target['account_id']}, {target['region']}"


def _command_to_resume(
    parameters: Path | None, run_id: str, runs_dir: Path | None, overrides: tuple[tuple[str, str], ...]
) -> str:
    """Return the command that resumes a run."""
    words = ["runbook", "run", *([str(parameters)] if parameters else []), "--run-id", run_id]
    words += [word for pair in overrides if pair[0] != "run_id" for word in ("-p", *pair)]
    words += ["--runs-dir", str(runs_dir)] if runs_dir else []
    return shlex.join(words)
