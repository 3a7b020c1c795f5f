"""Exercises: mistakes are really made, in the sandbox only, beside the run, and each judges its answer itself."""

from __future__ import annotations

import re
from dataclasses import replace

import nbformat
import pytest

from runbook_lib.errors import VerificationFailed
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.steps import all_steps
from runbook_lib.steps import exercises
from runbook_lib.steps.exercises import EXERCISES, try_it
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.start import open_run


@pytest.fixture(scope="module")
def started(shared_world):
    """A run that has begun, in a sandbox."""
    return open_run(StartInputs(), runs_dir=shared_world.folder)


def at(started, name):
    """Return the run's step `name`."""
    return OpenStep(name, started.run, started.session)


def test_every_step_has_an_exercise():
    """The table of steps and the exercises name the same notebooks."""
    assert sorted(all_steps()) == sorted(EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_each_mistake_ends_in_the_error_that_aws_documents(started, name):
    """The error is shown with its code; nothing is raised, for it is what should come."""
    shown = repr(try_it(at(started, name)))
    assert EXERCISES[name].error + ": " in shown
    assert 'Set answer="a", "b" or "c"' in shown


@pytest.mark.parametrize("name", EXERCISES)
def test_the_folded_answer_of_the_notebook_is_the_right_one(name):
    """What a learner reads at the end and what the exercise calls right are the same letter."""
    cells = nbformat.read(notebooks_folder() / f"{name}.ipynb", as_version=4).cells
    folded = [cell.source for cell in cells if cell.source.startswith("<details>")]
    assert [EXERCISES[name].right] == [re.search(r"<b>([abc])</b>", text)[1] for text in folded]


def test_each_letter_is_judged(started):
    """Right is right, wrong may try again, and what is no letter is told the letters."""
    step = at(started, "03_encrypt_key_material")
    assert "b is right." in repr(try_it(step, answer=" B "))
    assert "c is not right: try again." in repr(try_it(step, answer="c"))
    assert "'z' is not one of a, b, c" in repr(try_it(step, answer="z"))


def test_a_person_chooses_with_radio_buttons_and_is_told_at_once(started, monkeypatch):
    """The question is a form too; judging it calls nothing."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")
    tried = try_it(at(started, "03_encrypt_key_material"))
    _, choice, verdict = tried._view.children
    assert "Choose one." in verdict.value
    choice.value = "a"
    assert "✗ a is not right: try again." in verdict.value
    choice.value = "b"
    assert "✓ b is right." in verdict.value
    assert "application/vnd.jupyter.widget-view+json" in tried._repr_mimebundle_()


def test_nothing_is_called_in_the_account_of_the_run(started, shared_world):
    """All mistakes are made in an account beside it: the run's own sees no call."""
    own, before = started.session.account_id, len(shared_world.ask("/runbook/calls")["calls"])
    for name in EXERCISES:
        try_it(at(started, name))
    calls = shared_world.ask(f"/runbook/calls?since={before}")["calls"]
    assert calls
    assert own not in {call["account"] for call in calls if call["service"] != "sts"}


class NoSession:
    """A run on real AWS whose clients nobody may touch."""

    def __init__(self, name):
        self.name = name
        self.run = type("Run", (), {"target": {"target": "aws"}})

    @property
    def session(self):
        raise AssertionError("real AWS was reached for")


@pytest.mark.parametrize("name", EXERCISES)
def test_on_real_aws_nothing_is_done_and_the_cell_says_why(name):
    """Mistakes belong in the sandbox."""
    assert "Nothing was done: exercises run in the sandbox only" in repr(try_it(NoSession(name)))


def test_exercises_can_be_switched_off(started, monkeypatch):
    """`exercises: false` makes no mistake and says so."""
    monkeypatch.setattr(exercises, "_exercise_session", lambda _: pytest.fail("a mistake was made"))
    assert "Exercises are off" in repr(try_it(at(started, "00_start"), enabled=False))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"error": "ThrottlingException"}, "ThrottlingException was expected"),
     ({"mistake": lambda: None}, "the call succeeded, KeyMaterialLength was expected")],
)  # fmt: skip
def test_a_sandbox_that_answers_otherwise_fails_the_cell(started, monkeypatch, change, words):
    """A lesson with a wrong answer is worse than none."""
    name = "03_encrypt_key_material"
    monkeypatch.setitem(EXERCISES, name, replace(EXERCISES[name], **change))
    with pytest.raises(VerificationFailed, match=words):
        try_it(at(started, name))
