"""Step 03, the custody part: who will keep the key material, and the recovery public keys that it is encrypted to."""

from __future__ import annotations

from runbook_lib.errors import CustodyMissing, PlaintextRefused
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import recovery_copies
from runbook_lib.material.recovery_copies import PLAINTEXT
from runbook_lib.material.sources import read_public
from runbook_lib.plan import Change
from runbook_lib.steps.open_step import OpenStep

TRAINING = "TRAINING-recovery-{}-key{}.pem"


def custody_changes(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[Change]:
    """Return the rows that say who will keep the key material.

    Raises `CustodyMissing` and `PlaintextRefused` where nobody would, or in clear, and nobody accepted it.
    """
    match inputs.custody:
        case "recovery_key":
            detail = "the material, encrypted to this recovery key"
            return [Change("create", "recovery copy", path, detail) for path in _recovery_keys(step, inputs)]
        case "split":
            keys = _recovery_keys(step, inputs)
            return [
                Change("create", "component", path, f"{number} of {len(keys)}, all needed, for this custodian")
                for number, path in enumerate(keys, 1)
            ]
        case "hsm":
            return [Change("keep", "custody", inputs.pkcs11_token_label, "the token keeps it; keep the token's backup")]
        case "file":
            return [_in_clear(step, inputs)]
        case _:
            detail = "you keep the key material elsewhere: without it, expiry or deletion is final"
            return [Change("keep", "custody", "none", detail)]


def _in_clear(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> Change:
    real = step.run.target["target"] == "aws"
    if real and not inputs.accept_plaintext_file:
        raise PlaintextRefused(
            f"custody 'file' leaves {PLAINTEXT} in clear, for training only; use recovery_key, or set "
            "accept_plaintext_file: true"
        )
    if real and not (inputs.keep_plaintext_file or inputs.accept_no_custody):
        raise CustodyMissing(
            f"{PLAINTEXT} is destroyed after the import, and nobody has the key material then; set keep_plaintext_file or "
            "accept_no_custody: true, or use recovery_key"
        )
    after = "kept after the import" if inputs.keep_plaintext_file else "destroyed after the import"
    return Change("create", PLAINTEXT, PLAINTEXT, f"in clear, for training only; {after}")


def _recovery_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[str]:
    """Return the paths of the recovery public keys; in the sandbox, of training keys when none is given."""
    if inputs.recovery_public_keys:
        return list(inputs.recovery_public_keys)
    if step.run.target["target"] == "sandbox":
        number = recovery_copies.FEWEST if inputs.custody == "split" else 1
        return [f"{_training(i)} (created for training)" for i in range(1, number + 1)]
    raise CustodyMissing(
        "recovery_public_keys is empty with target aws; create a pair where it will be kept (openssl genrsa -aes256 -out "
        "recovery-private.pem 4096; openssl rsa -in recovery-private.pem -pubout -out recovery-public.pem) and give the path of "
        "recovery-public.pem"
    )


def _training(number: int) -> str:
    return TRAINING.format("public", f"-{number}" if number > 1 else "")


def recovery_public_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[bytes]:
    """Return the recovery public keys in PEM form; in the sandbox, training pairs are created when none is given."""
    if inputs.custody not in ("recovery_key", "split"):
        return []
    if inputs.recovery_public_keys:
        return [read_public(path) for path in inputs.recovery_public_keys]
    return [_training_key(step, path.partition(" ")[0]) for path in _recovery_keys(step, inputs)]


def _training_key(step: OpenStep, public: str) -> bytes:
    """Return a training public key, created with its private half where the run folder has none."""
    private = public.replace("public", "private")
    if not (step.run.path / public).is_file() and (step.run.path / private).is_file():
        step.run.write(public, recovery_copies.training_public_key(step.run.read(private)))
    if not (step.run.path / public).is_file():
        private_pem, public_pem = recovery_copies.make_training_recovery_key()
        step.run.write(private, private_pem)
        step.run.write(public, public_pem)
    return step.run.read(public)
