"""Step 80: the key's material is deleted, other material is refused, the original brings everything back; plan, apply, verify.

In the sandbox with the run's own cluster. With target aws it only reads, unless the run's cluster is named as one to
throw away. Before anything is deleted, KMS has taken the original as the live material.
"""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, rds
from runbook_lib.aws.rds import KeyUser, who_uses
from runbook_lib.aws.session import error_code
from runbook_lib.aws.waiting import statuses, wait_until_available
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    KeyNotUsable,
    MaterialNotProved,
    NotConfirmed,
    PlanOutdated,
    StepMissing,
    WaitFailed,
)
from runbook_lib.files import holds, keep_aside
from runbook_lib.inputs.kms import RecoveryDrillInputs
from runbook_lib.material import key_material
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.open_recovery_copy import Brought, rehearse, wrap_original
from runbook_lib.plan import Change, Plan
from runbook_lib.steps import create_key
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.recover import (
    CLUSTER_STEP,
    IMPORT_STEP,
    LOST,
    MATERIAL_STEP,
    custody_record,
    fetch_pair,
    plan_recovery,
    prove,
    start_cluster,
    with_training_keys,
)
from runbook_lib.tables import Table

CIPHERTEXT = "drill-ciphertext.bin"
_READS = "Nothing was done: with target aws only reads, unless a throw-away cluster is named"


def plan_recovery_drill(step: OpenStep, inputs: RecoveryDrillInputs) -> Plan:
    """Plan the drill, after opening the original once: nothing is deleted that cannot come back.

    Raises what `originals.rehearse` raises, and `NotConfirmed` when another cluster than the run's is named.
    """
    identifier = step.run.record(CLUSTER_STEP)["db_cluster_identifier"]
    key = step.run.record("01_create_key")
    named = inputs.throw_away_db_cluster_identifier
    if named and named != identifier:
        raise NotConfirmed(f"throw_away_db_cluster_identifier is {named!r}, this run's cluster is {identifier!r}")
    opens = _opens(step, inputs)
    if step.run.target["target"] == "aws" and not named:
        would = "with a throw-away cluster named: would be"
        return step.plan(
            inputs,
            [
                opens,
                Change("keep", "key material", key["key_alias"], f"{would} deleted and imported again"),
                Change("keep", "DB cluster", identifier, f"{would} inaccessible, then started again"),
            ],
        )
    metadata = kms.describe(step.session, key["key_id"]) or {}
    if metadata.get("KeyState") != "Enabled" and not (step.run.path / CIPHERTEXT).is_file():
        raise KeyNotUsable(
            f"key {key['key_id']} is {metadata.get('KeyState', 'gone')}, not by this drill; if its material is gone: runbook "
            f"recover {step.run.run_id}"
        )
    others = _others(step, identifier)
    imported, current = step.run.record(IMPORT_STEP), metadata.get("CurrentKeyMaterialId", "")
    request = {"KeyId": key["key_id"], "KeyMaterialId": imported["key_material_id"]}
    loses = f"deleted: Decrypt fails and {identifier} becomes inaccessible"
    changes = [
        opens,
        Change("delete", "key material", key["key_alias"], loses, "kms:DeleteImportedKeyMaterial", request),
    ]
    if others:
        why = f"{', '.join(others)} would become inaccessible too; move them to another key first"
        changes.append(Change("refuse", "DB cluster", identifier, why))
    if current and current != imported["key_material_id"]:
        why = f"current is {current[:16]}, which this run did not import: somebody rotated the key, and nobody proved that"
        changes.append(Change("refuse", "key material", key["key_alias"], why))
    return step.plan(
        inputs,
        [
            *changes,
            Change("keep", "other material", "256 random bits", "sent, and must be refused", "kms:ImportKeyMaterial"),
            Change("create", "key material again", key["key_alias"], "the original", "kms:ImportKeyMaterial"),
            Change("change", "DB cluster", identifier, "started again once its key is back", "rds:StartDBCluster"),
        ],
    )


def _others(step: OpenStep, identifier: str) -> list[str]:
    """Return the clusters and instances that need the key and are not of the run's cluster."""
    users = who_uses(step.session, step.run.record("01_create_key")["key_arn"])
    return sorted({user.name for user in users if _is_other(user, identifier)})


def _is_other(user: KeyUser, identifier: str) -> bool:
    if user.kind == "DB instance":
        return user.leaves_with != identifier
    return user.kind == "DB cluster" and user.name != identifier


def _brought(step: OpenStep, inputs: RecoveryDrillInputs) -> Brought:
    given = Brought(
        tuple(inputs.recovery_private_keys), inputs.recovery_password_from, material_file=inputs.original_file
    )
    return with_training_keys(step.run, given)


