"""`runbook recover`: import the key material again into its key, and let KMS prove that it is the same; plan and apply.

The recorded key check value is a hint; the proof is that KMS accepts the material for this KeyMaterialId. The material is
read by `material/open_recovery_copy`; the drill is `recovery_drill`. Only the record of step 04 is updated.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, rds
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.errors import AwsCallFailed, InputError, KeyMaterialMismatch, KeyNotUsable, StepMissing
from runbook_lib.files import destroy, holds, keep_aside, private_folder, utc_stamp
from runbook_lib.inputs.kms import LONGEST, ImportKeyMaterialInputs
from runbook_lib.inputs.recovery import RecoverInputs
from runbook_lib.material import key_material
from runbook_lib.material.hand_over import BUNDLE, is_archive, make_bundle, read_bundle, read_hand_back
from runbook_lib.material.material_set import ENCRYPTED, Wrapping
from runbook_lib.material.open_recovery_copy import RecoverySources, differs, wrap
from runbook_lib.material.recovery_copies import PLAINTEXT
from runbook_lib.material.sources import read_public
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import clusters
from runbook_lib.run.materials import Material, note_material, permanent_materials
from runbook_lib.run.records import ImportParameters, ImportRecord, KeyRecord, MaterialRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import ENCRYPT_KEY_MATERIAL, IMPORT_KEY_MATERIAL
from runbook_lib.steps import ownership
from runbook_lib.steps.import_key_material import MATERIAL
from runbook_lib.steps.open_step import OpenStep

FOLDER, TOKEN = "recovery", "ImportToken.bin"
CLUSTER = ownership.CLUSTER
INACCESSIBLE = "inaccessible-encryption-credentials-recoverable"


# Where the key material comes from --------------------------------------------------------------------------------


def sources(run: Run, asked: RecoverInputs, material: Material | None = None) -> RecoverySources:
    """Return the recovery sources: the files, passwords and HSM token to read the key material from.

    `material`: the key material that they are for; None: that of 03. Without a named file: the run's training keys, or its
    plaintext file. HSM module and PIN default to those that the material was made with. Raises `StepMissing`.
    """
    later = material if material is not None and material.folder else None
    made_with = later.made_with if later else run.steps.get(ENCRYPT_KEY_MATERIAL, {}).get("inputs", {})
    provided = RecoverySources(
        tuple(asked.recovery_private_keys),
        asked.recovery_password_from,
        tuple(asked.components),
        asked.material_file,
        asked.encoding,
        asked.pkcs11_module or str(made_with.get("pkcs11_module", "")),
        asked.pin_from or str(made_with.get("pkcs11_pin_from", "")),
    )
    if provided.has_files:
        return provided
    custody = later.custody if later else MaterialRecord.so_far(run).custody
    if custody.kind == "file" and (run.path / PLAINTEXT).is_file():
        return replace(provided, material_file=str(run.path / PLAINTEXT))
    if custody.holders and all(holder.training_only for holder in custody.holders):
        return replace(provided, private_keys=training_keys(run))
    return provided


def training_keys(run: Run) -> tuple[str, ...]:
    """Return the paths of the run's training recovery keys, which exist in the sandbox only."""
    return tuple(str(path) for path in sorted(run.path.glob("TRAINING-recovery-private*.pem")))


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: RecoverInputs) -> Plan:
    """Plan the import of the material that the key had, and the start of the clusters that are inaccessible without it.

    Raises `StepMissing` when nothing was ever imported, `KeyNotUsable` for a key that accepts no material, and
    `InputError` for an expiry that AWS refuses.
    """
    key, record = KeyRecord.from_run(step.run), ImportRecord.so_far(step.run)
    metadata = kms.describe(step.session, key.key_id) or {}
    if metadata.get("KeyState") in (None, "PendingDeletion"):
        found = metadata.get("KeyState", "deleted")
        raise KeyNotUsable(
            f"key {key.key_id} is {found}; only an existing key that is not pending deletion accepts material "
            "(if it is PendingDeletion, cancel the deletion with kms:CancelKeyDeletion, then run the command again)"
        )
    material_id = record.key_material_id or metadata.get("CurrentKeyMaterialId", "")
    if not material_id:
        raise StepMissing(f"nothing was ever imported into {key.key_alias}; run notebooks/{step.name}.ipynb first")
    changes = [Change("keep", "KMS key", key.key_alias, f"is {metadata['KeyState']}")]
    several = _wanted(step, key, asked)
    for identifier, before in _expiring(several, material_id, record):
        expiry = _expiry(step, before, asked)
        until = expiry.get("ValidTo", "")
        detail = f"the same material, {f'expires at {until}' if until else 'does not expire'}; KMS refuses any other"
        detail += f"; key check value {before.shown_check_value}" if isinstance(before, Material) else ""
        request = {"KeyId": key.key_id, "KeyMaterialId": identifier, **expiry}
        changes.append(
            Change("change", MATERIAL, f"KeyMaterialId {identifier[:16]}", detail, "kms:ImportKeyMaterial", request)
        )
    changes += _lost_clusters(step)
    return replace(step.plan(asked, changes), step="runbook recover", cost="")


