"""`runbook status`: the runs of a folder, or the steps of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_cli.common import echo, echo_lines, report_errors, runs_dir_option
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
    now, running = _now(folder, runs), _running(folder, runs)
    if as_json:
        rows = [_row(one, now, running) for one in runs]
        echo_lines(json.dumps(rows[0] if run_id else rows, indent=1))
        return
    if not runs:
        echo(f"no runs in {shown(folder)}; start one with: runbook run")
    for one in runs:
        for line in _lines(one, now, running, with_steps=run_id is not None):
            echo(line)


def _running(folder: Path, runs: list[Run]) -> str:
    """Return the id of the sandbox that runs for this folder, or ""; starts none."""
    from runbook_lib.aws import sandbox_process
    from runbook_lib.errors import SandboxUnavailable

    if not any(run.target["sandbox_id"] for run in runs):
        return ""
    try:
        found = sandbox_process.find(folder)
    except SandboxUnavailable:
        return ""
    return found.sandbox_id if found else ""


def _has_ended(run: Run, running: str) -> bool:
    return run.target["sandbox_id"] not in ("", running)


def _now(folder: Path, runs: list[Run]) -> dict[str, datetime]:
    """Return the time by the clock of the runs' own sandbox, by its id; other runs go by this machine's, without a call."""
    from runbook_lib.aws import sandbox_process
    from runbook_lib.errors import SandboxUnavailable
    from runbook_lib.run.expiry import valid_to

    if not any(run.target["sandbox_id"] and valid_to(run) for run in runs):
        return {}
    try:
        sandbox = sandbox_process.find(folder)
        if sandbox is None:
            return {}
        return {sandbox.sandbox_id: datetime.fromisoformat(sandbox_process.call(sandbox.url, "/runbook/clock")["now"])}
    except SandboxUnavailable:
        return {}


def _row(run: Run, now: dict[str, datetime], running: str) -> dict[str, Any]:
    from runbook_lib.run.expiry import in_words, seconds_left

    return {
        "run_id": run.run_id,
        "folder": run.path.name,
        "sandbox_has_ended": _has_ended(run, running),
        "created": run.created,
        **run.target,
        "steps": _step_rows(run),
        "key_material": in_words(run, now=now.get(run.target["sandbox_id"])),
        "seconds_until_expiry": seconds_left(run, now=now.get(run.target["sandbox_id"])),
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


def _lines(run: Run, now: dict[str, datetime], running: str, *, with_steps: bool) -> Iterator[str]:
    """Yield the line of a run, its key material's expiry, and, `with_steps`, a line for each step."""
    from runbook_cli.run_state import next_step, target_label
    from runbook_lib.run.expiry import how_to_extend, in_words, of_each, seconds_left
    from runbook_lib.run.steps import CLEAN_UP

    target, following = run.target, next_step(run)
    state = "cleaned up" if run.is_finished(CLEAN_UP) else f"next {following}" if following else "finished"
    if _has_ended(run, running) and state != "cleaned up":
        state = "its sandbox has ended, so nothing more can be done in it"
    name = run.path.name if run.path.name == run.run_id else f"{run.path.name} (run {run.run_id}, set aside)"
    where = f"{target_label(target['target'])} · account {target['account_id']} · {target['region']}"
    yield f"{name}  {where} · {run.created} · {state}"
    left = in_words(run, now=now.get(target["sandbox_id"]))
    if left and (with_steps or seconds_left(run) is not None):
        extend = how_to_extend(run)
        yield f"  key material {left}; " + (
            f"to extend it: {extend}" if extend else f"to import it again: runbook recover {run.run_id}"
        )
        each = of_each(run, now=now.get(target["sandbox_id"]))
        yield from (f"    key check value {value} {words}" for value, words in each if len(each) > 1)
    for row in _step_rows(run) if with_steps else []:
        yield f"  {row['step']:<30} {row['status']:<9} {row['summary']}".rstrip()
