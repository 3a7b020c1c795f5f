"""The `runbook` command: the group, and the commands plan and lab; the others have a module each.

Exit codes: 0 done, 1 failed, 2 wrong usage or parameters, 3 not confirmed. `key-users`: 0 nothing needs the
key, 3 in use, 4 not all looked at.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import click

from runbook_cli.clean_up import clean_up
from runbook_cli.common import echo, echo_lines, parameter_option, print_line, report_errors, runs_dir_option
from runbook_cli.custody import recover, wrap
from runbook_cli.cut_over import cut_over
from runbook_cli.evidence import evidence
from runbook_cli.incident import incident
from runbook_cli.key_users import key_users
from runbook_cli.parameters_command import parameters
from runbook_cli.permissions import permissions
from runbook_cli.room_commands import room, seat
from runbook_cli.rotate import rotate
from runbook_cli.run_command import run
from runbook_cli.sandbox_commands import sandbox
from runbook_cli.status import status
from runbook_cli.surroundings import prepare
from runbook_cli.watch import watch
from runbook_lib.run.paths import runs_folder


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aurora-byok-runbook")
def main() -> None:
    """Encrypt Amazon Aurora with your own key material (BYOK)."""
    prepare()
    gc.set_threshold(50_000)  # imported objects live on; scanning them repeatedly costs a tenth of a command's time


@main.command()
@click.argument("parameters", required=False, type=click.Path(path_type=Path))
@runs_dir_option
@parameter_option
@report_errors
def plan(parameters: Path | None, runs_dir: Path | None, overrides: tuple[tuple[str, str], ...]) -> None:
    """Preview a run: changes, permissions, cost.

    PARAMETERS is a YAML file; default: parameters/sandbox.yaml. Read-only. Exits with 1 if the run could not start.
    """
    from runbook_cli.parameters import values_from
    from runbook_cli.plan import look_ahead

    found = look_ahead(values_from(parameters, overrides), runs_dir=runs_folder(runs_dir))
    echo(found.where)
    for face in (found.changes, found.checks, found.permissions, found.cost):
        echo_lines(f"\n{face!r}")
    sys.exit(0 if found.ready else 1)


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 picks a free one.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.option(
    "--target",
    type=click.Choice(["sandbox", "aws"]),
    default="sandbox",
    show_default=True,
    help="sandbox: start a sandbox; aws: start none, changes are made in your AWS account.",
)
@runs_dir_option
@report_errors
def lab(port: int, no_browser: bool, target: str, runs_dir: Path | None) -> None:
    """Open the notebooks in JupyterLab, with a sandbox."""
    from runbook_cli.lab.lab import serve

    serve(runs_folder(runs_dir), port=port, browser=not no_browser, target=target, print_line=print_line)


for command in (
    run,
    status,
    evidence,
    cut_over,
    rotate,
    watch,
    clean_up,
    key_users,
    sandbox,
    room,
    seat,
    incident,
    wrap,
    recover,
    permissions,
    parameters,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
