"""20: new key material in the same key; one new material whatever is interrupted, and custody of every one."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta

import pytest
from kms_support import rotate as rotate_by_hand
from openssl import private_key, public_pem, put
from walk import OTHER

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import InputError, KeyMaterialMismatch, KeyNotUsable, PlanOutdated, PlanRefused
from runbook_lib.inputs.kms import (
    EncryptKeyMaterialInputs,
    GetParametersForImportInputs,
    ImportKeyMaterialInputs,
    RotateKeyMaterialInputs,
)
from runbook_lib.inputs.rds import CreateClusterInputs, VerifyEncryptionInputs
from runbook_lib.inputs.recovery import RecoverInputs, RecoveryDrillInputs
from runbook_lib.run import expiry
from runbook_lib.run.materials import permanent_materials
from runbook_lib.steps import (
    create_cluster,
    encrypt_key_material,
    evidence,
    get_parameters_for_import,
    import_key_material,
    new_material,
    recover,
    recovery_drill,
    rotate_key_material,
    verify_encryption,
)
from runbook_lib.steps.open_step import OpenStep, open_step

FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
NOW = {"min_days_between_rotations": 0}


@pytest.fixture
def imported(walk):
    """A run whose key has its first material."""
    walk.start().pair().encrypt()
    walk.bring_in()
    return walk


def plan_of(walk, **given):
    return rotate_key_material.plan(walk.step("20"), RotateKeyMaterialInputs.check({**NOW, **given}))


def rotated(walk, **given):
    step = walk.step("20")
    rotate_key_material.apply(step, rotate_key_material.plan(step, RotateKeyMaterialInputs.check({**NOW, **given})))
    return rotate_key_material.verify(step)


def listed(walk):
    answer = walk.client().list_key_rotations(KeyId=walk.key_id, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    return [(entry["KeyMaterialId"], entry["KeyMaterialState"]) for entry in answer]


def add_pending(walk, material, **until):
    """Import new key material as a colleague does, without rotating."""
    client = walk.client()
    pair = client.get_parameters_for_import(
        KeyId=walk.key_id, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048"
    )
    from test_orders import by_hand

    return client.import_key_material(
        KeyId=walk.key_id, ImportToken=pair["ImportToken"], ImportType="NEW_KEY_MATERIAL",
        EncryptedKeyMaterial=by_hand(pair["PublicKey"], material), **(until or FOREVER),
    )["KeyMaterialId"]  # fmt: skip


def missing(walk):
    """Delete every key material; return the ids."""
    ids = [identifier for identifier, _ in listed(walk)]
    for identifier in ids:
        walk.client().delete_imported_key_material(KeyId=walk.key_id, KeyMaterialId=identifier)
    return ids


def recovered(walk, **given):
    step = walk.step("04")
    return recover.apply(step, recover.plan(step, RecoverInputs.check({"run_id": "demo", **given})))


def test_a_rotation_keeps_both_materials_and_the_backups_of_both(imported):
    """The old material decrypts what it encrypted, the new one is current, and no file of 02 and 03 has changed."""
    blob = imported.client().encrypt(KeyId=imported.key_id, Plaintext=b"old")["CiphertextBlob"]
    before = {path.name: path.read_bytes() for path in imported.path.glob("*.bin")}
    assert rotated(imported).passed
    first, second = permanent_materials(imported.run)
    assert [(first.key_material_id, "NON_CURRENT"), (second.key_material_id, "CURRENT")] == listed(imported)
    assert before == {path.name: path.read_bytes() for path in imported.path.glob("*.bin")}
    assert f"materials/{second.custody.key_check_value}" == second.folder
    assert {0o600} == {path.stat().st_mode & 0o777 for path in (imported.path / second.folder).iterdir()}
    opened = imported.client().decrypt(CiphertextBlob=blob)
    assert (b"old", first.key_material_id) == (opened["Plaintext"], opened["KeyMaterialId"])


def test_repeated_on_the_same_day_it_keeps_what_exists(imported):
    """A scheduled task that is retried must not burn one of 25 rotations."""
    rotated(imported)
    assert ["keep"] == [change.action for change in plan_of(imported, min_days_between_rotations=1).changes]
    rotated(imported, min_days_between_rotations=1)
    assert 2 == len(listed(imported))


def test_the_same_plan_applied_twice_makes_one_material(imported):
    """Two clicks on a cell are one rotation."""
    step = imported.step("20")
    plan = rotate_key_material.plan(step, RotateKeyMaterialInputs.check(NOW))
    assert rotate_key_material.apply(step, plan) == rotate_key_material.apply(step, plan)
    assert 2 == len(listed(imported))


def test_every_material_is_brought_back(imported):
    """Recovery imports each one that is missing, from its own backup; nothing less makes the key usable."""
    rotated(imported)
    ids = missing(imported)
    assert "Enabled" == recovered(imported).key_state
    assert ids == [identifier for identifier, _ in listed(imported)]
    imported.client().delete_imported_key_material(KeyId=imported.key_id, KeyMaterialId=ids[0])
    plan = recover.plan(imported.step("04"), RecoverInputs.check({"run_id": "demo"}))
    assert [ids[0]] == [c.request["KeyMaterialId"] for c in plan.changes if c.resource == recover.MATERIAL]
    assert "Enabled" == recovered(imported).key_state


def test_one_file_is_one_of_several_materials(imported, tmp_path):
    """A file cannot be all of them, and its check value says which one it is."""
    rotated(imported, key_material_source="file", key_material_file=str(put(tmp_path / "new", OTHER)))
    missing(imported)
    file = {"material_file": str(tmp_path / "new")}
    with pytest.raises(InputError, match="--material"):
        recovered(imported, **file)
    second = permanent_materials(imported.run)[1]
    assert "PendingImport" == recovered(imported, **file, material=second.custody.key_check_value).key_state
    with pytest.raises(InputError, match="names 0"):
        recovered(imported, material="ffffff")
    assert "Enabled" == recovered(imported).key_state


def test_expiry_is_per_material(imported):
    """What expires first counts; extending gives a later expiry to what expires, and none to what had none."""
    soon, late = "2027-01-01T00:00:00+00:00", "2027-06-01T00:00:00+00:00"
    rotated(imported, expiration_model="KEY_MATERIAL_EXPIRES", valid_to=soon)
    assert ["", soon] == [one.valid_to for one in permanent_materials(imported.run)]
    values = [one.custody.key_check_value for one in permanent_materials(imported.run)]
    now = datetime.fromisoformat("2026-12-01T00:00:00+00:00")
    words = ["does not expire", "expires at 2027-01-01 00:00 UTC, in 31 days"]
    assert [*zip(values, words, strict=True)] == expiry.of_each(imported.run, now=now)
    recovered(imported, valid_to=late)
    assert ["", late] == [one.valid_to for one in permanent_materials(imported.run)]


def test_every_earlier_step_keeps_what_it_made_after_a_rotation(imported):
    """Executed again after a rotation, 02 to 05 keep key, material and cluster; a new cluster is encrypted all the same."""
    imported.cluster()
    rotated(imported)
    again = {
        "02": (get_parameters_for_import, GetParametersForImportInputs),
        "03": (encrypt_key_material, EncryptKeyMaterialInputs),
        "04": (import_key_material, ImportKeyMaterialInputs),
        "05": (create_cluster, CreateClusterInputs),
    }
    for number, (module, inputs) in again.items():
        step = imported.step(number)
        plan = module.plan(step, inputs.check(step.run.steps[step.name]["inputs"]))
        assert {"keep"} == {change.action for change in plan.changes}, (number, plan)
        module.apply(step, plan)
        module.verify(step)


def test_the_drill_and_the_report_know_several_materials(imported):
    """Both materials are lost and brought back, and report.json lists them with their check values."""
    imported.cluster()
    rotated(imported)
    step = imported.step("80")
    plan = recovery_drill.plan(step, RecoveryDrillInputs.check({}))
    assert 2 == sum(change.action == "delete" for change in plan.changes)
    recovery_drill.apply(step, plan)
    assert recovery_drill.verify(step).passed
    step = imported.step("06")
    verify_encryption.apply(step, verify_encryption.plan(step, VerifyEncryptionInputs.check({})))
    assert verify_encryption.verify(step).passed
    report = json.loads((imported.path / "report.json").read_text())
    values = [one.custody.key_check_value for one in permanent_materials(imported.run)]
    assert values == [one["key_check_value"] for one in report["key_materials"]]
    assert ["RotateKey"] == [row["event"] for row in report["trail"] if row["event"] == "RotateKey"]
    imported.client().delete_imported_key_material(KeyId=imported.key_id, KeyMaterialId=listed(imported)[0][0])
    checks = verify_encryption.gather(step)
    assert not checks.passed


# By night -------------------------------------------------------------------------------------------------------------


def failed_by_night(walk, **given):
    """Verify as the scheduler does, and return what failed."""
    step = walk.step("06")
    verify_encryption.apply(step, verify_encryption.plan(step, VerifyEncryptionInputs.check(given)))
    return {check.claim: str(check.actual) for check in evidence.gather(step).rows if not check.passed}


def test_a_rotation_that_is_due_is_a_finding_and_not_an_act(imported):
    """From the day on that the policy names, by AWS's record of the last rotation; the key is not rotated by it."""
    imported.cluster()
    assert {} == failed_by_night(imported, rotate_every_days=90)
    advance(imported, days=91)
    assert {} == failed_by_night(imported)
    [(_, actual)] = failed_by_night(imported, rotate_every_days=90).items()
    assert "rotation is due: runbook rotate demo" in actual
    assert 1 == len(listed(imported))
    rotated(imported)
    assert {} == failed_by_night(imported, rotate_every_days=90)


