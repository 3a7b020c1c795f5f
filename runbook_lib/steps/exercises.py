"""Exercises: mistakes that matter, made on purpose in the sandbox, in an account of their own.

Nothing here touches the run's key or cluster, or AWS. Each mistake is really made, and the answer that comes is
shown; if another comes, the cell fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.attended import is_attended
from runbook_lib.aws.session import Session, error_code
from runbook_lib.errors import KeyMaterialLength, PracticeFailed
from runbook_lib.material import key_material
from runbook_lib.run.steps import (
    CLEAN_UP,
    CREATE_CLUSTER,
    CREATE_KEY,
    ENCRYPT_KEY_MATERIAL,
    GET_PARAMETERS_FOR_IMPORT,
    IMPORT_KEY_MATERIAL,
    RECOVERY_DRILL,
    START,
    VERIFY_ENCRYPTION,
)
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Text

_OAEP = "RSAES_OAEP_SHA_256"


@dataclass(frozen=True)
class Exercise:
    """A mistake: what is done, the error that must come, and the question with its right letter."""

    title: str
    mistake: Callable[..., Any]
    error: str
    options: dict[str, str]
    right: str
    offline: bool = False

    def judge(
        self, answer: str, *, hint: str = "Put the letter between the quotes of answer= and run the cell again."
    ) -> str:
        """Say whether `answer` is right; `hint` when there is none yet."""
        given = answer.strip().lower()
        if not given:
            return hint
        if given == self.right:
            return f"{given} is right."
        if given in self.options:
            return f"{given} is not right: try again."
        return f"{answer!r} is none of {', '.join(self.options)}: try again."


class Tried(Text):
    """What came of a mistake, and the question about it: radio buttons for a person, the options in words otherwise."""

    def __init__(self, exercise: Exercise, came: str, answer: str) -> None:
        options = "\n".join(f"  {letter}  {text}" for letter, text in exercise.options.items())
        super().__init__(exercise.title, f"{came}\n\n{options}\n{exercise.judge(answer)}")
        self._view = _view(exercise, came, answer) if is_attended() else None

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if self._view is not None:
            bundle |= self._view._repr_mimebundle_()
            bundle["text/plain"] = repr(self)
        return bundle


def try_it(step: OpenStep, *, answer: str = "", enabled: bool = True) -> Text:
    """Make this step's mistake and say what came, and whether `answer` (a, b or c) is right.

    Does nothing, and says so, when `enabled` is false or the target is aws. Raises `PracticeFailed` when the
    sandbox answers otherwise than AWS is documented to.
    """
    exercise = EXERCISES[step.name]
    if not enabled:
        return Text(exercise.title, "Exercises are off (parameter exercises).")
    if step.run.target["target"] != "sandbox":
        return Text(exercise.title, "Nothing was done: mistakes are made in the sandbox only, and this is real AWS.")
    try:
        exercise.mistake(*([] if exercise.offline else [_practice_session(step)]))
    except ClientError as error:
        code, message = error_code(error), str(error.response["Error"]["Message"])
    except KeyMaterialLength as error:
        code, message = type(error).__name__, str(error)
    else:
        raise PracticeFailed(f"{exercise.title}: it worked, {exercise.error} should have come; report this")
    if code != exercise.error:
        raise PracticeFailed(f"{exercise.title}: {code} came, {exercise.error} should have; report this")
    return Tried(exercise, f"{code}: {message}", answer)


def _view(exercise: Exercise, came: str, answer: str) -> Any:
    """Return the question as radio buttons; choosing judges, and calls nothing."""
    import ipywidgets

    error = ipywidgets.HTML(Text(exercise.title, came)._repr_html_())
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
    return ipywidgets.VBox([error, choice, verdict])


def _practice_session(step: OpenStep) -> Session:
    """Return a session in an account beside the run's, so that learners do not meet there either."""
    real = step.session
    account = "9" + real.account_id[1:]
    return Session(target="sandbox", region=real.region, account_id=account, endpoint_url=real.endpoint_url)


# The mistakes -------------------------------------------------------------------------------------------------


def _external_key(session: Session) -> str:
    return str(session.client("kms").create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"])


def _parameters(session: Session, key_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = session.client("kms").get_parameters_for_import(
        KeyId=key_id, WrappingAlgorithm=_OAEP, WrappingKeySpec="RSA_2048"
    )
    return answer


def _import(session: Session, key_id: str, parameters: dict[str, Any], *, wrapping_algorithm: str = _OAEP) -> None:
    with key_material.KeyMaterial.generate() as material:
        wrapped = key_material.encrypt_key_material(
            material, wrapping_public_key=parameters["PublicKey"], wrapping_algorithm=wrapping_algorithm
        )
    session.client("kms").import_key_material(
        KeyId=key_id, ImportToken=parameters["ImportToken"], EncryptedKeyMaterial=wrapped,
        ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
    )  # fmt: skip


def _as_the_post_has_it(session: Session) -> None:
    session.client("rds").create_db_cluster(
        DBClusterIdentifier="practice-post", Engine="aurora-mysql", EngineVersion="5.6.10a",
        MasterUsername="dbadmin", ManageMasterUserPassword=True,
    )  # fmt: skip


def _policy_with_an_unknown_role(session: Session) -> None:
    account = f"arn:aws:iam::{session.account_id}"
    allow = {"Effect": "Allow", "Resource": "*"}
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {**allow, "Principal": {"AWS": f"{account}:root"}, "Action": "kms:*"},
            {**allow, "Principal": {"AWS": f"{account}:role/NobodyYet"}, "Action": "kms:DescribeKey"},
        ],
    }
    session.client("kms").create_key(Origin="EXTERNAL", Policy=json.dumps(policy))


