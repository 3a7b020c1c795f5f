"""Step 10: an existing cluster comes out under the run's key with every setting that it had; the source stays as it is."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import source_clusters
from botocore.client import BaseClient
from botocore.exceptions import ClientError, HTTPClientError
from walk import Walk

from conftest import World
from runbook_lib.aws import practice_source, sandbox_process
from runbook_lib.aws.practice_source import NAME
from runbook_lib.aws.sandbox_accounts import DEFAULT_ACCOUNT
from runbook_lib.aws.session import Session
from runbook_lib.errors import InputError, PlanOutdated, PlanRefused, RunbookError, VerificationFailed
from runbook_lib.inputs.existing import EncryptExistingClusterInputs
from runbook_lib.plan import Plan
from runbook_lib.steps import encrypt_existing_cluster, restore


@pytest.fixture
def ready(walk: Walk) -> Walk:
    """A run whose key holds its material."""
    walk.start().pair().encrypt()
    walk.bring_in()
    return walk


def asked(**given: Any) -> EncryptExistingClusterInputs:
    return EncryptExistingClusterInputs.check(given)


def plan(walk: Walk, **given: Any) -> Plan:
    return encrypt_existing_cluster.plan(walk.step("10"), asked(**given))


def do(walk: Walk, **given: Any) -> Any:
    step = walk.step("10")
    encrypt_existing_cluster.apply(step, encrypt_existing_cluster.plan(step, asked(**given)))
    return encrypt_existing_cluster.verify(step)


def cluster(walk: Walk, name: str) -> dict[str, Any]:
    return dict(walk.client("rds").describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0])


def test_the_practice_cluster_comes_out_under_the_key_with_its_settings(ready: Walk) -> None:
    """KMS key, windows, logs, groups, tags, classes and zones, as somebody sees them who asks RDS directly."""
    do(ready)
    new = cluster(ready, f"{NAME}-byok")
    assert ready.key["Arn"] == new["KmsKeyId"]
    assert (NAME, 7, "02:10-02:40", "sun:03:10-sun:03:40", True, True) == (
        new["DBClusterParameterGroup"], new["BackupRetentionPeriod"], new["PreferredBackupWindow"],
        new["PreferredMaintenanceWindow"], new["DeletionProtection"], new["IAMDatabaseAuthenticationEnabled"],
    )  # fmt: skip
    assert ["error", "slowquery"] == sorted(new["EnabledCloudwatchLogsExports"])
    assert "shop" == {tag["Key"]: tag["Value"] for tag in new["TagList"]}["team"]


@pytest.mark.slow
def calls(walk: Walk) -> list[str]:
    """Return the operations of RDS that the sandbox was asked for."""
    found = sandbox_process.call(walk.endpoint, "/runbook/calls?since=0")["calls"]
    return [str(one["operation"]) for one in found if one["service"] == "rds"]


def test_nothing_of_the_source_changes(ready: Walk) -> None:
    """Described before and after, it is the same; the calls that change something are a snapshot, and creates of the new one."""
    encrypt_existing_cluster.survey(ready.step("10"), asked())
    before, began = cluster(ready, NAME), len(calls(ready))
    do(ready)
    changing = [call for call in calls(ready)[began:] if not call.startswith(("Describe", "Get", "List"))]
    assert {
        "CreateDBClusterSnapshot": 1, "RestoreDBClusterFromSnapshot": 1, "CreateDBInstance": 2, "ModifyDBCluster": 1,
        "CreateDBClusterEndpoint": 1, "EnableHttpEndpoint": 1,
    } == dict(Counter(changing))  # fmt: skip
    now = cluster(ready, NAME)
    assert without_times(before) == without_times(now)


@pytest.mark.slow
def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in found.items() if name not in ("LatestRestorableTime", "EarliestRestorableTime")
    }


def test_applied_again_it_creates_nothing(ready: Walk) -> None:
    """Plan and apply a second time: everything is kept."""
    do(ready)
    began = len(calls(ready))
    second = plan(ready)
    assert [] == [change.name for change in second.changes if change.action == "create"]
    encrypt_existing_cluster.apply(ready.step("10"), second)
    assert [] == [call for call in calls(ready)[began:] if call.startswith(("Create", "Restore"))]


@pytest.mark.slow
def test_on_aws_a_source_must_be_named(ready: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The practice cluster is for the sandbox only."""
    step = ready.step("10")
    monkeypatch.setattr(step.session, "target", "aws")
    with pytest.raises(InputError, match="source_db_cluster_identifier: '' names no cluster"):
        encrypt_existing_cluster.survey(step, asked())
    with pytest.raises(ValueError, match="in the sandbox only"):
        practice_source.make(step.session)


