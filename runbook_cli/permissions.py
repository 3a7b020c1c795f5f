"""`runbook permissions`: the IAM policy of the steps, or the key policy, and what it allows beyond the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from runbook_cli.common import echo, echo_lines, parameter_option, report_errors, runs_dir_option
from runbook_lib import errors
from runbook_lib.run.paths import runs_folder


@click.command()
@click.argument("step", required=False)
@click.option(
    "-f", "parameters", type=click.Path(path_type=Path), help="Parameter file. Default: parameters/sandbox.yaml."
)
@parameter_option
@click.option("--run-id", default="", help="Restrict the policy to this run, and to its KMS key once it exists.")
@runs_dir_option
@click.option("--partition", type=click.Choice(["aws", "aws-cn", "aws-us-gov"]), default="aws", show_default=True,
              help="AWS partition of the ARNs.")  # fmt: skip
@click.option("--key-policy", is_flag=True, help="Print the policy of the KMS key instead; set its roles with -p.")
@report_errors
def permissions(
    step: str | None,
    parameters: Path | None,
    overrides: tuple[tuple[str, str], ...],
    run_id: str,
    runs_dir: Path | None,
    partition: str,
    key_policy: bool,
) -> None:
    """Print the IAM policy that STEP requires.

    STEP is a name or number, such as 01_create_key or 01. Default: one policy for 00 to 06, for unattended runs. What it
    allows on other keys and clusters is printed on standard error.
    """
    from runbook_cli.parameters import values_from
    from runbook_lib.run.steps import all_steps, chain
    from runbook_lib.steps import permissions as library

    given = values_from(parameters, overrides)
    existing = bool(given.get("source_db_cluster_identifier"))
    steps = [name for name in all_steps() if step in (name, name[:2])]
    if step and not steps:
        raise errors.InputError([("STEP", f"{step!r} is not a step; choose one of {', '.join(all_steps())}")])
    steps = steps if step else [one.name for one in chain(existing=existing)]
    library.values(given, run_id=run_id)  # before the run id becomes part of a path
    target, key_arn = _of_run(run_id, runs_dir)
    known = library.values({**given, **target}, run_id=run_id, partition=partition, key_arn=key_arn)
    if key_policy:
        echo_lines(json.dumps(library.key_policy(known), indent=2))
        return
    policy = library.policy(steps, known)
    echo_lines(json.dumps(policy, indent=2))
    for line in _notes(steps, known, len(json.dumps(policy, separators=(",", ":")))):
        echo(line, err=True)


def _notes(steps: list[str], known: dict[str, Any], characters: int) -> Iterator[str]:
    """Yield what a reader of the policy must know, for standard error."""
    from runbook_lib.steps import permissions as library

    if remains := library.remaining(steps, known):
        yield "Beyond the run this policy allows (a KMS key: if its key policy leaves that to IAM policies) to"
        yield from (f"- {line}" for line in remains)
    if library.needs_key_id(steps, known):
        yield f"{library.KEY_ID} stands for the run's key: until you replace it, the policy affects no key."
    if not known["run_key"]:
        yield "Once the run has its key, add --run-id RUN_ID: the policy is then for that key only."
    if characters > library.MANAGED_POLICY_QUOTA:
        yield (f"The policy has {characters:,} characters, a managed policy at most {library.MANAGED_POLICY_QUOTA:,}: print it by "
               "step, or attach it to the role as an inline policy.")  # fmt: skip


def _of_run(run_id: str, runs_dir: Path | None) -> tuple[dict[str, Any], str]:
    """Return account and Region of an existing run as parameters, and the ARN of its key, if it has one."""
    from runbook_lib.run.records import KeyRecord
    from runbook_lib.run.run import Run

    if not run_id:
        return {}, ""
    try:
        run = Run.open(run_id, runs_dir=runs_folder(runs_dir))
    except errors.RunNotFound:
        return {}, ""
    return {name: run.target[name] for name in ("account_id", "region")}, KeyRecord.so_far(run).key_arn
