"""States of the sandbox's clusters: they take as long as configured, and a lost key takes a cluster out of service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from kms_support import advance, external, import_material, now, refusal, sandbox
from rds_support import (
    CLUSTER_STATE,
    COMBINATION,
    INACCESSIBLE,
    NO_KEY,
    RECOVERABLE,
    VALUE,
    Aws,
    raised_quotas,
    set_transition,
)

from runbook_lib.aws import sandbox_process


@pytest.fixture(scope="module")
def served() -> Iterator[Aws]:
    """A sandbox for this module."""
    with sandbox() as url, raised_quotas():
        yield Aws(url)


@pytest.fixture
def aws(served: Aws) -> Iterator[Aws]:
    """The same, with the clock and the progression reset afterwards."""
    yield served
    sandbox_process.call(served.url, "/runbook/clock", method="POST", body={"reset": True})
    sandbox_process.call(served.url, "/runbook/progression", method="DELETE")


def progress(aws: Aws, **setting: Any) -> None:
    """Set how long states take."""
    sandbox_process.call(aws.url, "/runbook/progression", method="POST", body=setting)


def status(aws: Aws, cluster: Any) -> str:
    """Poll a cluster once; return "gone" if it does not exist."""
    found = aws("rds").describe_db_clusters(
        Filters=[{"Name": "db-cluster-id", "Values": [cluster["DBClusterIdentifier"]]}]
    )["DBClusters"]
    return str(found[0]["Status"]) if found else "gone"


def create(aws: Aws, **asked: Any) -> Any:
    """Create a cluster without polling it."""
    from rds_support import CLUSTER

    return aws("rds").create_db_cluster(DBClusterIdentifier=aws.name(), **{**CLUSTER, **asked})["DBCluster"]


# ---- how long states take


def test_states_take_n_polls(aws: Aws) -> None:
    """A cluster is creating for N describe calls, for any N; other calls do not count."""
    progress(aws, mode="polls", times=3)
    made = create(aws)
    refusal(aws("rds").stop_db_cluster, DBClusterIdentifier=made["DBClusterIdentifier"])
    assert ["creating", "creating", "creating", "available", "available"] == [
        made["Status"], *(status(aws, made) for _ in range(4)),
    ]  # fmt: skip


def test_states_take_n_seconds_of_the_clock(aws: Aws) -> None:
    """A cluster is creating for N seconds of the sandbox's clock, however often it is polled."""
    progress(aws, mode="seconds", seconds=60)
    made = create(aws)
    assert ["creating"] * 5 == [status(aws, made) for _ in range(5)]
    advance(aws.url, seconds=61)
    assert "available" == status(aws, made)


def test_the_setting_changes_while_the_sandbox_runs(aws: Aws) -> None:
    """A new setting applies to transitions in progress too; moto's own state manager changes the same setting."""
    progress(aws, mode="seconds", seconds=3600)
    made = create(aws)
    assert "creating" == status(aws, made)
    progress(aws, mode="immediate")
    assert "available" == status(aws, made)


def test_an_instance_waits_for_its_cluster(aws: Aws) -> None:
    """An instance stays creating until its cluster is available, whatever its own setting."""
    progress(aws, mode="polls", times=4)
    set_transition(aws.url, "rds::instance", {"progression": "immediate"})
    made = create(aws)
    aws.instance(made)
    assert [("creating", "creating"), ("creating", "available"), ("available", "available")] == [
        (aws.members(made)[0]["DBInstanceStatus"], status(aws, made)) for _ in range(3)
    ]
    progress(aws, mode="polls", times=3)
    aws.instance(made)
    assert ("available", "creating") == (status(aws, made), aws.members(made)[1]["DBInstanceStatus"])


