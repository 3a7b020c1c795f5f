"""The recovery drill: lost, refused, brought back; and never a loss that cannot be undone."""

from __future__ import annotations

import pytest
from kms_support import wrap as wrapped_by
from openssl import put
from walk import FAST, KNOWN, OTHER, custody_of

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import (
    EncryptedKeyMaterialInvalid,
    KeyMaterialMismatch,
    KeyNotUsable,
    NotConfirmed,
    ParameterChanged,
    PlanRefused,
    RecoverySourceInvalid,
    StepMissing,
    VerificationFailed,
)
from runbook_lib.inputs.recovery import RecoverInputs, RecoveryDrillInputs
from runbook_lib.steps import recover, recovery_drill

pytestmark = pytest.mark.slow

LOST = "inaccessible-encryption-credentials-recoverable"


def asked(**given):
    return RecoveryDrillInputs.check(given)


@pytest.fixture
def under(walk):
    """A run with a cluster under the key, the training key as recipient."""
    walk.start().pair().encrypt()
    walk.bring_in()
    return walk.cluster()


def calls(walk, since=0):
    found = sandbox_process.call(walk.endpoint, "/runbook/calls?since=0")["calls"]
    return [f"{call['service']}:{call['operation']}" for call in found[since:]]


def status(walk):
    return walk.client("rds").describe_db_clusters(DBClusterIdentifier="aurora-byok")["DBClusters"][0]["Status"]


def drilled(walk, **given):
    """Do the whole drill."""
    step = walk.step("80")
    plan = recovery_drill.plan(step, asked(**given))
    recovery_drill.lose_material(step, plan)
    recovery_drill.try_other_material(step, plan)
    recovery_drill.bring_back(step, plan)
    return recovery_drill.verify(step)


def test_the_drill_as_a_whole(under):
    """Lost: nothing opens. Other material: refused. The original: key, ciphertext and cluster are back."""
    material = under.key["CurrentKeyMaterialId"]
    assert drilled(under).passed
    made = under.run.record("80_recovery_drill")
    assert {"key": "PendingImport", "decrypt": "KMSInvalidStateException", "cluster": LOST} == made["without"]
    assert "IncorrectKeyMaterialException" == made["other_material"]
    assert {"key": "Enabled", "decrypt": "opens", "cluster": "available"} == made["after"]
    assert (material, "available") == (under.key["CurrentKeyMaterialId"], status(under))
    assert not (under.path / recovery_drill.CIPHERTEXT).exists()
    under.cluster()


def test_in_between_the_loss_is_real(under):
    """Asked by somebody who knows nothing of the runbook: the key has no material, the cluster is gone from service."""
    step = under.step("80")
    recovery_drill.lose_material(step, recovery_drill.plan(step, asked()))
    assert ("PendingImport", LOST) == (under.key["KeyState"], status(under))
    with pytest.raises(StepMissing, match="not complete"):
        recovery_drill.verify(step)


def test_before_anything_is_deleted_kms_has_taken_the_original(under):
    """A copy that opens to other bytes ends the drill while the live material is still there."""
    before = len(calls(under))
    step = under.step("80")
    plan = recovery_drill.plan(step, asked())
    recovery_drill.lose_material(step, plan)
    order = [
        call for call in calls(under, before) if call in ("kms:ImportKeyMaterial", "kms:DeleteImportedKeyMaterial")
    ]
    assert ["kms:ImportKeyMaterial", "kms:DeleteImportedKeyMaterial"] == order


