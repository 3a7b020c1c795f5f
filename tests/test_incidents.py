"""Incidents: the fix passes; doing nothing, and a fix that is almost right, fail for the reason named."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from runbook_cli.incident import NAMES
from runbook_lib.aws import sandbox_process
from runbook_lib.inputs.recovery import RecoverInputs
from runbook_lib.run.learning import tasks
from runbook_lib.run.steps import IMPORT_KEY_MATERIAL
from runbook_lib.steps import recover
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.tasks.incidents import INCIDENTS, JOB, SAFE, Stage, happen, is_staged, look, page


class Night:
    """A verified run with an incident, and what the person on call can do."""

    def __init__(self, walk, name, *, own=True):
        walk.start().pair().encrypt()
        walk.bring_in()
        walk.cluster()
        self.walk, self.name = walk, name
        self.stage = Stage(walk.run, walk._session, own_sandbox=own)
        self.page = happen(name, self.stage)

    @property
    def failed(self):
        return [one.claim for one in look(self.name, self.stage).checks.rows if not one.passed]

    @property
    def cluster(self):
        return self.stage.cluster.db_cluster_identifier

    def recover(self, **given):
        step = OpenStep(IMPORT_KEY_MATERIAL, self.walk.run, self.walk._session)
        recover.apply(step, recover.plan(step, RecoverInputs.check(given)))

    def start(self):
        self.walk.client("rds").start_db_cluster(DBClusterIdentifier=self.cluster)
        self.stage.practice.until(self.cluster, "available")

    def narrow(self, *actions):
        """Leave the job only these actions; none removes its statement."""
        kms, key = self.walk.client(), self.walk.key_id
        policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
        for statement in policy["Statement"]:
            if statement["Sid"] == JOB:
                statement["Action"] = list(actions)
        policy["Statement"] = [one for one in policy["Statement"] if one["Action"]]
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))

    def events(self):
        found = self.walk.client("cloudtrail").lookup_events(
            LookupAttributes=[{"AttributeKey": "ResourceName", "AttributeValue": self.walk.key["Arn"]}]
        )["Events"]
        return [json.loads(one["CloudTrailEvent"]) for one in found]

    def deposit(self, number):
        (backup,) = self.walk.path.glob("KeyMaterial.recovery-*.bin")
        backup.write_bytes((self.walk.path / SAFE / f"card-{number}.bin").read_bytes())


@pytest.fixture
def night(walk):
    return lambda name, **given: Night(walk, name, **given)


# The fixes -------------------------------------------------------------------------------------------------------------


def fix_dark(night, *, job=True):
    with pytest.raises(ClientError, match="KMSKeyNotAccessibleFault"):  # too early
        night.recover()
    night.recover()
    if job:
        night.narrow()


def import_only(night):
    with pytest.raises(ClientError, match="KMSKeyNotAccessibleFault"):
        night.recover()
    night.narrow()


def fix_expiry(night):
    night.deposit(2)
    night.recover(does_not_expire=True)


def extend_by_days(night):
    night.deposit(2)
    night.recover(valid_to=(night.stage.session.now() + timedelta(days=20)).isoformat())


def extend_and_keep_the_wrong_backup(night):
    fix_expiry(night)
    night.deposit(3)


def extend_and_disable(night):
    fix_expiry(night)
    night.walk.client().disable_key(KeyId=night.walk.key_id)
    night.stage.wait_until_dark()


def fix_deletion(night, *, enable=True, start=True, left=()):
    kms, key = night.walk.client(), night.walk.key_id
    kms.cancel_key_deletion(KeyId=key)
    if enable:
        kms.enable_key(KeyId=key)
    if start:
        night.start()
    night.narrow(*left)


def delete_the_alias_and_start_over(night):
    fix_deletion(night)
    kms = night.walk.client()
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName=night.stage.key.key_alias, TargetKeyId=other)


FIXES = {"dark": fix_dark, "expiry": fix_expiry, "deletion": fix_deletion}
AGAIN = "what caused it cannot do it again"
TWINS = {
    "dark, job not stopped": ("dark", lambda night: fix_dark(night, job=False), [AGAIN]),
    "dark, not started": ("dark", import_only, ["the cluster is available", "its instances are available"]),
    "expiry, twenty days": ("expiry", extend_by_days, ["the material does not expire within 30 days"]),
    "expiry, backup only": (
        "expiry", lambda night: night.deposit(2), ["the material does not expire within 30 days"]),
    "expiry, wrong backup left": (
        "expiry", extend_and_keep_the_wrong_backup, ["the run folder has a backup of this material"]),
    "expiry, key disabled": (
        "expiry", extend_and_disable,
        ["the key is Enabled", "the cluster is available", "its instances are available",
         "the material does not expire within 30 days"]),
    "deletion, only cancelled": (
        "deletion", lambda night: fix_deletion(night, enable=False, start=False),
        ["the key is Enabled", "the cluster is available", "its instances are available"]),
    "deletion, not started": (
        "deletion", lambda night: fix_deletion(night, start=False), ["the cluster is available", "its instances are available"]),
    "deletion, job may disable": ("deletion", lambda night: fix_deletion(night, left=["kms:DisableKey"]), [AGAIN]),
    "deletion, another key": ("deletion", delete_the_alias_and_start_over, ["the alias names the same key"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXES)
def test_the_fix_passes_and_doing_nothing_does_not(night, name):
    """The account and the run folder are looked at; looks, hints and the time of the fix are kept."""
    one = night(name)
    assert is_staged(name, one.walk.run)
    assert one.cluster in repr(one.page)
    assert one.failed
    assert "Hint 1 of 3" in repr(page(name, one.stage, hint=True))
    FIXES[name](one)
    assert [] == one.failed
    known = tasks(one.walk.run)[f"incident {name}"]
    assert (1, 2) == (known["hints"], known["looks"])
    assert known["began"] <= known["done"]


@pytest.mark.slow
@pytest.mark.parametrize("twin", TWINS)
def test_what_is_almost_right_fails_for_the_reason_named(night, twin):
    """Exactly these claims fail, so that the person on call knows what is left."""
    name, act, claims = TWINS[twin]
    one = night(name)
    act(one)
    assert claims == one.failed
    assert "done" not in tasks(one.walk.run)[f"incident {name}"]


@pytest.mark.slow
def test_cloudtrail_says_who_at_what_time(night):
    """At 09:12 UTC a role deleted the material, which is neither the learner's nor RDS's."""
    one = night("dark")
    assert "Since 09:12 UTC" in repr(one.page)
    (deleted,) = [event for event in one.events() if event["eventName"] == "DeleteImportedKeyMaterial"]
    assert "T09:12:0" in deleted["eventTime"]
    assert deleted["userIdentity"]["arn"].endswith(f":assumed-role/{JOB}/deploy-1138")


@pytest.mark.slow
def test_a_deletion_leaves_two_days(night):
    """It was scheduled five days ago with the shortest waiting period."""
    one = night("deletion")
    left = one.walk.key["DeletionDate"] - one.stage.session.now()
    assert timedelta(days=1, hours=23) < left < timedelta(days=2, minutes=1)


@pytest.mark.slow
def test_one_deposit_of_three_is_the_right_one(night):
    """And the one in the run folder is none of the right material: recover refuses it before anything changes."""
    one = night("expiry")
    wrong = []
    for number in (1, 2, 3):
        one.deposit(number)
        try:
            one.recover(does_not_expire=True)
        except Exception as error:  # noqa: BLE001 - counted below
            wrong.append((number, type(error).__name__))
    assert [(1, "KeyMaterialMismatch"), (3, "KeyMaterialMismatch")] == wrong


@pytest.mark.slow
def test_a_fault_that_was_not_met_does_not_meet_the_next_incident(night, served):
    """Whoever gives up the first incident finds no trace of it in the next."""
    one = night("dark")
    assert 1 == len(sandbox_process.call(served, "/runbook/faults")["faults"])
    one.stage.clear_faults()
    assert [] == sandbox_process.call(served, "/runbook/faults")["faults"]


@pytest.mark.slow
def test_a_shared_clock_is_not_moved(night, served):
    """In a class the trainer moves it; the incident happens all the same, at the time that it is."""
    before = sandbox_process.call(served, "/runbook/clock")["now"]
    one = night("deletion", own=False)
    assert before[:13] == sandbox_process.call(served, "/runbook/clock")["now"][:13]
    assert "the key is Enabled" in one.failed
    fix_deletion(one)
    assert [] == one.failed


def test_the_command_knows_every_incident():
    """Its choices are written out, so that `runbook --help` loads nothing."""
    assert tuple(INCIDENTS) == NAMES


@pytest.mark.slow
def test_the_command_breaks_checks_and_verifies(world):
    """The first call breaks a run, the next ones check it; what is fixed is verified again like any run."""
    assert "The cluster that went dark" in world.runbook("incident", "dark").stdout
    assert "Not yet: the key is Enabled, and 3 more, below" in world.runbook("incident", "dark", code=1).stdout
    assert "Hint 1 of 3" in world.runbook("incident", "dark", "--hint").stdout
    world.runbook("recover", "incident-dark", code=1)
    world.runbook("recover", "incident-dark")
    session = world.client("kms")
    (key,) = [one for one in session.list_aliases()["Aliases"] if one["AliasName"].startswith("alias/incident-dark")]
    policy = json.loads(session.get_key_policy(KeyId=key["TargetKeyId"], PolicyName="default")["Policy"])
    policy["Statement"] = [one for one in policy["Statement"] if one["Sid"] != JOB]
    session.put_key_policy(KeyId=key["TargetKeyId"], PolicyName="default", Policy=json.dumps(policy))
    assert "Done (hints used: 1 of 3, looks: 2)." in world.runbook("incident", "dark").stdout
    assert "Verified" in world.runbook("run", str(world.folder / "incident-dark" / "parameters.yaml")).stdout
    assert "set aside as incident-dark-1" in world.runbook("incident", "dark", "--again").stdout
