"""The original material back in its key: wrapped for KMS again, imported, and proved by KMS to be the same.

The recorded key check value is the hint; the proof is that KMS takes the material as the one with this KeyMaterialId.
What custody keeps is opened by `originals`; the drill is `drill`. Nothing is written down but the record of step 04.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, rds
from runbook_lib.aws.session import error_code, error_text
from runbook_lib.errors import ImportRefused, InputError, KeyNotUsable, MaterialNotProved, StepMissing
from runbook_lib.files import destroy, holds, keep_aside, private_folder, utc_stamp
from runbook_lib.inputs.kms import ImportKeyMaterialInputs
from runbook_lib.material import key_material
from runbook_lib.material.hand_over import BUNDLE, is_archive, make_bundle, read_bundle, read_hand_back
from runbook_lib.material.material_set import ENCRYPTED, Wrapping
from runbook_lib.material.open_recovery_copy import Brought, recognise
from runbook_lib.material.sources import read_public
from runbook_lib.plan import Change, Plan
from runbook_lib.run.run import Run
from runbook_lib.steps import create_key
from runbook_lib.steps.open_step import OpenStep

PAIR_STEP, MATERIAL_STEP, IMPORT_STEP, CLUSTER_STEP = (
    "02_get_parameters_for_import",
    "03_encrypt_key_material",
    "04_import_key_material",
    "05_create_cluster",
)
FOLDER, TOKEN = "recovery", "ImportToken.bin"
LOST = "inaccessible-encryption-credentials-recoverable"


def custody_record(run: Run) -> dict[str, Any]:
    """Return the custody record of a run. Raises `StepMissing`."""
    made = run.made(MATERIAL_STEP)
    if "custody" not in made:
        raise StepMissing(f"run {run.run_id!r} has no custody record; run notebooks/{MATERIAL_STEP}.ipynb first")
    return dict(made["custody"])


def made_with(run: Run, **instead: str) -> dict[str, Any]:
    """Return the inputs that the material was made with, which name an HSM token; `instead` beats them where given."""
    asked = dict(run.steps[MATERIAL_STEP]["inputs"])
    return asked | {name: value for name, value in instead.items() if value}


def training_keys(run: Run) -> tuple[str, ...]:
    """Return the paths of the run's training recovery keys; none of them protects anything real."""
    return tuple(str(path) for path in sorted(run.path.glob("TRAINING-recovery-private*.pem")))


def with_training_keys(run: Run, brought: Brought) -> Brought:
    """Return what was brought, with the run's training keys, or its file in clear, where nothing was."""
    if brought.private_keys or brought.components or brought.material_file:
        return brought
    record = custody_record(run)
    if record["custody"] == "file" and (run.path / "PlaintextKeyMaterial.bin").is_file():
        return Brought(material_file=str(run.path / "PlaintextKeyMaterial.bin"))
    if record["holders"] and all(holder["training_only"] for holder in record["holders"]):
        return Brought(private_keys=training_keys(run))
    return brought


def asked_expiry(run: Run, *, valid_to: str = "", forever: bool = False) -> dict[str, Any]:
    """Return ExpirationModel and ValidTo: as asked, else as the material was imported before.

    Raises `InputError` when both or, after a recorded expiry, neither was asked.
    """
    made = run.made(IMPORT_STEP)
    if forever and valid_to:
        raise InputError([("--valid-to", "is given together with --does-not-expire; give one of them")])
    if not forever and not valid_to:
        forever = made.get("expiration_model") != "KEY_MATERIAL_EXPIRES"
        valid_to = "" if forever else str(made.get("valid_to", ""))
    model = "KEY_MATERIAL_DOES_NOT_EXPIRE" if forever else "KEY_MATERIAL_EXPIRES"
    checked = ImportKeyMaterialInputs.check({"expiration_model": model, "valid_to": valid_to})
    return {"ExpirationModel": model, **({"ValidTo": checked.valid_to} if checked.valid_to else {})}


def plan_recovery(step: OpenStep, expiry: dict[str, Any]) -> list[Change]:
    """Return what recovering changes: the material in the key, and the cluster where it waits for it.

    Raises `StepMissing` when nothing was ever imported, and `KeyNotUsable` for a key that takes no material.
    """
    key, made = step.run.record("01_create_key"), step.run.made(IMPORT_STEP)
    metadata = kms.describe(step.session, key["key_id"]) or {}
    if metadata.get("KeyState") in (None, "PendingDeletion"):
        found = metadata.get("KeyState", "gone")
        raise KeyNotUsable(f"key {key['key_id']} is {found}; the material comes back only into a key that stays")
    material_id = made.get("key_material_id") or metadata.get("CurrentKeyMaterialId", "")
    if not material_id:
        raise StepMissing(f"nothing was ever imported into {key['key_alias']}; run notebooks/{IMPORT_STEP}.ipynb first")
    until = expiry.get("ValidTo", "")
    if until and not step.now() < datetime.fromisoformat(until) <= step.now() + timedelta(days=365):
        raise InputError([("--valid-to", f"{until} is past or more than 365 days away; choose a time within a year")])
    request = {"KeyId": key["key_id"], "KeyMaterialId": material_id, **expiry}
    detail = f"the same again, {f'expires at {until}' if until else 'does not expire'}; KMS refuses any other"
    changes = [
        Change("keep", "KMS key", key["key_alias"], f"is {metadata['KeyState']}"),
        Change("change", "key material", f"KeyMaterialId {material_id[:16]}", detail, "kms:ImportKeyMaterial", request),
    ]
    identifier = step.run.made(CLUSTER_STEP).get("db_cluster_identifier", "")
    cluster = rds.find_cluster(step.session, identifier) if identifier else None
    if cluster is not None and cluster["Status"] == LOST and step.is_ours(rds.rds_tags(cluster)):
        start = {"DBClusterIdentifier": identifier}
        changes.append(
            Change("change", "DB cluster", identifier, f"is {LOST}: started again", "rds:StartDBCluster", start)
        )
    return changes


