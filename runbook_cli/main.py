"""The `runbook` command: run, status, clean-up, sandbox, lab. Exit codes: 0 done, 1 failed, 2 bad usage, 3 not confirmed.

Its larger commands have a module each; here are the group and the small ones.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import click

from runbook_cli.clean_up import clean_up
from runbook_cli.common import parameter_option, print_line, report_errors, runs_dir_option
from runbook_cli.custody import recover, wrap
from runbook_cli.run_command import run
from runbook_cli.sandbox_commands import sandbox
from runbook_cli.status import status
from runbook_lib import errors
from runbook_lib.run.paths import runs_folder


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aurora-byok-runbook")
def main() -> None:
    """Encrypt Amazon Aurora under a KMS key whose key material you bring yourself."""
    gc.set_threshold(50_000)  # what is imported stays: looking through it again and again is a tenth of a command


@main.command()
@click.argument("parameters", required=False, type=click.Path(path_type=Path))
@runs_dir_option
@parameter_option
@report_errors
def plan(parameters: Path | None, runs_dir: Path | None, overrides: tuple[tuple[str, str], ...]) -> None:
    """Say what a run with PARAMETERS would change, what it lacks and costs; reads only. Exit 1 if it could not begin."""
    from runbook_cli.parameters import values_from
    from runbook_cli.plan import look_ahead

    found = look_ahead(values_from(parameters, overrides), runs_dir=runs_folder(runs_dir))
    click.echo(found.where)
    for face in (found.changes, found.checks, found.permissions, found.cost):
        click.echo(f"\n{face!r}")
    sys.exit(0 if found.ready else 1)


@main.command()
@click.argument("step", required=False)
@click.option(
    "-f", "parameters", type=click.Path(path_type=Path), help="Parameter file; default: parameters/sandbox.yaml."
)
@parameter_option
@click.option("--run-id", default="", help="Narrow the conditions on tags to this run.")
@click.option("--partition", type=click.Choice(["aws", "aws-cn", "aws-us-gov"]), default="aws", show_default=True)
@click.option("--key-policy", is_flag=True, help="The key's own policy instead; name its roles with -p.")
@report_errors
def permissions(
    step: str | None,
    parameters: Path | None,
    overrides: tuple[tuple[str, str], ...],
    run_id: str,
    partition: str,
    key_policy: bool,
) -> None:
    """Print the IAM policy that STEP needs, such as 01_create_key or 01; without STEP, of 00 to 06 and 90 together."""
    from runbook_cli.parameters import values_from
    from runbook_lib.run.steps import all_steps
    from runbook_lib.steps import permissions as library

    steps = [name for name in all_steps() if step is None or step in (name, name[:2])]
    if not steps:
        raise errors.InputError([("STEP", f"{step!r} is no step; name one of {', '.join(all_steps())}")])
    known = library.values(values_from(parameters, overrides), run_id=run_id, partition=partition)
    document = library.key_policy(known) if key_policy else library.policy(steps, known)
    click.echo(json.dumps(document, indent=2))


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
@runs_dir_option
@report_errors
def lab(port: int, no_browser: bool, target: str, runs_dir: Path | None) -> None:
    """Open JupyterLab on the runbook, with a sandbox running."""
    from runbook_cli.lab.lab import serve

    serve(runs_folder(runs_dir), port=port, browser=not no_browser, target=target, print_line=print_line)


for command in (run, status, clean_up, sandbox, wrap, recover):
    main.add_command(command)


if __name__ == "__main__":
    main()
