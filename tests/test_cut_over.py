"""Step 11: the existing cluster and the one under the key change names, in both directions, and nothing of the old one is lost."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, HTTPClientError
from walk import Walk

from conftest import World
from runbook_lib.aws import practice_source, rds, sandbox_process
from runbook_lib.aws.practice_source import NAME
from runbook_lib.aws.sandbox_accounts import DEFAULT_ACCOUNT
from runbook_lib.aws.session import Session
from runbook_lib.errors import (
    InputError,
    NotConfirmed,
    PlanRefused,
    RunbookError,
    StepMissing,
    WaitFailed,
    WritersConnected,
)
from runbook_lib.inputs.cut_over import CutOverInputs
from runbook_lib.inputs.existing import EncryptExistingClusterInputs
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Plan
from runbook_lib.steps import clean_up, cut_over, encrypt_existing_cluster
from runbook_lib.steps.rename import rename

NEW, OLD = f"{NAME}-byok", f"{NAME}-old"
TYPED = {"confirm_source_db_cluster_identifier": NAME}


@pytest.fixture
def ready(walk: Walk) -> Walk:
    """A run in which 10 has finished, with the practice cluster as source."""
    walk.start().pair().encrypt()
    walk.bring_in()
    step = walk.step("10")
    encrypt_existing_cluster.apply(step, encrypt_existing_cluster.plan(step, EncryptExistingClusterInputs.check({})))
    encrypt_existing_cluster.verify(step)
    return walk


def plan(walk: Walk, **given: Any) -> Plan:
    return cut_over.plan(walk.step("11"), CutOverInputs.check(given))


def apply(walk: Walk, **given: Any) -> str:
    step = walk.step("11")
    return cut_over.apply(step, cut_over.plan(step, CutOverInputs.check({**TYPED, **given})))


def do(walk: Walk, **given: Any) -> Any:
    apply(walk, **given)
    return cut_over.verify(walk.step("11"))


def ids(walk: Walk) -> dict[str, str]:
    """Return the resource id of each cluster, by its name now."""
    found = walk.client("rds").describe_db_clusters()["DBClusters"]
    return {one["DBClusterIdentifier"]: one["DbClusterResourceId"] for one in found}


def described(walk: Walk, name: str) -> dict[str, Any]:
    return dict(walk.client("rds").describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0])


def held(walk: Walk, name: str = NAME) -> str:
    """Return the snapshot that a cluster was restored from."""
    return next(one["Value"] for one in described(walk, name)["TagList"] if one["Key"] == "runbook:snapshot")


def calls(walk: Walk) -> list[str]:
    found = sandbox_process.call(walk.endpoint, "/runbook/calls?since=0")["calls"]
    return [str(one["operation"]) for one in found if not one["operation"].startswith(("Describe", "Get", "List"))]


def refusals(walk: Walk, **given: Any) -> str:
    return " | ".join(one.detail for one in plan(walk, **given).changes if one.action == "refuse")


def test_nothing_changes_until_the_name_of_the_existing_cluster_is_typed(ready: Walk) -> None:
    """Empty: the plan, and how to go on. Another name: refused. In both cases no call that changes anything."""
    before, began = ids(ready), len(calls(ready))
    shown = plan(ready)
    assert {"create", "change", "delete", "keep"} >= {one.action for one in shown.changes}
    assert "type the existing cluster's name, 'practice-shop'" in cut_over.apply(ready.step("11"), shown)
    with pytest.raises(NotConfirmed, match="'orders', the existing cluster is 'practice-shop'"):
        apply(ready, confirm_source_db_cluster_identifier="orders")
    assert "nothing to verify" in repr(cut_over.verify(ready.step("11")))
    assert (ids(ready), len(calls(ready))) == (before, began)


@pytest.mark.slow
def test_the_names_change_hands_and_back_and_again(ready: Walk) -> None:
    """The rehearsal of an architect: cut over, roll back, cut over; and what 90 plans after each."""
    before, old = ids(ready), described(ready, NAME)
    key = ready.key["Arn"]
    assert do(ready, row_counts="equal").passed
    after = ids(ready)
    assert (after[OLD], NEW in after) == (before[NAME], False)
    assert after[NAME] != before[NEW], "the rehearsal's cluster was replaced by what the last snapshot holds"
    now = described(ready, NAME)
    assert (now["KmsKeyId"], now["Endpoint"]) == (key, old["Endpoint"])
    assert not [
        one for one in clean_up.plan(ready.step("90"), CleanUpInputs.check({})).changes if one.action == "delete"
    ]
    written_off = ("DBClusterIdentifier", "DBClusterArn", "Endpoint", "ReaderEndpoint", "VpcSecurityGroups", "CustomEndpoints",
                   "LatestRestorableTime", "EarliestRestorableTime")  # fmt: skip
    assert {k: v for k, v in described(ready, OLD).items() if k not in written_off} == {
        k: v for k, v in old.items() if k not in written_off
    }

    assert do(ready, roll_back=True).passed
    again = ids(ready)
    assert (again[NAME], again[NEW], OLD in again) == (before[NAME], after[NAME], False)
    assert described(ready, NAME)["VpcSecurityGroups"] == old["VpcSecurityGroups"]
    deleted = {
        one.name for one in clean_up.plan(ready.step("90"), CleanUpInputs.check({})).changes if one.action == "delete"
    }
    assert NEW in deleted
    assert not {NAME, OLD} & deleted

    assert do(ready).passed
    third = ids(ready)
    assert (third[OLD], third[NAME] in (before[NEW], after[NAME])) == (before[NAME], False)
    snapshots = ready.client("rds").describe_db_cluster_snapshots(SnapshotType="manual")["DBClusterSnapshots"]
    assert {f"{NEW}-source", f"{NEW}-final-1", f"{NEW}-final-2"} == {
        one["DBClusterSnapshotIdentifier"] for one in snapshots
    }


@pytest.mark.slow
def test_clients_that_stay_connected_stop_the_cut_over(ready: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the network stops nobody who is connected: without the reboot the metric shows it, and no snapshot is taken."""
    send = BaseClient._make_api_call

    def sent(self: Any, operation: str, request: Any) -> Any:
        return {} if operation == "RebootDBInstance" else send(self, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", sent)
    with pytest.raises(WritersConnected, match="practice-shop has 3 connections"):
        apply(ready)
    monkeypatch.undo()
    assert f"{NEW}-final-1" not in repr(ready.client("rds").describe_db_cluster_snapshots())
    assert NAME in ids(ready)
    assert do(ready, roll_back=True).passed
    assert do(ready).passed


@pytest.mark.slow
def test_the_operators_word_is_named_as_such_and_needs_no_new_restore(ready: Walk) -> None:
    """Stopped before the snapshot of 10: the cluster that was compared is the one that gets the name."""
    before = ids(ready)
    do(ready, writers="stopped_before_snapshot")
    assert (ids(ready)[NAME], ids(ready)[OLD]) == (before[NEW], before[NAME])
    told = ready.run.record("11_cut_over")["writers_stopped"]
    assert told.startswith("the operator's word (stopped_before_snapshot); CloudWatch: 3 connections")
    assert "CreateDBClusterSnapshot" not in calls(ready)[-4:]


@pytest.mark.slow
def test_once_writers_were_let_in_there_is_no_way_back(ready: Walk) -> None:
    """What they wrote would be lost: refused with what to do, also when it is said together with the rollback."""
    do(ready, writers="stopped_before_snapshot", writers_let_in=True)
    assert "would be lost; copy it to the old cluster" in refusals(ready, roll_back=True)
    with pytest.raises(PlanRefused):
        apply(ready, roll_back=True)
    assert OLD in ids(ready)
    with pytest.raises(InputError, match="writers_let_in: true with roll_back"):
        CutOverInputs.check({"roll_back": True, "writers_let_in": True})


@pytest.mark.slow
def test_another_cluster_of_a_name_at_stake_is_not_touched(ready: Walk) -> None:
    """The existing cluster was moved away and replaced by another of its name; `-old` is taken: refused, each by name."""
    rds = ready.client("rds")
    rds.modify_db_cluster(DBClusterIdentifier=NAME, NewDBClusterIdentifier="moved", ApplyImmediately=True)
    for name in (NAME, OLD):
        rds.create_db_cluster(
            DBClusterIdentifier=name, Engine="aurora-mysql", MasterUsername="chief", ManageMasterUserPassword=True
        )
    told, before = refusals(ready), ids(ready)
    assert "the existing cluster is now named moved" in told
    assert f"another cluster has the name {NAME};" in told
    assert f"another cluster has the name {OLD};" in told
    with pytest.raises(PlanRefused):
        apply(ready)
    assert ids(ready) == before


@pytest.mark.slow
def test_what_is_left_is_listed_with_how_it_is_re_keyed(ready: Walk) -> None:
    """The old cluster and its snapshots, which cannot be re-keyed by a copy since they are not under a KMS key."""
    do(ready, writers="stopped_before_snapshot")
    step = ready.step("11")
    left = cut_over.still_under_the_old_key(step)
    assert ("DB cluster", OLD, "sse-rds") in [row[:3] for row in left.rows]
    [how] = [row[3] for row in left.rows if row[1] == f"{NEW}-source"]
    assert "restore it under the key" in how
    words = repr(cut_over.advice(step))
    assert all(
        one in words for one in ("terraform import", "rds-db:connect", ids(ready)[OLD], "verify-full", f"{NEW}-1")
    )
    assert "information_schema.tables" in repr(cut_over.row_counts(step))


@pytest.mark.slow
def test_headless_the_plan_first_then_both_ways(world: World) -> None:
    """Exit 3 with the plan and the command; the confirmed one ends with who has which name; 90 keeps both clusters."""
    practice_source.make(
        Session(target="sandbox", region="eu-west-2", account_id=DEFAULT_ACCOUNT, endpoint_url=world.sandbox.url)
    )
    world.runbook("run", "--run-id", "shop", "-p", "source_db_cluster_identifier", NAME)
    shown = world.runbook("cut-over", "shop", code=3)
    assert "is renamed practice-shop-old" in shown.stdout
    assert "Nothing was changed. To cut over, add: --confirm practice-shop" in shown.stdout
    done = world.runbook("cut-over", "shop", "--confirm", NAME, "--writers", "stopped_before_snapshot")
    assert "practice-shop is under the key of this run, the existing cluster is practice-shop-old" in done.stdout
    world.runbook("clean-up", "shop", "--confirm", NAME)
    names = {one["DBClusterIdentifier"] for one in world.client("rds").describe_db_clusters()["DBClusters"]}
    assert {NAME, OLD} <= names
    world.runbook("cut-over", "shop", "--confirm", NAME, "--roll-back")
    names = {one["DBClusterIdentifier"] for one in world.client("rds").describe_db_clusters()["DBClusters"]}
    assert {NAME, NEW} <= names


@pytest.mark.slow
def test_a_restore_whose_answer_was_lost_is_found_by_90_after_a_rollback(ready: Walk) -> None:
    """Nobody recorded it, and the rehearsal's cluster, which was recorded, does not exist any more: its mark tells."""
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, "RestoreDBClusterFromSnapshot", 1, "after")
        with pytest.raises(Killed):
            apply(ready)
    assert do(ready, roll_back=True).passed
    rows = clean_up.plan(ready.step("90"), CleanUpInputs.check({})).changes
    assert ("delete", NEW) in [(one.action, one.name) for one in rows]
    assert held(ready, NEW) == f"{NEW}-final-1"
    assert do(ready).passed
    assert {NAME, OLD} == set(ids(ready))
    assert held(ready) == f"{NEW}-final-2", "what was written after the rollback is in the second last snapshot only"


