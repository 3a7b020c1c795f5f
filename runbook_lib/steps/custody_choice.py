"""Step 03, custody: who keeps the key material, and the recovery public keys that it is encrypted to."""

from __future__ import annotations

from pathlib import Path

from runbook_lib.errors import CustodyRefused, RecoveryKeyInvalid
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import recovery_copies, recovery_keys
from runbook_lib.material.custody_record import CustodyRecord
from runbook_lib.material.recovery_copies import PLAINTEXT
from runbook_lib.material.recovery_keys import (
    CREATE,
    key_fingerprint,
    load_recovery_private_key,
    load_recovery_public_key,
    refuse_training_keys,
)
from runbook_lib.material.sources import read_recovery_public_keys
from runbook_lib.plan import Change
from runbook_lib.run.run import Run
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
            judge_recovery_keys(inputs, target=step.run.target["target"], runs_dir=step.run.path.parent)
            return [Change("create", "key material backup", path, detail) for path in _recovery_keys(step, inputs)]
        case "split":
            judge_recovery_keys(inputs, target=step.run.target["target"], runs_dir=step.run.path.parent)
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


def judge_recovery_keys(inputs: EncryptKeyMaterialInputs, *, target: str, runs_dir: Path) -> list[bytes]:
    """Return the recovery public keys in PEM form, none of them a training key with target aws; call nothing.

    Raises `CustodyRefused` when none is named with target aws, `ArtefactMissing` and `RecoveryKeyInvalid`.
    """
    paths = inputs.recovery_public_keys
    if target == "aws" and not paths:
        raise CustodyRefused(
            f"recovery_public_keys is empty with target aws; create a key pair where it will be kept ({CREATE}) and set it to "
            "the path of recovery-public.pem"
        )
    keys = read_recovery_public_keys(paths)
    if target == "aws":
        refuse_training_keys(keys, paths, known=known_training_keys(runs_dir))
    return keys


def known_training_keys(runs_dir: Path) -> set[str]:
    """Return the fingerprints of the training keys of all runs: those of earlier versions have no mark in the key."""
    found = set()
    for path in runs_dir.glob(f"*/{TRAINING.format('*', '*')}"):
        try:
            content = path.read_bytes()
            is_private = b"PRIVATE KEY" in content
            key = load_recovery_private_key(content).public_key() if is_private else load_recovery_public_key(content)
        except (OSError, RecoveryKeyInvalid):
            continue
        found.add(key_fingerprint(key))
    return found


def backup_for_training(run: Run, custody: CustodyRecord) -> str:
    """Return the name of a backup that is encrypted to a training key although the target is aws; "" if there is none."""
    if run.target["target"] != "aws":
        return ""
    known = known_training_keys(run.path.parent) if custody.holders else set()
    trained = (holder for holder in custody.holders if holder.training_only or holder.recovery_key_sha256 in known)
    return next((holder.file for holder in trained), "")


def require_no_training(run: Run, custody: CustodyRecord) -> None:
    """Raise `CustodyRefused` when a backup is encrypted to a training key although the target is aws."""
    if name := backup_for_training(run, custody):
        raise CustodyRefused(
            f"{name} is encrypted to a training key of the sandbox and protects nothing real; run step 03 again with a "
            f"real recovery key: {CREATE}"
        )


def _recovery_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[str]:
    """Return the paths of the recovery public keys; in the sandbox, of training keys when none is named."""
    if inputs.recovery_public_keys:
        return list(inputs.recovery_public_keys)
    number = recovery_copies.FEWEST if inputs.custody == "split" else 1
    return [f"{_training(i)} (created for training)" for i in range(1, number + 1)]


def _training(number: int) -> str:
    return TRAINING.format("public", f"-{number}" if number > 1 else "")


def recovery_public_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[bytes]:
    """Return the recovery public keys in PEM form; in the sandbox, training pairs are created when none is named."""
    if inputs.custody not in ("recovery_key", "split"):
        return []
    keys = judge_recovery_keys(inputs, target=step.run.target["target"], runs_dir=step.run.path.parent)
    return keys or [_training_key(step, path.partition(" ")[0]) for path in _recovery_keys(step, inputs)]


def _training_key(step: OpenStep, public: str) -> bytes:
    """Return a training public key; create the key pair if the run folder has none."""
    private = public.replace("public", "private")
    if not (step.run.path / public).is_file() and (step.run.path / private).is_file():
        step.run.write(public, recovery_keys.training_public_key(step.run.read(private)))
    if not (step.run.path / public).is_file():
        private_pem, public_pem = recovery_keys.make_training_recovery_key()
        step.run.write(private, private_pem)
        step.run.write(public, public_pem)
    return step.run.read(public)
