"""`runbook clean-up`: show what would be deleted, and delete it when confirmed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runbook_cli.common import echo, echo_lines, print_line, report_errors, runs_dir_option
from runbook_lib.run.paths import runs_folder


@click.command("clean-up")
@click.argument("run_id")
@click.option(
    "--confirm",
    "confirmed",
    default="",
    metavar="DB_CLUSTER_IDENTIFIER",
    help="Identifier of the run's DB cluster, to confirm the deletion.",
)
@click.option("--pending-window-in-days", type=click.IntRange(7, 30), default=30, show_default=True,
              help="Waiting period before KMS deletes the key.")  # fmt: skip
@click.option(
    "--final-db-snapshot-identifier", default="", help="Take a final snapshot with this name; the KMS key is then kept."
)
@runs_dir_option
@report_errors
def clean_up(
    run_id: str, confirmed: str, pending_window_in_days: int, final_db_snapshot_identifier: str, runs_dir: Path | None
) -> None:
    """Delete the resources that RUN_ID created.

    Without --confirm, show what would be deleted and exit with 3.
    """
    from runbook_cli.runner.chain import clean_up as execute
    from runbook_lib.inputs.rds import CleanUpInputs
    from runbook_lib.run.steps import CLEAN_UP
    from runbook_lib.steps import clean_up as library
    from runbook_lib.steps.open_step import open_step
    from runbook_lib.steps.ownership import RULE

    values = {
        "run_id": run_id,
        "confirm_db_cluster_identifier": confirmed,
        "pending_window_in_days": pending_window_in_days,
        "final_db_snapshot_identifier": final_db_snapshot_identifier,
    }
    inputs = CleanUpInputs.check(values)
    step = open_step(CLEAN_UP, run_id=run_id, runs_dir=runs_folder(runs_dir))
    if not library.is_confirmed(step, inputs):
        echo_lines(repr(library.plan(step, inputs)))
        echo(f"Nothing was deleted. To delete: runbook clean-up {run_id} --confirm {library.cluster_name(step)}")
        sys.exit(3)
    deleted = execute(step.run, values, print_line=print_line)
    for line in deleted:
        echo(f"  {line}")
    if (until := library.watched_until(step)) and not any(line.startswith(RULE) for line in deleted):
        echo(f"  what watches the key stays until it is deleted on {until}; run this command again after that")
