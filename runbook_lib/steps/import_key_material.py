"""Steps 02 and 04: the wrapping key and import token, and the import of the key material; plan, apply, verify.

How material is made and wrapped is `wrapping`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.aws.session import error_code, error_text
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    ArtefactsMismatch,
    ImportRefused,
    ImportTokenExpired,
    KeyNotUsable,
    PreflightFailed,
    StepMissing,
)
from runbook_lib.inputs.kms import ImportKeyMaterialInputs
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.material_set import ENCRYPTED
from runbook_lib.plan import Change, Plan
from runbook_lib.run.records import ImportParameters, ImportRecord, KeyRecord, MaterialRecord
from runbook_lib.run.steps import ENCRYPT_KEY_MATERIAL, GET_PARAMETERS_FOR_IMPORT
from runbook_lib.steps.existing_set import AGAIN, read_custody
from runbook_lib.steps.get_parameters_for_import import IMPORT_TOKEN, PUBLIC_KEY
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.plaintext_file import delete_plaintext, plaintext_changes

IMPORT = "kms:ImportKeyMaterial"
MATERIAL = "key material"
LONGEST = timedelta(days=365)


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: ImportKeyMaterialInputs) -> Plan:
    """Plan the import after checking everything that can be checked before calling.

    Raises `ArtefactsMismatch` for files of different sets, `EncryptedKeyMaterialInvalid` for a wrong size,
    `ImportTokenExpired` for an old pair, `KeyNotUsable` for a key that takes no material, and `PreflightFailed` for an
    expiry that AWS refuses.
    """
    key, material = KeyRecord.from_run(step.run), MaterialRecord.from_run(step.run)
    metadata = kms.describe(step.session, key.key_id)
    if metadata is None or metadata["Origin"] != "EXTERNAL" or metadata["KeyState"] == "PendingDeletion":
        found = f"{metadata['Origin']}, {metadata['KeyState']}" if metadata else "deleted"
        raise KeyNotUsable(
            f"key {key.key_id} is {found}; only an EXTERNAL key that is not being deleted takes material"
        )
    name = f"key check value {material.shown_check_value}"
    pair, made = ImportParameters.from_run(step.run), ImportRecord.so_far(step.run)
    # Nobody saw how it ended: sent once more, KMS takes it only if what the key has is this very material.
    unclear = not made.key_material_id and step.run.is_unclear(step.name, IMPORT)
    if metadata["KeyState"] == "PendingImport" or (unclear and pair.valid_to > step.now()):
        change = _to_import(step, asked, key, name)
    elif made.key_material_id or step.run.was_sent(step.name, IMPORT):
        change = _imported(metadata, made, asked, name)
    else:
        why = f"the key is {metadata['KeyState']}: somebody else imported material"
        return step.plan(asked, [Change("refuse", MATERIAL, name, why)])
    return step.plan(asked, [change, *plaintext_changes(step.run)])


def _to_import(step: OpenStep, asked: ImportKeyMaterialInputs, key: KeyRecord, name: str) -> Change:
    """Return the row that imports the set of 03."""
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
            f"expires at {asked.valid_to}: on that day every cluster under the key becomes inaccessible unless it is "
            "imported again"
        )
    if asked.key_material_description:
        request["KeyMaterialDescription"] = asked.key_material_description
    return Change("create", MATERIAL, name, detail, IMPORT, request)


def _imported(metadata: dict[str, Any], made: ImportRecord, asked: ImportKeyMaterialInputs, name: str) -> Change:
    """Return the row that keeps imported material, or refuses what differs."""
    current = metadata.get("CurrentKeyMaterialId", "")
    if made.key_material_id not in ("", current):
        why = (
            f"this run imported {made.key_material_id[:16]}, current is {current[:16]}: somebody rotated the key; its other "
            "material is not in this run's custody"
        )
        return Change("refuse", MATERIAL, name, why)
    if made.recovered_at:
        return Change("keep", MATERIAL, name, f"imported again by `runbook recover` at {made.recovered_at}")
    if differs := _import_differences(metadata, asked):
        return Change("refuse", MATERIAL, name, differs)
    expiry = f"expires at {asked.valid_to}" if asked.valid_to else "does not expire"
    return Change("keep", MATERIAL, name, f"imported, {expiry}")


def _import_differences(metadata: dict[str, Any], inputs: ImportKeyMaterialInputs) -> str:
    """Say how the expiry of the imported material differs from what is asked, or nothing."""
    model, valid_to = metadata.get("ExpirationModel"), metadata.get("ValidTo")
    asked = datetime.fromisoformat(inputs.valid_to) if inputs.valid_to else None
    if (
        model == inputs.expiration_model
        and (valid_to is None) == (asked is None)
        and (valid_to is None or asked is None or abs(valid_to - asked) < timedelta(seconds=2))
    ):
        return ""
    there = f"{model}{f' at {valid_to:%Y-%m-%d %H:%M} UTC' if valid_to else ''}"
    return f"imported as {there}; an expiry is changed by importing the same material again"


def _check_set(step: OpenStep) -> None:
    """Raise unless token, wrapping key, encrypted material and custody are one set that is still valid."""
    pair, material = ImportParameters.from_run(step.run), MaterialRecord.from_run(step.run)
    again = f"run notebooks/{GET_PARAMETERS_FOR_IMPORT}.ipynb and notebooks/{ENCRYPT_KEY_MATERIAL}.ipynb again"
    for name in (PUBLIC_KEY, IMPORT_TOKEN):
        if key_material.fingerprint(step.run.read(name)) != pair.sha256[name]:
            raise ArtefactsMismatch(f"{name} is not the file that 02 left (its SHA-256 differs); {again}")
    if material.wrapping_public_key_sha256 != pair.sha256[PUBLIC_KEY]:
        raise ArtefactsMismatch(
            "EncryptedKeyMaterial.bin was made with another wrapping key than the one that belongs to the import token; "
            f"{AGAIN}"
        )
    read_custody(step.run, material)
    key_material.check_encrypted_key_material(step.run.read(ENCRYPTED), wrapping_key_spec=pair.request.WrappingKeySpec)
    if pair.valid_to <= step.now():
        if ImportRecord.so_far(step.run).key_material_id:
            again = f"the key has lost its material since: runbook recover {step.run.run_id}"
        raise ImportTokenExpired(f"the import token expired at {pair.parameters_valid_to}; {again}")


# Apply ------------------------------------------------------------------------------------------------------------


_REFUSALS: dict[str, str] = {
    "ExpiredImportTokenException": "the import token is older than 24 hours; run 02 and 03 again",
    "InvalidImportTokenException": "the import token is not of this key or is damaged; run 02 and 03 again",
    "InvalidCiphertextException": "KMS cannot open EncryptedKeyMaterial.bin: it was made with another wrapping key, "
    "hash or MGF1 hash than 02 asked for; run 03 again, or have it wrapped again with the algorithm of README.txt",
    "IncorrectKeyMaterialException": "this is not the material that the key had, or not 32 bytes; bring the original material",
}


def apply(step: OpenStep, plan: Plan) -> str:
    """Import the material; return the key's state.

    Sending it twice is harmless: the same material is taken again. Raises `ImportRefused` in KMS's own terms.
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
        step.run.note(
            step.name,
            key_material_id=metadata.get("CurrentKeyMaterialId", ""),
            expiration_model=metadata.get("ExpirationModel", ""),
            valid_to=metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "",
        )
        _note_plaintext(step, plan)
    return str(metadata["KeyState"])