def as_plan(changes: list[Change]) -> Plan:
    """Return the rows as a plan to show."""
    return Plan("runbook recover", tuple(changes))


def fetch_pair(step: OpenStep) -> tuple[Wrapping, bytes, datetime]:
    """Fetch a wrapping key and import token, of the kind that step 02 asked for; nothing is written."""
    request = step.run.record(PAIR_STEP)["request"]
    answer = step.client("kms").get_parameters_for_import(**request)
    key_material.load_wrapping_public_key(answer["PublicKey"], wrapping_key_spec=request["WrappingKeySpec"])
    wrapping = Wrapping(
        answer["PublicKey"], request["WrappingAlgorithm"], request["WrappingKeySpec"], key_arn=answer["KeyId"]
    )
    return wrapping, answer["ImportToken"], answer["ParametersValidTo"].astimezone(UTC)


def prove(step: OpenStep, change: Change, *, encrypted: bytes, token: bytes) -> str:
    """Import the material as the one that the key had; return the key's state.

    KMS holds it against the KeyMaterialId, so that its taking it is the proof. Raises `MaterialNotProved` for other
    material, and `ImportRefused`.
    """
    request = {**change.request, "ImportToken": token, "EncryptedKeyMaterial": encrypted}
    if "ValidTo" in request:
        request["ValidTo"] = datetime.fromisoformat(request["ValidTo"])
    try:
        answer = step.client("kms").import_key_material(**request, ImportType="EXISTING_KEY_MATERIAL")
    except ClientError as error:
        if error_code(error) == "IncorrectKeyMaterialException":
            raise MaterialNotProved(
                f"{error_code(error)}: KMS says that this is not the material that the key had; nothing was changed, bring "
                "the original"
            ) from error
        raise ImportRefused(f"{error_text(error)}; nothing was changed, run this again") from error
    proved, wanted = answer.get("KeyMaterialId"), change.request["KeyMaterialId"]
    if proved != wanted:
        raise MaterialNotProved(
            f"KMS answered KeyMaterialId {proved}, the key had {wanted}; look into the key's materials"
        )
    metadata = create_key.wait_for_state(step, change.request["KeyId"], lambda state: state != "PendingImport")
    valid_to = change.request.get("ValidTo", "")
    step.run.note(
        IMPORT_STEP,
        key_material_id=wanted,
        expiration_model=change.request["ExpirationModel"],
        valid_to=valid_to,
        recovered_at=utc_stamp(step.now()),
        summary=f"{step.run.record('01_create_key')['key_alias']} {metadata['KeyState']}, its material "
        f"{f'expires at {valid_to}' if valid_to else 'does not expire'}, imported again",
    )
    return str(metadata["KeyState"])


def start_cluster(step: OpenStep, changes: list[Change]) -> str:
    """Start the cluster that waits for its key, if the plan says so; return its name or nothing."""
    for change in changes:
        if change.resource == "DB cluster" and change.action == "change":
            step.client("rds").start_db_cluster(**change.request)
            return change.name
    return ""


def prepare_hand_over(step: OpenStep) -> Path:
    """Fetch a pair for a machine where the original is; return the bundle to bring there. The token stays here."""
    private_folder(step.run.path / FOLDER)
    forget_hand_over(step.run)
    wrapping, token, valid_to = fetch_pair(step)
    files = {TOKEN: token, BUNDLE: make_bundle(wrapping, valid_to=valid_to)}
    step.run.note(IMPORT_STEP, handed_over={name: key_material.fingerprint(content) for name, content in files.items()})
    for name, content in files.items():
        if kept := keep_aside(step.run.path / FOLDER / name):
            print(f"{FOLDER}/{name} was not made by this run; kept as {FOLDER}/{kept}")
        step.run.write(f"{FOLDER}/{name}", content)
    return step.run.path / FOLDER / BUNDLE


def take_back(step: OpenStep, path: str) -> tuple[bytes, bytes]:
    """Return the encrypted material that came back for the prepared bundle, and the token that belongs to it.

    Raises `StepMissing`, `ImportTokenExpired`, `HandOverInvalid`, `ArtefactsMismatch`, `MaterialNotProved`.
    """
    if not (step.run.path / FOLDER / BUNDLE).is_file():
        raise StepMissing(f"no bundle was handed over; begin with: runbook recover {step.run.run_id} --hand-over")
    wrapping = read_bundle(step.run.read(f"{FOLDER}/{BUNDLE}"), now=step.now()).wrapping
    content = read_public(path)
    if is_archive(content):
        returned = read_hand_back(content, wrapping)
        recognise(custody_record(step.run), returned.record["key_check_value"])
        content = returned.files[ENCRYPTED]
    key_material.check_encrypted_key_material(content, wrapping_key_spec=wrapping.key_spec)
    return content, step.run.read(f"{FOLDER}/{TOKEN}")


def forget_hand_over(run: Run) -> None:
    """Remove the pair that was handed over, which has done its work; files that this run did not make are kept."""
    for name, digest in run.made(IMPORT_STEP).get("handed_over", {}).items():
        if holds(run.path / FOLDER / name, digest):
            destroy(run.path / FOLDER / name)
