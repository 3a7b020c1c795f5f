"""Tasks: each check passes on its solution, and fails on doing nothing and on what is almost right, for the reason named."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kms_support import reset

from runbook_lib.aws import kms, sandbox_process
from runbook_lib.aws.retry import poll
from runbook_lib.errors import TaskNotPrepared
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.learning import answers, lock_in, tasks
from runbook_lib.run.steps import all_steps
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.start import open_run
from runbook_lib.steps.tasks.work import TASKS, task
from runbook_sandbox.rds import quotas

FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
NEW = {"ImportType": "NEW_KEY_MATERIAL", **FOREVER}
NAMES = [
    "00_start", "01_create_key", "02_get_parameters_for_import", "03_encrypt_key_material", "04_import_key_material",
    "05_create_cluster", "06_verify_encryption", "10_encrypt_existing_cluster", "11_cut_over", "20_rotate_key_material",
    "21_watch_key", "80_recovery_drill", "90_clean_up",
]  # fmt: skip


@pytest.fixture(scope="module")
def started(served, tmp_path_factory):
    """A run that has begun, in a sandbox of this process."""
    folder = tmp_path_factory.mktemp("tasks") / "runs"
    folder.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(sandbox_process.ENDPOINT_VARIABLE, served)
        for kind in ("DBClusters", "DBInstances"):  # each test prepares some, and all of them use one account
            patch.setitem(quotas.MOST, kind, 400)
        reset(served)
        yield open_run(StartInputs(), runs_dir=folder)


@pytest.fixture
def open_task(started, monkeypatch):
    """Return a task by its step, prepared again, with a person there."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")

    def opened(name: str) -> Any:
        (started.run.path / "learning.json").unlink(missing_ok=True)
        return task(OpenStep(name, started.run, started.session))

    yield opened
    (started.run.path / "learning.json").unlink(missing_ok=True)


def scene(work) -> dict[str, str]:
    return work._known["scene"]


# The solutions, written as a learner writes them: with the clients and the words of the task ------------------------


def free_the_name(work):
    work.client("kms").delete_alias(AliasName=f"alias/task-taken{scene(work)['n']}")


def policy(work, condition=None, administration=("kms:Describe*", "kms:Get*", "kms:List*", "kms:PutKeyPolicy")):
    account, region = work._account.session.account_id, work._account.session.region
    through = {"StringEquals": {"kms:ViaService": f"rds.{region}.amazonaws.com"},
               "Bool": {"kms:GrantIsForAWSResource": "true"}}  # fmt: skip
    return {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": list(administration), "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:role/Admin"}, "Action": "kms:PutKeyPolicy",
         "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": scene(work)["role"]}, "Action": ["kms:CreateGrant", "kms:DescribeKey"],
         "Resource": "*", "Condition": through if condition is None else condition},
    ]}  # fmt: skip


def put(work, document):
    work.client("kms").put_key_policy(KeyId=scene(work)["key"], PolicyName="default", Policy=json.dumps(document))


def only_through_rds(work):
    put(work, policy(work))


def pair(work, *, spec="RSA_4096", algorithm="RSAES_OAEP_SHA_256", move=True):
    client = work.client("kms")
    key_id = client.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    if move:
        client.update_alias(AliasName=f"alias/task-pair{scene(work)['n']}", TargetKeyId=key_id)
    client.get_parameters_for_import(KeyId=key_id, WrappingAlgorithm=algorithm, WrappingKeySpec=spec)


def delivery(work, word="tuesday", **expiry):
    client, n = work.client("kms"), scene(work)["n"]
    found = client.describe_key(KeyId=f"alias/task-custody{n}")["KeyMetadata"]
    assert work.check_value(f"tuesday{n}") in found["Description"]
    assert work.check_value(f"monday{n}") not in found["Description"]
    work.import_material(found["KeyId"], backup=f"{word}{n}", **(expiry or FOREVER))


def expiring(work, key="", **by):
    ends = work.now() + timedelta(**(by or {"days": 30}))
    work.import_material(key or scene(work)["key"], ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=ends)