def test_deleting_takes_time_and_frees_the_name(aws: Aws) -> None:
    """A cluster is deleting, then deleted; its name can be used again at once, any number of times."""
    for _ in range(3):
        progress(aws, mode="polls", times=2)
        made = aws.cluster(DBClusterIdentifier="again")
        progress(aws, mode="immediate")
        status(aws, made)
        progress(aws, mode="polls", times=2)
        aws("rds").delete_db_cluster(DBClusterIdentifier="again", SkipFinalSnapshot=True)
        assert ["deleting", "gone"] == [status(aws, made) for _ in range(2)]


def test_a_snapshot_makes_its_cluster_backing_up(aws: Aws) -> None:
    """A cluster is backing-up while a snapshot is creating, with 0 percent progress."""
    progress(aws, mode="immediate")
    made = aws.cluster()
    progress(aws, mode="polls", times=2)
    taken = aws("rds").create_db_cluster_snapshot(
        DBClusterSnapshotIdentifier=aws.name("s"), DBClusterIdentifier=made["DBClusterIdentifier"]
    )["DBClusterSnapshot"]
    assert ("creating", 0) == (taken["Status"], taken["PercentProgress"])
    assert ["backing-up", "available"] == [status(aws, made) for _ in range(2)]


def test_stopping_and_starting(aws: Aws) -> None:
    """Cluster and instances go through stopping, stopped, starting, available; only from the states that AWS allows."""
    rds = aws("rds")
    progress(aws, mode="polls", times=2)
    made = create(aws)
    name = made["DBClusterIdentifier"]
    aws.instance(made)
    assert CLUSTER_STATE == refusal(rds.stop_db_cluster, DBClusterIdentifier=name)
    for _ in range(6):
        status(aws, made), aws.members(made)
    rds.stop_db_cluster(DBClusterIdentifier=name)
    assert ["stopping", "stopped"] == [status(aws, made) for _ in range(2)]
    assert CLUSTER_STATE == refusal(rds.stop_db_cluster, DBClusterIdentifier=name)
    assert CLUSTER_STATE == refusal(lambda: aws.instance(made))
    rds.start_db_cluster(DBClusterIdentifier=name)
    assert ["starting", "available"] == [status(aws, made) for _ in range(2)]
    assert CLUSTER_STATE == refusal(rds.start_db_cluster, DBClusterIdentifier=name)


def test_a_stopped_cluster_starts_by_itself_after_seven_days(aws: Aws) -> None:
    """AWS starts a stopped cluster after seven days, so that it misses no maintenance."""
    made = aws.cluster()
    aws("rds").stop_db_cluster(DBClusterIdentifier=made["DBClusterIdentifier"])
    assert "stopped" == status(aws, made)
    advance(aws.url, days=6)
    assert "stopped" == status(aws, made)
    advance(aws.url, days=1, minutes=1)
    assert "available" in [status(aws, made) for _ in range(2)]


# ---- losing and restoring the key


def _disable(aws: Aws, key: Any) -> None:
    aws("kms").disable_key(KeyId=key["KeyId"])


def _schedule(aws: Aws, key: Any) -> None:
    aws("kms").schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)


def _delete_material(aws: Aws, key: Any) -> None:
    aws("kms").delete_imported_key_material(KeyId=key["KeyId"])


def _expire(aws: Aws, key: Any) -> None:
    import_material(aws("kms"), key["KeyId"], MATERIAL, ValidTo=now(aws.url) + timedelta(minutes=5))
    advance(aws.url, minutes=6)


def _enable(aws: Aws, key: Any) -> None:
    aws("kms").enable_key(KeyId=key["KeyId"])


def _cancel(aws: Aws, key: Any) -> None:
    aws("kms").cancel_key_deletion(KeyId=key["KeyId"])
    _enable(aws, key)


def _reimport(aws: Aws, key: Any) -> None:
    import_material(aws("kms"), key["KeyId"], MATERIAL)


MATERIAL = os.urandom(32)
WAYS = {
    "disabled": (_disable, _enable),
    "deletion scheduled": (_schedule, _cancel),
    "material deleted": (_delete_material, _reimport),
    "material expired": (_expire, _reimport),
}


