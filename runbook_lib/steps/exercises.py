"""Exercises: instructive mistakes, made on purpose in a separate account of the sandbox.

Nothing here touches the run's key or cluster, or AWS. Each mistake is a real call whose error is shown; any other
outcome fails the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.attended import is_attended
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.session import Session
from runbook_lib.errors import KeyMaterialLength, VerificationFailed
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
from runbook_lib.tables import Text


@dataclass(frozen=True)
class Exercise:
    """A mistake: the call, the expected error code, and a question with the letter of its right answer."""

    title: str
    mistake: Callable[..., Any]
    error: str
    options: dict[str, str]
    right: str
    offline: bool = False

    def judge(self, answer: str, *, hint: str = 'Set answer="a", "b" or "c" and run the cell again.') -> str:
        """Return whether `answer` is right, in words; `hint` when it is empty."""
        given = answer.strip().lower()
        if not given:
            return hint
        if given == self.right:
            return f"{given} is right."
        if given in self.options:
            return f"{given} is not right: try again."
        return f"{answer!r} is not one of {', '.join(self.options)}: try again."


class Attempt(Text):
    """The error of a mistake and the question about it: radio buttons when attended, text otherwise."""

    def __init__(self, exercise: Exercise, error: str, answer: str) -> None:
        options = "\n".join(f"  {letter}  {text}" for letter, text in exercise.options.items())
        super().__init__(exercise.title, f"{error}\n\n{options}\n{exercise.judge(answer)}")
        self._view = _view(exercise, error, answer) if is_attended() else None

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if self._view is not None:
            bundle |= self._view._repr_mimebundle_()
            bundle["text/plain"] = repr(self)
        return bundle


def try_it(step: OpenStep, *, answer: str = "", enabled: bool = True) -> Text:
    """Make this step's mistake; return its error, and whether `answer` (a, b or c) is right.

    Does nothing when `enabled` is false or the target is aws. Raises `VerificationFailed` when the sandbox returns another
    error than AWS documents.
    """
    exercise = EXERCISES[step.name]
    if not enabled:
        return Text(exercise.title, "Exercises are off (exercises: false).")
    if step.run.target["target"] != "sandbox":
        return Text(
            exercise.title, "Nothing was done: exercises run in the sandbox only, and this run's target is aws."
        )
    try:
        exercise.mistake(*([] if exercise.offline else [_exercise_session(step)]))
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
    return Attempt(exercise, f"{code}: {message}", answer)


def _view(exercise: Exercise, error: str, answer: str) -> Any:
    """Return the question as radio buttons; a choice shows its verdict and calls nothing."""
    import ipywidgets

    shown = ipywidgets.HTML(Text(exercise.title, error)._repr_html_())
    choice = ipywidgets.RadioButtons(
        options=[(f"{letter}  {text}", letter) for letter, text in exercise.options.items()],
        value=answer if answer in exercise.options else None,
        description="Your answer",
        layout={"width": "max-content"},
    )
    verdict = ipywidgets.HTML()

    def judge(_: Any = None) -> None:
        right = choice.value == exercise.right
        words = escape(exercise.judge(choice.value or "", hint="Choose one."))
        colour = "#238a43" if right else "#dc3e46" if choice.value else "inherit"
        sign = "✓ " if right else "✗ " if choice.value else ""
        verdict.value = f"<b style='font-size:13px;color:{colour}'>{sign}{words}</b>"

    choice.observe(judge, names="value")
    judge()
    return ipywidgets.VBox([shown, choice, verdict])


def _exercise_session(step: OpenStep) -> Session:
    """Return a session in another account of the sandbox, derived from the run's, so that learners do not share one."""
    real = step.session
    account = "9" + real.account_id[1:]
    return Session(target="sandbox", region=real.region, account_id=account, endpoint_url=real.endpoint_url)