def _note_plaintext(step: OpenStep, plan: Plan) -> None:
    """Note which file in clear the plan shows as to be deleted: `verify` deletes it once the import is proved, and no other."""
    shown = [
        change.request["file"]
        for change in plan.changes
        if change.resource == recovery_copies.PLAINTEXT and change.action == "delete"
    ]
    if shown or ImportRecord.so_far(step.run).plaintext_to_delete:
        step.run.note(step.name, plaintext_to_delete=shown[0] if shown else [])


def _read_set(step: OpenStep) -> tuple[bytes, bytes]:
    """Return token and encrypted material, the very bytes that 02 and 03 left. Raises `ArtefactsMismatch`."""
    pair, material = ImportParameters.from_run(step.run), MaterialRecord.from_run(step.run)
    token, encrypted = step.run.read(IMPORT_TOKEN), step.run.read(ENCRYPTED)
    for name, content, digest in (
        (IMPORT_TOKEN, token, pair.sha256[IMPORT_TOKEN]),
        (ENCRYPTED, encrypted, material.files[ENCRYPTED]),
    ):
        if key_material.fingerprint(content) != digest:
            raise ArtefactsMismatch(f"nothing was imported: {name} is not the file that its step left; {AGAIN}")
    return token, encrypted


def _refused(step: OpenStep, key_id: str, error: ClientError) -> ImportRefused:
    """Return what KMS's refusal means, and note it where it means that nothing was imported.

    It may be the answer to a second sending, the first having taken effect: then the key is no longer PendingImport.
    """
    state = (kms.describe(step.session, key_id) or {}).get("KeyState")
    reason = _REFUSALS.get(error_code(error))
    words = f"{error_code(error)}: {reason}" if reason else error_text(error)
    if state == "PendingImport" or error_code(error) == "IncorrectKeyMaterialException":
        step.run.settle(step.name, IMPORT, "refused")
        return ImportRefused(words if reason else f"{words}; nothing was imported")
    return ImportRefused(
        f"{words}; but the key is {state}: an earlier attempt may have taken effect. Run this step again"
    )


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Hold the key and its material against what was asked, and finish the step. Raises `VerificationFailed`."""
    made = ImportRecord.so_far(step.run)
    if not made.expiration_model:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks = retry_until_passed(lambda: _gather(step, made), target=step.session.target)
    checks.require_passed()
    if plaintext := delete_plaintext(step.run):
        step.run.note(step.name, plaintext_file=plaintext)
    alias = KeyRecord.from_run(step.run).key_alias
    step.run.finish(step.name, key_state="Enabled", summary=f"{alias} Enabled, its material {made.expires}")
    return checks


def _gather(step: OpenStep, made: ImportRecord) -> Checks:
    key_id = KeyRecord.from_run(step.run).key_id
    asked = ImportKeyMaterialInputs.check(step.run.steps[step.name]["inputs"])
    model, expiry = (
        (made.expiration_model, made.valid_to) if made.recovered_at else (asked.expiration_model, asked.valid_to)
    )
    metadata = kms.describe(step.session, key_id) or {}
    current = kms.current_materials(step.session, key_id)
    valid_to = metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "never"
    checks = Checks("The key and its material")
    source = "kms:DescribeKey"
    checks.equal("the key can be used", "Enabled", metadata.get("KeyState"), source=source)
    checks.equal("its material came from outside", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("the expiration model is the one asked for", model, metadata.get("ExpirationModel"), source=source)
    checks.equal("the material expires", expiry or "never", valid_to, source=source)
    source = "kms:ListKeyRotations"
    ids = [entry["KeyMaterialId"] for entry in current]
    checks.equal("one material is current, and it is this one", [made.key_material_id], ids, source=source)
    states = [entry.get("ImportState") for entry in current]
    checks.equal("the material is in KMS", ["IMPORTED"], states, source=source)
    return checks