@pytest.fixture
def protected(aws: Aws) -> tuple[Any, Any]:
    """An imported key, and a cluster of two instances that uses it."""
    key = external(aws("kms"), MATERIAL)
    cluster = aws.cluster(StorageEncrypted=True, KmsKeyId=key["Arn"])
    for _ in range(2):
        aws.instance(cluster)
    aws.members(cluster)
    return key, cluster


@pytest.mark.parametrize("way", WAYS)
def test_a_cluster_loses_its_key_and_recovers(aws: Aws, protected: tuple[Any, Any], way: str) -> None:
    """The cluster and its instances become recoverable; StartDBCluster works only once the key is usable again."""
    key, cluster = protected
    lose, regain = WAYS[way]
    rds, name = aws("rds"), cluster["DBClusterIdentifier"]
    lose(aws, key)
    assert RECOVERABLE == status(aws, cluster)
    assert {RECOVERABLE} == {one["DBInstanceStatus"] for one in aws.members(cluster)}
    assert NO_KEY == refusal(rds.start_db_cluster, DBClusterIdentifier=name)
    regain(aws, key)
    assert RECOVERABLE == status(aws, cluster)
    rds.start_db_cluster(DBClusterIdentifier=name)
    assert "available" == status(aws, cluster)
    assert {"available"} == {one["DBInstanceStatus"] for one in aws.members(cluster)}


def test_a_revoked_grant_is_a_lost_key(aws: Aws, protected: tuple[Any, Any]) -> None:
    """Revoking RDS's grant makes its cluster lose the key; other clusters with the same key are not affected."""
    key, cluster = protected
    other = aws.cluster(StorageEncrypted=True, KmsKeyId=key["Arn"])
    grants = aws("kms").list_grants(KeyId=key["KeyId"])["Grants"]
    mine = next(one for one in grants if cluster["DbClusterResourceId"] in str(one["Constraints"]))
    aws("kms").revoke_grant(KeyId=key["KeyId"], GrantId=mine["GrantId"])
    assert RECOVERABLE == status(aws, cluster)
    assert "available" == status(aws, other)


def test_the_callers_later_permissions_do_not_matter(aws: Aws, protected: tuple[Any, Any]) -> None:
    """A running cluster uses its grant; the caller's later permissions do not affect it."""
    import json

    from rds_support import ROOT

    key, cluster = protected
    entry = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": ["kms:Put*", "kms:Describe*"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [entry]})
    aws("kms").put_key_policy(KeyId=key["KeyId"], PolicyName="default", Policy=document)
    assert ["available"] * 3 == [status(aws, cluster) for _ in range(3)]


def test_after_seven_days_the_loss_is_terminal(aws: Aws, protected: tuple[Any, Any]) -> None:
    """A key is recoverable for 6 days; after 7 the cluster is terminal, and a restore needs the same key again."""
    key, cluster = protected
    rds, name = aws("rds"), cluster["DBClusterIdentifier"]
    taken = aws.snapshot(cluster)
    _disable(aws, key)
    assert RECOVERABLE == status(aws, cluster)
    advance(aws.url, days=6, hours=23)
    assert RECOVERABLE == status(aws, cluster)
    advance(aws.url, hours=2)
    assert INACCESSIBLE == status(aws, cluster)
    assert NO_KEY == refusal(lambda: aws.restored(taken))
    _enable(aws, key)
    assert INACCESSIBLE == status(aws, cluster)
    assert CLUSTER_STATE == refusal(rds.start_db_cluster, DBClusterIdentifier=name)
    assert {INACCESSIBLE} == {one["DBInstanceStatus"] for one in aws.members(cluster)}
    assert "creating" == aws.restored(taken)["Status"]