def cluster(work, *, instance=True, **asked):
    client, name = work.client("rds"), f"task-orders{scene(work)['n']}"
    client.create_db_cluster(
        DBClusterIdentifier=name, Engine="aurora-mysql", MasterUsername="dbadmin", ManageMasterUserPassword=True,
        **(asked or {"KmsKeyId": f"alias/{name}"}), StorageEncrypted=True,
    )  # fmt: skip
    work._account.until(name, "available")
    if instance:
        client.create_db_instance(
            DBInstanceIdentifier=f"{name}-1", DBClusterIdentifier=name, Engine="aurora-mysql",
            DBInstanceClass="db.t4g.medium",
        )  # fmt: skip
        found = poll(
            lambda: client.describe_db_instances(DBInstanceIdentifier=f"{name}-1")["DBInstances"][0],
            until=lambda one: one["DBInstanceStatus"] == "available", every=0.1, timeout=10,
        )  # fmt: skip
        assert found[1]


def out_of_the_policy(work):
    client, key = work.client("kms"), scene(work)["key"]
    document = json.loads(client.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    document["Statement"] = [one for one in document["Statement"] if one["Sid"] != "Migration2024"]
    put(work, document)


def revoke(work, *, every=False):
    client, key = work.client("kms"), scene(work)["key"]
    for grant in client.list_grants(KeyId=key)["Grants"]:
        if every or grant.get("Name") == "migration-2024":
            client.revoke_grant(KeyId=key, GrantId=grant["GrantId"])


def contractor_out(work):
    out_of_the_policy(work)
    revoke(work)


def tag(work, *values):
    client = work.client("rds")
    for name, value in zip(scene(work)["names"].split(","), values, strict=True):
        arn = client.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]["DBClusterArn"]
        client.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "storage", "Value": value}])


def rename(work, old, new):
    n = scene(work)["n"]
    work.client("rds").modify_db_cluster(
        DBClusterIdentifier=f"{old}{n}", NewDBClusterIdentifier=f"{new}{n}", ApplyImmediately=True
    )
    assert work._account.until(f"{new}{n}", "available")


def exchange(work):
    rename(work, "task-shop", "task-shop-old")
    rename(work, "task-shop-byok", "task-shop")


def without_the_way_back(work):
    n = scene(work)["n"]
    work.client("rds").delete_db_cluster(DBClusterIdentifier=f"task-shop{n}", SkipFinalSnapshot=True)
    poll(lambda: work._account.found(f"task-shop{n}"), until=lambda one: not one, every=0.1, timeout=10)
    rename(work, "task-shop-byok", "task-shop")


def rotate(work, *, turn=True, lose=False):
    client, key = work.client("kms"), scene(work)["key"]
    work.import_material(key, **NEW)
    if not turn:
        return
    client.rotate_key_on_demand(KeyId=key)
    states = [""]
    while "PENDING_ROTATION" in states or states == [""]:
        client.get_key_rotation_status(KeyId=key)
        states = [one["KeyMaterialState"] for one in kms.materials(work._account.session, key)]
    if lose:
        client.delete_imported_key_material(KeyId=key, KeyMaterialId=scene(work)["first"])


def alarm(work, **other):
    request = {
        "AlarmName": f"task-watch{scene(work)['n']}", "Namespace": "AWS/KMS", "MetricName": "SecondsUntilKeyMaterialExpiration",
        "Dimensions": [{"Name": "KeyId", "Value": scene(work)["key"]}], "Statistic": "Minimum", "Period": 3600,
        "EvaluationPeriods": 1, "Threshold": 14 * 86400, "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching", "AlarmActions": [scene(work)["topic"]],
    }  # fmt: skip
    work.client("cloudwatch").put_metric_alarm(**(request | other))


def light(work, *, start=True, **expiry):
    key, n = scene(work)["key"], scene(work)["n"]
    with pytest.raises(ClientError, match="IncorrectKeyMaterialException"):
        work.import_material(key, backup=f"vault-b{n}", **FOREVER)
    work.import_material(key, backup=f"vault-a{n}", **(expiry or FOREVER))
    if start:
        work.client("rds").start_db_cluster(DBClusterIdentifier=f"task-dark{n}")
        work._account.until(f"task-dark{n}", "available")