def _expiring(
    several: list[Material], material_id: str, record: ImportRecord
) -> list[tuple[str, ImportRecord | Material]]:
    """Return the KeyMaterialId of each material to import, with the record of its expiry."""
    return [(one.key_material_id, one) for one in several] if several else [(material_id, record)]


def _wanted(step: OpenStep, key: KeyRecord, asked: RecoverInputs) -> list[Material]:
    """Return which of several key materials to import: those named, else those missing, else all; none if there is but one.

    With a new expiry and nothing missing, those that expire are imported: the others stay without one.

    Raises `InputError` for a name that no material has, and for one file or hand-back with several materials.
    """
    every = permanent_materials(step.run)
    named = [
        one for one in every
        if asked.material and (asked.material == one.custody.key_check_value or one.key_material_id.startswith(asked.material))
    ]  # fmt: skip
    if asked.material and len(named) != 1:
        known = ", ".join(f"{one.shown_check_value} (KeyMaterialId {one.key_material_id[:16]})" for one in every)
        raise InputError(
            [("--material", f"{asked.material!r} names {len(named)} key materials of this run; it has {known}")]
        )
    if len(every) < 2:
        return []
    states = {one["KeyMaterialId"]: one.get("ImportState") for one in kms.materials(step.session, key.key_id)}
    missing = [one for one in every if states.get(one.key_material_id, "IMPORTED") != "IMPORTED"]
    there = [one for one in every if one.key_material_id in states]
    expiring = [one for one in there if one.valid_to and asked.valid_to]  # to extend what expires, and nothing else
    found = named or missing or expiring or there
    if len(found) > 1 and (asked.material_file or asked.components or asked.encrypted):
        values = ", ".join(one.shown_check_value for one in found)
        raise InputError(
            [("--material", f"is empty, but {len(found)} key materials are wanted; give one of: {values}")]
        )
    return found


def _expiry(step: OpenStep, record: ImportRecord | Material, asked: RecoverInputs) -> dict[str, str]:
    """Return ExpirationModel and ValidTo: as requested, else as imported before. Raises `InputError`."""
    forever, valid_to = asked.does_not_expire, asked.valid_to
    if not forever and not valid_to:
        forever = record.expiration_model != "KEY_MATERIAL_EXPIRES"
        valid_to = "" if forever else record.valid_to
    model = "KEY_MATERIAL_DOES_NOT_EXPIRE" if forever else "KEY_MATERIAL_EXPIRES"
    valid_to = ImportKeyMaterialInputs.check({"expiration_model": model, "valid_to": valid_to}).valid_to
    if valid_to and not step.now() < datetime.fromisoformat(valid_to) <= step.now() + LONGEST:
        problem = f"{valid_to} is past or more than 365 days away; choose a time within a year"
        raise InputError([("--valid-to", problem)])
    return {"ExpirationModel": model, **({"ValidTo": valid_to} if valid_to else {})}