def test_other_material_ends_the_drill_with_nothing_lost(walk):
    """The twin: the check value is unknown, the file brought is not the original, KMS says so, nothing is deleted."""
    walk.start().pair()
    public = (walk.path / "WrappingPublicKey.bin").read_bytes()
    walk.encrypt(
        key_material_source="wrapped",
        key_material_file=str(put(walk.keys / "w", wrapped_by(public, KNOWN))),
        custody="none",
    )
    walk.bring_in()
    walk.cluster()
    given = asked(original_file=walk.material(OTHER, "other"))
    step = walk.step("80")
    with pytest.raises(KeyMaterialMismatch, match="not the material that the key had"):
        recovery_drill.lose_material(step, recovery_drill.plan(step, given))
    assert ("Enabled", "available") == (walk.key["KeyState"], status(walk))
    assert drilled(walk, original_file=walk.material()).passed


@pytest.mark.parametrize("harm", ["copy", "key", "both"])
def test_a_copy_that_does_not_open_is_found_when_planning(under, harm):
    """What does not open now would not open in an emergency: the plan fails, AWS is not asked to change anything."""
    before = len(calls(under))
    if harm in ("copy", "both"):
        path = next(under.path.glob("KeyMaterial.*.bin"))
        path.write_bytes(path.read_bytes()[:-1])
    if harm in ("key", "both"):
        (under.path / "TRAINING-recovery-private-key.pem").unlink()
    with pytest.raises((EncryptedKeyMaterialInvalid, RecoverySourceInvalid)):
        recovery_drill.plan(under.step("80"), asked())
    assert not [call for call in calls(under, before) if "Import" in call or "Delete" in call]
    assert "Enabled" == under.key["KeyState"]


def test_a_drill_that_broke_off_goes_on(under):
    """After the deletion the kernel died: the same cells bring everything back."""
    step = under.step("80")
    recovery_drill.lose_material(step, recovery_drill.plan(step, asked()))
    assert drilled(under).passed


def test_runbook_recover_ends_a_broken_drill_too(under):
    """It is an ordinary loss: the same command, and the cluster is started with it."""
    from click.testing import CliRunner

    from runbook_cli.main import main

    step = under.step("80")
    recovery_drill.lose_material(step, recovery_drill.plan(step, asked()))
    told = CliRunner().invoke(main, ["recover", "demo", "--runs-dir", str(under.folder)]).output
    assert "cluster aurora-byok is starting" in told
    assert "runbook run --run-id demo" in told
    under.cluster()


def test_a_loss_that_was_no_drill_is_not_drilled_with(under):
    """Somebody else deleted the material: recover first."""
    under.delete_material()
    with pytest.raises(KeyNotUsable, match=r"which this drill did not cause.*runbook recover demo"):
        recovery_drill.plan(under.step("80"), asked())


def test_another_cluster_under_the_key_is_not_taken_down(under):
    """The key is shared: the plan refuses and names who would suffer."""
    under.client("rds").create_db_cluster(
        DBClusterIdentifier="innocent", Engine="aurora-mysql", MasterUsername="dbadmin", ManageMasterUserPassword=True,
        StorageEncrypted=True, KmsKeyId=under.key_id,
    )  # fmt: skip
    step = under.step("80")
    plan = recovery_drill.plan(step, asked())
    assert "DB cluster innocent would become inaccessible too" in plan.changes[2].detail
    with pytest.raises(PlanRefused, match="innocent"):
        recovery_drill.lose_material(step, plan)
    assert "Enabled" == under.key["KeyState"]


def test_verify_finds_a_cluster_that_did_not_come_back(under):
    """What was seen is judged: a claim that does not hold fails the step."""
    drilled(under)
    step = under.step("80")
    step.run.note("80_recovery_drill", after={"key": "Enabled", "decrypt": "opens", "cluster": "starting"})
    with pytest.raises(VerificationFailed, match="the cluster is available again"):
        recovery_drill.verify(step)


# With target aws ------------------------------------------------------------------------------------------------------


def as_aws(walk):
    """Open the step as if its run were real; its clients stay the sandbox's."""
    step = walk.step("80")
    step.session.identity()
    state = step.run._state
    state["target"]["target"] = "aws"
    step.run._save()
    return step