def light_for_a_year(work):
    light(work, ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=work.now() + timedelta(days=364))


def delete(work, *letters, days=30):
    for letter in letters:
        client = work.client("kms")
        found = client.describe_key(KeyId=f"alias/task-old-{letter}{scene(work)['n']}")["KeyMetadata"]
        client.schedule_key_deletion(KeyId=found["KeyId"], PendingWindowInDays=days)


SOLUTIONS = {
    "00_start": free_the_name, "01_create_key": only_through_rds, "02_get_parameters_for_import": pair,
    "03_encrypt_key_material": delivery, "04_import_key_material": expiring, "05_create_cluster": cluster,
    "06_verify_encryption": contractor_out,
    "10_encrypt_existing_cluster": lambda work: tag(work, "other-key", "no-kms-key", "own-key"),
    "11_cut_over": exchange, "20_rotate_key_material": rotate, "21_watch_key": alarm, "80_recovery_drill": light,
    "90_clean_up": lambda work: delete(work, "b"),
}  # fmt: skip


def expiring_elsewhere(work):
    other = work.client("kms").create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    expiring(work, other)
    work.client("kms").update_alias(AliasName=f"alias/task-expiry{scene(work)['n']}", TargetKeyId=other)


def put_condition(condition):
    return lambda work: put(work, policy(work, condition))


def any_service(work):
    put(
        work,
        policy(
            work, {"StringLike": {"kms:ViaService": "*.amazonaws.com"}, "Bool": {"kms:GrantIsForAWSResource": "true"}}
        ),
    )


def root_keeps_all(work):
    put(work, policy(work, administration=["kms:*"]))


def direct_grants(work):
    put(work, policy(work, {}))


def admin_decrypts(work):
    document = policy(work)
    document["Statement"][1]["Action"] = ["kms:PutKeyPolicy", "kms:Decrypt"]
    put(work, document)


def disabled_key(act):
    """Do the task, and disable the key that must work."""

    def done(work):
        act(work)
        work.client("kms").disable_key(KeyId=scene(work)["key"])

    return done


def disable_then_policy(work):
    work.client("kms").disable_key(KeyId=scene(work)["key"])
    only_through_rds(work)


def nobody_at_all(work):
    document = policy(work)
    del document["Statement"][2]
    put(work, document)


def admin_encrypts(work):
    document = policy(work)
    document["Statement"][1]["Action"] = ["kms:PutKeyPolicy", "kms:Encrypt"]
    put(work, document)


def locked_for_ever(work):
    document = policy(work, administration=["kms:Describe*", "kms:Get*", "kms:List*"])
    document["Statement"][1]["Action"] = ["kms:DescribeKey"]
    work.client("kms").put_key_policy(
        KeyId=scene(work)["key"], PolicyName="default", Policy=json.dumps(document), BypassPolicyLockoutSafetyCheck=True
    )


def imported_already(work):
    pair(work)
    work.import_material(work.client("kms").describe_key(KeyId=f"alias/task-pair{scene(work)['n']}")["KeyMetadata"]["KeyId"],
                         **FOREVER)  # fmt: skip
    pair_again = work.client("kms").describe_key(KeyId=f"alias/task-pair{scene(work)['n']}")["KeyMetadata"]["KeyId"]
    work.client("kms").get_parameters_for_import(
        KeyId=pair_again, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_4096"
    )


def old_key_disabled(work):
    pair(work)
    work.client("kms").disable_key(KeyId=scene(work)["old"])


def delivery_for_a_year(work):
    delivery(work, ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=work.now() + timedelta(days=364))


def lose_the_grant(act, name):
    """Do the task, and revoke RDS's grant: the cluster notices."""

    def done(work):
        act(work)
        revoke(work, every=True)
        work._account.until(f"{name}{scene(work)['n']}", "inaccessible-encryption-credentials-recoverable")

    return done


def replaced_cluster(work):
    name = scene(work)["names"].split(",")[1]
    replace(work, name)
    SOLUTIONS["10_encrypt_existing_cluster"](work)


