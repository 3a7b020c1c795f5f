"""Orders of steps by an honest but clumsy operator: none destroys what holds the original, or doubles anything."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from kms_support import rotate as rotate_and_wait
from openssl import private_key, put
from walk import CHECK_VALUE, KNOWN, OTHER, Walk, custody_of

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import RunbookError
from runbook_lib.inputs import kms as kms_inputs
from runbook_lib.inputs import rds as rds_inputs
from runbook_lib.inputs import recovery as recovery_inputs
from runbook_lib.inputs import start as start_inputs
from runbook_lib.material import recovery_keys, wrap_offline
from runbook_lib.steps import (
    clean_up,
    create_cluster,
    create_key,
    encrypt_key_material,
    get_parameters_for_import,
    import_key_material,
    plaintext_file,
    recover,
    recovery_drill,
)
from runbook_lib.steps import (
    start as start_step,
)

pytestmark = pytest.mark.slow

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}


def order(walk, path, **body):
    sandbox_process.call(walk.endpoint, path, body=body, method="POST")


def by_hand(public_key, material):
    """What the openssl commands that 03 shows do."""
    return serialization.load_der_public_key(public_key).encrypt(material, OAEP)


def rotate(walk, material=OTHER):
    """New material into the key and made current, as the console's 'Import new key material' and 'Rotate now' do."""
    client = walk.client()
    pair = client.get_parameters_for_import(
        KeyId=walk.key_id, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048"
    )
    client.import_key_material(
        KeyId=walk.key_id, ImportToken=pair["ImportToken"], ImportType="NEW_KEY_MATERIAL",
        EncryptedKeyMaterial=by_hand(pair["PublicKey"], material), **FOREVER,
    )  # fmt: skip
    rotate_and_wait(client, walk.key_id)


def copies(walk):
    return {path.name: path.read_bytes() for path in walk.path.glob("KeyMaterial.*.bin")}


def prove_custody(walk):
    """`runbook recover` with the recovery key: KMS says whether the copy in the folder is the material in the key."""
    step = walk.step("04")
    asked = recovery_inputs.RecoverInputs.check({"recovery_private_keys": [walk.private(0)]})
    recover.apply(step, recover.plan(step, asked))


def imported(walk, **given):
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)], **given)
    walk.bring_in()
    return walk


def shown_04(walk):
    step, asked = walk.step("04"), kms_inputs.ImportKeyMaterialInputs.check({})
    return step, import_key_material.plan(step, asked)


def clusters(walk):
    return sorted(one["DBClusterIdentifier"] for one in walk.client("rds").describe_db_clusters()["DBClusters"])


# R1 ------------------------------------------------------------------------------------------------------------


def test_r1a_03_leaves_the_only_copy_that_was_laid_beside_it(walk):
    """As the bundle's README.txt says: openssl there, EncryptedKeyMaterial.bin and KeyMaterial.recovery.bin brought back."""
    walk.start().pair()
    encrypted, only = walk.path / "EncryptedKeyMaterial.bin", walk.path / "KeyMaterial.recovery.bin"
    encrypted.write_bytes(by_hand((walk.path / "WrappingPublicKey.bin").read_bytes(), KNOWN))
    only.write_bytes(b"the only copy")
    with suppress(RunbookError):
        walk.encrypt(key_material_source="wrapped", key_material_file=str(encrypted), custody="none")
        walk.bring_in()
    assert only.exists()


def test_r1b_03_leaves_the_original_that_it_reads(walk):
    """openssl rand -out PlaintextKeyMaterial.bin in the run folder; custody none: I keep the original elsewhere."""
    walk.start().pair()
    original = walk.path / "PlaintextKeyMaterial.bin"
    original.write_bytes(KNOWN)
    original.chmod(0o600)
    asked = {"key_material_source": "file", "key_material_file": str(original)}
    with suppress(RunbookError):
        walk.encrypt(**asked, custody="none", accept_no_custody=True)
        walk.bring_in()
    assert original.is_file()
    assert KNOWN == original.read_bytes()


