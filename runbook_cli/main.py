"""The `runbook` command: run, status, clean-up, sandbox, lab. Exit codes: 0 done, 1 failed, 2 bad usage, 3 not confirmed.

`wrap` and `recover` are `cli_custody`.
"""

from __future__ import annotations

import gc
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from runbook_cli.common import runs_dir as _runs_dir
from runbook_cli.common import say as _say
from runbook_cli.common import told as _told
from runbook_cli.custody import recover, wrap
from runbook_lib import errors
from runbook_lib.run.paths import parameters_folder, runs_folder, shown


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aurora-byok-runbook")
def main() -> None:
    """Encrypt Amazon Aurora under a KMS key whose key material you bring yourself."""
    gc.set_threshold(50_000)  # what is imported stays: looking through it again and again is a tenth of a command


_kernel = click.option(
    "--kernel",
    type=click.Choice(["forked", "plain"]),
    help="forked: from a warm process, the default on Linux; plain: a new process.",
)


@main.command()
@click.argument("parameters", nargs=-1, type=click.Path(path_type=Path))
@click.option("--run-id", help="Name of the run; an existing one goes on where it stopped. Default: a new name.")
@_runs_dir
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; beats the file.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time. Default: two for each core.")
@_kernel
@click.option("--quiet", is_flag=True, help="Say nothing unless something fails.")
@_told
def run(
    parameters: tuple[Path, ...],
    run_id: str | None,
    runs_dir: Path | None,
    given: tuple[tuple[str, str], ...],
    jobs: int | None,
    kernel: str | None,
    quiet: bool,
) -> None:
    """Execute notebooks 00 to 06 with PARAMETERS (default: parameters/sandbox.yaml).

    Several files, or a folder of them, are as many runs, side by side.
    """
    _choose_kernel(kernel)
    if run_id == "":
        raise errors.InputError([("--run-id", "is empty; give the run a name, or leave the option out for a new one")])
    files = _files(parameters)
    words = [*(["--run-id", run_id] if run_id else []), *(word for pair in given for word in ("-p", *pair))]
    if len(files) > 1:
        if named := [word for word in ("--run-id", "run_id") if word in words]:
            problem = (
                f"would be the name of {len(files)} runs; put a run_id into each file, or leave it out for new names"
            )
            raise errors.InputError([(named[0], problem)])
        _run_several(files, runs_dir, given, jobs, quiet)
    else:
        _run_one(files[0] if parameters else None, run_id, runs_dir, given, quiet)


def _files(parameters: tuple[Path, ...]) -> list[Path]:
    """Return the parameter files: those named, and all that lie in a folder that is named."""
    found: list[Path] = []
    for path in parameters or (parameters_folder() / "sandbox.yaml",):
        inside = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
        if not inside:
            raise errors.ParameterFileError(f"no parameter file (.yaml) lies in {path}; name a folder that holds some")
        found += inside
    return found


def _choose_kernel(kernel: str | None) -> None:
    if kernel:
        os.environ["RUNBOOK_KERNEL"] = "plain" if kernel == "plain" else ""


def _run_one(
    parameters: Path | None, run_id: str | None, runs_dir: Path | None, given: tuple[tuple[str, str], ...], quiet: bool
) -> None:
    from runbook_cli.parameters import from_command_line, read_parameters
    from runbook_cli.runner.chain import run_chain

    values = read_parameters(parameters or parameters_folder() / "sandbox.yaml") | from_command_line(given)
    name = run_id if run_id is not None else str(values.get("run_id") or "")
    folder = runs_folder(runs_dir)
    try:
        done = run_chain(values, run_id=name, runs_dir=folder, say=(lambda _: None) if quiet else _say)
    except errors.StepFailed as error:
        again = _again(parameters, error.run_id, runs_dir, given)
        click.echo(f"error: {error}\n  mend it, then go on with: {again}", err=True)
        sys.exit(1)
    if not quiet:
        path = shown(done.path)
        _say(f"Verified: {done.record('06_verify_encryption')['verdict']}")
        _say(
            f"Report {path}/report.html · notebooks {path}/notebooks · next: runbook lab, or runbook clean-up {done.run_id}"
        )


def _run_several(
    files: list[Path], runs_dir: Path | None, given: tuple[tuple[str, str], ...], workers: int | None, quiet: bool
) -> None:
    from runbook_cli.parameters import from_command_line, read_parameters
    from runbook_cli.runner.progress_table import Board, summary
    from runbook_cli.runner.several import Job, default_jobs, run_side_by_side

    told = from_command_line(given)
    jobs = []
    for file in files:
        values = read_parameters(file) | told
        jobs.append(Job(file, values, run_id=str(values.get("run_id") or "")))
    folder, workers = runs_folder(runs_dir), workers or default_jobs()
    board = Board(sys.stdout, (lambda _: None) if quiet else _say)
    run_side_by_side(
        jobs,
        runs_dir=folder,
        workers=workers,
        tell=(lambda _: None) if quiet else board.tell,
        say=board.say,
    )
    for line in [] if quiet else summary(jobs):
        _say(line)
    for job in jobs:
        if job.state == "failed":
            again = _again(job.file, job.name, runs_dir, given)
            click.echo(f"error: run {job.name}: {job.line}\n  mend it, then go on with: {again}", err=True)
    if any(job.state == "failed" for job in jobs):
        sys.exit(1)


