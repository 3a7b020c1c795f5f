"""After a cell that could not read its form, nothing is planned, checked or applied with what was read before."""

from __future__ import annotations

import dataclasses

import pytest
from test_form import labelled

from runbook_lib.errors import InputError, ParameterChanged, PlanOutdated
from runbook_lib.inputs.kms import CreateKeyInputs, ImportKeyMaterialInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.plan import Change
from runbook_lib.run.steps import CREATE_KEY
from runbook_lib.steps import create_key, import_key_material, review_policy, start
from runbook_lib.steps.open_step import open_step


@pytest.fixture
def attended(monkeypatch, walk):
    """A person sits there, with the runs folder of the walk."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(walk.folder))
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")


def test_a_run_that_could_not_be_opened_leaves_no_step_to_go_on_with(attended, walk):
    """The Region was changed after a first reading: the old step with the new choices checks and applies nothing."""
    form = start.form({})
    asked = form.value
    step = start.open_run(asked, form=form)
    plan = start.plan(step, asked)
    start.apply(step, plan)
    labelled(form, "Region").value = "eu-central-1"
    asked = form.value
    with pytest.raises(ParameterChanged, match="region: run 'demo' is fixed to 'eu-west-2'"):
        start.open_run(asked, form=form)
    for act in (
        lambda: start.plan(step, asked),
        lambda: start.apply(step, plan),
        lambda: start.apply(step, dataclasses.replace(plan, inputs=asked)),
        lambda: start.verify(step),
    ):
        with pytest.raises(PlanOutdated, match="the form above was not read"):
            act()
    labelled(form, "Region").value = "eu-west-2"
    step = start.open_run(form.value, form=form)
    assert start.verify(step).passed


def test_a_form_that_could_not_be_read_stops_every_cell_below(attended, walk):
    """01: the alias is wrong; the choices that were read before it are not planned, shown, applied or verified."""
    walk.start()
    step = open_step(CREATE_KEY, run_id="demo")
    form = step.form({"run_id": "demo"})
    asked = form.value
    plan = create_key.plan(step, asked)
    labelled(form, "Alias").value = "wrong"
    with pytest.raises(InputError):
        _ = form.value
    for act in (
        lambda: review_policy.build(step, asked),
        lambda: create_key.plan(step, asked),
        lambda: create_key.apply(step, plan),
        lambda: create_key.verify(step),
    ):
        with pytest.raises(PlanOutdated, match="the form above was not read"):
            act()


def test_a_form_that_was_edited_after_it_was_read_is_not_planned_with_the_old_choices(attended, walk):
    """The plan is of what the form shows."""
    walk.start()
    step = open_step(CREATE_KEY, run_id="demo")
    form = step.form({"run_id": "demo"})
    asked = form.value
    labelled(form, "Description").value = "another"
    with pytest.raises(PlanOutdated, match=r"edited after it was read \(key_description\)"):
        create_key.plan(step, asked)


@pytest.mark.parametrize(
    ("field", "value"), [("run_id", "other"), ("region", "eu-west-1"), ("account_id", "210987654321")]
)
def test_a_plan_binds_run_account_and_region_to_the_inputs(walk, field, value):
    """Without a form too: inputs for another run, account or Region are refused by plan and apply, before any check."""
    asked = StartInputs.check({"run_id": "demo"})
    step = start.open_run(asked, runs_dir=walk.folder)
    mixed = StartInputs.check({"run_id": "demo", field: value})
    for act in (
        lambda: start.plan(step, mixed),
        lambda: start.apply(step, dataclasses.replace(start.plan(step, asked), inputs=mixed)),
    ):
        with pytest.raises(PlanOutdated, match=f"{field} is '{value}', but this step is open for"):
            act()


def test_a_step_that_was_not_opened_again_does_not_serve_another_run(attended, walk):
    """`run_id` was edited and its cell run; the cell that opens the step was not, or failed."""
    walk.start()
    step = open_step(CREATE_KEY, run_id="demo")
    with pytest.raises(PlanOutdated, match="run_id is 'other', but this step was opened for 'demo'"):
        step.form({"run_id": "other"})
    with pytest.raises(PlanOutdated, match="run_id is 'other'"):
        create_key.plan(step, CreateKeyInputs.check({"run_id": "other"}))


def test_a_step_that_was_opened_again_still_knows_the_form_that_the_page_shows(attended, walk):
    """The cell that opens the step was run again, the form was then edited: the plan from before is outdated."""
    walk.start()
    step = open_step(CREATE_KEY, run_id="demo")
    form = step.form({"run_id": "demo"})
    plan = step.plan(form.value, [Change("create", "thing", "a")])
    again = open_step(CREATE_KEY, run_id="demo")
    labelled(form, "Alias").value = "alias/another"
    with pytest.raises(PlanOutdated, match="edited after this plan was shown"), again.applying(plan):
        pytest.fail("it was applied")


def test_04_does_not_import_with_the_expiry_that_was_read_before(attended, walk):
    """The same rule where it costs most: an expiry that could not be read leaves nothing to import with."""
    walk.start().pair().encrypt()
    step = open_step("04_import_key_material", run_id="demo")
    form = step.form({"run_id": "demo"})
    plan = import_key_material.plan(step, form.value)
    labelled(form, "Expiration").value = "KEY_MATERIAL_EXPIRES"
    with pytest.raises(InputError, match="valid_to"):
        _ = form.value
    with pytest.raises(PlanOutdated):
        import_key_material.apply(step, plan)
    assert "KEY_MATERIAL_DOES_NOT_EXPIRE" == ImportKeyMaterialInputs.check({}).expiration_model
    assert "PendingImport" == walk.key["KeyState"]
