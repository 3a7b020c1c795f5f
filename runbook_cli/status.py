"""`runbook status`: the runs of a folder, or the steps of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_cli.common import report_errors, runs_dir_option
from runbook_lib.run.paths import runs_folder, shown

if TYPE_CHECKING:
    from runbook_lib.run.run import Run


@click.command()
@click.argument("run_id", required=False)
@runs_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@report_errors
def status(run_id: str | None, runs_dir: Path | None, as_json: bool) -> None:
    """List all runs, or show the steps of RUN_ID."""
    from runbook_lib.run.run import Run, all_runs

    folder = runs_folder(runs_dir)
    runs = [Run.open(run_id, runs_dir=folder)] if run_id else all_runs(folder)
    if as_json:
        rows = [_row(one) for one in runs]
        click.echo(json.dumps(rows[0] if run_id else rows, indent=1))
        return
    if not runs:
        click.echo(f"no runs in {shown(folder)}; start one with: runbook run")
    for one in runs:
        for line in _lines(one, with_steps=run_id is not None):
            click.echo(line)


def _row(run: Run) -> dict[str, Any]:
    from runbook_lib.run.expiry import in_words, seconds_left

    return {
        "run_id": run.run_id,
        "created": run.created,
        **run.target,
        "steps": _step_rows(run),
        "key_material": in_words(run),
        "seconds_until_expiry": seconds_left(run),
    }


def _step_rows(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "step": name,
            "status": section["status"],
            "finished": section.get("finished"),
            "summary": section["record"].get("summary", ""),
        }
        for name, section in sorted(run.steps.items())
    ]


def _lines(run: Run, *, with_steps: bool) -> Iterator[str]:
    """Yield the line of a run, its key material's expiry, and, `with_steps`, a line for each step."""
    from runbook_cli.run_state import next_step, target_label
    from runbook_lib.run.expiry import in_words, seconds_left
    from runbook_lib.run.steps import CLEAN_UP

    target, following = run.target, next_step(run)
    state = "cleaned up" if run.is_finished(CLEAN_UP) else f"next {following}" if following else "finished"
    where = f"{target_label(target['target'])} · account {target['account_id']} · {target['region']}"
    yield f"{run.run_id}  {where} · {run.created} · {state}"
    if (left := in_words(run)) and (with_steps or seconds_left(run) is not None):
        yield f"  key material {left}; to import it again: runbook recover {run.run_id}"
    for row in _step_rows(run) if with_steps else []:
        yield f"  {row['step']:<30} {row['status']:<9} {row['summary']}".rstrip()