def test_r1c_state_json_removed_and_another_alias(walk):
    """The copies of what is in the first key stay, though the folder has forgotten them; and there is one key."""
    imported(walk)
    before = copies(walk)
    (walk.path / "state.json").unlink()
    with suppress(RunbookError):
        given = {"key_alias": "alias/again"}
        asked = start_inputs.StartInputs.check({"run_id": "demo", **given})
        step = start_step.open_run(asked, runs_dir=walk.folder)
        start_step.apply(step, start_step.plan(step, asked))
        start_step.verify(step)
        step = walk.step("01")
        create_key.apply(step, create_key.plan(step, kms_inputs.CreateKeyInputs.check(given)))
        create_key.verify(step)
        walk.pair().encrypt(recovery_public_keys=[walk.public(0)])
    assert before == copies(walk)


# R2 ------------------------------------------------------------------------------------------------------------


def copies_survive_other_choices(walk):
    assert "Enabled" == walk.key["KeyState"]  # it holds the material
    before = copies(walk)
    with suppress(RunbookError):
        walk.encrypt(recovery_public_keys=[walk.public(0), walk.public(1)])
    assert before.items() <= copies(walk).items()


def test_r2a_import_that_took_effect_then_a_refusal_in_the_same_apply(walk):
    """The SDK sends again by itself; a 4xx to the second says nothing about the first."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    fault = {"operation": "kms:ImportKeyMaterial"}
    order(walk, "/runbook/faults", **fault, kind="drop_after")
    order(walk, "/runbook/faults", **fault, kind="error", after=1, code="InvalidSignatureException", status=400)
    with pytest.raises(RunbookError):
        walk.bring_in()
    copies_survive_other_choices(walk)


def test_r2b_lid_closed_in_mid_import_and_the_cell_run_again_next_day(walk, monkeypatch):
    """The answer was lost, the token has expired since: 'refused' does not mean that nothing was imported."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    step, plan = shown_04(walk)
    send = step.client("kms").import_key_material

    def lost(**request):
        send(**request)
        raise ConnectionClosedError(endpoint_url=walk.endpoint)

    with monkeypatch.context() as patch:
        patch.setattr(step.client("kms"), "import_key_material", lost)
        with pytest.raises(ConnectionClosedError):
            import_key_material.apply(step, plan)
    order(walk, "/runbook/clock", advance_seconds=25 * 3600)
    with suppress(RunbookError):
        import_key_material.apply(step, plan)
    copies_survive_other_choices(walk)


# R3 ------------------------------------------------------------------------------------------------------------


