"""`runbook sandbox`: serve the sandbox, or control one that is running."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_cli.common import echo, print_line, report_errors, runs_dir_option
from runbook_lib.run.paths import runs_folder


@click.group(invoke_without_command=True)
@click.option("--port", default=0, show_default=True, help="Port; 0 picks a free one.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Other machines can reach the sandbox unless it is a loopback address.",
)
@click.option("--seed", type=int, help="Seed for repeatable resource ids.")
@click.option("--stop", is_flag=True, help="Stop the sandbox of the runs folder.")
@runs_dir_option
@click.pass_context
@report_errors
def sandbox(context: click.Context, port: int, host: str, seed: int | None, stop: bool, runs_dir: Path | None) -> None:
    """Serve the AWS sandbox, or control a running one.

    Without COMMAND, serve the sandbox until interrupted. The first line of the output contains its URL.
    """
    from runbook_lib.aws import sandbox_process
    from runbook_sandbox.server.starting import quick_imports

    context.obj = runs_dir
    if context.invoked_subcommand is not None:
        return
    if stop:
        echo("the sandbox was stopped" if sandbox_process.stop(runs_folder(runs_dir)) else "no sandbox was running")
        return
    sandbox_process.require_installed()
    with quick_imports():
        from runbook_sandbox.server.server import serve

    serve(host=host, port=port, seed=seed, allow_remote=not sandbox_process.is_loopback(host), announce=print_line)


@sandbox.command()
@click.argument("span")
@click.pass_obj
@report_errors
def advance(runs_dir: Path | None, span: str) -> None:
    """Advance the clock of the sandbox.

    SPAN is a time span such as 45s, 30m, 25h or 7d.
    """
    from runbook_cli import sandbox_control

    echo(f"the sandbox's clock is now {sandbox_control.advance(runs_folder(runs_dir), span)}")


@sandbox.command()
@click.argument("pace")
@click.pass_obj
@report_errors
def states(runs_dir: Path | None, pace: str) -> None:
    """Set how long states such as creating and deleting last.

    PACE is a time span such as 20s, a number of describe calls, or 0: states change immediately.
    """
    from runbook_cli import sandbox_control

    sandbox_control.set_states(runs_folder(runs_dir), pace)


@sandbox.command()
@click.argument("operation")
@click.argument("kind", type=click.Choice(["throttle", "error", "latency", "drop_before", "drop_after"]))
@click.option("--count", default=1, show_default=True, help="Number of calls to affect.")
@click.option("--seconds", "delay", default=0.0, help="Delay of each call, for latency.")
@click.pass_obj
@report_errors
def fault(runs_dir: Path | None, operation: str, kind: str, count: int, delay: float) -> None:
    """Inject a fault into the next calls of OPERATION.

    OPERATION is an API operation such as kms:ImportKeyMaterial, all of a service (rds:*), or *.
    """
    from runbook_cli import sandbox_control

    sandbox_control.inject(runs_folder(runs_dir), operation, kind, count=count, delay=delay)


@sandbox.command()
@click.option("--account", help="Only of this account, 12 digits.")
@click.pass_obj
@report_errors
def messages(runs_dir: Path | None, account: str | None) -> None:
    """List the messages that were published to SNS topics, and why one was not delivered."""
    from runbook_cli import sandbox_control

    for line in sandbox_control.messages(runs_folder(runs_dir), account or ""):
        echo(line)


@sandbox.command("reset-seat")
@click.argument("seat", type=int)
@click.pass_obj
@report_errors
def reset_seat(runs_dir: Path | None, seat: int) -> None:
    """Delete all resources of SEAT, the account of one learner."""
    from runbook_cli import sandbox_control

    echo(f"seat {seat}, account {sandbox_control.reset_seat(runs_folder(runs_dir), seat)}, is empty")
