"""`runbook rotate`: 20 headless, new key material in the same key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runbook_cli.common import parameter_option, print_line, report_errors, runs_dir_option
from runbook_cli.watch import follow_expiry
from runbook_lib.run.paths import runs_folder, shown


@click.command()
@click.argument("run_id")
@click.argument("parameters", required=False, type=click.Path(path_type=Path))
@parameter_option
@click.option("--hand-over", is_flag=True, help="Write a bundle for wrapping the new key material on another machine.")
@runs_dir_option
@report_errors
def rotate(
    run_id: str, parameters: Path | None, overrides: tuple[tuple[str, str], ...], hand_over: bool, runs_dir: Path | None
) -> None:
    """Rotate the key material of RUN_ID.

    Imports new key material into the KMS key of the run, makes its backups, and rotates to it. The old key material stays:
    the key needs both. Repeated within min_days_between_rotations (1), it keeps what exists and exits with 0. Without
    PARAMETERS, a YAML file, custody and recovery public keys are those of step 03.
    """
    from runbook_cli.parameters import check_parameters, from_command_line, values_from
    from runbook_cli.runner.chain import execute_one
    from runbook_lib.run.materials import permanent_materials
    from runbook_lib.run.records import MaterialRecord
    from runbook_lib.run.steps import ROTATE_KEY_MATERIAL
    from runbook_lib.steps import new_material
    from runbook_lib.steps.open_step import open_step

    given = from_command_line(overrides) if parameters is None else values_from(parameters, overrides)
    check_parameters(given)
    step = open_step(ROTATE_KEY_MATERIAL, run_id=run_id, runs_dir=runs_folder(runs_dir))
    if hand_over:
        path = new_material.prepare_hand_over(step)
        print_line(
            f"take {shown(path)} to the machine that makes the new key material and run: runbook wrap {path.name} …"
        )
        print_line(
            f"then: runbook rotate {run_id} -p key_material_source wrapped -p key_material_file hand-back.zip -p custody none"
        )
        return
    made_with = MaterialRecord.from_run(step.run).made_with
    before: dict[str, Any] = {
        name: made_with[name] for name in ("custody", "recovery_public_keys") if name in made_with
    }
    if before.get("custody") not in ("recovery_key", "split") or {"custody", "key_material_source"} & set(given):
        before.pop("custody", None)
    merged: dict[str, Any] = {**before, **given}
    values = {name: value for name, value in merged.items() if name in step_fields()}
    had = len(permanent_materials(step.run))
    execute_one(step.run, ROTATE_KEY_MATERIAL, values, what="runbook rotate", print_line=print_line)
    needed = permanent_materials(step.run)
    done = "rotated" if len(needed) > had else "kept, the last rotation is recent or nothing was to be rotated"
    print_line(
        f"{done}: the key needs {len(needed)} key materials, current: key check value {needed[-1].shown_check_value}"
    )
    follow_expiry(run_id, runs_folder(runs_dir))
    print_line("no data was encrypted again; keep the backups of every one of them: runbook recover --check tries all")


def step_fields() -> set[str]:
    """Return the names of the parameters of 20."""
    from runbook_lib.run.steps import ROTATE_KEY_MATERIAL, STEP_INPUTS

    return set(STEP_INPUTS[ROTATE_KEY_MATERIAL].model_fields)