def test_r3a_choices_whose_apply_failed_do_not_count_as_made(walk):
    """A set is there; the next choice fails on the file's mode; chmod, and the same cells again."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    mine = Path(walk.material())
    mine.chmod(0o644)
    asked = {"key_material_source": "file", "key_material_file": str(mine), "recovery_public_keys": [walk.public(1)]}
    with pytest.raises(RunbookError, match="can be read by others"):
        walk.encrypt(**asked)
    mine.chmod(0o600)
    walk.encrypt(**asked)
    walk.bring_in()
    assert CHECK_VALUE == walk.run.record("03_encrypt_key_material")["key_check_value"]


def test_r3b_two_tabs_of_03_with_different_recovery_keys(walk):
    """The last one applied asked for key 1; the set is for key 0, and the page says that all is well."""
    walk.start().pair()
    step, asked = walk.step("03"), kms_inputs.EncryptKeyMaterialInputs.check({"recovery_public_keys": [walk.public(1)]})
    plan = encrypt_key_material.plan(step, asked)
    walk.encrypt(recovery_public_keys=[walk.public(0)])  # the other tab
    try:
        encrypt_key_material.apply(step, plan)
    except RunbookError:
        walk.encrypt(recovery_public_keys=[walk.public(1)])
    holder = walk.run.record("03_encrypt_key_material")["custody"]["holders"][0]
    assert recovery_keys.key_fingerprint(private_key(2048, 1).public_key()) == holder["recovery_key_sha256"]


def test_r3c_a_file_that_was_put_right_in_place(walk):
    """Same path, other content, same cells again: what is imported is what the file holds."""
    walk.start().pair()
    path = Path(walk.material(os.urandom(32), "mine.bin"))
    asked = {
        "key_material_source": "file",
        "key_material_file": str(path),
        "custody": "none",
        "accept_no_custody": True,
    }
    walk.encrypt(**asked)
    path.write_bytes(KNOWN)
    walk.encrypt(**asked)
    walk.bring_in()
    assert CHECK_VALUE == walk.run.record("03_encrypt_key_material")["key_check_value"]


def test_r3d_a_second_hand_back_of_the_same_name(walk, tmp_path):
    """The ceremony was held again, its first recovery key being the wrong one."""
    walk.start().pair()
    brought = tmp_path / "hand-back.zip"
    asked = {"key_material_source": "wrapped", "key_material_file": str(brought), "custody": "none"}
    for number in (0, 1):
        chosen = kms_inputs.EncryptKeyMaterialInputs.check({"recovery_public_keys": [walk.public(number)]})
        folder = tmp_path / f"wrapped-{number}"
        wrap_offline.wrap_bundle(str(walk.path / "hand-over.zip"), chosen.request(), folder=folder)
        brought.write_bytes((folder / "hand-back.zip").read_bytes())
        walk.encrypt(**asked)
    holder = walk.run.record("03_encrypt_key_material")["custody"]["holders"][0]
    assert recovery_keys.key_fingerprint(private_key(2048, 1).public_key()) == holder["recovery_key_sha256"]


def test_r3e_other_choices_while_an_import_is_unclear_are_refused(walk, monkeypatch):
    """'keep' would say that they were taken."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    never_arrives(walk, monkeypatch)
    assert ["refuse"] == [change.action for change in walk.plan(recovery_public_keys=[walk.public(1)]).changes]


# R4 ------------------------------------------------------------------------------------------------------------


