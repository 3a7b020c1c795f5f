"""Step 03, custody: who keeps the key material, and the recovery public keys that it is encrypted to."""

from __future__ import annotations

from runbook_lib.errors import CustodyRefused
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import recovery_copies
from runbook_lib.material.recovery_copies import PLAINTEXT
from runbook_lib.material.sources import read_public
from runbook_lib.plan import Change
from runbook_lib.steps.open_step import OpenStep

TRAINING = "TRAINING-recovery-{}-key{}.pem"


def custody_changes(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[Change]:
    """Return the rows that say who keeps the key material.

    Raises `CustodyRefused`, with target aws, if the key material would have no backup or would be written in clear,
    unless the parameter that accepts it is set.
    """
    match inputs.custody:
        case "recovery_key":
            detail = "the key material, encrypted to this recovery key"
            return [Change("create", "key material backup", path, detail) for path in _recovery_keys(step, inputs)]
        case "split":
            keys = _recovery_keys(step, inputs)
            return [
                Change("create", "component", path, f"{number} of {len(keys)} for this custodian; all are needed")
                for number, path in enumerate(keys, 1)
            ]
        case "hsm":
            return [
                Change(
                    "keep", "custody", inputs.pkcs11_token_label, "stays in the HSM token; keep a backup of the token"
                )
            ]
        case "file":
            return [_in_clear(step, inputs)]
        case _:
            detail = "no backup is made here: unless you keep the material elsewhere, its expiry or deletion is final"
            return [Change("keep", "custody", "none", detail)]


def _in_clear(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> Change:
    real = step.run.target["target"] == "aws"
    if real and not inputs.accept_plaintext_file:
        raise CustodyRefused(
            f"custody 'file' writes {PLAINTEXT} unencrypted, for training only; use custody recovery_key, or set "
            "accept_plaintext_file: true"
        )
    if real and not (inputs.keep_plaintext_file or inputs.accept_no_custody):
        raise CustodyRefused(
            f"the key material would have no backup: {PLAINTEXT} is destroyed after the import; set keep_plaintext_file or "
            "accept_no_custody: true, or use custody recovery_key"
        )
    after = "kept after the import" if inputs.keep_plaintext_file else "destroyed after the import"
    return Change("create", PLAINTEXT, PLAINTEXT, f"unencrypted, for training only; {after}")


def _recovery_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[str]:
    """Return the paths of the recovery public keys; in the sandbox, of training keys when none is named."""
    if inputs.recovery_public_keys:
        return list(inputs.recovery_public_keys)
    if step.run.target["target"] == "sandbox":
        number = recovery_copies.FEWEST if inputs.custody == "split" else 1
        return [f"{_training(i)} (created for training)" for i in range(1, number + 1)]
    raise CustodyRefused(
        "recovery_public_keys is empty with target aws; create a key pair where it will be kept (openssl genrsa -aes256 -out "
        "recovery-private.pem 4096; openssl rsa -in recovery-private.pem -pubout -out recovery-public.pem) and set it to "
        "the path of recovery-public.pem"
    )


def _training(number: int) -> str:
    return TRAINING.format("public", f"-{number}" if number > 1 else "")


def recovery_public_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[bytes]:
    """Return the recovery public keys in PEM form; in the sandbox, training pairs are created when none is named."""
    if inputs.custody not in ("recovery_key", "split"):
        return []
    if inputs.recovery_public_keys:
        return [read_public(path) for path in inputs.recovery_public_keys]
    return [_training_key(step, path.partition(" ")[0]) for path in _recovery_keys(step, inputs)]


def _training_key(step: OpenStep, public: str) -> bytes:
    """Return a training public key; create the key pair if the run folder has none."""
    private = public.replace("public", "private")
    if not (step.run.path / public).is_file() and (step.run.path / private).is_file():
        step.run.write(public, recovery_copies.training_public_key(step.run.read(private)))
    if not (step.run.path / public).is_file():
        private_pem, public_pem = recovery_copies.make_training_recovery_key()
        step.run.write(private, private_pem)
        step.run.write(public, public_pem)
    return step.run.read(public)
