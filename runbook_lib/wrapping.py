"""Step 03: the key material, its encryption with the wrapping key, and who keeps the original; without AWS.

EncryptedKeyMaterial.bin, the recovery copies and custody.json are one set with one fingerprint: custody.json
names the SHA-256 of each file and is written last, so that a set that was cut off is recognised.
"""

from __future__ import annotations

import inspect
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook_lib import custody, key_material
from runbook_lib.errors import ArtefactMissing, ArtefactsMismatch, CustodyMissing, StepMissing
from runbook_lib.inputs import EncryptKeyMaterialInputs
from runbook_lib.key_material import KeyMaterial
from runbook_lib.report import Change, Checks, Plan, Text
from runbook_lib.run import Run, utc_stamp
from runbook_lib.step import OpenStep

ENCRYPTED = "EncryptedKeyMaterial.bin"
CUSTODY = "custody.json"
TRAINING_PRIVATE, TRAINING_PUBLIC = "TRAINING-recovery-private-key.pem", "TRAINING-recovery-public-key.pem"
PAIR_STEP, IMPORT_STEP = "02_get_parameters_for_import", "04_import_key_material"


def plan_encrypt_key_material(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> Plan:
    """Plan to make a set, or to keep the one that belongs to the present wrapping key; calls nothing.

    New material supersedes old, custody included, as long as nothing was imported; after that it is refused.
    """
    pair = step.run.record(PAIR_STEP)
    made = step.made()
    imported = step.run.made(IMPORT_STEP).get("key_material_id")
    # 02 fetches another pair only while the key has no material, so an import with an older pair did not happen.
    of_this_pair = made.get("wrapping_public_key_sha256") == pair["sha256"]["WrappingPublicKey.bin"]
    unclear = of_this_pair and step.run.is_unclear(IMPORT_STEP, "kms:ImportKeyMaterial")
    asked = inputs.model_dump()
    if made.get("set") and (imported or unclear or _is_whole(step, pair, made, asked)):
        why = (
            "it is imported"
            if imported
            else "its import may be under way: finish 04"
            if unclear
            else "it belongs to the wrapping key"
        )
        return step.plan(
            inputs,
            [
                Change(
                    "keep",
                    "key material",
                    f"key check value {made['key_check_value'] or 'unknown here'}",
                    why,
                )
            ],
        )
    changes = []
    if made.get("set"):
        changes.append(
            Change(
                "delete",
                "superseded set",
                made["set"][:8],
                "nothing was imported from it; its copies go with it",
            )
        )
    words = {
        "generate": "256 bits from this machine's random source, in memory only",
        "file": f"32 bytes from {inputs.key_material_file} ({inputs.key_material_encoding})",
        "wrapped": f"{inputs.key_material_file}, wrapped elsewhere: only its size can be checked here",
    }[inputs.key_material_source]
    changes.append(Change("create", "key material", inputs.key_material_source, words))
    changes.append(
        Change(
            "create",
            ENCRYPTED,
            ENCRYPTED,
            f"under {pair['request']['WrappingKeySpec']}, {pair['request']['WrappingAlgorithm']}",
        )
    )
    if inputs.custody == "recovery_key":
        keys = inputs.recovery_public_keys or _training_allowed(step)
        for path in keys:
            changes.append(Change("create", "recovery copy", path, "the material, encrypted to this recovery key"))
    else:
        changes.append(
            Change(
                "keep",
                "custody",
                "none",
                "you keep the original elsewhere: without it, expiry or deletion is final",
            )
        )
    return step.plan(inputs, changes)


def _is_whole(step: OpenStep, pair: dict[str, Any], made: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Say whether the set in the folder is whole, for the present wrapping key, and as asked."""
    if made["wrapping_public_key_sha256"] != pair["sha256"]["WrappingPublicKey.bin"]:
        return False
    if step.run.steps[step.name]["inputs"] != asked:
        return False
    try:
        read_custody(step.run, made)
    except (ArtefactsMismatch, ArtefactMissing):
        return False
    return True


def _training_allowed(step: OpenStep) -> list[str]:
    if step.run.target["target"] == "sandbox":
        return [f"{TRAINING_PUBLIC} (made for training: its private key lies beside it)"]
    raise CustodyMissing(
        "recovery_public_keys is empty with target aws; make a pair where it will be kept (openssl genrsa -aes256 -out "
        "recovery-private.pem 4096; openssl rsa -in recovery-private.pem -pubout -out recovery-public.pem) and give the path of "
        "recovery-public.pem"
    )


def apply_encrypt_key_material(step: OpenStep, plan: Plan, inputs: EncryptKeyMaterialInputs) -> str:
    """Make the set: material, its encryption, its recovery copies; return the key check value.

    The material is in memory for as long as this takes, then overwritten as far as Python allows. Raises what
    `key_material` and `custody` raise for files and keys that will not do.
    """
    with step.applying(plan):
        if plan.changes[0].action == "keep":
            return str(step.made()["key_check_value"])
        pair = step.run.record(PAIR_STEP)
        public_key = step.run.read("WrappingPublicKey.bin")
        if key_material.fingerprint(public_key) != pair["sha256"]["WrappingPublicKey.bin"]:
            raise ArtefactsMismatch(
                "WrappingPublicKey.bin is not the file that 02 left; run notebooks/02_get_parameters_for_import.ipynb again"
            )
        recipients = _recipients(step, inputs)
        files: dict[str, bytes] = {}
        if inputs.key_material_source == "wrapped":
            files[ENCRYPTED] = _read(inputs.key_material_file)
            key_material.check_encrypted_key_material(
                files[ENCRYPTED], wrapping_key_spec=pair["request"]["WrappingKeySpec"]
            )
            check_value = ""
        else:
            with _material(inputs) as material:
                check_value = material.key_check_value
                files[ENCRYPTED] = key_material.encrypt_key_material(
                    material,
                    wrapping_public_key=public_key,
                    wrapping_algorithm=pair["request"]["WrappingAlgorithm"],
                )
                copies = custody.seal(material, recipients) if recipients else []
                files.update({copy.name: copy.content for copy in copies})
        for name in step.made().get("files", {}):
            if name not in files:
                (step.run.path / name).unlink(missing_ok=True)
        _write_set(step, inputs, files, check_value, pair, recipients)
    return check_value


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()[:6145]
    except OSError as error:
        raise ArtefactMissing(
            f"key_material_file {path!r} cannot be read ({error.strerror}); give the path of a file"
        ) from error


def _material(inputs: EncryptKeyMaterialInputs) -> KeyMaterial:
    if inputs.key_material_source == "generate":
        return KeyMaterial.generate()
    return KeyMaterial.from_file(Path(inputs.key_material_file).expanduser(), encoding=inputs.key_material_encoding)


def _recipients(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[bytes]:
    """Return the recovery public keys in PEM form; in the sandbox a training pair is made when none is given."""
    if inputs.custody == "none":
        return []
    if inputs.recovery_public_keys:
        return [_read(path) for path in inputs.recovery_public_keys]
    _training_allowed(step)
    if not (step.run.path / TRAINING_PUBLIC).is_file():
        private_pem, public_pem = custody.make_training_recovery_key()
        step.run.write(TRAINING_PRIVATE, private_pem)
        step.run.write(TRAINING_PUBLIC, public_pem)
    return [step.run.read(TRAINING_PUBLIC)]


def _write_set(
    step: OpenStep,
    inputs: EncryptKeyMaterialInputs,
    files: dict[str, bytes],
    check_value: str,
    pair: dict[str, Any],
    recipients: list[bytes],
) -> None:
    """Write the files, then custody.json that names them, then the record."""
    for name, content in files.items():
        step.run.write(name, content)
    digests = {name: key_material.fingerprint(content) for name, content in sorted(files.items())}
    record = custody.record(
        custody=inputs.custody,
        source=inputs.key_material_source,
        key_check_value=check_value,
        recovery_public_keys=recipients,
        made_at=datetime.fromisoformat(utc_stamp()),
    )
    manifest = {
        "format": 1,
        "custody": record,
        "wrapping_public_key_sha256": pair["sha256"]["WrappingPublicKey.bin"],
        "files": digests,
    }
    content = (json.dumps(manifest, indent=1) + "\n").encode()
    step.run.write(CUSTODY, content)
    step.run.note(
        step.name,
        set=key_material.fingerprint(content),
        key_check_value=check_value,
        wrapping_public_key_sha256=manifest["wrapping_public_key_sha256"],
        files=digests,
        custody=record,
    )


def show_encrypting_function() -> Text:
    """Return the source of the function that encrypts the material, for the page."""
    return Text("runbook_lib/key_material.py", inspect.getsource(key_material.encrypt_key_material).rstrip())


def show_openssl_commands(step: OpenStep) -> Text:
    """Return the openssl commands that do the same with the algorithm of this run."""
    algorithm = step.run.record(PAIR_STEP)["request"]["WrappingAlgorithm"]
    return Text(
        f"With openssl 1.1.1 or newer, {algorithm}", key_material.openssl_commands(wrapping_algorithm=algorithm)
    )


def show_post_commands() -> Text:
    """Return the post's own commands."""
    return Text("The post's commands (deprecated, SHA-1)", key_material.post_openssl_commands())


def read_custody(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    """Return custody.json after holding every file of the set against it.

    Raises `ArtefactsMismatch` when a file is not of this set, and `ArtefactMissing` when one is gone.
    """
    again = "run notebooks/03_encrypt_key_material.ipynb again"
    content = run.read(CUSTODY)
    if key_material.fingerprint(content) != record["set"]:
        raise ArtefactsMismatch(f"{CUSTODY} is not the one that 03 left; {again}")
    manifest: dict[str, Any] = json.loads(content)
    for name, digest in manifest["files"].items():
        if key_material.fingerprint(run.read(name)) != digest:
            raise ArtefactsMismatch(
                f"{name} does not belong to the material with key check value {record['key_check_value']!r}; {again}"
            )
    return manifest


def verify_encrypt_key_material(step: OpenStep) -> Checks:
    """Hold the set against the wrapping key and the custody asked for, and finish the step.

    Raises `VerificationFailed`, `ArtefactsMismatch`, `ArtefactMissing`.
    """
    made = step.made()
    if "set" not in made:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    pair = step.run.record(PAIR_STEP)
    size = key_material.WRAPPING_KEY_SPECS[pair["request"]["WrappingKeySpec"]] // 8
    checks = Checks("The encrypted key material")
    if not step.run.made(IMPORT_STEP).get("key_material_id"):
        checks.equal(
            "it was made with the wrapping key of this run",
            pair["sha256"]["WrappingPublicKey.bin"][:16],
            made["wrapping_public_key_sha256"][:16],
            source=CUSTODY,
        )
        checks.equal(
            "it is as long as the wrapping key",
            f"{size} bytes",
            f"{len(step.run.read(ENCRYPTED))} bytes",
            source=ENCRYPTED,
        )
    copies = [name for name in made["files"] if name != ENCRYPTED]
    asked = step.run.steps[step.name]["inputs"]
    wanted = len(asked["recovery_public_keys"]) or 1 if asked["custody"] == "recovery_key" else 0
    checks.equal("the original is kept in as many recovery copies as asked", wanted, len(copies), source=CUSTODY)
    whole = [name for name, digest in made["files"].items() if key_material.fingerprint(step.run.read(name)) == digest]
    checks.equal("no file of the set was changed", list(made["files"]), whole, source="SHA-256 of each file")
    checks.require_passed()
    held = f"{len(copies)} recovery {'copy' if len(copies) == 1 else 'copies'}" if copies else "original kept elsewhere"
    step.run.finish(
        step.name,
        summary=f"{made['custody']['source']}, key check value {made['key_check_value'] or 'unknown here'}, {held}",
    )
    return checks