def test_an_absent_source_is_refused_by_name(ready: Walk) -> None:
    """Before anything is created."""
    with pytest.raises(InputError, match="'no-such' does not exist in account"):
        plan(ready, source_db_cluster_identifier="no-such")


# What is in the way, each with its way out ----------------------------------------------------------------------------


def refusals(walk: Walk, **given: Any) -> str:
    return " | ".join(change.detail for change in plan(walk, **given).changes if change.action == "refuse")


def blocked_by_status(rds: Any) -> None:
    rds.stop_db_cluster(DBClusterIdentifier=NAME)


def blocked_by_integration(rds: Any) -> None:
    rds.create_integration(
        SourceArn=rds.describe_db_clusters(DBClusterIdentifier=NAME)["DBClusters"][0]["DBClusterArn"],
        TargetArn="arn:aws:redshift-serverless:eu-west-2:123456789012:namespace/one", IntegrationName="to-redshift",
    )  # fmt: skip


def blocked_by_old(rds: Any) -> None:
    rds.create_db_cluster(
        DBClusterIdentifier=f"{NAME}-old", Engine="aurora-mysql", MasterUsername="x1", ManageMasterUserPassword=True
    )


def blocked_by_namesake(rds: Any) -> None:
    rds.create_db_cluster(
        DBClusterIdentifier=f"{NAME}-byok", Engine="aurora-mysql", MasterUsername="x1", ManageMasterUserPassword=True
    )


def blocked_by_global(rds: Any) -> None:
    arn = rds.describe_db_clusters(DBClusterIdentifier=NAME)["DBClusters"][0]["DBClusterArn"]
    rds.create_global_cluster(GlobalClusterIdentifier="world", SourceDBClusterIdentifier=arn)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "words"),
    [
        (blocked_by_status, "start it, or wait until it is available"),
        (blocked_by_integration, "copies its data (zero-ETL): delete it"),
        (blocked_by_old, "a cluster of that name exists; rename or delete it"),
        (blocked_by_namesake, "exists, and this run did not create it; choose another"),
        (blocked_by_global, "member of the global database world: remove it first"),
    ],
    ids=["stopped", "zero-etl", "old", "namesake", "global"],
)
def test_what_is_in_the_way_is_refused_with_the_way_out(ready: Walk, block: Any, words: str) -> None:
    """Nothing is created then."""
    encrypt_existing_cluster.survey(ready.step("10"), asked())
    block(ready.client("rds"))
    assert words in refusals(ready)
    began = len(calls(ready))
    with pytest.raises(PlanRefused):
        encrypt_existing_cluster.apply(ready.step("10"), plan(ready))
    assert [] == [call for call in calls(ready)[began:] if call.startswith(("Create", "Restore", "Modify"))]


@pytest.mark.slow
def test_a_source_whose_own_key_is_disabled_is_refused(ready: Walk) -> None:
    """The snapshot needs it."""
    kms, rds = ready.client(), ready.client("rds")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    name = source_clusters.make(ready.client, source_clusters.Source())
    rds.create_db_cluster(
        DBClusterIdentifier="keyed", Engine="aurora-mysql", MasterUsername="chief", ManageMasterUserPassword=True,
        StorageEncrypted=True, KmsKeyId=key,
    )  # fmt: skip
    kms.disable_key(KeyId=key)
    assert "is Disabled; the snapshot needs it" in refusals(ready, source_db_cluster_identifier="keyed")
    assert "" == refusals(ready, source_db_cluster_identifier=name)


def test_a_cluster_under_the_key_already_needs_nothing(ready: Walk) -> None:
    """It is kept, and apply says so."""
    ready.client("rds").create_db_cluster(
        DBClusterIdentifier="done", Engine="aurora-mysql", MasterUsername="chief", ManageMasterUserPassword=True,
        StorageEncrypted=True, KmsKeyId=ready.key["Arn"],
    )  # fmt: skip
    done = plan(ready, source_db_cluster_identifier="done")
    assert ["keep"] == [change.action for change in done.changes]
    assert "Nothing was done" in encrypt_existing_cluster.apply(ready.step("10"), done)


def test_the_names_of_a_longest_source_are_told_at_once() -> None:
    """63 characters leave no room for -byok-1 and -old."""
    asked = EncryptExistingClusterInputs.check({"source_db_cluster_identifier": "a" * 63})
    assert 68 == len(asked.identifier)


