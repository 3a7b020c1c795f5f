"""`runbook incident`: the end of a class: break a verified run of the sandbox, and check the fix."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from runbook_cli.common import echo_lines, print_line, report_errors, runs_dir_option

if TYPE_CHECKING:
    from runbook_lib.run.run import Run

NAMES, PARAMETERS = ("dark", "expiry", "deletion"), "parameters.yaml"


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--hint", is_flag=True, help="Show the next of three hints.")
@click.option("--again", is_flag=True, help="Let it happen to a new run; the old run is set aside.")
@runs_dir_option
@report_errors
def incident(name: str, hint: bool, again: bool, runs_dir: Path | None) -> None:
    """Let an incident happen in the sandbox, or check its fix.

    The first call makes the run incident-NAME, breaks it, and prints what the person on call gets. Each further call checks
    the account: exit code 0 once it is fixed, 1 before.
    """
    from runbook_lib.aws import sandbox_process
    from runbook_lib.aws.session import session_for
    from runbook_lib.run.paths import runs_folder
    from runbook_lib.run.run import Run
    from runbook_lib.steps.tasks import incidents

    folder, run_id = runs_folder(runs_dir), f"incident-{name}"
    run = _existing(run_id, folder)
    if run is not None and again:
        print_line(f"set aside as {run.set_aside().name}")
        run = None
    if run is None or not incidents.is_staged(name, run):
        from runbook_cli.runner.chain import run_chain

        given = _parameters(run_id, run)
        run = run_chain(given, run_id=run_id, runs_dir=folder, print_line=print_line)
        run.write(PARAMETERS, yaml.safe_dump(given).encode())
    own = sandbox_process.ENDPOINT_VARIABLE not in os.environ
    stage = incidents.Stage(
        Run.open(run_id, runs_dir=folder), session_for(run.target, runs_dir=folder), own_sandbox=own
    )
    if not incidents.is_staged(name, run):
        echo_lines(f"\n{incidents.happen(name, stage)!r}")
        _say_how(run, name)
        return
    if hint:
        echo_lines(repr(incidents.page(name, stage, hint=True)))
        return
    verdict = incidents.look(name, stage)
    echo_lines(repr(verdict))
    if not verdict.checks.passed:
        _say_how(run, name)
        sys.exit(1)


def _existing(run_id: str, folder: Path) -> Run | None:
    """Return the run of the incident; None if there is none, or its sandbox has ended."""
    from runbook_lib.aws import sandbox_process
    from runbook_lib.errors import RunNotFound
    from runbook_lib.run.run import Run

    try:
        run = Run.open(run_id, runs_dir=folder)
    except RunNotFound:
        return None
    running = sandbox_process.find(folder)
    return run if running is not None and running.sandbox_id == run.target["sandbox_id"] else None


def _parameters(run_id: str, run: Run | None) -> dict[str, object]:
    """Return the parameters of the run: those that it has, or names that no other run of the account has."""
    started = run.steps.get("00_start", {}).get("inputs", {}) if run is not None else {}
    name = started.get("db_cluster_identifier") or f"{run_id}-{secrets.token_hex(2)}"
    return {"target": "sandbox", "run_id": run_id, "exercises": False, "key_alias": f"alias/{name}",
            "db_cluster_identifier": name}  # fmt: skip


def _say_how(run: Run, name: str) -> None:
    from runbook_lib.run.paths import shown

    folder, run_id = shown(run.path), run.run_id
    print_line(
        f"Look: runbook status {run_id} · {folder}/report.html · verify it again: runbook run {folder}/{PARAMETERS}"
    )
    print_line(
        f'Call AWS, in JupyterLab or Python: step = open_step("06_verify_encryption", run_id="{run_id}"); step.client("kms")'
    )
    print_line(f"Check your fix: runbook incident {name} · a hint: runbook incident {name} --hint")