def test_with_target_aws_the_drill_only_reads(walk):
    """It says what it would do, opens the copy, and calls nothing that changes anything."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in()
    walk.cluster()
    step = as_aws(walk)
    before = len(calls(walk))
    given = asked(recovery_private_keys=[walk.private()])
    plan = recovery_drill.plan(step, given)
    assert {"keep"} == {change.action for change in plan.changes}
    assert "only with a throw-away cluster: deleted and imported again" in repr(plan)
    for told in (
        recovery_drill.lose_material(step, plan),
        recovery_drill.try_other_material(step, plan),
        recovery_drill.bring_back(step, plan),
    ):
        assert "Nothing was changed" in told
    assert recovery_drill.verify(step).passed
    assert not [call for call in calls(walk, before) if not call.split(":")[1].startswith(("Describe", "List", "Get"))]
    assert "read only" in walk.run.record("80_recovery_drill")["summary"]


def test_with_target_aws_a_throw_away_cluster_must_be_named_exactly(under):
    """Another name is refused; the run's own lets the drill begin."""
    step = as_aws(under)
    with pytest.raises(NotConfirmed, match="this run's cluster is 'aurora-byok'"):
        recovery_drill.plan(step, asked(throw_away_db_cluster_identifier="production"))
    plan = recovery_drill.plan(step, asked(throw_away_db_cluster_identifier="aurora-byok"))
    assert ["keep", "delete", "keep", "create", "change"] == [change.action for change in plan.changes]


def test_training_keys_are_never_taken_for_real_ones(walk):
    """with_training_keys looks at the record, not at what lies in the folder."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    (walk.path / "TRAINING-recovery-private-key.pem").write_bytes(b"left over")
    assert () == recover.sources(walk.run, RecoverInputs.check({})).private_keys


def test_a_finished_drill_does_not_stand_in_the_way_of_the_nightly_verification(under):
    """Its choices are its own: a run that goes on with its parameter file is not held to them."""
    from runbook_cli.runner.run_folder import require_same_parameters

    key = str(put(under.keys / "key.pem", (under.path / "TRAINING-recovery-private-key.pem").read_bytes()))
    assert drilled(under, recovery_private_keys=[key]).passed
    require_same_parameters(under.path, {"run_id": "demo", **FAST})
    with pytest.raises(ParameterChanged, match="wrapping_key_spec"):
        require_same_parameters(under.path, {"run_id": "demo"})


# What the report says ---------------------------------------------------------------------------------------------


def test_the_report_says_who_holds_what_and_how_long_is_left(walk):
    """Custodians by fingerprint, each component's check value, the algorithm, the days; report.json has the record."""
    import json
    from datetime import timedelta

    from kms_support import now

    walk.start().pair().encrypt(**custody_of("split", walk))
    until = (now(walk.endpoint) + timedelta(days=40, hours=1)).isoformat(timespec="seconds")
    walk.bring_in(expiration_model="KEY_MATERIAL_EXPIRES", valid_to=until)
    walk.cluster()
    page, told = (
        (walk.path / "report.html").read_text().replace("<wbr>", ""),
        json.loads((walk.path / "report.json").read_text()),
    )
    record = walk.run.record("03_encrypt_key_material")["custody"]
    assert record == told["custody"]
    assert 40 == told["seconds_until_expiry"] // 86400
    assert ", in 40 days" in page
    for holder in record["holders"]:
        for word in ("file", "recovery_key_sha256", "algorithm", "component_check_value"):
            assert holder[word] in page
    assert KNOWN.hex() not in page


def test_a_report_without_material_asks_for_recover(under):
    """The nightly verification of a key that lost its material says what to do."""
    from runbook_lib.steps import verify_encryption

    under.delete_material()
    with pytest.raises(VerificationFailed, match="import it again with: runbook recover demo"):
        verify_encryption.verify(under.step("06"))
    assert "runbook recover demo" in (under.path / "report.html").read_text()
