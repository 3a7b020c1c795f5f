"""Step 04: the import of the key material; plan, apply and verify. How it was wrapped is `encrypt_key_material`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    ArtefactsMismatch,
    AwsCallFailed,
    ImportTokenExpired,
    KeyNotUsable,
    PreflightFailed,
    StepMissing,
)
from runbook_lib.inputs.kms import LONGEST, ImportKeyMaterialInputs
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.material_set import ENCRYPTED
from runbook_lib.plan import Change, Plan
from runbook_lib.run.materials import permanent_materials
from runbook_lib.run.records import ImportParameters, ImportRecord, KeyRecord, MaterialRecord
from runbook_lib.run.steps import ENCRYPT_KEY_MATERIAL, GET_PARAMETERS_FOR_IMPORT
from runbook_lib.steps import key_in_use
from runbook_lib.steps.custody_choice import require_no_training
from runbook_lib.steps.existing_set import AGAIN, read_custody
from runbook_lib.steps.get_parameters_for_import import IMPORT_TOKEN, PUBLIC_KEY
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.plaintext_file import delete_plaintext, plaintext_changes
from runbook_lib.tables import Result

IMPORT = "kms:ImportKeyMaterial"
MATERIAL = "key material"


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: ImportKeyMaterialInputs) -> Plan:
    """Plan the import after every check that is possible without importing.

    Raises `ArtefactsMismatch` for files of different sets, `EncryptedKeyMaterialInvalid` for a wrong size,
    `ImportTokenExpired` for an old pair, `KeyNotUsable` for a key that accepts no material, and `PreflightFailed` for an
    expiry that AWS refuses (KMS API, ImportKeyMaterial: at most 365 days).
    """
    key, material = KeyRecord.from_run(step.run), MaterialRecord.from_run(step.run)
    metadata = kms.describe(step.session, key.key_id)
    if metadata is None or metadata["Origin"] != "EXTERNAL" or metadata["KeyState"] == "PendingDeletion":
        found = f"{metadata['Origin']}, {metadata['KeyState']}" if metadata else "deleted"
        raise KeyNotUsable(
            f"key {key.key_id} is {found}; key material can be imported only into a key of origin EXTERNAL that "
            "is not pending deletion: cancel the deletion (kms:CancelKeyDeletion), or start a new run"
        )
    name = f"key check value {material.shown_check_value}"
    pair, record = ImportParameters.from_run(step.run), ImportRecord.so_far(step.run)
    # The response was lost. Sending it again is safe: KMS accepts only the material that the key already has.
    unclear = not record.key_material_id and step.run.is_unclear(step.name, IMPORT)
    if metadata["KeyState"] == "PendingImport" or (unclear and pair.valid_to > step.now()):
        change = _to_import(step, asked, key, name)
    elif record.key_material_id or step.run.was_sent(step.name, IMPORT):
        change = _imported(step, metadata, record, asked, name)
    else:
        why = (
            key_in_use.unknown_material(step.run, metadata)
            or f"the key is {metadata['KeyState']}, not imported by this run"
        )
        why = f"{why}; whether the backups in this folder are of that material, `runbook recover {step.run.run_id}` proves"
        return step.plan(asked, [Change("refuse", MATERIAL, name, why)])
    return step.plan(asked, [change, *plaintext_changes(step.run)])


def _to_import(step: OpenStep, asked: ImportKeyMaterialInputs, key: KeyRecord, name: str) -> Change:
    """Return the row that imports the set of step 03."""
    _check_set(step)
    request: dict[str, Any] = {"KeyId": key.key_id, "ExpirationModel": asked.expiration_model}
    detail = "does not expire"
    if asked.valid_to:
        if not step.now() < datetime.fromisoformat(asked.valid_to) <= step.now() + LONGEST:
            raise PreflightFailed(
                f"valid_to {asked.valid_to} is past or more than 365 days away; choose a time within a year"
            )
        request["ValidTo"] = asked.valid_to
        detail = (
            f"expires at {asked.valid_to}: every cluster under the key then becomes inaccessible unless the same material "
            "is imported again"
        )
    if asked.key_material_description:
        request["KeyMaterialDescription"] = asked.key_material_description
    return Change("create", MATERIAL, name, detail, IMPORT, request)


def _imported(
    step: OpenStep, metadata: dict[str, Any], record: ImportRecord, asked: ImportKeyMaterialInputs, name: str
) -> Change:
    """Return the row that keeps the imported material, or refuses it when it differs from the inputs."""
    current = metadata.get("CurrentKeyMaterialId", "")
    if len(rotated := permanent_materials(step.run)) > 1 and current == rotated[-1].key_material_id:
        return Change("keep", MATERIAL, name, "imported; the key was rotated since, by 20")
    if record.key_material_id not in ("", current):
        why = (
            f"this run imported {record.key_material_id[:16]}, current is {current[:16]}: somebody rotated the key; this run "
            "has no backup of the other material"
        )
        return Change("refuse", MATERIAL, name, why)
    if record.recovered_at:
        return Change("keep", MATERIAL, name, f"imported again by `runbook recover` at {record.recovered_at}")
    if differs := _import_differences(metadata, asked):
        return Change("refuse", MATERIAL, name, differs)
    expiry = f"expires at {asked.valid_to}" if asked.valid_to else "does not expire"
    return Change("keep", MATERIAL, name, f"imported, {expiry}")


def _import_differences(metadata: dict[str, Any], inputs: ImportKeyMaterialInputs) -> str:
    """Return how the expiry of the imported material differs from the inputs; '' when it does not."""
    model, valid_to = metadata.get("ExpirationModel"), metadata.get("ValidTo")
    requested = datetime.fromisoformat(inputs.valid_to) if inputs.valid_to else None
    if (
        model == inputs.expiration_model
        and (valid_to is None) == (requested is None)
        and (valid_to is None or requested is None or abs(valid_to - requested) < timedelta(seconds=2))
    ):
        return ""
    existing = f"{model}{f' at {valid_to:%Y-%m-%d %H:%M} UTC' if valid_to else ''}"
    return f"imported as {existing}; to change the expiry, import the same material again with runbook recover"


def _check_set(step: OpenStep) -> None:
    """Raise unless token, wrapping key, encrypted material and custody belong together and are still valid."""
    pair, material = ImportParameters.from_run(step.run), MaterialRecord.from_run(step.run)
    again = f"run notebooks/{GET_PARAMETERS_FOR_IMPORT}.ipynb and notebooks/{ENCRYPT_KEY_MATERIAL}.ipynb again"
    for name in (PUBLIC_KEY, IMPORT_TOKEN):
        if key_material.fingerprint(step.run.read(name)) != pair.sha256[name]:
            raise ArtefactsMismatch(f"{name} is not the file that step 02 wrote (its SHA-256 differs); {again}")
    if material.wrapping_public_key_sha256 != pair.sha256[PUBLIC_KEY]:
        raise ArtefactsMismatch(
            "EncryptedKeyMaterial.bin was made with another wrapping key than the one that belongs to the import token; "
            f"{AGAIN}"
        )
    read_custody(step.run, material)
    require_no_training(step.run, material.custody)
    key_material.check_encrypted_key_material(step.run.read(ENCRYPTED), wrapping_key_spec=pair.request.WrappingKeySpec)
    if pair.valid_to <= step.now():
        if ImportRecord.so_far(step.run).key_material_id:
            again = f"the key lost its material since; import it again with: runbook recover {step.run.run_id}"
        raise ImportTokenExpired(f"the import token expired at {pair.parameters_valid_to}; {again}")


# Apply ------------------------------------------------------------------------------------------------------------


_REFUSALS: dict[str, str] = {
    "ExpiredImportTokenException": "the import token is older than 24 hours; run steps 02 and 03 again",
    "InvalidImportTokenException": "the import token is not of this key or is damaged; run steps 02 and 03 again",
    "InvalidCiphertextException": "KMS cannot decrypt EncryptedKeyMaterial.bin: it was made with another wrapping "
    "key, hash or MGF1 hash than step 02 requested; run step 03 again, or wrap it again with the algorithm of README.txt",
    "IncorrectKeyMaterialException": "this is not the material that the key had, or not 32 bytes; provide the same material",
}
_NOT_32_BYTES = (
    "what was wrapped is not 32 bytes (hex text? a line feed at the end?); wrap the 32 raw bytes and run step 03 again"
)


def apply(step: OpenStep, plan: Plan) -> str:
    """Import the material; return the key's state.

    Sending it twice is harmless: KMS accepts the same material again. Raises `AwsCallFailed` with KMS's error code.
    """
    change = plan.change("key material")
    key_id = KeyRecord.from_run(step.run).key_id
    with step.applying(plan):
        if change.action == "create":
            request = dict(change.request)
            if "ValidTo" in request:
                request["ValidTo"] = datetime.fromisoformat(request["ValidTo"])
            token, encrypted = _read_set(step)
            step.run.intend(step.name, IMPORT)
            try:
                step.client("kms").import_key_material(**request, ImportToken=token, EncryptedKeyMaterial=encrypted)
            except ClientError as error:
                raise _refused(step, key_id, error) from error
            step.run.settle(step.name, IMPORT, "made")
        metadata = kms.wait_for_state(step.session, key_id, lambda state: state != "PendingImport")
        if (
            len(permanent_materials(step.run)) < 2
        ):  # after a rotation, DescribeKey tells of all materials, not of this one
            step.run.note(
                step.name,
                key_material_id=metadata.get("CurrentKeyMaterialId", ""),
                expiration_model=metadata.get("ExpirationModel", ""),
                valid_to=metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "",
            )
        _note_plaintext(step, plan)
    return Result(str(metadata["KeyState"]), "The key material is in the key, whose state is {}.")


def _note_plaintext(step: OpenStep, plan: Plan) -> None:
    """Record which plaintext file the plan deletes: `verify` deletes it, and no other, once the import is proved."""
    shown = [
        change.request["file"]
        for change in plan.changes
        if change.resource == recovery_copies.PLAINTEXT and change.action == "delete"
    ]
    if shown or ImportRecord.so_far(step.run).plaintext_to_delete:
        step.run.note(step.name, plaintext_to_delete=shown[0] if shown else [])


def _read_set(step: OpenStep) -> tuple[bytes, bytes]:
    """Return token and encrypted material, as steps 02 and 03 wrote them, once every backup was read back and counted.

    Raises `ArtefactsMismatch` and `ArtefactMissing`.
    """
    pair, material = ImportParameters.from_run(step.run), MaterialRecord.from_run(step.run)
    read_custody(step.run, material)
    token, encrypted = step.run.read(IMPORT_TOKEN), step.run.read(ENCRYPTED)
    for name, content, digest in (
        (IMPORT_TOKEN, token, pair.sha256[IMPORT_TOKEN]),
        (ENCRYPTED, encrypted, material.files[ENCRYPTED]),
    ):
        if key_material.fingerprint(content) != digest:
            raise ArtefactsMismatch(f"nothing was imported: {name} is not the file that its step wrote; {AGAIN}")
    return token, encrypted


def _had_material(step: OpenStep) -> bool:
    """Return whether the key ever had material, as step 02 or an import of this run recorded."""
    return bool(ImportParameters.from_run(step.run).key_material_id or ImportRecord.so_far(step.run).key_material_id)


def _refused(step: OpenStep, key_id: str, error: ClientError) -> AwsCallFailed:
    """Return the error for KMS's refusal, and record it when it proves that nothing was imported.

    The refusal may answer a repeated request whose first attempt took effect: then the key is no longer PendingImport.
    """
    state = (kms.describe(step.session, key_id) or {}).get("KeyState")
    reason = _REFUSALS.get(error_code(error))
    if error_code(error) == "IncorrectKeyMaterialException" and not _had_material(step):
        reason = _NOT_32_BYTES
    words = f"{error_code(error)}: {reason}" if reason else error_text(error)
    if state == "PendingImport" or error_code(error) == "IncorrectKeyMaterialException":
        step.run.settle(step.name, IMPORT, "refused")
        return AwsCallFailed(words if reason else f"{words}; nothing was imported")
    return AwsCallFailed(
        f"{words}; but the key is {state}: an earlier attempt may have taken effect; run this step again"
    )


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Compare the key and its material with the inputs, and finish the step. Raises `StepMissing`, `VerificationFailed`."""
    record = ImportRecord.so_far(step.run)
    if not record.expiration_model:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks = retry_until_passed(lambda: _gather(step, record), target=step.session.target)
    checks.require_passed()
    if plaintext := delete_plaintext(step.run):
        step.run.note(step.name, plaintext_file=plaintext)
    alias = KeyRecord.from_run(step.run).key_alias
    step.run.finish(step.name, key_state="Enabled", summary=f"{alias} Enabled, its material {record.expires}")
    return checks