def test_each_material_that_expires_soon_is_a_finding_until_it_is_extended(imported):
    """With the clusters that stop then; the one that is pending rotation included, and one that lives long not."""
    imported.cluster()
    rotated(imported, expiration_model="KEY_MATERIAL_EXPIRES", valid_to=in_days(imported, 40))
    ids = [one for one, _ in listed(imported)]
    assert {} == failed_by_night(imported)
    [(claim, actual)] = failed_by_night(imported, warn_days_before_expiry=41).items()
    assert ids[1][:16] in claim
    assert "aurora-byok" in actual
    advance(imported, days=34)
    assert [claim] == list(failed_by_night(imported))
    assert {} == failed_by_night(imported, warn_days_before_expiry=0)
    recovered(imported, material=ids[1][:16], valid_to=in_days(imported, 90))
    assert {} == failed_by_night(imported)
    pending = add_pending(imported, OTHER, ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=in_days(imported, 3))
    [(claim, actual)] = failed_by_night(imported).items()
    assert pending[:16] in claim
    assert "pending rotation" in actual


def test_the_first_verification_takes_the_expiry_as_it_was_chosen_minutes_ago(imported):
    """A key material for two days is no finding when the cluster is new, and one when the night looks again."""
    recovered(imported, valid_to=in_days(imported, 2))
    imported.cluster()
    assert 1 == len(failed_by_night(imported))


