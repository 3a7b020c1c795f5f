"""The ciphertext of the drill: encrypted before the key material is deleted, decrypted after it is imported again."""

from __future__ import annotations

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.files import holds, keep_aside
from runbook_lib.material import key_material
from runbook_lib.run.records import DrillRecord, KeyRecord
from runbook_lib.steps.open_step import OpenStep

CIPHERTEXT = "drill-ciphertext.bin"


def _context(step: OpenStep) -> dict[str, str]:
    return {"runbook:run-id": step.run.run_id}


def _plaintext(step: OpenStep) -> bytes:
    return f"encrypted before the material of run {step.run.run_id} was lost".encode()


def is_ours(step: OpenStep) -> bool:
    """Return whether the drill wrote the ciphertext in the run folder."""
    return holds(step.run.path / CIPHERTEXT, DrillRecord.so_far(step.run).ciphertext_sha256)


def decrypts(step: OpenStep) -> str:
    """Decrypt the ciphertext; return `opens`, `opens to other bytes`, or the error code of kms:Decrypt."""
    try:
        answer = step.client("kms").decrypt(
            CiphertextBlob=step.run.read(CIPHERTEXT),
            KeyId=KeyRecord.from_run(step.run).key_id,
            EncryptionContext=_context(step),
        )
    except ClientError as error:
        return error_code(error)
    return "opens" if answer["Plaintext"] == _plaintext(step) else "opens to other bytes"


def encrypt_a_line(step: OpenStep, key_id: str) -> None:
    """Encrypt a line under the key and write the ciphertext; rename another file of that name."""
    sealed = step.client("kms").encrypt(KeyId=key_id, Plaintext=_plaintext(step), EncryptionContext=_context(step))
    if not is_ours(step):
        keep_aside(step.run.path / CIPHERTEXT)
    step.run.note(step.name, ciphertext_sha256=key_material.fingerprint(sealed["CiphertextBlob"]))
    step.run.write(CIPHERTEXT, sealed["CiphertextBlob"])