@pytest.mark.slow
def test_a_network_that_was_opened_after_the_last_snapshot_makes_it_stale(ready: Walk) -> None:
    """Interrupted, opened by hand, gone on with: another snapshot, and the plan says so. Left closed: the same one."""
    groups = [one["VpcSecurityGroupId"] for one in described(ready, NAME)["VpcSecurityGroups"]]
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, "RestoreDBClusterFromSnapshot", 1, "before")
        with pytest.raises(Killed):
            apply(ready)
    assert f"{NEW}-final-1" in repr(plan(ready))
    with pytest.raises(StepMissing, match="was begun and not finished"):
        cut_over.verify(ready.step("11"))
    ready.client("rds").modify_db_cluster(DBClusterIdentifier=NAME, VpcSecurityGroupIds=groups, ApplyImmediately=True)
    assert f"restored again from {NEW}-final-2" in repr(plan(ready))
    assert do(ready).passed
    assert held(ready) == f"{NEW}-final-2"


@pytest.mark.slow
def test_the_operators_word_does_not_outweigh_the_metric(ready: Walk) -> None:
    """Interrupted, then said again while clients are connected: what they may have written is in another snapshot."""
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, "RestoreDBClusterFromSnapshot", 1, "before")
        with pytest.raises(Killed):
            apply(ready, writers="stopped_by_operator")
    assert f"restored again from {NEW}-final-2" in repr(plan(ready, writers="stopped_by_operator"))
    assert do(ready, writers="stopped_by_operator").passed
    assert held(ready) == f"{NEW}-final-2"