def _opens(step: OpenStep, inputs: RecoveryDrillInputs) -> Change:
    record = custody_record(step.run)
    value = rehearse(
        record, read=step.run.read, brought=_brought(step, inputs), made_with=step.run.steps[MATERIAL_STEP]["inputs"]
    )
    return Change("keep", "original", record["custody"], f"opens, key check value {value or 'unknown here'}")


def _only_reads(plan: Plan) -> bool:
    return all(change.action == "keep" for change in plan.changes)


def _context(step: OpenStep) -> dict[str, str]:
    return {"runbook:run-id": step.run.run_id}


def _plaintext(step: OpenStep) -> bytes:
    return f"encrypted before the material of run {step.run.run_id} was lost".encode()


def _is_ours(step: OpenStep) -> bool:
    """Return whether the ciphertext in the run's folder is the one that the drill wrote."""
    return holds(step.run.path / CIPHERTEXT, step.made().get("ciphertext_sha256", ""))


def _decrypts(step: OpenStep) -> str:
    """Say what becomes of the old ciphertext now: that it opens, or AWS's error code."""
    try:
        answer = step.client("kms").decrypt(
            CiphertextBlob=step.run.read(CIPHERTEXT),
            KeyId=step.run.record("01_create_key")["key_id"],
            EncryptionContext=_context(step),
        )
    except ClientError as error:
        return error_code(error)
    return "opens" if answer["Plaintext"] == _plaintext(step) else "opens to other bytes"


def _recover(step: OpenStep, inputs: RecoveryDrillInputs) -> list[Change]:
    """Import the original as the material that the key had; return the plan of it."""
    made = step.run.made(IMPORT_STEP)
    expiry = {"ExpirationModel": made["expiration_model"]} | ({"ValidTo": made["valid_to"]} if made["valid_to"] else {})
    changes = plan_recovery(step, expiry)
    wrapping, token, _ = fetch_pair(step)
    encrypted, _ = wrap_original(
        custody_record(step.run),
        wrapping,
        read=step.run.read,
        brought=_brought(step, inputs),
        made_with=step.run.steps[MATERIAL_STEP]["inputs"],
    )
    prove(step, changes[1], encrypted=encrypted, token=token)
    return changes


def lose_material(step: OpenStep, plan: Plan, inputs: RecoveryDrillInputs) -> Table | str:
    """Encrypt a line, have the original proved, delete the material, and see what no longer works.

    Run again after a break it goes on where it stopped. Raises `MaterialNotProved` before anything is deleted.
    """
    if _only_reads(plan):
        return f"{_READS}."
    key_id = step.run.record("01_create_key")["key_id"]
    identifier = step.run.record(CLUSTER_STEP)["db_cluster_identifier"]
    with step.applying(plan):
        state = (kms.describe(step.session, key_id) or {}).get("KeyState")
        if state == "Enabled":
            sealed = step.client("kms").encrypt(
                KeyId=key_id, Plaintext=_plaintext(step), EncryptionContext=_context(step)
            )
            if not _is_ours(step):
                keep_aside(step.run.path / CIPHERTEXT)
            step.run.note(step.name, ciphertext_sha256=key_material.fingerprint(sealed["CiphertextBlob"]))
            step.run.write(CIPHERTEXT, sealed["CiphertextBlob"])
            _recover(step, inputs)
            if others := _others(step, identifier):
                raise PlanOutdated(
                    f"nothing was deleted: {', '.join(others)} came under the key since this plan was shown, and would become "
                    "inaccessible too; run the plan's cell again"
                )
            step.client("kms").delete_imported_key_material(**plan.change("key material").request)
        metadata = create_key.wait_for_state(step, key_id, lambda found: found == "PendingImport")
        status = _wait_lost(step, identifier, minutes=inputs.wait_timeout_minutes)
        seen = {"key": metadata["KeyState"], "decrypt": _decrypts(step), "cluster": status}
        step.run.note(step.name, without=seen)
    return _seen("Without the material", seen)


def _wait_lost(step: OpenStep, identifier: str, *, minutes: int) -> str:
    """Wait until the cluster has noticed that its key is gone, or the time is over; return its status."""
    until = time.monotonic() + minutes * 60
    before = ""
    while True:
        status = str((rds.find_cluster(step.session, identifier) or {}).get("Status", "gone"))
        if status != before:
            print(f"cluster {identifier}: {status}")
        if status == LOST or time.monotonic() > until:
            return status
        before = status
        time.sleep(_poll(step))


def _poll(step: OpenStep) -> float:
    return 0.2 if step.session.target == "sandbox" else 30.0