def _lost_clusters(step: OpenStep) -> list[Change]:
    """Return the rows that start the run's clusters that are inaccessible without the key."""
    changes = []
    for record in clusters(step.run):
        name = record.db_cluster_identifier
        found = rds.find_cluster(step.session, name)
        if found is None or found["Status"] != INACCESSIBLE or not ownership.is_ours(step, ownership.of_cluster(found)):
            continue
        request, why = {"DBClusterIdentifier": name}, f"is {INACCESSIBLE}: started again"
        identity = found["DbClusterResourceId"]
        changes.append(Change("change", CLUSTER, name, why, "rds:StartDBCluster", request, identity))
    return changes


# Apply ------------------------------------------------------------------------------------------------------------


class Recovered(NamedTuple):
    """The key's state after the import; of each material its key check value ("": unknown) and how it differs from the record."""

    key_state: str
    restored: tuple[tuple[str, str], ...]


def apply(step: OpenStep, plan: Plan) -> Recovered:
    """Import the material that the key had, and start the clusters of the plan.

    KMS compares the material with the KeyMaterialId, so that a successful import is the proof (KMS API, ImportKeyMaterial:
    EXISTING_KEY_MATERIAL). Raises `KeyMaterialMismatch` for other material, `AwsCallFailed`, and what reading the recovery
    sources raises; `PlanOutdated`, after the import, for a cluster that is not the one of the plan any more.
    """
    asked: RecoverInputs = plan.inputs
    with step.applying(plan, begin=False):
        known = {one.key_material_id: one for one in permanent_materials(step.run)}
        restored = []
        for change in plan.changes:
            if change.resource != MATERIAL:
                continue
            material = known.get(change.request["KeyMaterialId"])
            custody = material.custody if material else MaterialRecord.so_far(step.run).custody
            if asked.encrypted:
                encrypted, token, value = take_back(step, asked.encrypted)
            else:
                wrapping, token, _ = fetch_pair(step)
                read = material.reader(step.run) if material else step.run.read
                encrypted, value = wrap(custody, wrapping, read=read, sources=sources(step.run, asked, material))
            hint = differs(custody, value)
            _prove(step, change, encrypted=encrypted, token=token, hint=hint)
            restored.append((value, hint))
        state = _settled_state(step)
        for change in plan.changes:
            if change.resource == CLUSTER:
                ownership.require_same(step, change)
                step.client("rds").start_db_cluster(**change.request)
    return Recovered(state, tuple(restored))


def fetch_pair(step: OpenStep) -> tuple[Wrapping, bytes, datetime]:
    """Fetch a wrapping key and import token with step 02's algorithm, and until when they are valid (UTC).

    Write nothing.
    """
    pair = ImportParameters.from_run(step.run)
    answer = step.client("kms").get_parameters_for_import(**pair.as_request)
    algorithm, key_spec = pair.request.WrappingAlgorithm, pair.request.WrappingKeySpec
    key_material.load_wrapping_public_key(answer["PublicKey"], wrapping_key_spec=key_spec)
    wrapping = Wrapping(answer["PublicKey"], algorithm, key_spec, key_arn=answer["KeyId"])
    return wrapping, answer["ImportToken"], answer["ParametersValidTo"].astimezone(UTC)