@pytest.mark.slow
@pytest.mark.parametrize("status", ["deleting", "inaccessible-encryption-credentials-recoverable", "creating"])
def test_the_way_back_does_not_wait_for_the_new_cluster(
    ready: Walk, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """Whatever becomes of it: the existing cluster has its network again at once."""
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, "CreateDBClusterSnapshot", 1, "before")
        with pytest.raises(Killed):
            apply(ready)
    send = BaseClient._make_api_call

    def sent(self: Any, operation: str, request: Any) -> Any:
        found = send(self, operation, request)
        for one in found.get("DBClusters", []) if operation == "DescribeDBClusters" else []:
            if one["DBClusterIdentifier"] == NEW:
                one["Status"] = status
        return found

    monkeypatch.setattr(BaseClient, "_make_api_call", sent)
    apply(ready, roll_back=True, wait_timeout_minutes=1)
    monkeypatch.undo()
    assert cut_over.verify(ready.step("11")).passed
    groups = [one["VpcSecurityGroupId"] for one in described(ready, NAME)["VpcSecurityGroups"]]
    assert groups != [ready.run.record("11_cut_over")["closed_security_group_id"]]


@pytest.mark.slow
def test_an_operator_may_stop_the_writers_by_security_groups(ready: Walk) -> None:
    """That is no change of the settings that the new cluster gets: it has the groups that 10 read."""
    group = ready.client("ec2").create_security_group(GroupName="nobody", Description="nobody", VpcId=ready.client("rds")
        .describe_db_subnet_groups()["DBSubnetGroups"][0]["VpcId"])["GroupId"]  # fmt: skip
    ready.client("rds").modify_db_cluster(DBClusterIdentifier=NAME, VpcSecurityGroupIds=[group], ApplyImmediately=True)
    assert not refusals(ready, writers="stopped_by_operator")


