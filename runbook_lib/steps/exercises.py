"""Exercises: predict, then see: mistakes made on purpose in a separate account of the sandbox.

Nothing here touches the run's key or cluster, or AWS. Each mistake is a real call whose error is shown; any other
outcome fails the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.attended import is_attended, while_connected
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.sandbox_accounts import exercise_account
from runbook_lib.aws.session import Session
from runbook_lib.errors import KeyMaterialLength, VerificationFailed
from runbook_lib.files import utc_stamp
from runbook_lib.run.learning import answer_of, lock_in
from runbook_lib.run.steps import (
    CLEAN_UP,
    CREATE_CLUSTER,
    CREATE_KEY,
    CUT_OVER,
    ENCRYPT_EXISTING_CLUSTER,
    ENCRYPT_KEY_MATERIAL,
    GET_PARAMETERS_FOR_IMPORT,
    IMPORT_KEY_MATERIAL,
    RECOVERY_DRILL,
    ROTATE_KEY_MATERIAL,
    START,
    VERIFY_ENCRYPTION,
    WATCH_KEY,
)
from runbook_lib.steps import mistakes
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.questions import QUESTIONS, Question
from runbook_lib.tables import Table, Text


@dataclass(frozen=True)
class Exercise:
    """A mistake: its title, the call, and the expected error code."""

    title: str
    mistake: Callable[..., Any]
    error: str
    offline: bool = False


class Prediction(Text):
    """The question, before the mistake is made: radio buttons and a button that locks the answer in."""

    def __init__(self, step: OpenStep, exercise: Exercise, question: Question) -> None:
        choices = "\n".join(f"  {letter}  {text}" for letter, (text, _) in question.choices.items())
        super().__init__(exercise.title, f"{question.ask}\n\n{choices}\n{_HOW}")
        self._view = _view(step, exercise, question)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        shown = {"text/plain": repr(self), "text/html": self._repr_html_()}
        return {**self._view._repr_mimebundle_(), **shown}


def try_it(step: OpenStep, *, answer: str = "", enabled: bool = True) -> Text:
    """Ask what this step's mistake will do, then make it; return AWS's error, and what each choice was worth.

    With a person there, the answer is locked in first and kept in the run; unattended, nothing waits. Does nothing when
    `enabled` is false or the target is aws. Raises `VerificationFailed` when the sandbox returns another error than AWS
    documents.
    """
    exercise, question = EXERCISES[step.name], QUESTIONS[step.name]
    if not enabled:
        return Text(exercise.title, "Exercises are off (exercises: false).")
    if step.run.target["target"] != "sandbox":
        return Text(
            exercise.title, "Nothing was done: exercises run in the sandbox only, and this run's target is aws."
        )
    given = answer.strip().lower()
    if given and given not in question.choices:
        return Text(exercise.title, f"{answer!r} is not one of {', '.join(question.choices)}. {_HOW}")
    if given:
        _lock_in(step, question, given)
    locked = answer_of(step.run, step.name)
    if is_attended() and locked not in question.choices:
        return Prediction(step, exercise, question)
    return Outcome(exercise, question, _error(step, exercise), locked)


_HOW = 'Choose, lock your answer in, then run this cell again. By keyboard: answer="a", "b" or "c".'


def _lock_in(step: OpenStep, question: Question, answer: str) -> str:
    return lock_in(step.run, step.name, answer, right=answer == question.right, at=utc_stamp())


def _error(step: OpenStep, exercise: Exercise) -> str:
    """Make the mistake; return the error that AWS documents for it."""
    try:
        exercise.mistake(*([] if exercise.offline else [practice_session(step)]))
    except ClientError as error:
        code, message = error_code(error), str(error.response["Error"]["Message"])
    except KeyMaterialLength as error:
        code, message = type(error).__name__, str(error)
    else:
        raise VerificationFailed(
            f"{exercise.title}: the call succeeded, {exercise.error} was expected; this is a defect of the "
            "sandbox: report it with this line, and set exercises: false to continue"
        )
    if code != exercise.error:
        raise VerificationFailed(
            f"{exercise.title}: AWS returned {code}, {exercise.error} was expected; this is a defect of the "
            "sandbox: report it with this line, and set exercises: false to continue"
        )
    return f"{code}: {message}"


class Outcome(Text):
    """What the mistake did, what the learner had said, and each choice with its reason."""

    def __init__(self, exercise: Exercise, question: Question, error: str, locked: str) -> None:
        told = f"You said {locked}: {'that is right.' if locked == question.right else 'that is not right.'}"
        super().__init__(exercise.title, "\n\n".join([question.ask, error, *([told] if locked else [])]))
        rows = [
            (letter, "right" if letter == question.right else "wrong", text, why)
            for letter, (text, why) in question.choices.items()
        ]
        self._choices = Table("The answers", ("", "", "answer", "why"), rows)

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n\n{self._choices!r}"

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self._choices._repr_html_()


def _view(step: OpenStep, exercise: Exercise, question: Question) -> Any:
    """Return the question with radio buttons; the button keeps the answer and makes no call."""
    import ipywidgets

    shown = ipywidgets.HTML(Text(exercise.title, question.ask)._repr_html_())
    choice = ipywidgets.RadioButtons(
        options=[(f"{letter}  {text}", letter) for letter, (text, _) in question.choices.items()],
        value=None,
        description="Your answer",
        layout={"width": "max-content"},
    )
    button = ipywidgets.Button(description="Lock in", disabled=True)
    told = ipywidgets.HTML(while_connected(["Choose, then lock your answer in."]))

    def lock(_: Any) -> None:
        kept = _lock_in(step, question, choice.value)
        choice.disabled = button.disabled = True
        told.value = f"<b>{kept} is locked in.</b> Run this cell again: the call is made, and you see what happens."

    choice.observe(lambda _: setattr(button, "disabled", choice.value is None), names="value")
    button.on_click(lock)
    return ipywidgets.VBox([shown, choice, button, told])


def practice_session(step: OpenStep) -> Session:
    """Return a session in another account of the sandbox, derived from the run's, so that learners do not share one."""
    real = step.session
    account = exercise_account(real.account_id)
    return Session(target="sandbox", region=real.region, account_id=account, endpoint_url=real.endpoint_url)