def replace(work, name, **asked):
    work.client("rds").delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    poll(lambda: work._account.found(name), until=lambda one: not one, every=0.1, timeout=10)
    work._account.cluster(name, **asked)


def replaced_dark_cluster(work):
    light(work)
    replace(work, scene(work)["cluster"], StorageEncrypted=True, KmsKeyId=scene(work)["key"])


def stopped_after_the_exchange(work):
    exchange(work)
    work.client("rds").stop_db_cluster(DBClusterIdentifier=f"task-shop{scene(work)['n']}")


def stopped_after_freeing(work):
    free_the_name(work)
    work.client("rds").stop_db_cluster(DBClusterIdentifier=scene(work)["cluster"])


def delete_both_ends(work):
    delete(work, "b")
    work.client("rds").delete_db_cluster_snapshot(DBClusterSnapshotIdentifier=scene(work)["snapshot"])


def disable_to_free(work):
    free_the_name(work)
    work.client("kms").disable_key(KeyId=scene(work)["key"])


def delete_the_key(work):
    work.client("kms").schedule_key_deletion(KeyId=scene(work)["key"])


# Almost right: (step, what is done, which claim fails). Each leaves what a hasty look takes for the solution.
TWINS = {
    "00 key disabled too": ("00_start", disable_to_free, "the key that it named is Enabled"),
    "00 key deleted instead": ("00_start", delete_the_key, "the alias is free"),
    "01 any service": ("01_create_key", any_service, "another service cannot use it"),
    "01 root keeps kms:*": ("01_create_key", root_keeps_all, "nobody uses it directly (kms:Decrypt)"),
    "01 grants without RDS": ("01_create_key", direct_grants, "nobody uses it directly (kms:CreateGrant)"),
    "01 you decrypt": ("01_create_key", admin_decrypts, "you cannot decrypt with it"),
    "02 alias not moved": (
        "02_get_parameters_for_import", lambda work: pair(work, move=False), "the alias names a key for your material"),
    "02 shorter key": (
        "02_get_parameters_for_import", lambda work: pair(work, spec="RSA_2048"), "the newest pair is for RSA_4096 and SHA-256"),
    "02 other hash": (
        "02_get_parameters_for_import", lambda work: pair(work, algorithm="RSAES_OAEP_SHA_1"),
        "the newest pair is for RSA_4096 and SHA-256"),
    "03 other delivery": (
        "03_encrypt_key_material", lambda work: delivery(work, "monday"), "the key has the material of the custody record"),
    "04 thirty hours": ("04_import_key_material", lambda work: expiring(work, hours=30), "it expires 30 days from now"),
    "04 for ever": (
        "04_import_key_material", lambda work: work.import_material(scene(work)["key"], **FOREVER), "the material expires"),
    "04 another key": ("04_import_key_material", expiring_elsewhere, "the alias still names this key"),
    "05 key of AWS": (
        "05_create_cluster", lambda work: cluster(work, EngineMode="provisioned"), "it is encrypted under your key"),
    "05 no instance": (
        "05_create_cluster", lambda work: cluster(work, instance=False), "it has one instance, which is available"),
    "06 policy only": ("06_verify_encryption", out_of_the_policy, "no grant lets the contractor decrypt"),
    "06 grant only": ("06_verify_encryption", revoke, "the key policy lets the contractor decrypt nothing"),
    "06 every grant": (
        "06_verify_encryption", lambda work: (out_of_the_policy(work), revoke(work, every=True)),
        "RDS still has its grant for the cluster"),
    "10 by StorageEncrypted": (
        "10_encrypt_existing_cluster", lambda work: tag(work, "own-key", "no-kms-key", "own-key"),
        "every tag says what RDS says"),
    "11 no way back": (
        "11_cut_over", without_the_way_back, "task-shop-old{n} is the old cluster"),
    "11 old one only": (
        "11_cut_over", lambda work: rename(work, "task-shop", "task-shop-old"), "task-shop{n} is the cluster under the key"),
    "20 not rotated": (
        "20_rotate_key_material", lambda work: rotate(work, turn=False), "new material is current"),
    "20 old one deleted": (
        "20_rotate_key_material", lambda work: rotate(work, lose=True), "the first material is still imported"),
    "21 days for seconds": (
        "21_watch_key", lambda work: alarm(work, Threshold=14), "its threshold is 14 days, in the unit of the metric"),
    "21 other direction": (
        "21_watch_key", lambda work: alarm(work, ComparisonOperator="GreaterThanThreshold"), "it alarms when less time is left"),
    "21 nobody hears": (
        "21_watch_key", lambda work: alarm(work, AlarmActions=[]), "it reports to the topic, and its actions are on"),
    "21 by alias": (
        "21_watch_key",
        lambda work: alarm(work, Dimensions=[{"Name": "KeyId", "Value": f"alias/task-watch{scene(work)['n']}"}]),
        "one alarm names the key ID"),
    "80 not started": ("80_recovery_drill", lambda work: light(work, start=False), "the cluster is available"),
    "80 expires again": ("80_recovery_drill", light_for_a_year, "the material does not expire"),
    "90 the other": ("90_clean_up", lambda work: delete(work, "a"), "the other key is Enabled"),
    "90 both": ("90_clean_up", lambda work: delete(work, "a", "b"), "the other key is Enabled"),
    "90 seven days": (
        "90_clean_up", lambda work: delete(work, "b", days=7), "its deletion can be cancelled as long as possible"),
    "00 cluster stopped": ("00_start", stopped_after_freeing, "the cluster is available"),
    "01 key disabled": ("01_create_key", disable_then_policy, "the key is Enabled"),
    "01 nobody at all": ("01_create_key", nobody_at_all, "the role can have RDS create a grant"),
    "01 you encrypt": ("01_create_key", admin_encrypts, "you cannot encrypt with it"),
    "01 for ever": ("01_create_key", locked_for_ever, "you can still change the policy"),
    "02 imported already": ("02_get_parameters_for_import", imported_already, "it has no material yet"),
    "02 old key disabled": ("02_get_parameters_for_import", old_key_disabled, "the colleague's key still works"),
    "03 for a year": ("03_encrypt_key_material", delivery_for_a_year, "the material does not expire"),
    "04 key disabled": ("04_import_key_material", disabled_key(expiring), "the key has material and is Enabled"),
    "05 grant revoked": ("05_create_cluster", lose_the_grant(cluster, "task-orders"), "RDS has a grant for this cluster"),
    "06 key disabled": ("06_verify_encryption", disabled_key(contractor_out), "the key is Enabled"),
    "06 cluster dark": ("06_verify_encryption", lose_the_grant(contractor_out, "task-who"), "the cluster is available"),
    "10 replaced": ("10_encrypt_existing_cluster", replaced_cluster, "task-search{n} was not moved or replaced"),
    "11 stopped": ("11_cut_over", stopped_after_the_exchange, "task-shop{n} is the cluster under the key, and available"),
    "20 key disabled": ("20_rotate_key_material", disabled_key(rotate), "the key is Enabled"),
    "20 cluster dark": (
        "20_rotate_key_material", lose_the_grant(rotate, "task-rotate"), "the cluster under the key is available"),
    "21 key disabled": ("21_watch_key", disabled_key(alarm), "the key is Enabled"),
    "21 another metric": ("21_watch_key", lambda work: alarm(work, MetricName="DaysLeft"), "it watches the expiry"),
    "21 highest value": (
        "21_watch_key", lambda work: alarm(work, Statistic="Maximum"), "it takes the lowest value of a period"),
    "80 replaced": ("80_recovery_drill", replaced_dark_cluster, "it is still the cluster of the task"),
    "80 key disabled": ("80_recovery_drill", disabled_key(light), "the key has its material again"),
    "90 snapshot deleted": ("90_clean_up", delete_both_ends, "what needs that key still exists"),
}  # fmt: skip