@pytest.mark.slow
def test_every_rollback_ends_the_snapshots_before_it(ready: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a second cut-over which was interrupted, and without a reading of the metric: three last snapshots."""
    monkeypatch.setattr(rds, "most_connections", lambda *_, **__: 0)
    for expected in (f"{NEW}-final-1", f"{NEW}-final-2"):
        with pytest.MonkeyPatch.context() as patch:
            break_at(patch, "RegisterScalableTarget", 1, "before")
            with pytest.raises(Killed):
                apply(ready, writers="stopped_by_operator")
        assert held(ready, NEW) == expected
        assert do(ready, roll_back=True).passed
    assert do(ready, writers="stopped_by_operator").passed
    assert held(ready) == f"{NEW}-final-3"


@pytest.mark.slow
def test_a_rehearsal_that_cannot_be_deleted_does_not_get_the_name(ready: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """RDS refuses the deletion, as for a cluster that is being changed: the cut-over stops, with both names as they were."""
    before, send = ids(ready), BaseClient._make_api_call

    def sent(self: Any, operation: str, request: Any) -> Any:
        if operation == "DeleteDBCluster":
            raise ClientError({"Error": {"Code": "InvalidDBClusterStateFault", "Message": "is busy"}}, operation)
        return send(self, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", sent)
    with pytest.raises(WaitFailed, match=r"older than the last snapshot, was not deleted \(kept: .*is busy"):
        apply(ready)
    monkeypatch.undo()
    assert ids(ready) == before
    assert do(ready).passed
    assert held(ready) == f"{NEW}-final-1"


@pytest.mark.slow
def test_what_was_said_stays_said(ready: Walk) -> None:
    """A repetition without the word does not take back that writers were let in, nor the comparison of rows."""
    do(ready, writers="stopped_before_snapshot", writers_let_in=True, row_counts="equal")
    do(ready)
    told = ready.run.record("11_cut_over")
    assert (True, "equal") == (told["writers_let_in"], told["row_counts"])
    assert "would be lost" in refusals(ready, roll_back=True)


@pytest.mark.slow
def test_after_a_rollback_the_snapshot_of_10_is_not_the_last_one(ready: Walk) -> None:
    """The existing cluster took writes again: `stopped_before_snapshot` is refused, with what is true instead."""
    do(ready, writers="stopped_before_snapshot")
    arn = described(ready, NAME)["DBClusterArn"]
    assert arn == ready.run.record("10_encrypt_existing_cluster")["db_cluster_arn"]
    do(ready, roll_back=True)
    assert described(ready, NEW)["DBClusterArn"] == ready.run.record("10_encrypt_existing_cluster")["db_cluster_arn"]
    assert "only for the first cut-over" in refusals(ready, writers="stopped_before_snapshot")
    assert not refusals(ready, writers="stopped_by_operator")


@pytest.mark.slow
def test_settings_that_changed_since_10_are_named(ready: Walk) -> None:
    """The new cluster has what 10 read; a source that was changed since is refused, by the name of the setting."""
    assert not refusals(ready)
    ready.client("rds").modify_db_cluster(DBClusterIdentifier=NAME, BackupRetentionPeriod=23, ApplyImmediately=True)
    assert "changed since 10 read them (BackupRetentionPeriod)" in refusals(ready)


def test_a_cluster_that_is_deleted_is_not_waited_for(walk: Walk) -> None:
    """The wait has hours; a cluster that does not exist any more ends it at once, with its resource ID."""
    walk.start()
    with pytest.raises(WaitFailed, match="cluster-GONE, which should be named shop, does not exist any more"):
        rename(walk.step("11"), "cluster-GONE", "shop", minutes=360)


# Broken anywhere --------------------------------------------------------------------------------------------------------

CHANGING = (
    "CreateSecurityGroup", "ModifyDBCluster", "RebootDBInstance", "CreateDBClusterSnapshot", "DeleteDBInstance",
    "DeleteDBCluster", "RestoreDBClusterFromSnapshot", "CreateDBInstance", "RegisterScalableTarget",
)  # fmt: skip
POINTS = [
    (call, number, how) for call in CHANGING for number in (1, 2, 3) for how in ("before", "after", "no response")
]


class Killed(BaseException):
    """The process ends here."""


def break_at(patch: pytest.MonkeyPatch, call: str, number: int, how: str) -> list[int]:
    send, seen = BaseClient._make_api_call, [0]

    def sent(self: Any, operation: str, request: Any) -> Any:
        if operation != call:
            return send(self, operation, request)
        seen[0] += 1
        if seen[0] != number:
            return send(self, operation, request)
        if how != "before":
            send(self, operation, request)
        if how == "no response":
            raise HTTPClientError(error="no response")
        raise Killed(call)

    patch.setattr(BaseClient, "_make_api_call", sent)
    return seen


@pytest.mark.by_command
@pytest.mark.slow
@pytest.mark.parametrize("then", ["go on", "roll back"])
@pytest.mark.parametrize(("call", "number", "how"), [pytest.param(*one, id="-".join(map(str, one))) for one in POINTS])
def test_broken_anywhere_the_names_are_both_old_or_both_new_after_the_next_command(
    ready: Walk, call: str, number: int, how: str, then: str
) -> None:
    """One cluster of each name, one of them under the key, and the existing one is never another."""
    before = ids(ready)
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, call, number, how)
        with contextlib.suppress(Killed, RunbookError, ClientError, HTTPClientError):
            apply(ready)
    if then == "go on":
        assert do(ready).passed
        assert ids(ready)[OLD] == before[NAME]
        assert described(ready, NAME)["KmsKeyId"] == ready.key["Arn"]
        assert {NAME, OLD} == set(ids(ready))
        assert held(ready) == f"{NEW}-final-1"
        return
    assert do(ready, roll_back=True).passed
    assert ids(ready)[NAME] == before[NAME]
    assert OLD not in ids(ready)
    assert [one["VpcSecurityGroupId"] for one in described(ready, NAME)["VpcSecurityGroups"]] != [
        ready.run.record("11_cut_over").get("closed_security_group_id")
    ]