EXERCISES = {
    START: Exercise(
        "Create a cluster with Aurora MySQL 5.6, as in the AWS post",
        mistakes.engine_version_of_the_post, "InvalidParameterCombination",
    ),
    CREATE_KEY: Exercise(
        "Create a key whose policy names a role that does not exist", mistakes.policy_with_an_unknown_role,
        "MalformedPolicyDocumentException",
    ),
    GET_PARAMETERS_FOR_IMPORT: Exercise(
        "Get a wrapping key for a KMS key whose material AWS generated", mistakes.wrapping_key_for_a_key_of_aws,
        "UnsupportedOperationException",
    ),
    ENCRYPT_KEY_MATERIAL: Exercise(
        "Use key material that is one byte short", mistakes.one_byte_short, "KeyMaterialLength", offline=True,
    ),
    IMPORT_KEY_MATERIAL: Exercise(
        "Wrap with SHA-1 for a pair that was fetched for SHA-256", mistakes.another_hash, "InvalidCiphertextException",
    ),
    CREATE_CLUSTER: Exercise(
        "Create a cluster under a disabled key", mistakes.cluster_under_a_disabled_key, "KMSKeyNotAccessibleFault",
    ),
    VERIFY_ENCRYPTION: Exercise(
        "Decrypt after the key material was deleted", mistakes.decrypt_without_the_material, "KMSInvalidStateException",
    ),
    ENCRYPT_EXISTING_CLUSTER: Exercise(
        "Encrypt a snapshot by copying it with a key", mistakes.copy_of_an_unencrypted_snapshot_with_a_key,
        "InvalidParameterCombination",
    ),
    CUT_OVER: Exercise(
        "Give the new cluster the old one's name while the old one has it", mistakes.rename_to_a_name_that_is_taken,
        "DBClusterAlreadyExistsFault",
    ),
    ROTATE_KEY_MATERIAL: Exercise(
        "Rotate a key without importing new key material first", mistakes.rotation_with_nothing_pending,
        "KMSInvalidStateException",
    ),
    WATCH_KEY: Exercise(
        "Use a key that is pending deletion", mistakes.use_of_a_key_that_is_being_deleted, "KMSInvalidStateException",
    ),
    RECOVERY_DRILL: Exercise(
        "Import other material into a key whose material was deleted", mistakes.other_material_into_a_key_that_lost_its_own,
        "IncorrectKeyMaterialException",
    ),
    CLEAN_UP: Exercise(
        "Import the material again into a key that is pending deletion", mistakes.import_into_a_key_pending_deletion,
        "KMSInvalidStateException",
    ),
}  # fmt: skip
