"""Step 20: make new key material with its backups in a folder of its own; no import.

The record is written before the files, so that an interrupted write can be resolved. Pairs that are handed over to a
machine without network wait in `materials/hand-over/`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook_lib.errors import (
    ArtefactMissing,
    ArtefactsMismatch,
    ImportTokenExpired,
    KeyMaterialMismatch,
    PlanOutdated,
    StepMissing,
)
from runbook_lib.files import destroy, holds, keep_aside, private_folder
from runbook_lib.inputs.kms import RotateKeyMaterialInputs
from runbook_lib.material import key_material
from runbook_lib.material.hand_over import BUNDLE, HAND_BACK, make_bundle, read_bundle
from runbook_lib.material.material_set import CUSTODY, ENCRYPTED, MaterialSet, Wrapping, read_set, write_set
from runbook_lib.material.sources import make_set
from runbook_lib.plan import Change, Plan
from runbook_lib.run.materials import all_materials
from runbook_lib.run.records import ImportParameters, PreparedPair, RotatedMaterial, RotationRecord
from runbook_lib.steps import recover
from runbook_lib.steps.custody_choice import custody_changes, recovery_public_keys
from runbook_lib.steps.hand_back import hand_back
from runbook_lib.steps.open_step import OpenStep

FOLDER, WAITING = "materials", "materials/hand-over"
PUBLIC_KEY, IMPORT_TOKEN = "WrappingPublicKey.bin", "ImportToken.bin"
MATERIAL = "key material"
GET = "kms:GetParametersForImport"
_SOURCES = {
    "generate": "256 bits from this machine's random source, in memory only",
    "file": "32 bytes from {0.key_material_file} ({0.key_material_encoding})",
    "wrapped": "{0.key_material_file}, wrapped elsewhere with the pair that was handed over",
    "recovery": "decrypted from {0.key_material_file}",
    "pkcs11": "key {0.pkcs11_key_label!r} of token {0.pkcs11_token_label!r}, created if absent; never leaves it unencrypted",
}


# Plan -------------------------------------------------------------------------------------------------------------


def changes(step: OpenStep, asked: RotateKeyMaterialInputs, *, superseded: RotatedMaterial | None) -> list[Change]:
    """Return the rows that make the new material and its backups. Raises `CustodyRefused`, and what reading raises."""
    source, rows = asked.key_material_source, []
    if asked.custody == "file":
        why = "leaves key material in clear in the run folder; use recovery_key, split, hsm or none"
        return [Change("refuse", "custody", "file", why)]
    if source == "pkcs11" and (label := _label_in_use(step, asked)):
        return [
            Change(
                "refuse", "HSM key", label, "is key material of this key already; set pkcs11_key_label to a new name"
            )
        ]
    if superseded is not None:
        rows.append(Change("delete", "superseded set", superseded.folder, "never imported; deleted with its backups"))
    if source == "wrapped":
        rows += hand_back(step.run, _prepared(step)[0], asked.key_material_file)
    else:
        pair = ImportParameters.from_run(step.run)
        under = f"{pair.request.WrappingKeySpec}, {pair.request.WrappingAlgorithm}; a new pair for each import"
        rows.append(Change("create", "wrapping key and import token", FOLDER, under, GET, pair.as_request))
    known = [one.folder for one in RotationRecord.so_far(step.run).materials if one.rotated_at]
    rows.append(Change("create", MATERIAL, source, _SOURCES[source].format(asked), request={"known": known}))
    return [*rows, *custody_changes(step, asked)]


def _label_in_use(step: OpenStep, asked: RotateKeyMaterialInputs) -> str:
    """Return the label of the HSM key that an earlier material of this key has; "" if the label is new."""
    tokens = [one.custody.hsm for one in all_materials(step.run) if one.custody.hsm]
    wanted = (asked.pkcs11_token_label, asked.pkcs11_key_label)
    return next((token.key_label for token in tokens if (token.token_label, token.key_label) == wanted), "")


# Offline wrapping -------------------------------------------------------------------------------------------------


def prepare_hand_over(step: OpenStep) -> Path:
    """Fetch a pair for wrapping new material offline; return the path of the bundle. The import token stays here."""
    with step.run.locked(what=step.name):
        private_folder(step.run.path / FOLDER)
        private_folder(step.run.path / WAITING)
        wrapping, token, valid_to = recover.fetch_pair(step)
        files = {PUBLIC_KEY: wrapping.public_key, IMPORT_TOKEN: token, BUNDLE: make_bundle(wrapping, valid_to=valid_to)}
        digests = {name: key_material.fingerprint(content) for name, content in files.items()}
        step.run.note(
            step.name, prepared={"files": digests, "parameters_valid_to": valid_to.isoformat(timespec="seconds")}
        )
        for name, content in files.items():
            step.run.write(f"{WAITING}/{name}", content)
    return step.run.path / WAITING / BUNDLE


def _prepared(step: OpenStep) -> tuple[Wrapping, bytes, str]:
    """Return the wrapping key and import token that were handed over, and until when they are valid."""
    pair: PreparedPair | None = RotationRecord.so_far(step.run).prepared
    again = f"begin with: runbook rotate {step.run.run_id} --hand-over"
    if pair is None:
        raise StepMissing(f"no bundle was prepared for new key material; {again}")
    for name, digest in pair.files.items():
        if not holds(step.run.path / WAITING / name, digest):
            raise ArtefactsMismatch(f"{WAITING}/{name} is not the file that was handed over; {again}")
    wrapping = read_bundle(step.run.read(f"{WAITING}/{BUNDLE}"), now=step.now()).wrapping
    return wrapping, step.run.read(f"{WAITING}/{IMPORT_TOKEN}"), pair.parameters_valid_to


# Apply ------------------------------------------------------------------------------------------------------------


def create(step: OpenStep, asked: RotateKeyMaterialInputs, plan: Plan) -> None:
    """Make the new material, record it, and write its files. Raises `KeyMaterialMismatch` for material that the key has."""
    record = RotationRecord.so_far(step.run)
    unfinished, known = record.unfinished, plan.change(MATERIAL).request["known"]
    if known != [one.folder for one in record.materials if one.rotated_at]:
        return  # this very plan was applied before, to its end
    superseded = [change.name for change in plan.changes if change.resource == "superseded set"]
    if unfinished is not None and unfinished.folder not in superseded:
        return  # this very plan was applied before, and ended after the material was made
    if asked.key_material_source == "wrapped":
        wrapping, token, until = _prepared(step)
    else:
        wrapping, token, valid_to = recover.fetch_pair(step)
        until = valid_to.isoformat(timespec="seconds")
    created = make_set(asked.request(), wrapping, recovery_public_keys=recovery_public_keys(step, asked))
    shown = [change.request["fingerprint"] for change in plan.changes if change.resource == HAND_BACK]
    if shown not in ([], [created.fingerprint]):
        raise PlanOutdated("nothing was changed: the hand-back archive is another than in the plan; run it again")
    if unfinished is not None:
        _delete(step, unfinished)
    folder = _folder(step, created)
    pair = {PUBLIC_KEY: wrapping.public_key, IMPORT_TOKEN: token}
    _record(step, asked, created, folder, pair, until)
    _write(step, created, folder, pair)


def _folder(step: OpenStep, created: MaterialSet) -> str:
    """Return the folder of the new material, named by its key check value. Raises `KeyMaterialMismatch`."""
    value = created.record.key_check_value
    if value and (same := [one for one in all_materials(step.run) if one.custody.key_check_value == value]):
        raise KeyMaterialMismatch(
            f"nothing was imported: this is key material that the key already has (key check value {value}, KeyMaterialId "
            f"{same[0].key_material_id[:16]}); provide new key material"
        )
    return f"{FOLDER}/{value or 'set-' + created.fingerprint[:8]}"


def _record(
    step: OpenStep,
    asked: RotateKeyMaterialInputs,
    created: MaterialSet,
    folder: str,
    pair: dict[str, bytes],
    until: str,
) -> None:
    entry = {
        "folder": folder,
        "set": created.fingerprint,
        "key_check_value": created.record.key_check_value,
        "files": {name: key_material.fingerprint(content) for name, content in sorted(created.files.items())},
        "pair": {name: key_material.fingerprint(content) for name, content in pair.items()},
        "parameters_valid_to": until,
        "custody": created.record.to_json(),
        "made_with": asked.model_dump(),
    }
    before = step.run.made(step.name).get("materials", [])
    step.run.note(step.name, materials=[*before, entry], prepared=None)


def _write(step: OpenStep, created: MaterialSet, folder: str, pair: dict[str, bytes]) -> None:
    private_folder(step.run.path / FOLDER)
    private_folder(step.run.path / folder)
    for name in pair:
        keep_aside(step.run.path / folder / name)
    for name, content in pair.items():
        step.run.write(f"{folder}/{name}", content)
    write_set(
        replace(created, plaintext=b""),
        folder=step.run.path / folder,
        write=lambda name, content: step.run.write(f"{folder}/{name}", content),
    )


def is_usable(step: OpenStep, one: RotatedMaterial) -> bool:
    """Return whether the set of this material is complete and unchanged, and its pair still valid."""
    if one.pair_valid_to <= step.now():
        return False
    if not all(holds(step.run.path / one.folder / name, digest) for name, digest in one.pair.items()):
        return False
    try:
        read_set(lambda name: step.run.read(f"{one.folder}/{name}"), fingerprint=one.set, advice="run 20 again")
    except (ArtefactsMismatch, ArtefactMissing, ImportTokenExpired):
        return False
    return True


def note(step: OpenStep, folder: str, **values: Any) -> None:
    """Add `values` to the record of the material in this folder."""
    before = step.run.made(step.name).get("materials", [])
    step.run.note(step.name, materials=[one | values if one["folder"] == folder else one for one in before])


def forget(step: OpenStep, one: RotatedMaterial) -> None:
    """Take a material that the key does not have any more from the list; its files stay."""
    before = step.run.made(step.name).get("materials", [])
    step.run.note(step.name, materials=[entry for entry in before if entry["folder"] != one.folder])


def _delete(step: OpenStep, one: RotatedMaterial) -> None:
    """Delete the files of a set that was never imported, as far as they are what was written."""
    for name, digest in [*one.files.items(), *one.pair.items(), (CUSTODY, one.set)]:
        if holds(step.run.path / one.folder / name, digest):
            destroy(step.run.path / one.folder / name)
    forget(step, one)


__all__ = [
    "ENCRYPTED",
    "IMPORT_TOKEN",
    "MATERIAL",
    "changes",
    "create",
    "forget",
    "is_usable",
    "note",
    "prepare_hand_over",
]
