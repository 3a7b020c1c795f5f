"""Step 20: new key material in the same key, and the rotation to it; plan, apply and verify.

Each new material has a folder of its own, `materials/<key check value>/`, with pair, encrypted material, backups and
custody.json; the files of 02 and 03 are never changed, and no old material is ever deleted. `new_material` creates it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.retry import find_until_visible, poll, retry_until_passed
from runbook_lib.checks import Checks
from runbook_lib.errors import AwsCallFailed, InputError, KeyNotUsable, PlanOutdated, StepMissing, WaitTimedOut
from runbook_lib.inputs.kms import LONGEST, RotateKeyMaterialInputs
from runbook_lib.material import key_material
from runbook_lib.pages.progress import interruptible
from runbook_lib.plan import Change, Plan
from runbook_lib.run.materials import all_materials, permanent_materials
from runbook_lib.run.records import ImportRecord, KeyRecord, RotatedMaterial, RotationRecord
from runbook_lib.steps import new_material, reports
from runbook_lib.steps.existing_set import check_files
from runbook_lib.steps.new_material import ENCRYPTED, IMPORT_TOKEN, MATERIAL
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Result

MOST = 25  # rotations on demand in the life of a key (KMS API, RotateKeyOnDemand)
ROTATION = "rotation"
IMPORT, ROTATE, DELETE = "kms:ImportKeyMaterial", "kms:RotateKeyOnDemand", "kms:DeleteImportedKeyMaterial"


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: RotateKeyMaterialInputs) -> Plan:
    """Plan the rotation, the rest of an interrupted one, or nothing if the last one is recent; only read.

    Raises `KeyNotUsable` for a key that is not Enabled, `InputError` for an expiry that AWS refuses, and what reading the
    sources raises.
    """
    key = KeyRecord.from_run(step.run)
    ImportRecord.from_run(step.run)
    metadata = kms.describe(step.session, key.key_id) or {}
    if metadata.get("KeyState") != "Enabled":
        state, recover = metadata.get("KeyState", "deleted"), f"runbook recover {step.run.run_id}"
        advice = recover if state == "PendingImport" else "enable it, or cancel its deletion"
        raise KeyNotUsable(f"key {key.key_id} is {state}, and only an Enabled key can be rotated; {advice}")
    listed = kms.materials(step.session, key.key_id)
    return step.plan(asked, _changes(step, asked, key, listed))


def _changes(
    step: OpenStep, asked: RotateKeyMaterialInputs, key: KeyRecord, listed: list[dict[str, Any]]
) -> list[Change]:
    used = sum(entry.get("RotationType") == "ON_DEMAND" for entry in listed)
    known, unfinished = {one.key_material_id for one in all_materials(step.run)}, _unfinished(step)
    name = f"{used} of {MOST} used"
    for entry in listed:
        identifier, state = entry["KeyMaterialId"], entry["KeyMaterialState"]
        if not state.startswith("PENDING") and identifier not in known and not _is_unproved(step, unfinished):
            why = (
                f"is {state} and this run has no backup of it: somebody else rotated the key; rotate where its backups are "
                "kept, or start a new run"
            )
            return [Change("refuse", MATERIAL, identifier[:16], why)]
    known |= {unfinished.key_material_id} if unfinished else set()
    provable = unfinished and _is_unproved(step, unfinished) and new_material.is_usable(step, unfinished)
    pending = [entry for entry in listed if entry["KeyMaterialState"].startswith("PENDING")]
    if not provable and (strange := [entry for entry in pending if entry["KeyMaterialId"] not in known]):
        identifier = strange[0]["KeyMaterialId"]
        why = (
            "is pending rotation, and this run did not import it, or cannot prove it any more: a key has one pending material "
            "at a time; whoever imported it rotates to it, or deletes it without harm: aws kms delete-imported-key-material "
            f"--key-id {key.key_id} --key-material-id {identifier}"
        )
        return [Change("refuse", MATERIAL, identifier[:16], why)]
    if unfinished is not None and (unfinished.key_material_id or new_material.is_usable(step, unfinished)):
        return _rest(asked, key, unfinished, listed, name)
    if asked.delete_pending_material:
        return [Change("keep", MATERIAL, key.key_alias, "no new key material is pending: nothing to delete")]
    shortest = timedelta(days=asked.min_days_between_rotations)
    if shortest and (last := _last_rotation(listed)) and step.now() - last < shortest:
        why = f"rotated at {last:%Y-%m-%d %H:%M} UTC, less than {asked.min_days_between_rotations} days ago: not again"
        return [Change("keep", ROTATION, name, why)]
    if used >= MOST:
        why = f"a key can be rotated {MOST} times on demand; a new key needs a new run, and its clusters a restore under it"
        return [Change("refuse", ROTATION, name, why)]
    return [
        *new_material.changes(step, asked, superseded=unfinished),
        Change("create", "import", "NEW_KEY_MATERIAL", _expiry_in_words(step, asked), IMPORT, {"KeyId": key.key_id}),
        Change("change", ROTATION, name, _BOTH, ROTATE, {"KeyId": key.key_id}),
    ]


_BOTH = "the new material encrypts from now on, the old one still decrypts; both must stay imported as long as the key lives"


def _is_unproved(step: OpenStep, one: RotatedMaterial | None) -> bool:
    """Return whether the import of this material was sent and its KeyMaterialId is not recorded."""
    return one is not None and not one.key_material_id and step.run.was_sent(step.name, f"{IMPORT} {one.folder}")


def _rest(
    asked: RotateKeyMaterialInputs, key: KeyRecord, one: RotatedMaterial, listed: list[dict[str, Any]], name: str
) -> list[Change]:
    """Return the rows that finish, or drop, a rotation that was interrupted."""
    found = {entry["KeyMaterialId"]: entry for entry in listed}.get(one.key_material_id, {})
    shown, request = f"key check value {one.key_check_value or 'unknown here'}", {"KeyId": key.key_id}
    pending = found.get("KeyMaterialState", "PENDING").startswith("PENDING")
    if asked.delete_pending_material and pending:
        why = "imported by this run and never rotated to: deleted from KMS, its files are kept"
        return [Change("delete", MATERIAL, shown, why, DELETE, request)]
    rows = [Change("keep", MATERIAL, shown, f"made before, in {one.folder}")]
    if not found:
        rows.append(Change("create", "import", "NEW_KEY_MATERIAL", "as made before; resumed", IMPORT, request))
    if pending:
        rows.append(Change("change", ROTATION, name, f"resumed: {_BOTH}", ROTATE, request))
    else:
        rows.append(Change("keep", ROTATION, name, "carried out; recorded now"))
    return rows


def _last_rotation(listed: list[dict[str, Any]]) -> datetime | None:
    return max((entry["RotationDate"] for entry in listed if entry.get("RotationDate")), default=None)


def _expiry_in_words(step: OpenStep, asked: RotateKeyMaterialInputs) -> str:
    if not asked.valid_to:
        return "does not expire"
    if not step.now() < datetime.fromisoformat(asked.valid_to) <= step.now() + LONGEST:
        raise InputError(
            [("valid_to", f"{asked.valid_to} is past or more than 365 days away; choose a time within a year")]
        )
    return f"expires at {asked.valid_to}: the key then stops working unless the same material is imported again"


# Apply ------------------------------------------------------------------------------------------------------------


def apply(step: OpenStep, plan: Plan) -> str:
    """Make the new material and its backups, import it, rotate, and wait; return the KeyMaterialId that is current.

    Resumes where an interrupted apply ended. Raises `AwsCallFailed`, `OutcomeUnclear`, `WaitTimedOut`.
    """
    asked: RotateKeyMaterialInputs = plan.inputs
    key_id = KeyRecord.from_run(step.run).key_id
    with step.applying(plan), interruptible():
        if any(change.action == "delete" and change.calls == DELETE for change in plan.changes):
            _drop(step, key_id, asked)
        elif any(change.calls == IMPORT or change.calls == ROTATE for change in plan.changes) or _unfinished(step):
            if any(change.resource == MATERIAL and change.action == "create" for change in plan.changes):
                new_material.create(step, asked, plan)
            _rotate(step, key_id, asked)
    return Result(permanent_materials(step.run)[-1].key_material_id, "The key's current key material is {}.")


def _unfinished(step: OpenStep) -> RotatedMaterial | None:
    return RotationRecord.so_far(step.run).unfinished


def _rotate(step: OpenStep, key_id: str, asked: RotateKeyMaterialInputs) -> None:
    """Import the unfinished material unless it is imported, rotate unless that was sent, and wait."""
    if (one := _unfinished(step)) is None:
        return  # this very plan was applied before
    identifier = one.key_material_id or _import(step, key_id, one, asked)
    state = find_until_visible(lambda: _state_of(step, key_id, identifier) or None, target=step.session.target)
    if state is None:
        raise PlanOutdated(
            f"nothing was rotated: KeyMaterialId {identifier[:16]} is not pending any more; it was deleted, or expired; plan again"
        )
    if state != "CURRENT":
        create_once(
            step.run, step.name, f"{ROTATE} {one.folder}",
            find=lambda: identifier if _is_rotating(step, key_id, identifier) else None,
            create=lambda: _sent_rotation(step, key_id, identifier),
        )  # fmt: skip
    entry = _wait(step, key_id, identifier, minutes=asked.wait_timeout_minutes)
    new_material.note(step, one.folder, rotated_at=entry["RotationDate"].isoformat(timespec="seconds"))


def _sent_rotation(step: OpenStep, key_id: str, identifier: str) -> str:
    try:
        step.client("kms", retry=False).rotate_key_on_demand(KeyId=key_id)
    except ClientError as error:
        if error_code(error) in ("KMSInvalidStateException", "ConflictException", "LimitExceededException"):
            raise AwsCallFailed(
                f"{error_text(error)}; the new key material stays pending; run this step again"
            ) from error
        raise
    return identifier


def _import(step: OpenStep, key_id: str, one: RotatedMaterial, asked: RotateKeyMaterialInputs) -> str:
    """Import the material as NEW_KEY_MATERIAL, at most once; return its KeyMaterialId."""
    token, encrypted = (step.run.read(f"{one.folder}/{name}") for name in (IMPORT_TOKEN, ENCRYPTED))
    if key_material.fingerprint(token) != one.pair[IMPORT_TOKEN] or not new_material.is_usable(step, one):
        raise PlanOutdated(f"nothing was imported: the files in {one.folder} are not those that were made; plan again")
    request: dict[str, Any] = {"KeyId": key_id, "ImportToken": token, "EncryptedKeyMaterial": encrypted}
    request["ExpirationModel"] = asked.expiration_model
    if asked.valid_to:
        request["ValidTo"] = datetime.fromisoformat(asked.valid_to)
    if asked.key_material_description:
        request["KeyMaterialDescription"] = asked.key_material_description

    def find() -> str | None:
        """Have KMS prove that the pending material is this one: it accepts no other bytes for its KeyMaterialId."""
        known = {material.key_material_id for material in all_materials(step.run)}
        pending = [str(entry["KeyMaterialId"]) for entry in kms.materials(step.session, key_id)]
        for identifier in (one for one in pending if one not in known):
            try:
                step.client("kms").import_key_material(
                    **request, ImportType="EXISTING_KEY_MATERIAL", KeyMaterialId=identifier
                )
            except ClientError as error:
                if error_code(error) != "IncorrectKeyMaterialException":
                    raise
            else:
                return identifier
        return None

    def send() -> str:
        answer = step.client("kms", retry=False).import_key_material(**request, ImportType="NEW_KEY_MATERIAL")
        return str(answer["KeyMaterialId"])

    try:
        identifier = create_once(step.run, step.name, f"{IMPORT} {one.folder}", find=find, create=send)
    except ClientError as error:
        raise AwsCallFailed(f"{error_text(error)}; the key was not rotated; run this step again") from error
    new_material.note(
        step, one.folder, key_material_id=identifier, expiration_model=asked.expiration_model, valid_to=asked.valid_to
    )
    return identifier


def _entry(step: OpenStep, key_id: str, identifier: str) -> dict[str, Any]:
    return {entry["KeyMaterialId"]: entry for entry in kms.materials(step.session, key_id)}.get(identifier, {})


def _state_of(step: OpenStep, key_id: str, identifier: str) -> str:
    return str(_entry(step, key_id, identifier).get("KeyMaterialState", ""))


def _is_rotating(step: OpenStep, key_id: str, identifier: str) -> bool:
    status = step.client("kms").get_key_rotation_status(KeyId=key_id)
    return "OnDemandRotationStartDate" in status or _state_of(step, key_id, identifier) == "CURRENT"


def _wait(step: OpenStep, key_id: str, identifier: str, *, minutes: int) -> dict[str, Any]:
    """Wait until the rotation is carried out (asynchronous: KMS API, RotateKeyOnDemand); return the material's entry."""

    def read() -> dict[str, Any]:
        status = step.client("kms").get_key_rotation_status(KeyId=key_id)
        return {} if "OnDemandRotationStartDate" in status else _entry(step, key_id, identifier)

    seconds = 0.2 if step.session.target == "sandbox" else 10.0
    entry, done = poll(
        read, until=lambda found: found.get("KeyMaterialState") == "CURRENT", every=seconds, timeout=minutes * 60
    )
    if not done:
        raise WaitTimedOut(f"the rotation of {key_id} is not carried out after {minutes} minutes; run this step again")
    return entry