def test_r4_the_drill_deletes_no_material_but_the_one_that_it_proved(walk):
    """Rotated by hand since: the current material is somebody's, and its original may be nowhere."""
    imported(walk).cluster()
    rotate(walk)
    step = walk.step("80")
    asked = recovery_inputs.RecoveryDrillInputs.check({"recovery_private_keys": [walk.private(0)]})
    with suppress(RunbookError):
        recovery_drill.lose_material(step, recovery_drill.plan(step, asked))
    listed = walk.client().list_key_rotations(KeyId=walk.key_id, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert ["IMPORTED"] == [one["ImportState"] for one in listed if one["KeyMaterialState"] == "CURRENT"]


# R5 ------------------------------------------------------------------------------------------------------------


def test_r5a_04_imports_the_very_file_that_its_plan_checked(walk):
    """Between plan and apply somebody tries 03's openssl commands in the run folder."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    step, plan = shown_04(walk)
    pair = (walk.path / "WrappingPublicKey.bin").read_bytes()
    (walk.path / "EncryptedKeyMaterial.bin").write_bytes(by_hand(pair, OTHER))
    try:
        import_key_material.apply(step, plan)
        import_key_material.verify(step)
    except RunbookError:
        return
    prove_custody(walk)


def never_arrives(walk, monkeypatch):
    step, plan = shown_04(walk)

    def dropped(**_):
        raise ConnectionClosedError(endpoint_url=walk.endpoint)

    with monkeypatch.context() as patch:
        patch.setattr(step.client("kms"), "import_key_material", dropped)
        with pytest.raises(ConnectionClosedError):
            import_key_material.apply(step, plan)


def test_r5b_04_takes_nothing_for_its_own_import_that_kms_has_not_proved(walk, monkeypatch):
    """04 never arrived; the operator imports by hand with the run's own token; 04 again."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    never_arrives(walk, monkeypatch)
    encrypted = by_hand((walk.path / "WrappingPublicKey.bin").read_bytes(), OTHER)
    token = (walk.path / "ImportToken.bin").read_bytes()
    walk.client().import_key_material(KeyId=walk.key_id, ImportToken=token, EncryptedKeyMaterial=encrypted, **FOREVER)
    try:
        walk.bring_in()
    except RunbookError:
        return
    prove_custody(walk)


def test_r5c_04_again_after_a_rotation_does_not_adopt_the_new_material(walk):
    """04 and 06 must not say that the material in the key is the one that this run imported."""
    imported(walk)
    rotate(walk)
    try:
        walk.bring_in()
        walk.cluster()  # 05, and 06 verified
    except RunbookError:
        return
    prove_custody(walk)


# R6 ------------------------------------------------------------------------------------------------------------


def colleague(walk, tmp_path):
    folder = tmp_path / "colleague" / "runs"
    folder.mkdir(parents=True, mode=0o700)
    return Walk(folder, walk.endpoint)


def cleans_up(walk):
    step, asked = walk.step("90"), rds_inputs.CleanUpInputs.check({"confirm_db_cluster_identifier": "aurora-byok"})
    clean_up.apply(step, clean_up.plan(step, asked))


def test_r6a_a_colleague_with_the_same_run_id_cannot_delete_this_runs_cluster(walk, tmp_path):
    """Both keep the notebooks' defaults: run_id demo, cluster aurora-byok; the colleague did 00 only."""
    imported(walk).cluster()
    other = colleague(walk, tmp_path)
    with suppress(RunbookError):
        asked = start_inputs.StartInputs.check({"run_id": "demo"})
        step = start_step.open_run(asked, runs_dir=other.folder)
        other._session = step.session
        start_step.apply(step, start_step.plan(step, asked))
        start_step.verify(step)
        cleans_up(other)
    assert ["aurora-byok"] == clusters(walk)


def test_r6b_a_colleague_with_the_same_run_id_does_not_take_over_the_key(walk, tmp_path):
    """The key waits for its material; the colleague's 01 keeps it as its own, the colleague's 90 deletes it."""
    walk.start().pair().encrypt()
    other = colleague(walk, tmp_path)
    with suppress(RunbookError):
        other.start()
        cleans_up(other)
    assert "PendingImport" == walk.key["KeyState"]


# R7 ------------------------------------------------------------------------------------------------------------


def test_r7a_05_with_another_name_makes_no_second_cluster(walk):
    """The form is edited after the cluster was made, plan and apply again."""
    imported(walk).cluster()
    step, asked = walk.step("05"), rds_inputs.CreateClusterInputs.check({"db_cluster_identifier": "other"})
    with suppress(RunbookError):
        create_cluster.apply(step, create_cluster.plan(step, asked))
        create_cluster.verify(step)
    assert ["aurora-byok"] == clusters(walk)


def test_r7b_clean_up_finds_the_cluster_that_was_made_not_the_one_last_asked_for(walk, monkeypatch):
    """The same, but AWS refused: the run's own cluster, which goes on costing, is still the one to clean up."""
    imported(walk).cluster()
    step, asked = walk.step("05"), rds_inputs.CreateClusterInputs.check({"db_cluster_identifier": "other"})

    def refused(**_):
        told = {"Error": {"Code": "DBSubnetGroupQuotaExceeded"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        raise ClientError(told, "CreateDBSubnetGroup")

    monkeypatch.setattr(step.client("rds", retry=False), "create_db_subnet_group", refused)
    with suppress(RunbookError, ClientError):
        create_cluster.apply(step, create_cluster.plan(step, asked))
    plan = clean_up.plan(walk.step("90"), rds_inputs.CleanUpInputs.check({}))
    assert "aurora-byok" in [change.name for change in plan.changes if change.action == "delete"]


def test_r7c_dropped_unseen_throttled_then_run_again_makes_one_key(walk):
    """An unclear create stays unclear, whatever a later attempt is answered: the next run looks first."""
    asked = start_inputs.StartInputs.check({"run_id": walk.run_id})
    step = start_step.open_run(asked, runs_dir=walk.folder)
    walk._session = step.session
    start_step.apply(step, start_step.plan(step, asked))
    start_step.verify(step)
    fault = {"operation": "kms:CreateKey"}
    order(walk, "/runbook/faults", **fault, kind="invisible", seconds=3)
    order(walk, "/runbook/faults", **fault, kind="drop_after")
    order(walk, "/runbook/faults", **fault, kind="throttle", after=1, count=4)

    def one():
        step = walk.step("01")
        create_key.apply(step, create_key.plan(step, kms_inputs.CreateKeyInputs.check({})))

    with pytest.raises(RunbookError, match="keeps throttling"):
        one()
    time.sleep(2)
    one()
    assert 1 == len(tagged_keys(walk))


def tagged_keys(walk):
    client = walk.client()
    keys = [key["KeyId"] for key in client.list_keys()["Keys"]]
    return [key for key in keys if client.list_resource_tags(KeyId=key)["Tags"]]


# R8 ------------------------------------------------------------------------------------------------------------


def under_the_key(walk):
    return {"StorageEncrypted": True, "KmsKeyId": walk.run.record("01_create_key")["key_arn"]}


def test_r8a_the_drill_refuses_while_an_instance_of_others_needs_the_key(walk):
    """RDS for PostgreSQL has no cluster, and needs the key no less."""
    imported(walk).cluster()
    walk.client("rds").create_db_instance(
        DBInstanceIdentifier="somebodys", Engine="postgres", DBInstanceClass="db.t4g.medium", AllocatedStorage=20,
        MasterUsername="dbadmin", ManageMasterUserPassword=True, **under_the_key(walk),
    )  # fmt: skip
    asked = recovery_inputs.RecoveryDrillInputs.check({"recovery_private_keys": [walk.private(0)]})
    plan = recovery_drill.plan(walk.step("80"), asked)
    assert ["somebodys" in change.detail for change in plan.changes if change.action == "refuse"] == [True]


def test_r8b_the_drill_looks_again_who_needs_the_key(walk):
    """A cluster restored by somebody while the plan stood there stays available."""
    imported(walk).cluster()
    step = walk.step("80")
    asked = recovery_inputs.RecoveryDrillInputs.check({"recovery_private_keys": [walk.private(0)]})
    plan, client = recovery_drill.plan(step, asked), walk.client("rds")
    client.create_db_cluster(
        DBClusterIdentifier="restored", Engine="aurora-mysql", MasterUsername="dbadmin", ManageMasterUserPassword=True,
        **under_the_key(walk),
    )  # fmt: skip

    def status():
        return client.describe_db_clusters(DBClusterIdentifier="restored")["DBClusters"][0]["Status"]

    while status() != "available":
        pass
    with suppress(RunbookError):
        recovery_drill.lose_material(step, plan)
    assert "available" == status()


def test_r8c_05_again_puts_no_instance_into_a_cluster_of_others(walk, monkeypatch):
    """The create never arrived; somebody took the name meanwhile; the apply cell again."""
    imported(walk)
    step, asked = walk.step("05"), rds_inputs.CreateClusterInputs.check({})
    plan = create_cluster.plan(step, asked)

    def dropped(**_):
        raise ConnectionClosedError(endpoint_url=walk.endpoint)

    with monkeypatch.context() as patch:
        patch.setattr(step.client("rds", retry=False), "create_db_cluster", dropped)
        with pytest.raises(RunbookError):
            create_cluster.apply(step, plan)
    walk.client("rds").create_db_cluster(
        DBClusterIdentifier="aurora-byok",
        Engine="aurora-mysql",
        MasterUsername="dbadmin",
        ManageMasterUserPassword=True,
    )
    with suppress(RunbookError, ClientError):
        create_cluster.apply(step, plan)
    assert [] == walk.client("rds").describe_db_instances()["DBInstances"]


def test_r8d_clean_up_leaves_an_alias_of_others(walk):
    """Somebody's name for the key goes when the key does, not thirty days before."""
    walk.start()
    walk.client().create_alias(AliasName="alias/somebodys", TargetKeyId=walk.key_id)
    plan = clean_up.plan(walk.step("90"), rds_inputs.CleanUpInputs.check({}))
    assert "alias/somebodys" not in [change.name for change in plan.changes if change.action == "delete"]


# R9 ------------------------------------------------------------------------------------------------------------


def test_r9a_06_sees_a_custody_copy_of_another_set(walk):
    """Its report tells who holds what; a copy that is there and is another is no evidence."""
    imported(walk)
    next(walk.path.glob("KeyMaterial.recovery-*")).write_bytes(b"of another run".ljust(256))
    with pytest.raises(RunbookError):
        walk.cluster()


def test_r9b_a_training_key_is_not_replaced_by_an_apply_that_fails(walk):
    """'The old set is then still there', and so must be what opens it."""
    walk.start().pair().encrypt()
    private = walk.path / "TRAINING-recovery-private-key.pem"
    before = private.read_bytes()
    (walk.path / "TRAINING-recovery-public-key.pem").unlink()
    with pytest.raises(RunbookError):
        walk.encrypt(key_material_source="file", key_material_file="/nowhere")
    assert before == private.read_bytes()


# R10: what is deleted later than it was made is proved to be the very file, and was in the plan --------------------


def in_clear(walk):
    """A set whose original is in PlaintextKeyMaterial.bin, to be destroyed after the import; return that file."""
    walk.start().pair().encrypt(**{**custody_of("file", walk), "keep_plaintext_file": False})
    return walk.path / "PlaintextKeyMaterial.bin"


def rows(plan):
    return {change.name: change.action for change in plan.changes}


def test_r10a_04_again_keeps_the_original_that_was_put_back(walk):
    """The file of 03 is deleted once, as the plan says; under its name `recover` looks for what was put back."""
    plain = in_clear(walk)
    assert "delete" == rows(walk.plan_import())[plain.name]
    walk.bring_in()
    assert not plain.exists()
    told = walk.run.record("04_import_key_material")["plaintext_file"]
    assert told.startswith("destroyed 20")
    assert plain.name not in rows(walk.plan_import())
    put(plain, KNOWN)
    assert "keep" == rows(walk.plan_import())[plain.name]
    walk.bring_in()
    assert KNOWN == plain.read_bytes()
    assert told == walk.run.record("04_import_key_material")["plaintext_file"]


def put_back(plain):
    """As it was, times and mode included: all that a backup restores."""
    backup = plain.with_name("backup")
    shutil.copy2(plain, backup)
    plain.unlink()
    shutil.copy2(backup, plain)
    backup.unlink()


@pytest.mark.parametrize(
    "change",
    [put_back, lambda plain: plain.write_bytes(OTHER), lambda plain: os.link(plain, plain.with_name("my-backup"))],
    ids=["the same content", "another check value", "a hard link"],
)
@pytest.mark.parametrize("when", ["before the plan", "before the apply", "before the verify"])
def test_r10b_04_keeps_a_file_that_is_not_the_very_one_that_03_wrote(walk, change, when):
    """Whatever it holds, and whenever it came."""
    plain = in_clear(walk)
    if when == "before the plan":
        change(plain)
    step, plan = shown_04(walk)
    assert ("keep" if when == "before the plan" else "delete") == rows(plan)[plain.name]
    if when == "before the apply":
        change(plain)
    import_key_material.apply(step, plan)
    if when == "before the verify":
        change(plain)
    content = plain.read_bytes()
    import_key_material.verify(step)
    assert content == plain.read_bytes()
    assert step.run.record(step.name)["plaintext_file"].startswith("kept")


def test_r10c_04_deletes_nothing_that_its_plan_did_not_show(walk):
    """A plan without the row; then one with it."""
    plain = in_clear(walk)
    step, plan = shown_04(walk)
    import_key_material.apply(step, replace(plan, changes=plan.changes[:1]))
    import_key_material.verify(step)
    assert KNOWN == plain.read_bytes()
    walk.bring_in()
    assert not plain.exists()


def test_r10d_the_same_plan_of_04_again_keeps_the_original_that_was_put_back(walk):
    """It shows the row 'delete' still, and its file is gone."""
    plain = in_clear(walk)
    step, plan = shown_04(walk)
    import_key_material.apply(step, plan)
    import_key_material.verify(step)
    put(plain, KNOWN)
    with suppress(RunbookError):
        import_key_material.apply(step, plan)
    import_key_material.verify(step)
    assert KNOWN == plain.read_bytes()


@pytest.mark.parametrize("moment", ["before it", "after it"])
def test_r10e_killed_beside_the_deletion_04_goes_on_and_keeps_what_was_put_back(walk, monkeypatch, moment):
    """Deleted and not recorded, nobody can tell from the record: the file itself has to."""
    plain = in_clear(walk)
    real = plaintext_file.destroy

    def killed(path, **given):
        if moment == "after it":
            real(path, **given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plaintext_file, "destroy", killed)
        with pytest.raises(KeyboardInterrupt):
            walk.bring_in()
    assert plain.exists() == (moment == "before it")
    if moment == "after it":
        put(plain, KNOWN)
    walk.bring_in()
    assert plain.exists() == (moment == "after it")
    assert walk.run.is_finished("04_import_key_material")


@pytest.mark.parametrize("change", [put_back, lambda plain: plain.write_bytes(OTHER)], ids=["the same", "another"])
def test_r10f_03_supersedes_no_file_in_clear_but_its_own(walk, change):
    """Refused before anything goes; untouched, the file of the superseded set goes as the plan says."""
    plain = in_clear(walk)
    change(plain)
    content = plain.read_bytes()
    assert "refuse" == rows(walk.plan(recovery_public_keys=[walk.public(0)]))[plain.name]
    with pytest.raises(RunbookError, match=r"PlaintextKeyMaterial\.bin"):
        walk.encrypt(recovery_public_keys=[walk.public(0)])
    assert content == plain.read_bytes()


def test_r10g_03_supersedes_its_own_file_in_clear(walk):
    """The twin."""
    plain = in_clear(walk)
    walk.encrypt(recovery_public_keys=[walk.public(0)])
    assert not plain.exists()


def test_r10h_03_supersedes_no_copy_that_was_put_under_a_name_of_its_own(walk):
    """A copy of another run, copied into the wrong folder."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    copy = next(walk.path.glob("KeyMaterial.recovery-*"))
    copy.write_bytes(b"of another run".ljust(256))
    with pytest.raises(RunbookError, match=copy.name):
        walk.encrypt(recovery_public_keys=[walk.public(1)])
    assert copy.read_bytes().startswith(b"of another run")


@pytest.mark.parametrize("name", ["EncryptedKeyMaterial.bin", "custody.json"])
@pytest.mark.parametrize("made", [False, True], ids=["first", "superseding"])
def test_r10i_03_keeps_aside_what_lies_under_the_names_of_its_set(walk, name, made):
    """And its plan says under which name."""
    walk.start().pair()
    if made:
        walk.encrypt(recovery_public_keys=[walk.public(0)])
    put(walk.path / name, b"my notes")
    plan = walk.plan(recovery_public_keys=[walk.public(1)])
    assert [
        f"{name}.kept-1" in change.detail for change in plan.changes if change.name == name and change.action == "keep"
    ]
    walk.encrypt(recovery_public_keys=[walk.public(1)])
    assert b"my notes" == (walk.path / f"{name}.kept-1").read_bytes()
    assert [f"{name}.kept-1"] == [path.name for path in walk.path.glob("*.kept-*")]


def fetched_again(walk):
    """02 once more, for another kind of pair; two minutes later, so that the archive has another name."""
    order(walk, "/runbook/clock", advance_seconds=120)
    step, asked = walk.step("02"), kms_inputs.GetParametersForImportInputs.check({"wrapping_key_spec": "RSA_3072"})
    plan = get_parameters_for_import.plan(step, asked)
    get_parameters_for_import.apply(step, plan)
    get_parameters_for_import.verify(step)
    return plan


def test_r10j_02_again_keeps_what_is_not_its_own(walk):
    """README.txt is a name that people use; and the old archive may have been replaced."""
    walk.start().pair()
    archive = walk.path / walk.run.record("02_get_parameters_for_import")["archive"]
    for path in (walk.path / "README.txt", archive):
        path.write_bytes(b"my notes")
    plan = fetched_again(walk)
    assert "keep" == rows(plan)["README.txt"]
    assert b"my notes" == (walk.path / "README.txt.kept-1").read_bytes() == archive.read_bytes()


def test_r10k_02_again_replaces_its_own(walk):
    """The twin: no file of the first pair is left."""
    walk.start().pair()
    archive = walk.path / walk.run.record("02_get_parameters_for_import")["archive"]
    fetched_again(walk)
    assert not archive.exists()
    assert [] == list(walk.path.glob("*.kept-*"))


@pytest.mark.parametrize("name", ["WrappingPublicKey.bin", "README.txt", "hand-over.zip"])
def test_r10n_02_killed_while_it_writes_goes_on_and_knows_its_own(walk, monkeypatch, name):
    """What it had written is replaced, not kept aside as somebody's."""
    walk.start()
    step, real = walk.step("02"), walk.run.write

    def killed(one, content):
        real(one, content)
        if one == name:
            raise KeyboardInterrupt

    asked = kms_inputs.GetParametersForImportInputs.check({"wrapping_key_spec": "RSA_2048"})
    with monkeypatch.context() as patch:
        patch.setattr(step.run, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            get_parameters_for_import.apply(step, get_parameters_for_import.plan(step, asked))
    walk.pair()
    assert [] == list(walk.path.glob("*.kept-*"))


def test_r10l_a_hand_over_for_recovery_takes_away_only_what_it_made(walk, capsys):
    """Prepared twice, then done; a file of another under either name stays."""
    imported(walk)
    folder = walk.path / "recovery"
    folder.mkdir(mode=0o700)
    put(folder / "hand-over.zip", b"mine")
    recover.prepare_hand_over(walk.step("04"))
    assert "hand-over.zip.kept-1" in capsys.readouterr().out
    recover.prepare_hand_over(walk.step("04"))
    assert ["ImportToken.bin", "hand-over.zip", "hand-over.zip.kept-1"] == sorted(
        path.name for path in folder.iterdir()
    )
    put(folder / "ImportToken.bin", b"mine too")
    recover.forget_hand_over(walk.run)
    assert ["ImportToken.bin", "hand-over.zip.kept-1"] == sorted(path.name for path in folder.iterdir())


def test_r10m_the_drill_takes_away_only_its_own_ciphertext(walk):
    """What lies under that name is renamed, and the drill's own is gone at the end."""
    imported(walk).cluster()
    put(walk.path / recovery_drill.CIPHERTEXT, b"mine")
    step, asked = (
        walk.step("80"),
        recovery_inputs.RecoveryDrillInputs.check({"recovery_private_keys": [walk.private(0)]}),
    )
    plan = recovery_drill.plan(step, asked)
    recovery_drill.lose_material(step, plan)
    recovery_drill.try_other_material(step, plan)
    recovery_drill.bring_back(step, plan)
    recovery_drill.verify(step)
    assert [f"{recovery_drill.CIPHERTEXT}.kept-1"] == [
        path.name for path in walk.path.glob(f"{recovery_drill.CIPHERTEXT}*")
    ]
    assert b"mine" == (walk.path / f"{recovery_drill.CIPHERTEXT}.kept-1").read_bytes()
