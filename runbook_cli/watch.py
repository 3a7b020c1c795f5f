"""`runbook watch`: 21 headless, alarms and rules for the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runbook_cli.common import parameter_option, print_line, report_errors, runs_dir_option
from runbook_lib.run.paths import runs_folder


@click.command()
@click.argument("run_id")
@click.argument("parameters", required=False, type=click.Path(path_type=Path))
@parameter_option
@runs_dir_option
@report_errors
def watch(run_id: str, parameters: Path | None, overrides: tuple[tuple[str, str], ...], runs_dir: Path | None) -> None:
    """Watch the key of RUN_ID: alarms before its material expires, rules for what endangers it.

    They publish to an SNS topic: sns_topic_arn, or one that is created for the key. Repeated, it keeps what exists.
    PARAMETERS is a YAML file; of it, only the parameters of this step are read. What was applied before is kept.
    """
    from runbook_cli.parameters import check_parameters, from_command_line, values_from
    from runbook_cli.runner.chain import execute_one
    from runbook_lib.run.records import WatchRecord
    from runbook_lib.run.steps import STEP_INPUTS, WATCH_KEY
    from runbook_lib.steps.open_step import open_step

    given = from_command_line(overrides) if parameters is None else values_from(parameters, overrides)
    check_parameters(given)
    run = open_step(WATCH_KEY, run_id=run_id, runs_dir=runs_folder(runs_dir)).run
    merged: dict[str, Any] = {**run.applied_inputs(WATCH_KEY), **given}
    values = {name: value for name, value in merged.items() if name in STEP_INPUTS[WATCH_KEY].model_fields}
    execute_one(run, WATCH_KEY, values, what="runbook watch", print_line=print_line)
    record = WatchRecord.from_run(run)
    print_line(record.summary)
    for name in record.deaf:
        print_line(
            f"{name} hears nothing: no CloudTrail trail logs what it needs; create one, then repeat this command"
        )
    print_line(
        f"subscribe an address: aws sns subscribe --topic-arn {record.topic_arn} --protocol email --notification-endpoint ADDRESS"
    )


def follow_expiry(run_id: str, runs_dir: Path) -> None:
    """Let the alarms of a watched run follow its expiry; print what changed, or the command that does it later."""
    from runbook_lib.errors import RunbookError
    from runbook_lib.run.steps import WATCH_KEY
    from runbook_lib.steps.open_step import open_step

    step = open_step(WATCH_KEY, run_id=run_id, runs_dir=runs_dir)
    if WATCH_KEY not in step.run.steps:
        return
    from runbook_lib.steps.watch_key import follow

    try:
        for line in follow(step):
            print_line(line)
    except RunbookError as error:
        print_line(f"the alarms were not adjusted ({error}); do it with: runbook watch {run_id}")