EXERCISES = {
    START: Exercise(
        "Create a cluster with Aurora MySQL 5.6, as in the AWS post",
        mistakes.engine_version_of_the_post, "InvalidParameterCombination",
        {"a": "no KMS key is named", "b": "the engine version is no longer available", "c": "no password is set"}, "b",
    ),
    CREATE_KEY: Exercise(
        "Create a key whose policy names a role that does not exist", mistakes.policy_with_an_unknown_role,
        "MalformedPolicyDocumentException",
        {"a": "every principal of a key policy must exist", "b": "a role cannot be a principal of a key policy",
         "c": "the policy is not valid JSON"}, "a",
    ),
    GET_PARAMETERS_FOR_IMPORT: Exercise(
        "Get a wrapping key for a KMS key whose material AWS generated", mistakes.wrapping_key_for_a_key_of_aws,
        "UnsupportedOperationException",
        {"a": "the key is not enabled", "b": "the wrapping key is too short",
         "c": "only a key of origin EXTERNAL accepts key material"}, "c",
    ),
    ENCRYPT_KEY_MATERIAL: Exercise(
        "Use key material that is one byte short", mistakes.one_byte_short, "KeyMaterialLength",
        {"a": "KMS pads short material", "b": "a symmetric key takes exactly 32 bytes",
         "c": "longer material is accepted, shorter is not"}, "b", offline=True,
    ),
    IMPORT_KEY_MATERIAL: Exercise(
        "Wrap with SHA-1 for a pair that was fetched for SHA-256", mistakes.another_hash, "InvalidCiphertextException",
        {"a": "KMS cannot decrypt the wrapped material", "b": "the import token has expired",
         "c": "the key material is too weak"}, "a",
    ),
    CREATE_CLUSTER: Exercise(
        "Create a cluster under a disabled key", mistakes.cluster_under_a_disabled_key, "KMSKeyNotAccessibleFault",
        {"a": "the cluster waits until the key is enabled", "b": "the cluster is created unencrypted",
         "c": "no cluster is created"}, "c",
    ),
    VERIFY_ENCRYPTION: Exercise(
        "Decrypt after the key material was deleted", mistakes.decrypt_without_the_material, "KMSInvalidStateException",
        {"a": "whoever has a backup of the material can import it again", "b": "AWS keeps a copy for 30 days",
         "c": "the ciphertext is lost permanently"}, "a",
    ),
    ENCRYPT_EXISTING_CLUSTER: Exercise(
        "Encrypt a snapshot by copying it with a key", mistakes.copy_of_an_unencrypted_snapshot_with_a_key,
        "InvalidParameterCombination",
        {"a": "the copy is encrypted, and the cluster restored from it too",
         "b": "only a snapshot under a KMS key can be copied under another; this one is restored with the key",
         "c": "the key must have imported material"}, "b",
    ),
    CUT_OVER: Exercise(
        "Give the new cluster the old one's name while the old one has it", mistakes.rename_to_a_name_that_is_taken,
        "DBClusterAlreadyExistsFault",
        {"a": "both clusters change names in one step", "b": "the old cluster is replaced, and its data with it",
         "c": "nothing changes: the old one gives its name away first, and for minutes no cluster has it"}, "c",
    ),
    ROTATE_KEY_MATERIAL: Exercise(
        "Rotate a key without importing new key material first", mistakes.rotation_with_nothing_pending,
        "KMSInvalidStateException",
        {"a": "KMS generates new key material", "b": "a rotation needs new key material that was imported before",
         "c": "imported key material cannot be rotated"}, "b",
    ),
    WATCH_KEY: Exercise(
        "Use a key that is pending deletion", mistakes.use_of_a_key_that_is_being_deleted, "KMSInvalidStateException",
        {"a": "an enabled rule hears the call, with or without a trail",
         "b": "only a rule that also gets read-only events hears the call, and only if a trail logs it",
         "c": "the alarm before the expiry goes off"}, "b",
    ),
    RECOVERY_DRILL: Exercise(
        "Import other material into a key whose material was deleted", mistakes.other_material_into_a_key_that_lost_its_own,
        "IncorrectKeyMaterialException",
        {"a": "the key continues with the new material", "b": "the key accepts only the material that it had",
         "c": "the import token has expired"}, "b",
    ),
    CLEAN_UP: Exercise(
        "Import the material again into a key that is pending deletion", mistakes.import_into_a_key_pending_deletion,
        "KMSInvalidStateException",
        {"a": "the material restores the data even after the key is deleted", "b": "cancel the deletion first",
         "c": "create a new key and import the same material"}, "b",
    ),
}  # fmt: skip