def _gather(step: OpenStep, record: ImportRecord) -> Checks:
    key_id = KeyRecord.from_run(step.run).key_id
    asked = ImportKeyMaterialInputs.check(step.run.steps[step.name]["inputs"])
    model, expiry = (
        (record.expiration_model, record.valid_to) if record.recovered_at else (asked.expiration_model, asked.valid_to)
    )
    metadata = kms.describe(step.session, key_id) or {}
    rotated = len(permanent_materials(step.run)) > 1
    current = kms.current_materials(step.session, key_id)
    if rotated:  # the material of this step is one of several, and shown by itself
        current = [one for one in kms.materials(step.session, key_id) if one["KeyMaterialId"] == record.key_material_id]
        metadata = {**metadata, "ValidTo": None, **(current[0] if current else {})}
    valid_to = metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "never"
    checks = Checks("The key and its material")
    source = "kms:DescribeKey"
    checks.equal("the key can be used", "Enabled", metadata.get("KeyState"), source=source)
    checks.equal("its origin is external key material", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("the expiration model is as requested", model, metadata.get("ExpirationModel"), source=source)
    checks.equal("the expiry of the material", expiry or "never", valid_to, source=source)
    source = "kms:ListKeyRotations"
    ids = [entry["KeyMaterialId"] for entry in current]
    claim = (
        "the imported key material is one of the key's" if rotated else "the current key material is the imported one"
    )
    checks.equal(claim, [record.key_material_id], ids, source=source)
    states = [entry.get("ImportState") for entry in current]
    checks.equal("the import state of the material", ["IMPORTED"], states, source=source)
    return checks