def _drop(step: OpenStep, key_id: str, asked: RotateKeyMaterialInputs) -> None:
    """Delete this run's pending material from KMS; its files stay, and its record leaves the list of the key's materials."""
    one = _unfinished(step)
    if one is None:
        return
    identifier = one.key_material_id or (_import(step, key_id, one, asked) if _is_unproved(step, one) else "")
    entry = _entry(step, key_id, identifier)
    if entry and not str(entry["KeyMaterialState"]).startswith("PENDING"):
        raise PlanOutdated("nothing was deleted: the key was rotated to this material since the plan; plan again")
    if entry:
        step.client("kms").delete_imported_key_material(KeyId=key_id, KeyMaterialId=identifier)
    new_material.forget(step, one)


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Compare every material of the key with the run's records and backups, and finish the step.

    Raises `StepMissing` when nothing was applied, and `VerificationFailed`.
    """
    if step.name not in step.run.steps:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks = retry_until_passed(lambda: _gather(step), target=step.session.target)
    reports.add_result(step, checks)
    checks.require_passed()
    needed = permanent_materials(step.run)
    summary = f"{len(needed)} key materials, current: key check value {needed[-1].shown_check_value}"
    step.run.finish(step.name, summary=summary)
    return checks


def _gather(step: OpenStep) -> Checks:
    key_id, needed = KeyRecord.from_run(step.run).key_id, permanent_materials(step.run)
    checks = Checks("The key and its materials")
    metadata, listed = kms.describe(step.session, key_id) or {}, kms.materials(step.session, key_id)
    checks.equal("the key can be used", "Enabled", metadata.get("KeyState"), source="kms:DescribeKey")
    claim, source = "the current key material is the newest of this run", "kms:ListKeyRotations"
    current = [entry["KeyMaterialId"] for entry in listed if entry["KeyMaterialState"] == "CURRENT"]
    checks.equal(claim, [needed[-1].key_material_id], current, source=source)
    ids = sorted(entry["KeyMaterialId"] for entry in listed if not entry["KeyMaterialState"].startswith("PENDING"))
    claim = "this run has a record of every material that the key needs"
    checks.equal(claim, sorted(one.key_material_id for one in needed), ids, source=source)
    missing = [entry["KeyMaterialId"][:16] for entry in listed if entry.get("ImportState") != "IMPORTED"]
    checks.equal("every key material is imported", [], missing, source=source)
    for one in needed:
        if one.folder:
            check_files(
                checks, one.reader(step.run), one, claim=f"the files of key check value {one.shown_check_value}"
            )
    return checks