# What the check names as missing before anything is done.
NOTHING = {
    "00_start": [
        "the alias is free",
    ],
    "01_create_key": [
        "nobody uses it directly (kms:Decrypt)",
        "nobody uses it directly (kms:GenerateDataKey)",
        "nobody uses it directly (kms:CreateGrant)",
        "another service cannot use it",
        "you cannot encrypt with it",
        "you cannot decrypt with it",
    ],
    "02_get_parameters_for_import": [
        "the alias names a key for your material",
        "it has no material yet",
        "the newest pair is for RSA_4096 and SHA-256",
    ],
    "03_encrypt_key_material": [
        "the key has material and is Enabled",
        "the material does not expire",
        "the key has the material of the custody record",
    ],
    "04_import_key_material": [
        "the key has material and is Enabled",
        "the material expires",
        "it expires 30 days from now",
    ],
    "05_create_cluster": [
        "the cluster is available",
        "it is encrypted under your key",
        "RDS has a grant for this cluster",
        "it has one instance, which is available",
    ],
    "06_verify_encryption": [
        "the key policy lets the contractor decrypt nothing",
        "no grant lets the contractor decrypt",
    ],
    "10_encrypt_existing_cluster": [
        "each of the three has a tag storage",
        "every tag says what RDS says",
    ],
    "11_cut_over": [
        "task-shop{n} is the cluster under the key",
        "task-shop-old{n} is the old cluster",
        "task-shop-old{n} is the old cluster, and available",
    ],
    "20_rotate_key_material": [
        "new material is current",
        "the first material is not current any more",
    ],
    "21_watch_key": [
        "one alarm names the key ID",
        "it watches the expiry",
        "it alarms when less time is left",
        "its threshold is 14 days, in the unit of the metric",
        "it takes the lowest value of a period",
        "it reports to the topic, and its actions are on",
    ],
    "80_recovery_drill": [
        "the key has its material again",
        "the material does not expire",
        "the cluster is available",
    ],
    "90_clean_up": [
        "the key that nothing needs is pending deletion",
        "its deletion can be cancelled as long as possible",
    ],
}


