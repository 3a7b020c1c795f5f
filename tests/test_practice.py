"""Exercises: mistakes are really made, in the sandbox only, beside the run, and each judges its answer itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.errors import VerificationFailed
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.learning import answers
from runbook_lib.run.steps import all_steps
from runbook_lib.steps import exercises
from runbook_lib.steps.exercises import EXERCISES, try_it
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.questions import QUESTIONS
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
    """Unattended nothing waits: the error is shown with its code, and each choice with its reason."""
    shown = repr(try_it(at(started, name)))
    assert EXERCISES[name].error + ": " in shown
    assert 1 == shown.count("  right  ")
    assert 2 == shown.count("  wrong  ")


@pytest.mark.parametrize("name", EXERCISES)
def test_each_question_has_one_right_answer_and_a_reason_for_every_choice(name):
    """Three choices; no reason stands twice, and no word of the error gives the answer away."""
    question = QUESTIONS[name]
    assert ["a", "b", "c"] == list(question.choices)
    assert question.right in question.choices
    texts = [text for text, _ in question.choices.values()]
    reasons = [why for _, why in question.choices.values()]
    assert 3 == len(set(texts)) == len(set(reasons))
    assert all(len(why) > 30 and why.endswith(".") for why in reasons)
    assert EXERCISES[name].error not in question.ask + "".join(texts)


def test_the_right_letters_are_spread():
    """Whoever always answers the same is wrong most of the time."""
    letters = [question.right for question in QUESTIONS.values()]
    assert max(letters.count(letter) for letter in "abc") <= len(letters) / 2


@pytest.fixture
def fresh(started, monkeypatch):
    """The run, with a person there who has answered nothing."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")
    (started.run.path / "learning.json").unlink(missing_ok=True)
    yield started
    (started.run.path / "learning.json").unlink(missing_ok=True)


def test_a_person_predicts_before_anything_is_called(fresh, monkeypatch):
    """Choose, lock in, run the cell again: only then the mistake is made, and the reasons are told."""
    step = at(fresh, "03_encrypt_key_material")
    monkeypatch.setattr(exercises, "_error", lambda *_: pytest.fail("the mistake was made before the answer"))
    asked = try_it(step)
    _, choice, button, told = asked._view.children
    assert button.disabled
    assert "wrong" not in repr(asked) + told.value
    choice.value = "a"
    assert not button.disabled
    button.click()
    assert "a is locked in" in told.value
    assert choice.disabled
    monkeypatch.undo()
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")
    shown = repr(try_it(at(fresh, "03_encrypt_key_material")))
    assert "You said a: that is not right." in shown
    assert "KeyMaterialLength: " in shown


def test_the_first_answer_counts_also_in_a_new_kernel(fresh):
    """It is in the run folder, for its owner only; a second answer changes nothing."""
    step = at(fresh, "03_encrypt_key_material")
    assert "You said c: that is right." in repr(try_it(step, answer=" C "))
    assert "You said c: that is right." in repr(try_it(step, answer="a"))
    assert "'z' is not one of a, b, c" in repr(try_it(step, answer="z"))
    path = fresh.run.path / "learning.json"
    assert 0o600 == path.stat().st_mode & 0o777
    assert {"answer": "c", "right": True} == {k: v for k, v in answers(fresh.run)[step.name].items() if k != "at"}


@pytest.mark.parametrize("content", ["", "[1]", '{"answers": 7}', '{"answers": {"03_encrypt_key_material": "b"}}'])
def test_a_damaged_file_of_answers_is_no_obstacle(fresh, content):
    (fresh.run.path / "learning.json").write_text(content)
    assert isinstance(try_it(at(fresh, "03_encrypt_key_material")), exercises.Prediction)


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
    monkeypatch.setattr(exercises, "practice_session", lambda _: pytest.fail("a mistake was made"))
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
