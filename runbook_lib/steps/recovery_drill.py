"""Step 80: delete the key material, have KMS refuse other material, import the backup again; plan, apply and verify.

In the sandbox it uses the run's own cluster. With target aws it only reads, unless the run's cluster is named as
throw-away. Nothing is deleted before KMS has accepted the backup as the current material.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, rds
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.retry import poll
from runbook_lib.aws.waiting import statuses, wait_until_available
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    KeyMaterialMismatch,
    KeyNotUsable,
    NotConfirmed,
    PlanOutdated,
    StepMissing,
    WaitFailed,
)
from runbook_lib.inputs.recovery import RecoverInputs, RecoveryDrillInputs
from runbook_lib.material import key_material
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.open_recovery_copy import check_opens, differs
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import finished_clusters
from runbook_lib.run.materials import Material, current_id, permanent_materials
from runbook_lib.run.records import DrillRecord, KeyRecord
from runbook_lib.run.steps import IMPORT_KEY_MATERIAL
from runbook_lib.steps import ownership, recover, reports
from runbook_lib.steps.drill_ciphertext import CIPHERTEXT, decrypts, encrypt_a_line, is_ours
from runbook_lib.steps.existing_set import check_files
from runbook_lib.steps.key_guard import what_would_stop
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER
from runbook_lib.steps.recover import INACCESSIBLE
from runbook_lib.tables import Table
from runbook_lib.texts import visible

MATERIAL = "key material"
_READS = "Nothing was changed: with target aws the drill only reads, unless a throw-away cluster is named"


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: RecoveryDrillInputs) -> Plan:
    """Plan the drill after decrypting the backup once, so that only material with a readable backup is deleted.

    Raises what decrypting the backup raises, `NotConfirmed` when another cluster than the run's is named, and
    `KeyNotUsable` for a key that is not Enabled.
    """
    identifier = finished_clusters(step.run)[0].db_cluster_identifier
    named = asked.throw_away_db_cluster_identifier
    if named and named != identifier:
        raise NotConfirmed(
            f"throw_away_db_cluster_identifier is {named!r}, this run's cluster is {identifier!r}; type that name to lose "
            "access to it, or leave the parameter empty"
        )
    opens = [_opens(step, asked, one) for one in permanent_materials(step.run)]
    if step.run.target["target"] == "aws" and not named:
        return step.plan(asked, [*opens, *_reads_only(step, identifier)])
    return step.plan(asked, [*opens, *_drill(step, identifier)])


def _reads_only(step: OpenStep, identifier: str) -> list[Change]:
    would = "only with a throw-away cluster:"
    alias = KeyRecord.from_run(step.run).key_alias
    return [
        Change("keep", MATERIAL, alias, f"{would} deleted and imported again"),
        Change("keep", CLUSTER, identifier, f"{would} inaccessible, then started again"),
    ]


def _drill(step: OpenStep, identifier: str) -> list[Change]:
    key, needed = KeyRecord.from_run(step.run), permanent_materials(step.run)
    metadata = kms.describe(step.session, key.key_id) or {}
    if metadata.get("KeyState") != "Enabled" and not (step.run.path / CIPHERTEXT).is_file():
        raise KeyNotUsable(
            f"key {key.key_id} is {metadata.get('KeyState', 'deleted')}, which this drill did not cause; if its material is "
            f"missing, run: runbook recover {step.run.run_id}"
        )
    detail = f"deleted: Decrypt fails and {identifier} becomes inaccessible"
    changes = []
    for one in needed:
        request = {"KeyId": key.key_id, "KeyMaterialId": one.key_material_id}
        name = key.key_alias if len(needed) == 1 else f"key check value {one.shown_check_value}"
        changes.append(Change("delete", MATERIAL, name, detail, "kms:DeleteImportedKeyMaterial", request))
    if others := what_would_stop(step, key.key_arn):
        why = f"{', '.join(others)} would become inaccessible too; move it to another key first"
        changes.append(Change("refuse", CLUSTER, identifier, why))
    current = metadata.get("CurrentKeyMaterialId", "")
    if current and current != current_id(step.run):
        why = f"current is {current[:16]}, which this run did not import: somebody rotated the key; review its materials manually"
        changes.append(Change("refuse", MATERIAL, key.key_alias, why))
    why, resource_id = "started again once its key is Enabled", finished_clusters(step.run)[0].db_cluster_resource_id
    return [
        *changes,
        Change("keep", "other material", "256 random bits", "sent with kms:ImportKeyMaterial; KMS must refuse it"),
        Change("create", "same key material", key.key_alias, "from the backup", "kms:ImportKeyMaterial"),
        Change("change", CLUSTER, identifier, why, "rds:StartDBCluster", identity=resource_id),
    ]


def _provided(step: OpenStep, asked: RecoveryDrillInputs) -> RecoverInputs:
    return RecoverInputs(
        run_id=step.run.run_id,
        recovery_private_keys=asked.recovery_private_keys,
        recovery_password_from=asked.recovery_password_from,
        material_file=asked.original_file,
    )


def _opens(step: OpenStep, asked: RecoveryDrillInputs, material: Material) -> Change:
    custody = material.custody
    sources = recover.sources(step.run, _provided(step, asked), material)
    value = check_opens(custody, read=material.reader(step.run), sources=sources)
    hint = differs(custody, value)
    stated = f"{hint}: KMS decides" if hint else f"key check value {value or 'unknown'}"
    return Change("keep", "key material backup", custody.kind, f"readable, {stated}")


def _only_reads(plan: Plan) -> bool:
    return all(change.action == "keep" for change in plan.changes)


def _recover(step: OpenStep, asked: RecoveryDrillInputs) -> None:
    """Import the key material as the one that the key had, as `runbook recover` does."""
    of_import = OpenStep(IMPORT_KEY_MATERIAL, step.run, step.session)
    recover.apply(of_import, recover.plan(of_import, _provided(step, asked)))


# The three parts --------------------------------------------------------------------------------------------------


def apply(step: OpenStep, plan: Plan) -> Table | str:
    """Carry out the whole drill; the notebook calls its three parts one by one."""
    lose_material(step, plan)
    try_other_material(step, plan)
    return bring_back(step, plan)


def lose_material(step: OpenStep, plan: Plan) -> Table | str:
    """Encrypt a line, prove the backup by importing it, delete the material, and return the effects.

    Resumes when it is called again after an interruption. Raises, before anything is deleted, `KeyMaterialMismatch` when
    KMS refuses the backup, and `PlanOutdated` when another cluster uses the key.
    """
    if _only_reads(plan):
        return f"{_READS}."
    asked: RecoveryDrillInputs = plan.inputs
    key_id = KeyRecord.from_run(step.run).key_id
    identifier = finished_clusters(step.run)[0].db_cluster_identifier
    with step.applying(plan):
        if (kms.describe(step.session, key_id) or {}).get("KeyState") == "Enabled":
            encrypt_a_line(step, key_id)
            _recover(step, asked)
            ownership.require_same(step, plan.change(CLUSTER))
            if others := what_would_stop(step, KeyRecord.from_run(step.run).key_arn):
                raise PlanOutdated(
                    f"nothing was deleted: {', '.join(others)} started to use the key after this plan was shown, and would "
                    "become inaccessible too; run the plan cell again"
                )
            for change in plan.changes:
                if change.resource == MATERIAL and change.action == "delete":
                    step.client("kms").delete_imported_key_material(**change.request)
        metadata = kms.wait_for_state(step.session, key_id, lambda state: state == "PendingImport")
        status = _wait_lost(step, identifier, minutes=asked.wait_timeout_minutes)
        seen = {"key": metadata["KeyState"], "decrypt": decrypts(step), "cluster": status}
        step.run.note(step.name, without=seen)
    return _seen("Without the key material", seen)


def _wait_lost(step: OpenStep, identifier: str, *, minutes: int) -> str:
    """Poll the cluster until it is inaccessible, for at most `minutes`; return its last status."""
    printed: list[str] = []

    def read() -> str:
        status = str((rds.find_cluster(step.session, identifier) or {}).get("Status", "deleted"))
        if printed[-1:] != [status]:
            printed.append(status)
            print(visible(f"cluster {identifier}: {status}"))
        return status

    status, _ = poll(read, until=lambda status: status == INACCESSIBLE, every=_seconds(step), timeout=minutes * 60)
    return status


def _seconds(step: OpenStep) -> float:
    """Return the polling interval in seconds."""
    return 0.2 if step.session.target == "sandbox" else 30.0


def try_other_material(step: OpenStep, plan: Plan) -> Table | str:
    """Send KMS 256 other random bits, properly wrapped; return its error. Raises `KeyMaterialMismatch` if it accepts them."""
    if _only_reads(plan):
        return f"{_READS}."
    with step.applying(plan):
        wrapping, token, _ = recover.fetch_pair(step)
        with KeyMaterial.generate() as other:
            encrypted = key_material.encrypt_key_material(
                other, wrapping_public_key=wrapping.public_key, wrapping_algorithm=wrapping.algorithm
            )
        try:
            step.client("kms").import_key_material(
                KeyId=KeyRecord.from_run(step.run).key_id,
                ImportToken=token,
                EncryptedKeyMaterial=encrypted,
                ImportType="EXISTING_KEY_MATERIAL",
                ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
            )
        except ClientError as error:
            seen = {"other material": error_code(error)}
        else:
            raise KeyMaterialMismatch(
                "KMS accepted other material as the key's own; stop, and review the key's materials manually (kms:ListKeyRotations)"
            )
        step.run.note(step.name, **{"other_material": seen["other material"]})
    return _seen("With other key material", seen)


def bring_back(step: OpenStep, plan: Plan) -> Table | str:
    """Import the backup, start the cluster, wait for it, and decrypt the old ciphertext; return the effects."""
    if _only_reads(plan):
        return f"{_READS}."
    asked: RecoveryDrillInputs = plan.inputs
    launched = finished_clusters(step.run)[0]
    identifier = launched.db_cluster_identifier
    with step.applying(plan):
        _recover(step, asked)
        _wait_started(step, identifier, minutes=asked.wait_timeout_minutes)
        found = wait_until_available(
            step.session,
            identifier,
            instances=len(launched.db_instance_identifiers),
            timeout_minutes=float(asked.wait_timeout_minutes),
            poll_seconds=_seconds(step),
        )
        metadata = kms.describe(step.session, KeyRecord.from_run(step.run).key_id) or {}
        seen = {"key": metadata.get("KeyState", "deleted"), "decrypt": decrypts(step)}
        seen["cluster"] = found[f"cluster {identifier}"]
        step.run.note(step.name, after=seen)
    return _seen("With the key material imported again", seen)


def _wait_started(step: OpenStep, identifier: str, *, minutes: int) -> None:
    """Poll until StartDBCluster takes effect: until then the cluster is still inaccessible. Raises `WaitFailed`."""

    def status() -> str | None:
        return statuses(step.session, identifier).get(f"cluster {identifier}")

    _, started = poll(status, until=lambda found: found != INACCESSIBLE, every=_seconds(step), timeout=minutes * 60)
    if not started:
        raise WaitFailed(f"cluster {identifier} was started and is still {INACCESSIBLE}; run this cell again")


def _seen(caption: str, seen: dict[str, Any]) -> Table:
    words = {"key": "KMS key", "decrypt": "Decrypt of the old ciphertext", "cluster": "DB cluster"}
    words["other material"] = "ImportKeyMaterial"
    return Table(caption, ("", ""), [(words.get(name, name), value) for name, value in seen.items()])


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Compare the observed effects with AWS's documentation, and the key with the run; finish the step.

    Raises `VerificationFailed`, and `StepMissing` for an incomplete drill.
    """
    record = DrillRecord.so_far(step.run)
    checks = Checks("The drill")
    for one in permanent_materials(step.run):
        claim = "every custody file exists and is unchanged"
        claim += f" (key check value {one.shown_check_value})" if one.folder else ""
        check_files(checks, one.reader(step.run), one, claim=claim)
    if step.run.target["target"] == "sandbox" or record.without:
        if not (record.without and record.after and record.other_material):
            raise StepMissing(
                f"the drill of run {step.run.run_id!r} is not complete; run its apply cells in order first"
            )
        _check_acts(checks, record)
    key_id = KeyRecord.from_run(step.run).key_id
    metadata = kms.describe(step.session, key_id) or {}
    checks.equal("the key can be used", "Enabled", metadata.get("KeyState"), source="kms:DescribeKey")
    current = [entry["KeyMaterialId"] for entry in kms.current_materials(step.session, key_id)]
    claim = "the current key material is the one that the run imported"
    checks.equal(claim, [current_id(step.run)], current, source="kms:ListKeyRotations")
    reports.add_result(step, checks)
    checks.require_passed()
    if is_ours(step):
        (step.run.path / CIPHERTEXT).unlink()
    done = "deleted and imported again" if record.after else "read only"
    step.run.finish(step.name, summary=f"{done}: {checks.summary}")
    return checks


def _check_acts(checks: Checks, record: DrillRecord) -> None:
    """Compare the effects with the AWS KMS guide, Deleting imported key material, and the Aurora guide on lost keys."""
    lost, after = record.without, record.after
    claim = "without its material the key is pending import"
    checks.equal(claim, "PendingImport", lost["key"], source="kms:DescribeKey")
    claim, refused = "without its material Decrypt fails", "KMSInvalidStateException"
    checks.equal(claim, refused, lost["decrypt"], source="kms:Decrypt")
    checks.equal("the cluster became inaccessible", INACCESSIBLE, lost["cluster"], source="rds:DescribeDBClusters")
    claim, refused = "other material was refused", "IncorrectKeyMaterialException"
    checks.equal(claim, refused, record.other_material, source="kms:ImportKeyMaterial")
    checks.equal("the old ciphertext can be decrypted again", "opens", after["decrypt"], source="kms:Decrypt")
    checks.equal("the cluster is available again", "available", after["cluster"], source="rds:DescribeDBClusters")