def _wrapping_key_for_a_key_of_aws(session: Session) -> None:
    _parameters(session, session.client("kms").create_key()["KeyMetadata"]["KeyId"])


def _one_byte_short() -> None:
    key_material.KeyMaterial(os.urandom(31))


def _another_hash(session: Session) -> None:
    key_id = _external_key(session)
    _import(session, key_id, _parameters(session, key_id), wrapping_algorithm="RSAES_OAEP_SHA_1")


def _cluster_under_a_disabled_key(session: Session) -> None:
    kms, key_id = session.client("kms"), _external_key(session)
    _import(session, key_id, _parameters(session, key_id))
    kms.disable_key(KeyId=key_id)
    session.client("rds").create_db_cluster(
        DBClusterIdentifier="practice-disabled", Engine="aurora-mysql", MasterUsername="dbadmin",
        ManageMasterUserPassword=True, StorageEncrypted=True, KmsKeyId=key_id,
    )  # fmt: skip


def _decrypt_without_the_material(session: Session) -> None:
    kms, key_id = session.client("kms"), _external_key(session)
    _import(session, key_id, _parameters(session, key_id))
    sealed = kms.encrypt(KeyId=key_id, Plaintext=b"a data key")["CiphertextBlob"]
    kms.delete_imported_key_material(KeyId=key_id)
    kms.decrypt(CiphertextBlob=sealed)


def _import_into_a_key_that_is_leaving(session: Session) -> None:
    key_id = _external_key(session)
    parameters = _parameters(session, key_id)
    _import(session, key_id, parameters)
    session.client("kms").schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    _import(session, key_id, parameters)


def _other_material_into_a_key_that_lost_its_own(session: Session) -> None:
    key_id = _external_key(session)
    _import(session, key_id, _parameters(session, key_id))
    session.client("kms").delete_imported_key_material(KeyId=key_id)
    _import(session, key_id, _parameters(session, key_id))


EXERCISES = {
    START: Exercise(
        "Aurora MySQL 5.6, as the post has it", _as_the_post_has_it, "InvalidParameterCombination",
        {"a": "the key is missing", "b": "the version is no longer offered", "c": "the password is missing"}, "b",
    ),
    CREATE_KEY: Exercise(
        "A key policy that names a role nobody has made yet", _policy_with_an_unknown_role,
        "MalformedPolicyDocumentException",
        {"a": "every principal of a key policy must exist", "b": "roles cannot stand in key policies",
         "c": "the JSON is broken"}, "a",
    ),
    GET_PARAMETERS_FOR_IMPORT: Exercise(
        "A wrapping key for a KMS key whose material AWS made", _wrapping_key_for_a_key_of_aws,
        "UnsupportedOperationException",
        {"a": "the key is not enabled", "b": "the wrapping key is too short",
         "c": "only a key of origin EXTERNAL takes material"}, "c",
    ),
    ENCRYPT_KEY_MATERIAL: Exercise(
        "Material that is one byte short", _one_byte_short, "KeyMaterialLength",
        {"a": "KMS pads what is short", "b": "a symmetric key takes exactly 32 bytes",
         "c": "longer would do, shorter does not"}, "b", offline=True,
    ),
    IMPORT_KEY_MATERIAL: Exercise(
        "Wrapped with SHA-1 for a pair that was fetched for SHA-256", _another_hash, "InvalidCiphertextException",
        {"a": "KMS cannot open the wrapping", "b": "the token has run out", "c": "the material is too weak"}, "a",
    ),
    CREATE_CLUSTER: Exercise(
        "A cluster under a key that somebody disabled", _cluster_under_a_disabled_key, "KMSKeyNotAccessibleFault",
        {"a": "the cluster waits until the key is enabled", "b": "the cluster is made, unencrypted",
         "c": "nothing is made"}, "c",
    ),
    VERIFY_ENCRYPTION: Exercise(
        "Decrypting after the key material was deleted", _decrypt_without_the_material, "KMSInvalidStateException",
        {"a": "whoever kept the material can import it again", "b": "AWS keeps a copy for 30 days",
         "c": "the ciphertext is lost for good"}, "a",
    ),
    RECOVERY_DRILL: Exercise(
        "Other material into a key that has lost its own", _other_material_into_a_key_that_lost_its_own,
        "IncorrectKeyMaterialException",
        {"a": "the key starts anew with the new material", "b": "the key takes only the material it had",
         "c": "the token has run out"}, "b",
    ),
    CLEAN_UP: Exercise(
        "Importing the material again into a key that is about to be deleted", _import_into_a_key_that_is_leaving,
        "KMSInvalidStateException",
        {"a": "the material saves the data even after the key is gone", "b": "cancel the deletion first",
         "c": "make a new key and import the same material"}, "b",
    ),
}  # fmt: skip