def advance(walk, *, days):
    sandbox_process.call(walk.endpoint, "/runbook/clock", body={"advance_seconds": days * 86400}, method="POST")


def in_days(walk, days):
    return (walk.step("06").now() + timedelta(days=days)).isoformat(timespec="seconds")


# Interrupted ------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


POINTS = ("_record", "_write", "_import", "_sent_rotation", "_wait")


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_it_is_one_new_material(imported, monkeypatch, point, after):
    """Resumed, the key has exactly one new material, and the backups of both open and are what the key holds."""
    module = new_material if point in ("_record", "_write") else rotate_key_material
    real = getattr(module, point)

    def broken(*args, **given):
        if after:
            real(*args, **given)
        raise Killed

    monkeypatch.setattr(module, point, broken)
    with pytest.raises(Killed):
        rotated(imported)
    monkeypatch.setattr(module, point, real)
    rotated(imported)
    assert ["NON_CURRENT", "CURRENT"] == [state for _, state in listed(imported)]
    assert 2 == len(permanent_materials(imported.run))
    assert 1 == len([path for path in (imported.path / "materials").iterdir() if (path / "custody.json").exists()])
    missing(imported)
    assert "Enabled" == recovered(imported).key_state


@pytest.mark.parametrize("operation", ["import_key_material", "rotate_key_on_demand"])
def test_a_lost_answer_is_one_new_material(imported, monkeypatch, operation):
    """The request took effect and its answer never came: KMS proves that the pending material is ours."""
    from botocore.exceptions import ConnectionClosedError

    client = OpenStep.client
    lost = []

    def dropping(self, service, **given):
        found = client(self, service, **given)
        if given.get("retry") is False and not lost:
            real = getattr(found, operation)

            def send(**request):
                lost.append(real(**request))
                monkeypatch.setattr(found, operation, real)
                raise ConnectionClosedError(endpoint_url="kms")

            monkeypatch.setattr(found, operation, send)
        return found

    monkeypatch.setattr(OpenStep, "client", dropping)
    rotated(imported)
    assert 1 == len(lost)
    assert ["NON_CURRENT", "CURRENT"] == [state for _, state in listed(imported)]


def test_a_pending_material_of_ours_is_dropped_by_choice(imported, monkeypatch):
    """Deleted from KMS, its files kept; the next rotation makes another one."""

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rotate_key_material, "_sent_rotation", killed)
        with pytest.raises(Killed):
            rotated(imported)
    assert "PENDING_ROTATION" == listed(imported)[1][1]
    rotated(imported, delete_pending_material=True)
    assert ["CURRENT"] == [state for _, state in listed(imported)]
    assert 1 == len(list((imported.path / "materials").glob("*/custody.json")))
    rotated(imported)
    assert ["NON_CURRENT", "CURRENT"] == [state for _, state in listed(imported)]


# Refused ----------------------------------------------------------------------------------------------------------