# What is set after the restore ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls_left_out", "named"),
    [
        ("rds:ModifyDBCluster", "PreferredMaintenanceWindow"),
        ("rds:EnableHttpEndpoint", "HttpEndpointEnabled"),
        ("rds:CreateDBClusterEndpoint", "custom endpoints"),
        ("application-autoscaling:", "scalable targets"),
        ("application-autoscaling:PutScalingPolicy", "scaling policies"),
    ],
)
def test_what_is_not_set_afterwards_is_a_failed_check(ready: Walk, calls_left_out: str, named: str) -> None:
    """A row of the plan that is not carried out shows in the comparison, by name."""
    shown = plan(ready)
    kept = tuple(change for change in shown.changes if not change.calls.startswith(calls_left_out))
    assert len(kept) < len(shown.changes)
    encrypt_existing_cluster.apply(ready.step("10"), replace(shown, changes=kept))
    with pytest.raises(VerificationFailed, match=named):
        encrypt_existing_cluster.verify(ready.step("10"))


# Broken in the middle, and applied again ------------------------------------------------------------------------------

CHANGING = (
    "CreateDBClusterSnapshot", "RestoreDBClusterFromSnapshot", "CreateDBInstance", "ModifyDBCluster", "EnableHttpEndpoint",
    "CreateDBClusterEndpoint", "RegisterScalableTarget", "PutScalingPolicy",
)  # fmt: skip
POINTS = [(call, how) for call in CHANGING for how in ("killed before", "killed after", "response lost", "fails once")]
# In make test; in make test-all; the others by command.
SAMPLE = {("RestoreDBClusterFromSnapshot", "response lost"), ("CreateDBInstance", "killed after")}
LARGER = {
    ("CreateDBClusterSnapshot", "response lost"), ("RestoreDBClusterFromSnapshot", "killed after"),
    ("CreateDBInstance", "fails once"), ("ModifyDBCluster", "killed after"), ("CreateDBClusterEndpoint", "response lost"),
    ("PutScalingPolicy", "killed before"),
}  # fmt: skip


def marks_of(point: tuple[str, str]) -> tuple[pytest.MarkDecorator, ...]:
    if point in SAMPLE:
        return ()
    return (pytest.mark.slow,) if point in LARGER else (pytest.mark.slow, pytest.mark.by_command)


class Killed(BaseException):
    """Stands for the end of the process."""


def break_at(walk: Walk, call: str, how: str, patch: pytest.MonkeyPatch) -> None:
    """Break the next `call`, once."""
    if how in ("response lost", "fails once"):
        service = "application-autoscaling" if "Scal" in call else "rds"
        kind = {"response lost": "drop_after", "fails once": "error"}[how]
        sandbox_process.call(
            walk.endpoint, "/runbook/faults", body={"operation": f"{service}:{call}", "kind": kind}, method="POST"
        )
        return
    send = BaseClient._make_api_call

    def sent(self: Any, operation: str, request: Any) -> Any:
        if operation != call:
            return send(self, operation, request)
        patch.undo()
        if how == "killed after":
            send(self, operation, request)
        raise Killed(call)

    patch.setattr(BaseClient, "_make_api_call", sent)


@pytest.mark.parametrize(
    ("call", "how"),
    [pytest.param(*one, marks=marks_of(one), id="-".join(one).replace(" ", "-")) for one in POINTS],
)
def test_broken_anywhere_and_applied_again_there_is_one_new_cluster(ready: Walk, call: str, how: str) -> None:
    """One snapshot, one cluster, two instances, no difference; and the source is there, as it was."""
    encrypt_existing_cluster.survey(ready.step("10"), asked())
    before = without_times(cluster(ready, NAME))
    with pytest.MonkeyPatch.context() as patch:
        break_at(ready, call, how, patch)
        with contextlib.suppress(Killed, RunbookError, ClientError, HTTPClientError):
            encrypt_existing_cluster.apply(ready.step("10"), plan(ready))
    assert do(ready).passed
    rds = ready.client("rds")
    assert {NAME, f"{NAME}-byok"} == {one["DBClusterIdentifier"] for one in rds.describe_db_clusters()["DBClusters"]}
    names = [one["DBInstanceIdentifier"] for one in rds.describe_db_instances()["DBInstances"]]
    assert [f"{NAME}-1", f"{NAME}-2", f"{NAME}-byok-1", f"{NAME}-byok-2"] == sorted(names)
    assert 1 == len(rds.describe_db_cluster_snapshots(SnapshotType="manual")["DBClusterSnapshots"])
    assert before == without_times(cluster(ready, NAME))


# Another cluster of the same name -----------------------------------------------------------------------------------