def try_other_material(step: OpenStep, plan: Plan) -> Table | str:
    """Send KMS 256 other bits, properly wrapped; return its answer. Raises `MaterialNotProved` if it takes them."""
    if _only_reads(plan):
        return f"{_READS}."
    with step.applying(plan):
        wrapping, token, _ = fetch_pair(step)
        with KeyMaterial.generate() as other:
            encrypted = key_material.encrypt_key_material(
                other, wrapping_public_key=wrapping.public_key, wrapping_algorithm=wrapping.algorithm
            )
        try:
            step.client("kms").import_key_material(
                KeyId=step.run.record("01_create_key")["key_id"],
                ImportToken=token,
                EncryptedKeyMaterial=encrypted,
                ImportType="EXISTING_KEY_MATERIAL",
                ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
            )
        except ClientError as error:
            seen = {"other material": error_code(error)}
        else:
            raise MaterialNotProved(
                "KMS took other material for the key's own; stop, and look into the key's materials"
            )
        step.run.note(step.name, **{"other_material": seen["other material"]})
    return _seen("Other material", seen)


def bring_back(step: OpenStep, plan: Plan, inputs: RecoveryDrillInputs) -> Table | str:
    """Import the original again, start the cluster, wait for it, and open the old ciphertext."""
    if _only_reads(plan):
        return f"{_READS}."
    launched = step.run.record(CLUSTER_STEP)
    identifier = launched["db_cluster_identifier"]
    with step.applying(plan):
        start_cluster(step, _recover(step, inputs))
        _wait_started(step, identifier, minutes=inputs.wait_timeout_minutes)
        found = wait_until_available(
            step.session,
            identifier,
            instances=len(launched["db_instance_identifiers"]),
            timeout_minutes=float(inputs.wait_timeout_minutes),
            poll_seconds=_poll(step),
        )
        metadata = kms.describe(step.session, step.run.record("01_create_key")["key_id"]) or {}
        seen = {"key": metadata.get("KeyState", "gone"), "decrypt": _decrypts(step)}
        seen["cluster"] = found[f"cluster {identifier}"]
        step.run.note(step.name, after=seen)
    return _seen("With the original back", seen)


def _wait_started(step: OpenStep, identifier: str, *, minutes: int) -> None:
    """Wait until StartDBCluster shows: until then the cluster still looks lost."""
    until = time.monotonic() + minutes * 60
    while statuses(step.session, identifier).get(f"cluster {identifier}") == LOST:
        if time.monotonic() > until:
            raise WaitFailed(f"cluster {identifier} was told to start and is still {LOST}; run this cell again")
        time.sleep(_poll(step))


def _seen(caption: str, seen: dict[str, Any]) -> Table:
    words = {"key": "the key is", "decrypt": "the old ciphertext", "cluster": "the cluster is"}
    return Table(caption, ("", ""), [(words.get(name, name), value) for name, value in seen.items()])


def verify_recovery_drill(step: OpenStep) -> Checks:
    """Hold what was seen against what AWS documents, and the key against the run; finish the step.

    Raises `VerificationFailed`.
    """
    made, material = step.made(), step.run.record(MATERIAL_STEP)
    imported = step.run.record(IMPORT_STEP)
    key_id = step.run.record("01_create_key")["key_id"]
    checks = Checks("The drill")
    whole = [
        name for name, digest in material["files"].items() if key_material.fingerprint(step.run.read(name)) == digest
    ]
    checks.equal(
        "every custody file is there and unchanged", list(material["files"]), whole, source="SHA-256 of each file"
    )
    if step.run.target["target"] == "sandbox" or "without" in made:
        if "after" not in made or "other_material" not in made:
            raise StepMissing(
                f"the drill of run {step.run.run_id!r} is not complete; run its apply cells in order first"
            )
        lost, after = made["without"], made["after"]
        checks.equal(
            "without its material the key waits for it", "PendingImport", lost["key"], source="kms:DescribeKey"
        )
        checks.equal(
            "nothing could be decrypted then", "KMSInvalidStateException", lost["decrypt"], source="kms:Decrypt"
        )
        checks.equal("the cluster became inaccessible", LOST, lost["cluster"], source="rds:DescribeDBClusters")
        checks.equal(
            "other material was refused",
            "IncorrectKeyMaterialException",
            made["other_material"],
            source="kms:ImportKeyMaterial",
        )
        checks.equal("the old ciphertext opens again", "opens", after["decrypt"], source="kms:Decrypt")
        checks.equal("the cluster is available again", "available", after["cluster"], source="rds:DescribeDBClusters")
    metadata = kms.describe(step.session, key_id) or {}
    checks.equal("the key can be used", "Enabled", metadata.get("KeyState"), source="kms:DescribeKey")
    current = [one for one in kms.materials(step.session, key_id) if one.get("KeyMaterialState") == "CURRENT"]
    checks.equal(
        "its material is the one that the run imported",
        [imported["key_material_id"]],
        [one["KeyMaterialId"] for one in current],
        source="kms:ListKeyRotations",
    )
    checks.require_passed()
    if _is_ours(step):
        (step.run.path / CIPHERTEXT).unlink()
    done = "lost and brought back" if "after" in made else "read only"
    step.run.finish(step.name, summary=f"{done}: {checks.summary}")
    return checks