def test_a_member_of_a_global_database_is_lost_at_once(aws: Aws) -> None:
    """A member of a global database cannot stop, so it has no recoverable state."""
    key, world = aws.key(), aws.name("world")
    cluster = aws.cluster(StorageEncrypted=True, KmsKeyId=key["Arn"])
    aws("rds").create_global_cluster(GlobalClusterIdentifier=world, SourceDBClusterIdentifier=cluster["DBClusterArn"])
    shown = aws("rds").describe_global_clusters(GlobalClusterIdentifier=world)["GlobalClusters"][0]
    assert ("sse-kms", True) == (shown["StorageEncryptionType"], shown["StorageEncrypted"])
    _disable(aws, key)
    assert INACCESSIBLE == status(aws, cluster)


def test_a_loss_shows_after_the_states_duration(aws: Aws, protected: tuple[Any, Any]) -> None:
    """When states take time, the loss shows later; a key restored by then is not noticed as lost."""
    key, cluster = protected
    progress(aws, mode="polls", times=3)
    _disable(aws, key)
    assert ["available", "available"] == [status(aws, cluster) for _ in range(2)]
    _enable(aws, key)
    assert ["available"] * 4 == [status(aws, cluster) for _ in range(4)]
    _disable(aws, key)
    assert ["available", "available", RECOVERABLE] == [status(aws, cluster) for _ in range(3)]


def test_clusters_with_other_keys_are_not_affected(aws: Aws, protected: tuple[Any, Any]) -> None:
    """A lost key affects only the clusters that use it."""
    key, _ = protected
    others = [aws.cluster(), aws.cluster(StorageEncrypted=True), aws.encrypted()]
    _disable(aws, key)
    assert ["available"] * 3 == [status(aws, one) for one in others]


def test_operations_on_a_cluster_without_its_key(aws: Aws, protected: tuple[Any, Any]) -> None:
    """Such a cluster can be deleted, without a final snapshot; other operations fail for lack of the key."""
    key, cluster = protected
    rds, name = aws("rds"), cluster["DBClusterIdentifier"]
    _disable(aws, key)
    status(aws, cluster)
    snapshot = rds.create_db_cluster_snapshot
    assert refusal(snapshot, DBClusterSnapshotIdentifier=aws.name("s"), DBClusterIdentifier=name) in (
        NO_KEY,
        CLUSTER_STATE,
    )
    assert CLUSTER_STATE == refusal(rds.stop_db_cluster, DBClusterIdentifier=name)
    assert CLUSTER_STATE == refusal(rds.modify_db_cluster, DBClusterIdentifier=name, BackupRetentionPeriod=3)
    for one in aws.members(cluster):
        rds.delete_db_instance(DBInstanceIdentifier=one["DBInstanceIdentifier"], SkipFinalSnapshot=True)
    final = {"FinalDBSnapshotIdentifier": aws.name("final")}
    assert refusal(rds.delete_db_cluster, DBClusterIdentifier=name, **final) in (NO_KEY, CLUSTER_STATE)
    rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    assert "gone" in [status(aws, cluster) for _ in range(2)]


# ---- deleting


def test_rules_of_deletion(aws: Aws) -> None:
    """A deletion requires a final snapshot or SkipFinalSnapshot, no instances and no protection."""
    rds, cluster = aws("rds"), aws.cluster(DeletionProtection=True)
    name, delete = cluster["DBClusterIdentifier"], rds.delete_db_cluster
    assert COMBINATION == refusal(delete, DBClusterIdentifier=name)
    assert COMBINATION == refusal(
        delete, DBClusterIdentifier=name, SkipFinalSnapshot=True, FinalDBSnapshotIdentifier=aws.name("final")
    )
    assert refusal(delete, DBClusterIdentifier=name, SkipFinalSnapshot=True) in (COMBINATION, CLUSTER_STATE)
    rds.modify_db_cluster(DBClusterIdentifier=name, DeletionProtection=False)
    status(aws, cluster)
    member = aws.instance(cluster)["DBInstanceIdentifier"]
    assert CLUSTER_STATE == refusal(delete, DBClusterIdentifier=name, SkipFinalSnapshot=True)
    rds.delete_db_instance(DBInstanceIdentifier=member)
    taken = aws.snapshot(cluster)["DBClusterSnapshotIdentifier"]
    assert "DBClusterSnapshotAlreadyExistsFault" == refusal(
        delete, DBClusterIdentifier=name, FinalDBSnapshotIdentifier=taken
    )
    assert "deleting" == delete(DBClusterIdentifier=name, SkipFinalSnapshot=True)["DBCluster"]["Status"]
    assert "DBClusterNotFoundFault" == refusal(delete, DBClusterIdentifier="nope", SkipFinalSnapshot=True)
    assert "DBInstanceNotFound" == refusal(rds.delete_db_instance, DBInstanceIdentifier="nope")