def _prove(step: OpenStep, change: Change, *, encrypted: bytes, token: bytes, hint: str) -> None:
    """Import the material with the KeyMaterialId of the plan, and record it. `hint` is added to a refusal."""
    request: dict[str, Any] = {**change.request, "ImportToken": token, "EncryptedKeyMaterial": encrypted}
    valid_to = request.get("ValidTo", "")
    if valid_to:
        request["ValidTo"] = datetime.fromisoformat(valid_to)
    try:
        answer = step.client("kms").import_key_material(**request, ImportType="EXISTING_KEY_MATERIAL")
    except ClientError as error:
        if error_code(error) == "IncorrectKeyMaterialException":
            raise KeyMaterialMismatch(
                f"{error_code(error)}: this is not the material that the key had{f' ({hint})' if hint else ''}; nothing was "
                "changed; provide the material that was imported"
            ) from error
        raise AwsCallFailed(f"{error_text(error)}; nothing was changed; run the cell or command again") from error
    proved, expected = answer.get("KeyMaterialId"), request["KeyMaterialId"]
    if proved != expected:
        raise KeyMaterialMismatch(
            f"KMS returned KeyMaterialId {proved}, the key had {expected}; review the key's materials manually"
        )
    note_material(
        step.run,
        expected,
        expiration_model=request["ExpirationModel"],
        valid_to=valid_to,
        recovered_at=utc_stamp(step.now()),
    )


def _settled_state(step: OpenStep) -> str:
    """Wait until the key is usable again, and record it; return its state. It stays PendingImport while a material is missing."""
    key = KeyRecord.from_run(step.run)
    metadata = kms.wait_for_state(step.session, key.key_id, lambda state: state != "PendingImport")
    expiry = ImportRecord.so_far(step.run).expires
    step.run.note(
        IMPORT_KEY_MATERIAL, summary=f"{key.key_alias} {metadata['KeyState']}, its material {expiry}, imported again"
    )
    return str(metadata["KeyState"])


# Offline wrapping ---------------------------------------------------------------------------------------------------


def prepare_hand_over(step: OpenStep) -> Path:
    """Fetch a pair for offline wrapping; return the path of the bundle to carry over. The import token stays here."""
    private_folder(step.run.path / FOLDER)
    forget_hand_over(step.run)
    wrapping, token, valid_to = fetch_pair(step)
    files = {TOKEN: token, BUNDLE: make_bundle(wrapping, valid_to=valid_to)}
    digests = {name: key_material.fingerprint(content) for name, content in files.items()}
    step.run.note(IMPORT_KEY_MATERIAL, handed_over=digests)
    for name, content in files.items():
        if kept := keep_aside(step.run.path / FOLDER / name):
            print(f"{FOLDER}/{name} was not written by this run; renamed to {FOLDER}/{kept}")
        step.run.write(f"{FOLDER}/{name}", content)
    return step.run.path / FOLDER / BUNDLE


def take_back(step: OpenStep, path: str) -> tuple[bytes, bytes, str]:
    """Return what was wrapped offline for the prepared bundle, its import token, and the key check value that it states.

    Raises `StepMissing`, `ImportTokenExpired`, `HandOverInvalid`, `ArtefactsMismatch`.
    """
    if not (step.run.path / FOLDER / BUNDLE).is_file():
        raise StepMissing(f"no bundle was prepared; begin with: runbook recover {step.run.run_id} --hand-over")
    wrapping = read_bundle(step.run.read(f"{FOLDER}/{BUNDLE}"), now=step.now()).wrapping
    content, value = read_public(path), ""
    if is_archive(content):
        returned = read_hand_back(content, wrapping)
        content, value = returned.files[ENCRYPTED], returned.record.key_check_value
    key_material.check_encrypted_key_material(content, wrapping_key_spec=wrapping.key_spec)
    return content, step.run.read(f"{FOLDER}/{TOKEN}"), value


def forget_hand_over(run: Run) -> None:
    """Delete the used pair of the offline wrapping; keep files that this run did not write."""
    for name, digest in ImportRecord.so_far(run).handed_over.items():
        if holds(run.path / FOLDER / name, digest):
            destroy(run.path / FOLDER / name)