def replace_source(walk: Walk) -> None:
    """Somebody renames the existing cluster, and another one gets its name."""
    rds = walk.client("rds")
    rds.modify_db_cluster(DBClusterIdentifier=NAME, NewDBClusterIdentifier="moved", ApplyImmediately=True)
    rds.create_db_cluster(
        DBClusterIdentifier=NAME, Engine="aurora-mysql", MasterUsername="chief", ManageMasterUserPassword=True
    )
    rds.create_db_instance(
        DBInstanceIdentifier="replacement",
        DBClusterIdentifier=NAME,
        Engine="aurora-mysql",
        DBInstanceClass="db.r6g.large",
    )
    source_clusters.wait(walk.client, NAME)


def test_a_source_that_was_replaced_after_the_plan_is_not_taken(ready: Walk) -> None:
    """No snapshot is taken of a cluster that the plan did not show."""
    shown = plan(ready)
    replace_source(ready)
    began = len(calls(ready))
    with pytest.raises(PlanOutdated, match="is now another cluster of the same name"):
        encrypt_existing_cluster.apply(ready.step("10"), shown)
    assert [] == [call for call in calls(ready)[began:] if call.startswith(("Create", "Restore"))]


def test_a_new_cluster_that_was_replaced_while_it_was_waited_for_is_not_changed(
    ready: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours pass between the restore and what is set afterwards: the name may be another's then."""
    wait = restore._wait_for_cluster

    def replaced(*given: Any, **more: Any) -> None:
        wait(*given, **more)
        rds = ready.client("rds")
        rds.modify_db_cluster(DBClusterIdentifier=f"{NAME}-byok", NewDBClusterIdentifier="moved", ApplyImmediately=True)
        blocked_by_namesake(rds)
        source_clusters.wait(ready.client, f"{NAME}-byok")

    monkeypatch.setattr(restore, "_wait_for_cluster", replaced)
    shown = plan(ready)
    with pytest.raises(PlanOutdated, match="is now another resource of the same name"):
        encrypt_existing_cluster.apply(ready.step("10"), shown)
    assert "sun:03:10-sun:03:40" != cluster(ready, f"{NAME}-byok")["PreferredMaintenanceWindow"]


def test_a_run_stays_with_its_source(ready: Walk) -> None:
    """A snapshot of the first is not restored with the settings of the second, and 90 forgets none of them."""
    do(ready)
    replace_source(ready)
    assert "which is another cluster; choose another run_id" in refusals(ready)
    other = source_clusters.make(ready.client, source_clusters.Source())
    assert "which is another cluster; choose another run_id" in refusals(ready, source_db_cluster_identifier=other)


# From 00 to 90 --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_headless_run_encrypts_an_existing_cluster_and_90_leaves_the_source(world: World) -> None:
    """00 to 04, 10 and 06, in one command; the clean-up deletes the new cluster, and keeps source and snapshot."""
    practice_source.make(
        Session(target="sandbox", region="eu-west-2", account_id=DEFAULT_ACCOUNT, endpoint_url=world.sandbox.url)
    )
    given = ("-p", "source_db_cluster_identifier", NAME)
    done = world.runbook("run", "--run-id", "mine", *given)
    assert "10 encrypt existing cluster" in done.stdout
    assert "05 create cluster" not in done.stdout
    report = world.report("mine")
    assert (True, f"{NAME}-byok") == (report["verified"], report["db_cluster_identifier"])
    world.runbook("clean-up", "mine", "--confirm", f"{NAME}-byok")
    rds = world.client("rds")
    assert [NAME] == [one["DBClusterIdentifier"] for one in rds.describe_db_clusters()["DBClusters"]]
    kept = [
        one["DBClusterSnapshotIdentifier"]
        for one in rds.describe_db_cluster_snapshots(SnapshotType="manual")["DBClusterSnapshots"]
    ]
    assert [f"{NAME}-byok-source"] == kept


@pytest.mark.slow
def test_what_is_given_for_a_new_cluster_is_refused_for_an_existing_one(world: World) -> None:
    """Not ignored: the cluster keeps its engine and class. Nothing is created."""
    practice_source.make(
        Session(target="sandbox", region="eu-west-2", account_id=DEFAULT_ACCOUNT, endpoint_url=world.sandbox.url)
    )
    given = ("-p", "source_db_cluster_identifier", NAME, "-p", "engine", "aurora-postgresql")
    said = world.runbook("run", "--run-id", "mine", *given, code=1)
    assert f"engine is 'aurora-postgresql', but {NAME} has 'aurora-mysql'; leave it out" in said.stdout + said.stderr
    assert [] == [one for one in world.calls() if one == "kms:CreateKey"]