# ---- errors change nothing


def test_a_failed_create_changes_nothing(aws: Aws) -> None:
    """A second cluster with the same name leaves the first unchanged, with its resource id and tags."""
    cluster = aws.encrypted(Tags=[{"Key": "a", "Value": "b"}])
    for _ in range(2):
        assert "DBClusterAlreadyExistsFault" == refusal(
            lambda: aws.cluster(DBClusterIdentifier=cluster["DBClusterIdentifier"].upper())
        )
    after = aws.described(cluster)
    assert cluster["DbClusterResourceId"] == after["DbClusterResourceId"]
    assert ([{"Key": "a", "Value": "b"}], cluster["KmsKeyId"]) == (after["TagList"], after["KmsKeyId"])


@pytest.mark.parametrize(
    "wrong",
    [{"Port": 1}, {"BackupRetentionPeriod": 99}, {"EngineVersion": "5.6"}, {"DBClusterParameterGroupName": "nope"},
     {"NewDBClusterIdentifier": "1"}, {"MasterUserPassword": "x"}],
)  # fmt: skip
def test_a_failed_modify_changes_nothing(aws: Aws, wrong: dict[str, Any]) -> None:
    """All checks come first: after an error the cluster exists with every field unchanged."""
    cluster = aws.cluster()
    refusal(
        aws("rds").modify_db_cluster, DBClusterIdentifier=cluster["DBClusterIdentifier"], DeletionProtection=True,
        **wrong,
    )  # fmt: skip
    moving = ("LatestRestorableTime",)
    after = aws.described(cluster)
    assert {k: v for k, v in cluster.items() if k not in moving} == {k: v for k, v in after.items() if k not in moving}


def test_a_cluster_is_renamed_with_its_instances(aws: Aws) -> None:
    """NewDBClusterIdentifier keeps the resource id, and instances refer to the new name."""
    cluster = aws.encrypted()
    member, new = aws.instance(cluster)["DBInstanceIdentifier"], aws.name("new")
    aws.members(cluster)
    aws("rds").modify_db_cluster(
        DBClusterIdentifier=cluster["DBClusterIdentifier"], NewDBClusterIdentifier=new, ApplyImmediately=True
    )
    renamed = aws("rds").describe_db_clusters(DBClusterIdentifier=new)["DBClusters"][0]
    assert cluster["DbClusterResourceId"] == renamed["DbClusterResourceId"]
    assert [(member, new)] == [
        (one["DBInstanceIdentifier"], one["DBClusterIdentifier"]) for one in aws.members(renamed)
    ]
    assert "DBClusterNotFoundFault" == refusal(
        aws("rds").describe_db_clusters, DBClusterIdentifier=cluster["DBClusterIdentifier"]
    )
    other = aws.name("i")
    aws("rds").modify_db_instance(DBInstanceIdentifier=member, NewDBInstanceIdentifier=other)
    assert [other] == [one["DBInstanceIdentifier"] for one in aws.described(renamed)["DBClusterMembers"]]