def _again(parameters: Path | None, run_id: str, runs_dir: Path | None, given: tuple[tuple[str, str], ...]) -> str:
    """Return the command that goes on with a run."""
    words = ["runbook", "run", *([str(parameters)] if parameters else []), "--run-id", run_id]
    words += [word for pair in given if pair[0] != "run_id" for word in ("-p", *pair)]
    words += ["--runs-dir", str(runs_dir)] if runs_dir else []
    return shlex.join(words)


@main.command()
@click.argument("parameters", required=False, type=click.Path(path_type=Path))
@_runs_dir
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; beats the file.")
@_told
def plan(parameters: Path | None, runs_dir: Path | None, given: tuple[tuple[str, str], ...]) -> None:
    """Say what a run with PARAMETERS would change, what it lacks and costs; reads only. Exit 1 if it could not begin."""
    from runbook_cli.plan import look_ahead

    found = look_ahead(_values(parameters, given), runs_dir=runs_folder(runs_dir))
    click.echo(found.where)
    for face in (found.changes, found.checks, found.permissions, found.cost):
        click.echo(f"\n{face!r}")
    sys.exit(0 if found.ready else 1)


def _values(parameters: Path | None, given: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    from runbook_cli.parameters import from_command_line, read_parameters

    return read_parameters(parameters or parameters_folder() / "sandbox.yaml") | from_command_line(given)


@main.command()
@click.argument("step", required=False)
@click.option(
    "-f", "parameters", type=click.Path(path_type=Path), help="Parameter file; default: parameters/sandbox.yaml."
)
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; beats the file.")
@click.option("--run-id", default="", help="Narrow the conditions on tags to this run.")
@click.option("--partition", type=click.Choice(["aws", "aws-cn", "aws-us-gov"]), default="aws", show_default=True)
@click.option("--key-policy", is_flag=True, help="The key's own policy instead; name its roles with -p.")
@_told
def permissions(
    step: str | None,
    parameters: Path | None,
    given: tuple[tuple[str, str], ...],
    run_id: str,
    partition: str,
    key_policy: bool,
) -> None:
    """Print the IAM policy that STEP needs, such as 01_create_key or 01; without STEP, of 00 to 06 and 90 together."""
    from runbook_lib.run.steps import all_steps
    from runbook_lib.steps import permissions as library

    steps = [name for name in all_steps() if step is None or step in (name, name[:2])]
    if not steps:
        raise errors.InputError([("STEP", f"{step!r} is no step; name one of {', '.join(all_steps())}")])
    known = library.values(_values(parameters, given), run_id=run_id, partition=partition)
    document = library.key_policy(known) if key_policy else library.policy(steps, known)
    click.echo(json.dumps(document, indent=2))


@main.command()
@click.argument("run_id", required=False)
@_runs_dir
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_told
def status(run_id: str | None, runs_dir: Path | None, as_json: bool) -> None:
    """Show the runs, or the steps of one."""
    from runbook_lib.run.expiry import in_words, seconds_left
    from runbook_lib.run.run import Run, all_runs
    from runbook_lib.run.steps import all_steps

    folder = runs_folder(runs_dir)
    runs = [Run.open(run_id, runs_dir=folder)] if run_id else all_runs(folder)
    if as_json:
        rows = [
            {"run_id": one.run_id, "created": one.created, **one.target, "steps": _step_rows(one),
             "key_material": in_words(one), "seconds_until_expiry": seconds_left(one)}
            for one in runs
        ]  # fmt: skip
        click.echo(json.dumps(rows[0] if run_id else rows, indent=1))
        return
    if not runs:
        click.echo(f"no runs in {shown(folder)}; begin one with: runbook run")
    for one in runs:
        target = one.target
        word = "SANDBOX" if target["target"] == "sandbox" else "REAL AWS"
        state = next(
            (f"next {s.name}" for s in all_steps().values() if s.number < "07" and not one.is_finished(s.name)),
            "finished",
        )
        if one.is_finished("90_clean_up"):
            state = "cleaned up"
        click.echo(
            f"{one.run_id}  {word} · account {target['account_id']} · {target['region']} · {one.created} · {state}"
        )
        if (left := in_words(one)) and (run_id or seconds_left(one) is not None):
            click.echo(f"  key material {left}; again: runbook recover {one.run_id}")
        for row in _step_rows(one) if run_id else []:
            click.echo(f"  {row['step']:<30} {row['status']:<9} {row['summary']}".rstrip())


def _step_rows(one: Any) -> list[dict[str, Any]]:
    return [
        {
            "step": name,
            "status": section["status"],
            "finished": section.get("finished"),
            "summary": section["record"].get("summary", ""),
        }
        for name, section in sorted(one.steps.items())
    ]


@main.command("clean-up")
@click.argument("run_id")
@click.option(
    "--confirm", "confirmed", default="", metavar="DB_CLUSTER_IDENTIFIER", help="The cluster's name, to delete."
)
@click.option("--pending-window-in-days", type=click.IntRange(7, 30), default=30, show_default=True)
@click.option(
    "--final-db-snapshot-identifier", default="", help="Take a last snapshot of this name; the key is then kept."
)
@_runs_dir
@_told
def clean_up(
    run_id: str, confirmed: str, pending_window_in_days: int, final_db_snapshot_identifier: str, runs_dir: Path | None
) -> None:
    """Delete what RUN_ID made; without --confirm, show what that would be and exit with 3."""
    from runbook_cli.runner.chain import clean_up as execute
    from runbook_lib.inputs.rds import CleanUpInputs
    from runbook_lib.steps import clean_up as library
    from runbook_lib.steps.open_step import open_step

    values = {
        "run_id": run_id,
        "confirm_db_cluster_identifier": confirmed,
        "pending_window_in_days": pending_window_in_days,
        "final_db_snapshot_identifier": final_db_snapshot_identifier,
    }
    inputs = CleanUpInputs.check(values)
    step = open_step("90_clean_up", run_id=run_id, runs_dir=runs_folder(runs_dir))
    if not library.is_confirmed(step, inputs):
        click.echo(repr(library.plan(step, inputs)))
        click.echo(f"Nothing was deleted. To delete: runbook clean-up {run_id} --confirm {library.cluster_name(step)}")
        sys.exit(3)
    for line in execute(step.run, values, say=_say):
        click.echo(f"  {line}")


@main.group(invoke_without_command=True)
@click.option("--port", default=0, show_default=True, help="0 takes a free port.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Another address than this machine's own needs this word."
)
@click.option("--seed", type=int, help="Make the ids repeatable.")
@click.option("--stop", is_flag=True, help="End the sandbox that belongs to the runs folder.")
@_runs_dir
@click.pass_context
@_told
def sandbox(context: click.Context, port: int, host: str, seed: int | None, stop: bool, runs_dir: Path | None) -> None:
    """Serve the sandbox until interrupted; the first line holds its URL. Or order one that is running about."""
    from runbook_lib.aws import sandbox_process
    from runbook_sandbox.server.starting import quick_imports

    context.obj = runs_dir
    if context.invoked_subcommand is not None:
        return
    if stop:
        click.echo("the sandbox has ended" if sandbox_process.stop(runs_folder(runs_dir)) else "no sandbox was running")
        return
    sandbox_process.require_installed()
    with quick_imports():
        from runbook_sandbox.server.server import serve

    serve(host=host, port=port, seed=seed, allow_remote=not sandbox_process.is_loopback(host), announce=_say)


@sandbox.command()
@click.argument("span")
@click.pass_obj
@_told
def advance(runs_dir: Path | None, span: str) -> None:
    """Move the sandbox's clock by SPAN: 45s, 30m, 25h, 7d."""
    from runbook_cli import sandbox_control

    click.echo(f"it is now {sandbox_control.advance(runs_folder(runs_dir), span)} in the sandbox")


@sandbox.command()
@click.argument("pace")
@click.pass_obj
@_told
def states(runs_dir: Path | None, pace: str) -> None:
    """Let states (creating, deleting, …) take PACE: a span such as 20s, or a number of looks; 0 is at once."""
    from runbook_cli import sandbox_control

    sandbox_control.set_states(runs_folder(runs_dir), pace)


@sandbox.command()
@click.argument("operation")
@click.argument("kind", type=click.Choice(["throttle", "error", "latency", "drop_before", "drop_after"]))
@click.option("--count", default=1, show_default=True, help="For so many calls.")
@click.option("--seconds", "delay", default=0.0, help="Of latency.")
@click.pass_obj
@_told
def fault(runs_dir: Path | None, operation: str, kind: str, count: int, delay: float) -> None:
    """Let the next calls of OPERATION (kms:ImportKeyMaterial, rds:*, *) meet a fault."""
    from runbook_cli import sandbox_control

    sandbox_control.inject(runs_folder(runs_dir), operation, kind, count=count, delay=delay)


@sandbox.command("reset-seat")
@click.argument("seat", type=int)
@click.pass_obj
@_told
def reset_seat(runs_dir: Path | None, seat: int) -> None:
    """Empty SEAT, and leave all other learners' as they are."""
    from runbook_cli import sandbox_control

    click.echo(f"seat {seat}, account {sandbox_control.reset_seat(runs_folder(runs_dir), seat)}, is empty")


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free port.")
@click.option("--no-browser", is_flag=True, help="Open no browser; print the address with its token.")
@click.option(
    "--target",
    type=click.Choice(["sandbox", "aws"]),
    default="sandbox",
    show_default=True,
    help="aws: start no sandbox; what you apply is real.",
)
@_runs_dir
@_told
def lab(port: int, no_browser: bool, target: str, runs_dir: Path | None) -> None:
    """Open JupyterLab on the runbook, with a sandbox running."""
    from runbook_cli.lab.lab import serve

    serve(runs_folder(runs_dir), port=port, browser=not no_browser, target=target, say=_say)


main.add_command(wrap)
main.add_command(recover)


if __name__ == "__main__":
    main()
