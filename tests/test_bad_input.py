"""What goes wrong at a desk: each mistake gets one line that names it and the way out, and nothing is half done."""

from __future__ import annotations

import base64
import json
import re
import shutil

import pytest
from cells import run_cells, run_steps

from runbook_lib import errors
from runbook_lib.aws import sandbox_process
from runbook_lib.run.steps import chain

STEPS = [step.name for step in chain()]
UNTIL = {name: STEPS[: STEPS.index(name)] for name in STEPS}
QUICK = {"wrapping_key_spec": "RSA_2048"}


@pytest.fixture
def desk(shared_world, monkeypatch, request):
    """A run of its own, its name, and what AWS was asked to change since."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(shared_world.folder))
    monkeypatch.setenv("RUNBOOK_SANDBOX_ENDPOINT", shared_world.sandbox.url)
    return Desk(shared_world, re.sub(r"\W+", "-", request.node.name).strip("-")[-60:].strip("-_"))


class Desk:
    """One run in the shared sandbox."""

    def __init__(self, world, run_id):
        self.world, self.run_id = world, run_id
        self.path = world.folder / run_id

    def go(self, *names, **parameters):
        """Run the steps."""
        run_steps(*names, run_id=self.run_id, **{**QUICK, **parameters})

    def fails(self, name, error, words, **parameters):
        """Run step `name`: it raises `error` in one line that holds all of `words`, and changes nothing."""
        before, state = len(self.world.ask("/runbook/calls")["calls"]), self._state()
        with pytest.raises(error) as told:
            run_cells(name, run_id=self.run_id, **parameters)
        line = str(told.value)
        assert 1 == len(line.splitlines()), line
        for word in words:
            assert word in line
        changing = [call for call in self.world.calls(before) if not re.match(r"\w+:(Describe|Get|List|Lookup)", call)]
        assert [] == changing
        assert state == self._state()

    def _state(self):
        file = self.path / "state.json"
        if not file.is_file():
            return {}
        steps = json.loads(file.read_text())["steps"]
        return {name: (section["record"], section["intents"]) for name, section in steps.items() if section["record"]}

    def edit(self, step, **record):
        """Put other values into the record of a step."""
        file = self.path / "state.json"
        state = json.loads(file.read_text())
        state["steps"][step]["record"].update(record)
        file.write_text(json.dumps(state))


# Where the run works ----------------------------------------------------------------------------------------------


def test_a_region_that_does_not_exist(desk):
    """The nearest Region is named, and no run is made."""
    desk.fails("00_start", errors.WrongRegion, ["'eu-west-9'", "did you mean 'eu-west-"], region="eu-west-9")
    assert not desk.path.exists()


def test_a_run_does_not_move_to_another_region(desk):
    """Key and cluster share one Region: it is fixed with the run."""
    desk.go("00_start")
    desk.fails("00_start", errors.ParameterChanged, ["region", "'eu-west-2'", "'eu-west-1'"], region="eu-west-1")


def test_a_key_of_another_region_is_refused_before_anything_is_created(desk):
    """05 compares the key's Region with the run's."""
    desk.go(*UNTIL["05_create_cluster"])
    arn = json.loads((desk.path / "state.json").read_text())["steps"]["01_create_key"]["record"]["key_arn"]
    desk.edit("01_create_key", key_arn=arn.replace("eu-west-2", "us-east-1"))
    desk.fails("05_create_cluster", errors.KeyNotUsable, ["us-east-1", "eu-west-2"])


# The pre-flight: before a key costs money -------------------------------------------------------------------------

PREFLIGHT = {
    "an administrator who does not exist": ({"key_administrators": ["role/Nobody"]}, ["Nobody", "key_administrators"]),
    "a user who does not exist": ({"key_users": ["role/Nobody"]}, ["Nobody", "key_users"]),
    "the engine version of the post": ({"engine_version": "5.6.10a"}, ["'5.6.10a'", "8.0.mysql_aurora"]),
    "the instance class of the post": ({"db_instance_class": "db.t2.small"}, ["'db.t2.small'", "db.t4g.medium"]),
    "a VPC that does not exist": ({"vpc_id": "vpc-0a1b2c3d"}, ["'vpc-0a1b2c3d'", "does not exist"]),
    "a subnet group that does not exist": ({"db_subnet_group_name": "nowhere"}, ["'nowhere'", "create it"]),
    "a security group that does not exist": ({"vpc_security_group_ids": ["sg-0a1b2c3d"]}, ["sg-0a1b2c3d"]),
    "a parameter group that does not exist": ({"db_cluster_parameter_group_name": "mine"}, ["'mine'", "create it"]),
    "a monitoring role that does not exist": (
        {"monitoring_interval": 60, "monitoring_role_arn": "arn:aws:iam::123456789012:role/Nobody"}, ["Nobody"],
    ),
    "a key for the password that does not exist": ({"master_user_secret_kms_key_id": "alias/none"}, ["'alias/none'"]),
}  # fmt: skip


@pytest.mark.parametrize(("parameters", "words"), PREFLIGHT.values(), ids=PREFLIGHT)
def test_the_preflight_finds(desk, parameters, words):
    """What only AWS can tell is found in 00: no key is made."""
    desk.fails("00_start", errors.PreflightFailed, ["nothing was created", *words], **parameters)


def test_the_preflight_names_all_that_is_missing_at_once(desk):
    """Nobody mends three mistakes in three runs."""
    wrong = {"key_users": ["role/Nobody"], "engine_version": "1.0", "db_subnet_group_name": "nowhere"}
    desk.fails("00_start", errors.PreflightFailed, ["Nobody", "'1.0'", "'nowhere'"], **wrong)


def test_a_vpc_with_one_zone_is_found(desk):
    """Aurora needs subnets in two zones."""
    ec2 = desk.world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24", AvailabilityZone="eu-west-2a")
    wrong = {"vpc_id": vpc, "account_id": "123456789012"}
    desk.fails("00_start", errors.PreflightFailed, [vpc, "1 zone", "add a subnet"], **wrong)


# Steps that miss what they need -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "missing"), [(STEPS[i], STEPS[i - 1]) for i in range(2, 7)])
def test_a_step_that_comes_too_early_names_the_notebook_to_run(desk, step, missing):
    """Each step says which one must come first."""
    desk.go(*UNTIL[missing])
    desk.fails(step, errors.StepMissing, [missing, f"run notebooks/{missing}.ipynb"])


def test_a_run_that_was_never_started(desk):
    """Any step says that 00 makes the run."""
    desk.fails("01_create_key", errors.RunNotFound, [desk.run_id, "00_start"])


def test_a_run_folder_that_was_deleted(desk):
    """The run is not guessed at: it is gone, and 00 makes a new one."""
    desk.go("00_start", "01_create_key", key_alias="alias/deleted", db_cluster_identifier="deleted")
    shutil.rmtree(desk.path)
    desk.fails("02_get_parameters_for_import", errors.RunNotFound, [desk.run_id, "00_start"])


def test_a_state_file_that_cannot_be_read(desk):
    """state.json that cannot be read is named with the reason; nothing new is begun in its place."""
    desk.go("00_start")
    (desk.path / "state.json").unlink()
    (desk.path / "state.json").mkdir()
    desk.fails("01_create_key", errors.RunNotFound, ["state.json", "cannot be read"])


# Key material -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [bytes(31), bytes(33), b""], ids=["31 bytes", "33 bytes", "nothing"])
def test_material_of_another_length(desk, tmp_path, content):
    """Exactly 32 bytes; the length that was found is named, the bytes are not."""
    path = tmp_path / "PlaintextKeyMaterial.bin"
    path.write_bytes(content)
    path.chmod(0o600)
    desk.go(*UNTIL["03_encrypt_key_material"])
    desk.fails("03_encrypt_key_material", errors.KeyMaterialLength, [str(len(content)), "32"],
               key_material_source="file", key_material_file=str(path))  # fmt: skip
    assert not (desk.path / "EncryptedKeyMaterial.bin").exists()


def test_base64_in_place_of_binary_is_recognised_and_not_repeated(desk, tmp_path):
    """The commonest mistake gets its own words; the text, which is the secret, is not in them."""
    text = base64.b64encode(bytes(range(32)))
    path = tmp_path / "PlaintextKeyMaterial.b64"
    path.write_bytes(text)
    path.chmod(0o600)
    desk.go(*UNTIL["03_encrypt_key_material"])
    desk.fails("03_encrypt_key_material", errors.KeyMaterialEncoded, ["base64", "key_material_encoding"],
               key_material_source="file", key_material_file=str(path))  # fmt: skip
    with pytest.raises(errors.KeyMaterialEncoded) as told:
        run_cells(
            "03_encrypt_key_material", run_id=desk.run_id, key_material_source="file", key_material_file=str(path)
        )
    assert text.decode()[:8] not in str(told.value)


# The pair ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ImportToken.bin", "WrappingPublicKey.bin", "EncryptedKeyMaterial.bin"])
def test_files_of_different_sets_are_not_imported(desk, name):
    """Wrapping key, token and encrypted material belong together: one of another set is named before KMS is asked."""
    desk.go(*UNTIL["04_import_key_material"])
    other = Desk(desk.world, f"{desk.run_id[:50]}-other")
    other.go(*UNTIL["04_import_key_material"])
    shutil.copy(other.path / name, desk.path / name)
    desk.fails("04_import_key_material", errors.ArtefactsMismatch, [name])


def test_a_pair_that_has_expired_is_not_used(desk):
    """25 hours later 04 refuses and says which steps fetch and wrap again; they do."""
    desk.go(*UNTIL["04_import_key_material"])
    desk.world.ask("/runbook/clock", {"advance_seconds": 25 * 3600})
    try:
        desk.fails("04_import_key_material", errors.ImportTokenExpired, ["expired at", "02_get_parameters_for_import"])
        desk.go(*STEPS[2:5])
    finally:
        desk.world.ask("/runbook/clock", {"advance_seconds": -25 * 3600})


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion"])
def test_a_key_that_is_not_enabled_is_refused_before_anything_is_created(desk, state):
    """05 looks at the key's state before it asks RDS for anything."""
    desk.go(*UNTIL["05_create_cluster"])
    recorded = json.loads((desk.path / "state.json").read_text())
    kms = desk.world.client("kms", account=recorded["target"]["account_id"])
    key_id = recorded["steps"]["01_create_key"]["record"]["key_id"]
    kms.disable_key(KeyId=key_id) if state == "Disabled" else kms.schedule_key_deletion(KeyId=key_id)
    desk.fails("05_create_cluster", errors.KeyNotUsable, [state])


def test_a_sandbox_that_has_ended(world, monkeypatch):
    """A run whose world is gone says so, and leaves the folder as it was."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(world.folder))
    run_steps("00_start", "01_create_key", run_id="gone")
    sandbox_process.stop(world.folder)
    before = (world.folder / "gone" / "state.json").read_bytes()
    with pytest.raises(errors.SandboxEnded, match=r"has ended.*00_start") as told:
        run_cells("02_get_parameters_for_import", run_id="gone")
    assert 1 == len(str(told.value).splitlines())
    assert before == (world.folder / "gone" / "state.json").read_bytes()