def test_a_pending_material_of_somebody_else_is_refused(imported):
    """Rotating to it would make a material permanent of which this run has no backup."""
    foreign = add_pending(imported, OTHER)
    plan = plan_of(imported)
    assert ["refuse"] == [change.action for change in plan.changes]
    assert foreign in plan.changes[0].detail
    with pytest.raises(PlanRefused):
        rotate_key_material.apply(imported.step("20"), plan)


def test_a_pending_material_that_was_exchanged_is_not_rotated_to(imported, monkeypatch):
    """RotateKeyOnDemand names no key material, so that what is pending is looked at just before."""
    real = rotate_key_material._import

    def exchanged(*given):
        ours = real(*given)
        imported.client().delete_imported_key_material(KeyId=imported.key_id, KeyMaterialId=ours)
        add_pending(imported, OTHER)
        return ours

    monkeypatch.setattr(rotate_key_material, "_import", exchanged)
    with pytest.raises(PlanOutdated, match="not pending any more"):
        rotated(imported)
    assert ["CURRENT", "PENDING_ROTATION"] == [state for _, state in listed(imported)]
    assert ["refuse"] == [change.action for change in plan_of(imported).changes]


def test_a_copy_of_the_folder_does_not_rotate_again(imported):
    """A second folder of the same run has no backup of the material that the first one made, and is refused."""
    copy = imported.folder.parent / "copy"
    shutil.copytree(imported.folder, copy)
    rotated(imported)
    step = open_step("20_rotate_key_material", run_id="demo", runs_dir=copy)
    plan = rotate_key_material.plan(step, RotateKeyMaterialInputs.check(NOW))
    assert ["refuse"] == [change.action for change in plan.changes]
    assert 2 == len(listed(imported))


def test_a_rotation_by_somebody_else_is_refused(imported):
    """The run has no backup of what is current, and says so."""
    add_pending(imported, OTHER)
    rotate_by_hand(imported.client(), imported.key_id)
    assert ["refuse"] == [change.action for change in plan_of(imported).changes]


def test_material_that_the_key_has_is_no_new_material(imported, tmp_path):
    """The same 32 bytes again are refused before anything is imported."""
    given = {"key_material_source": "file", "key_material_file": str(put(tmp_path / "new", OTHER))}
    rotated(imported, **given)
    with pytest.raises(KeyMaterialMismatch, match="already has"):
        rotated(imported, **given)
    assert 2 == len(listed(imported))


def test_a_disabled_key_is_not_rotated(imported):
    """Nothing is made for a key that cannot be rotated."""
    imported.client().disable_key(KeyId=imported.key_id)
    with pytest.raises(KeyNotUsable, match="Disabled"):
        plan_of(imported)
    assert not (imported.path / "materials").exists()


@pytest.mark.slow
def test_25_rotations_and_the_next_says_so_before_it_makes_material(imported, monkeypatch):
    """The quota of KMS is counted in its own record."""
    for _ in range(25):
        rotated(imported)
    assert 26 == len(permanent_materials(imported.run)) == len(listed(imported))
    plan = plan_of(imported)
    assert [("refuse", "25 of 25 used")] == [(change.action, change.name) for change in plan.changes]
    assert 25 == len(list((imported.path / "materials").iterdir()))


# Sources ----------------------------------------------------------------------------------------------------------


def test_new_material_is_wrapped_offline(imported, tmp_path):
    """The bundle goes out, the hand-back comes in, and its backups are kept with it."""
    from datetime import UTC, datetime

    from runbook_lib.material.hand_over import make_hand_back, read_bundle
    from runbook_lib.material.request import MaterialRequest
    from runbook_lib.material.sources import make_set

    bundle = read_bundle(new_material.prepare_hand_over(imported.step("20")).read_bytes(), now=datetime.now(UTC))
    made = make_set(MaterialRequest(), bundle.wrapping, recovery_public_keys=[public_pem(private_key(2048))])
    back = put(tmp_path / "hand-back.zip", make_hand_back(made))
    assert rotated(imported, key_material_source="wrapped", key_material_file=str(back), custody="none").passed
    second = permanent_materials(imported.run)[1]
    assert made.record.key_check_value == second.custody.key_check_value
    assert 1 == len(second.custody.holders) == len(list((imported.path / second.folder).glob("KeyMaterial.*.bin")))


def test_no_key_material_lies_in_the_folder(imported, tmp_path):
    """Neither as bytes nor as text, in no file of the run."""
    rotated(imported, key_material_source="file", key_material_file=str(put(tmp_path / "new", OTHER)))
    for path in imported.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert OTHER not in content, path
            assert OTHER.hex().encode() not in content.lower(), path