def test_a_rename_waits_for_the_maintenance_window_unless_it_is_asked_for_at_once(aws: Aws) -> None:
    """Without ApplyImmediately the new identifier is pending, and the cluster keeps the old one until the window."""
    cluster = aws.cluster()
    old, new = cluster["DBClusterIdentifier"], aws.name("new")
    aws("rds").modify_db_cluster(DBClusterIdentifier=old, NewDBClusterIdentifier=new)
    assert {"DBClusterIdentifier": new} == aws.described(cluster)["PendingModifiedValues"]
    assert "DBClusterNotFoundFault" == refusal(aws("rds").describe_db_clusters, DBClusterIdentifier=new)
    try:
        advance(aws.url, days=7)
        aws("rds").describe_db_clusters()
        renamed = aws("rds").describe_db_clusters(DBClusterIdentifier=new)["DBClusters"][0]
    finally:
        advance(aws.url, days=-7)
    assert cluster["DbClusterResourceId"] == renamed["DbClusterResourceId"]
    assert not renamed.get("PendingModifiedValues")


def test_a_custom_endpoint_changes_its_type_and_its_members(aws: Aws) -> None:
    """What a change leaves out stays; one list of members replaces the other; a refused change changes nothing."""
    rds, cluster, name = aws("rds"), aws.cluster(), aws.name()
    one, two = (aws.instance(cluster)["DBInstanceIdentifier"] for _ in range(2))
    rds.create_db_cluster_endpoint(
        DBClusterIdentifier=cluster["DBClusterIdentifier"], DBClusterEndpointIdentifier=name, EndpointType="READER",
        StaticMembers=[one],
    )  # fmt: skip

    def now_is() -> tuple[Any, ...]:
        found = rds.describe_db_cluster_endpoints(DBClusterEndpointIdentifier=name)["DBClusterEndpoints"][0]
        return tuple(found[key] for key in ("CustomEndpointType", "StaticMembers", "ExcludedMembers", "Status"))

    change = rds.modify_db_cluster_endpoint
    assert "modifying" == change(DBClusterEndpointIdentifier=name, EndpointType="ANY")["Status"]
    assert ("ANY", [one], [], "available") == now_is()
    change(DBClusterEndpointIdentifier=name.upper(), ExcludedMembers=[two])
    expected = ("ANY", [], [two], "available")
    assert expected == now_is()
    assert "DBClusterEndpointNotFoundFault" == refusal(change, DBClusterEndpointIdentifier="nope", EndpointType="ANY")
    assert VALUE == refusal(change, DBClusterEndpointIdentifier=name, EndpointType="WRITER")
    assert "DBInstanceNotFound" == refusal(change, DBClusterEndpointIdentifier=name, StaticMembers=["nope"])
    assert COMBINATION == refusal(change, DBClusterEndpointIdentifier=name, StaticMembers=[one], ExcludedMembers=[two])
    rds.stop_db_cluster(DBClusterIdentifier=cluster["DBClusterIdentifier"])
    assert CLUSTER_STATE == refusal(change, DBClusterEndpointIdentifier=name, EndpointType="READER")
    assert expected == now_is()


def test_failover_to_a_reader(aws: Aws) -> None:
    """FailoverDBCluster makes a reader the writer; without a reader it is rejected."""
    cluster = aws.cluster()
    name = cluster["DBClusterIdentifier"]
    first = aws.instance(cluster)["DBInstanceIdentifier"]
    aws.members(cluster)
    assert CLUSTER_STATE == refusal(aws("rds").failover_db_cluster, DBClusterIdentifier=name)
    second = aws.instance(cluster)["DBInstanceIdentifier"]
    aws.members(cluster)
    aws("rds").failover_db_cluster(DBClusterIdentifier=name)
    writers = {m["DBInstanceIdentifier"]: m["IsClusterWriter"] for m in aws.described(cluster)["DBClusterMembers"]}
    assert {first: False, second: True} == writers