def failed(verdict) -> list[str]:
    return [one.claim for one in verdict.checks.rows if not one.passed]


def test_every_step_has_a_task_a_solution_and_a_twin():
    """The table of steps names the same notebooks."""
    assert sorted(all_steps()) == sorted(TASKS) == NAMES == sorted(SOLUTIONS)
    assert sorted({name for name, _, _ in TWINS.values()}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes_and_doing_nothing_does_not(open_task, name):
    """Both are looked at in the account; what was done, and when, is kept for the trainer."""
    work = open_task(name)
    before = work.check()
    assert [claim.replace("{n}", scene(work)["n"]) for claim in NOTHING[name]] == failed(before)
    assert f"Not yet: {failed(before)[0]}" in repr(before)
    assert "done" not in work._known
    SOLUTIONS[name](work)
    after = work.check()
    assert [] == failed(after), after
    assert "Done (hints used: 0 of 3, looks: 2)." in repr(after)
    assert {"began", "done", "hints", "looks", "scene"} == set(work._known)


@pytest.mark.parametrize("twin", TWINS)
def test_what_is_almost_right_fails_for_the_reason_named(open_task, twin):
    """A check that can be satisfied by looking right teaches the opposite."""
    name, act, claim = TWINS[twin]
    work = open_task(name)
    act(work)
    verdict = work.check()
    assert claim.replace("{n}", scene(work)["n"]) in failed(verdict), verdict
    assert "done" not in work._known


# Hints, counts, and where nothing is prepared -------------------------------------------------------------------------


def test_hints_come_one_at_a_time_and_are_counted(open_task):
    """By button or by keyboard; a new kernel shows those that were used, and the count stays after a restart."""
    work = open_task("04_import_key_material")
    n = scene(work)["n"]
    assert f"alias/task-expiry{n}" in repr(work)
    assert "Hint 1" not in repr(work)
    assert "Hint 1 of 3" in repr(work.hint())
    shown, button, told = work_view(work).children
    assert "Hint 2" not in shown.value
    button.click()
    assert "Hint 2 of 3" in shown.value
    assert "how many you used is kept" in told.value
    again = task(work._step)
    assert "Hint 2 of 3" in repr(again)
    assert "Hint 3 of 3" not in repr(again)
    assert n == scene(again)["n"]
    assert "Hint 3 of 3" in repr(again.hint())
    assert "Hint 3 of 3" in repr(again.hint())
    assert n != scene(again.restart())["n"]
    assert 3 == tasks(work._step.run)[work._step.name]["hints"]


def work_view(work):
    from runbook_lib.steps.tasks.work import _with_button

    assert "application/vnd.jupyter.widget-view+json" in work._repr_mimebundle_()
    return _with_button(work)


def test_a_task_that_is_done_stays_done(open_task):
    """The time of the first success counts; a later look that finds less does not take it away."""
    work = open_task("00_start")
    free_the_name(work)
    work.check()
    done = work._known["done"]
    work.client("kms").disable_key(KeyId=scene(work)["key"])
    assert failed(work.check())
    assert (done, 2) == (work._known["done"], work._known["looks"])


def test_whoever_locks_out_the_check_reads_so(open_task):
    """A policy that lets nobody look is no solution, and no traceback."""
    work = open_task("01_create_key")
    put(work, policy(work, administration=["kms:PutKeyPolicy"]))
    verdict = work.check()
    assert "the account answers every question of the check" in failed(verdict)
    assert "not authorized" in repr(verdict)


def test_answers_and_tasks_share_the_file_for_its_owner_only(open_task):
    """Neither loses the other."""
    work = open_task("00_start")
    run = work._step.run
    lock_in(run, "00_start", "b", right=True, at="2026-11-27T09:12:00+00:00")
    work.hint()
    assert "b" == answers(run)["00_start"]["answer"]
    assert 1 == tasks(run)["00_start"]["hints"]
    assert 0o600 == (run.path / "learning.json").stat().st_mode & 0o777


def test_no_key_material_and_no_private_key_stands_in_learning_json(open_task):
    """The scene has names and ids; backups are encrypted files beside it, for their owner only."""
    work = open_task("80_recovery_drill")
    text = (work._step.run.path / "learning.json").read_text()
    assert "PRIVATE" not in text
    folder = work._step.run.path / "practice"
    files = [path for path in folder.iterdir() if path.suffix in (".bin", ".pem")]
    assert len(files) >= 3
    assert {0o600} == {path.stat().st_mode & 0o777 for path in files}
    assert 0o700 == folder.stat().st_mode & 0o777


@pytest.mark.parametrize("name", NAMES)
def test_unattended_nothing_is_prepared_or_called(started, monkeypatch, name):
    """A headless run shows the task, and neither waits nor calls AWS."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "0")
    monkeypatch.setattr("runbook_lib.steps.tasks.work.practice_session", lambda _: pytest.fail("AWS was called"))
    work = task(OpenStep(name, started.run, started.session))
    assert "nobody is at the keyboard" in repr(work)
    assert "{n}" not in repr(work)
    assert "nobody is at the keyboard" in repr(work.check())
    assert {} == tasks(started.run)


def test_on_real_aws_and_with_exercises_off_nothing_is_prepared(started, monkeypatch):
    """The practice account exists in the sandbox only; the cell says why, and a call is refused in one line."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")
    step = OpenStep("00_start", started.run, started.session)
    assert "Exercises are off" in repr(task(step, enabled=False).check())
    monkeypatch.setitem(started.run._state["target"], "target", "aws")
    work = task(step)
    assert "tasks are done in the sandbox only" in repr(work.hint())
    with pytest.raises(TaskNotPrepared, match="tasks are done in the sandbox only"):
        work.client("kms")


def test_the_account_of_the_run_sees_no_call(served, open_task, started):
    """Tasks are done beside the run, in the account of the exercises."""
    before = len(sandbox_process.call(served, "/runbook/calls")["calls"])
    SOLUTIONS["05_create_cluster"](open_task("05_create_cluster"))
    calls = sandbox_process.call(served, f"/runbook/calls?since={before}")["calls"]
    assert calls
    assert started.session.account_id not in {call["account"] for call in calls if call["service"] != "sts"}


@pytest.mark.parametrize("name", NAMES)
def test_a_task_has_three_different_hints_and_none_in_its_text(name):
    """The first points, the last almost does it."""
    one = TASKS[name]
    assert 3 == len(set(one.hints))
    assert not any(hint in one.ask for hint in one.hints)
