"""`runbook cut-over`: 11 headless; without a confirmation, its plan."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runbook_cli.common import echo, echo_lines, print_line, report_errors, runs_dir_option
from runbook_lib.run.paths import runs_folder


@click.command("cut-over")
@click.argument("run_id")
@click.option(
    "--confirm", "confirmed", default="", metavar="DB_CLUSTER_IDENTIFIER", help="Name of the existing cluster."
)
@click.option("--roll-back", is_flag=True, help="Give the names back.")
@click.option(
    "--writers",
    type=click.Choice(["close_network", "stopped_by_operator", "stopped_before_snapshot"]),
    default="close_network",
    show_default=True,
    help="How the writers are stopped, or who says that they are.",
)
@click.option(
    "--row-counts",
    type=click.Choice(["not_compared", "equal", "different"]),
    default="not_compared",
    show_default=True,
    help="What your comparison of the rows found.",
)
@click.option("--writers-let-in", is_flag=True, help="Record that writers were let in: no rollback from then on.")
@runs_dir_option
@report_errors
def cut_over(
    run_id: str,
    confirmed: str,
    roll_back: bool,
    writers: str,
    row_counts: str,
    writers_let_in: bool,
    runs_dir: Path | None,
) -> None:
    """Give the cluster under the key of RUN_ID the name of the existing one, which keeps its data as NAME-old.

    Without --confirm, show what would change and exit with 3. Interrupted, it continues when it is repeated.
    """
    from runbook_cli.runner.chain import execute_one
    from runbook_lib.inputs.cut_over import CutOverInputs
    from runbook_lib.run.clusters import CutOverRecord
    from runbook_lib.run.steps import CUT_OVER
    from runbook_lib.steps import cut_over as library
    from runbook_lib.steps.open_step import open_step

    values = {
        "confirm_source_db_cluster_identifier": confirmed, "roll_back": roll_back, "writers": writers,
        "row_counts": row_counts, "writers_let_in": writers_let_in,
    }  # fmt: skip
    inputs = CutOverInputs.check({**values, "run_id": run_id})
    step = open_step(CUT_OVER, run_id=run_id, runs_dir=runs_folder(runs_dir))
    if not library.is_confirmed(step, inputs):
        echo_lines(repr(library.plan(step, inputs)))
        echo(f"Nothing was changed. To cut over, add: --confirm {library.existing_name(step)}")
        sys.exit(3)
    execute_one(step.run, CUT_OVER, values, what="runbook cut-over", print_line=print_line)
    print_line(str(CutOverRecord.so_far(step.run).summary))
    print_line("applications, policies and Terraform: see the end of the executed notebook")
