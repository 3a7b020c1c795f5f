"""With target aws and a person present, nothing is changed before somebody confirmed the plan that is shown."""

from __future__ import annotations

from dataclasses import replace

import ipywidgets
import pytest

from runbook_lib.errors import PlanNotConfirmed
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.plan import Change
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CREATE_KEY
from runbook_lib.steps.open_step import OpenStep

CREATE = Change("create", "KMS key", "alias/a")


@pytest.fixture
def step_on(tmp_path, monkeypatch):
    """Open 01 of a run with this target, with or without a person."""

    def open_it(target="aws", attended="1"):
        monkeypatch.setenv("RUNBOOK_ATTENDED", attended)
        fixed = {"target": target, "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": ""}
        return OpenStep(CREATE_KEY, Run.create("demo", runs_dir=tmp_path, target=fixed))

    return open_it


def confirm(plan):
    """Tick the checkbox that is shown below the plan."""
    before = set(ipywidgets.Widget.get_manager_state()["state"])
    view = plan._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]["model_id"]
    shown = {
        name: widget
        for name, widget in ipywidgets.widgets.widget._instances.items()
        if name not in before and isinstance(widget, ipywidgets.Checkbox)
    }
    assert view in ipywidgets.widgets.widget._instances
    (box,) = shown.values()
    assert box.description.startswith("I have read this plan.")
    assert not box.value
    box.value = True


def test_apply_refuses_until_the_plan_that_is_shown_is_confirmed(step_on):
    """One line says what to do, and nothing is recorded; after the tick it is applied."""
    step = step_on()
    plan = step.plan(CreateKeyInputs.check({}), [CREATE])
    with (
        pytest.raises(PlanNotConfirmed, match="select the checkbox below it, then run this cell again"),
        step.applying(plan),
    ):
        pytest.fail("it was applied")
    assert {} == step.run.steps
    confirm(plan)
    with step.applying(plan):
        assert "started" == step.run.steps[CREATE_KEY]["status"]


def test_a_tick_confirms_one_plan_and_no_other(step_on):
    """The plan cell run again shows a plan that nobody has confirmed."""
    step = step_on()
    step.plan(CreateKeyInputs.check({}), [CREATE]).confirmation.given = True
    again = step.plan(CreateKeyInputs.check({}), [CREATE])
    with pytest.raises(PlanNotConfirmed):
        again.require_confirmed()


@pytest.mark.parametrize("action", ["create", "change", "delete"])
def test_whatever_changes_something_needs_a_look(step_on, action):
    """Creating, changing and deleting alike."""
    plan = step_on().plan(CreateKeyInputs.check({}), [Change("keep", "alias", "a"), Change(action, "KMS key", "k")])
    assert plan.needs_confirmation


@pytest.mark.parametrize(("target", "attended"), [("sandbox", "1"), ("aws", "0"), ("sandbox", "0")])
def test_in_the_sandbox_and_without_a_person_nothing_is_asked(step_on, target, attended):
    """Schedules and classes go on as before, and the plan is shown as before."""
    step = step_on(target, attended)
    plan = step.plan(CreateKeyInputs.check({}), [CREATE])
    assert {} == plan._repr_mimebundle_()
    with step.applying(plan):
        assert "started" == step.run.steps[CREATE_KEY]["status"]


def test_a_plan_that_keeps_everything_asks_nothing(step_on):
    """Opening a finished step again is not a change."""
    assert not step_on().plan(CreateKeyInputs.check({}), [Change("keep", "KMS key", "k")]).needs_confirmation


def test_a_plan_of_what_later_steps_change_asks_nothing(step_on):
    """00 shows what the whole run will make, and changes nothing in the account itself: each later step asks for its own."""
    step = step_on()
    plan = replace(step.plan(CreateKeyInputs.check({}), [CREATE]), of_later_steps=True)
    assert not plan.needs_confirmation
    assert "KMS key" in plan._repr_html_()
