"""Snapshots in the sandbox: creating, copying, sharing, restoring, and points in time; and what each does with keys."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from kms_support import OTHER_REGION, REGION, UNKNOWN, advance, now, refusal, sandbox
from rds_support import CLUSTER_STATE, COMBINATION, NO_KEY, POSTGRESQL, SNAPSHOT_STATE, VALUE, Aws, raised_quotas

from runbook_lib.aws import sandbox_process

_accounts = itertools.count(111122223333)


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    """A sandbox for this module."""
    with sandbox() as url, raised_quotas():
        yield Aws(url)


@pytest.fixture
def other(aws: Aws) -> Aws:
    """An account that no other test has shared a snapshot with."""
    return Aws(aws.url, f"{next(_accounts):012}")


@pytest.fixture
def moved(aws: Aws) -> Iterator[Aws]:
    """The sandbox, with the clock reset afterwards."""
    yield aws
    sandbox_process.call(aws.url, "/runbook/clock", method="POST", body={"reset": True})


def encryption(shown: Any) -> tuple[str, bool, str | None]:
    """Return the three fields that describe encryption."""
    return shown["StorageEncryptionType"], shown["StorageEncrypted"], shown.get("KmsKeyId")


def unencrypted(aws: Aws) -> Any:
    """Create a cluster dated before 2026-02-18; the clock is reset afterwards."""
    before = datetime.fromisoformat("2026-02-01T12:00:00+00:00")
    advance(aws.url, seconds=(before - now(aws.url)).total_seconds())
    try:
        return aws.cluster()
    finally:
        sandbox_process.call(aws.url, "/runbook/clock", method="POST", body={"reset": True})


MAKE: dict[str, Callable[[Aws], Any]] = {"sse-kms": Aws.encrypted, "sse-rds": Aws.cluster, "none": unencrypted}


# ---- creating and describing


@pytest.mark.parametrize("kind", MAKE)
def test_a_snapshot_has_its_clusters_encryption(aws: Aws, kind: str) -> None:
    """Manual and automated snapshots and the automated backup have the encryption of their cluster."""
    cluster = MAKE[kind](aws)
    taken, rds = aws.snapshot(cluster), aws("rds")
    name = cluster["DBClusterIdentifier"]
    automated = rds.describe_db_cluster_snapshots(DBClusterIdentifier=name, SnapshotType="automated")
    backup = rds.describe_db_cluster_automated_backups(DBClusterIdentifier=name)["DBClusterAutomatedBackups"][0]
    assert kind == cluster["StorageEncryptionType"]
    assert encryption(cluster) == encryption(taken) == encryption(backup)
    assert encryption(cluster) == encryption(automated["DBClusterSnapshots"][0])
    assert cluster["DbClusterResourceId"] == taken["DbClusterResourceId"] == backup["DbClusterResourceId"]


def test_snapshots_are_found_by_every_parameter(aws: Aws) -> None:
    """Snapshots are found by identifier, ARN, cluster, type and filter; an unknown identifier is an error."""
    cluster = aws.cluster()
    taken = aws.snapshot(cluster)
    aws.snapshot(aws.cluster())

    def found(**asked: Any) -> list[str]:
        answer = aws("rds").describe_db_cluster_snapshots(**asked)["DBClusterSnapshots"]
        return [one["DBClusterSnapshotIdentifier"] for one in answer]

    name, mine = cluster["DBClusterIdentifier"], [taken["DBClusterSnapshotIdentifier"]]
    assert mine == found(DBClusterSnapshotIdentifier=mine[0])
    assert mine == found(DBClusterSnapshotIdentifier=taken["DBClusterSnapshotArn"])
    assert mine == found(DBClusterIdentifier=name, SnapshotType="manual")
    assert mine == found(SnapshotType="manual", Filters=[{"Name": "db-cluster-id", "Values": [name]}])
    assert mine == found(
        SnapshotType="manual", Filters=[{"Name": "db-cluster-id", "Values": [cluster["DBClusterArn"]]}]
    )
    assert [f"rds:{name}"] == [
        one.rsplit("-", 5)[0] for one in found(DBClusterIdentifier=name, SnapshotType="automated")
    ]
    assert [] == found(DBClusterIdentifier=name, SnapshotType="shared")
    describe = aws("rds").describe_db_cluster_snapshots
    assert "DBClusterSnapshotNotFoundFault" == refusal(describe, DBClusterSnapshotIdentifier="nope")
    assert VALUE == refusal(describe, Filters=[{"Name": "colour", "Values": ["red"]}])
    assert VALUE == refusal(describe, SnapshotType="colourful")


def test_snapshots_need_a_name_a_cluster_and_its_key(aws: Aws) -> None:
    """A name in use, an unknown cluster and a lost key are each rejected with their error code."""
    cluster = aws.encrypted()
    taken = aws.snapshot(cluster)
    create, name = aws("rds").create_db_cluster_snapshot, cluster["DBClusterIdentifier"]
    assert "DBClusterSnapshotAlreadyExistsFault" == refusal(
        create, DBClusterSnapshotIdentifier=taken["DBClusterSnapshotIdentifier"], DBClusterIdentifier=name
    )
    assert "DBClusterNotFoundFault" == refusal(
        create, DBClusterSnapshotIdentifier=aws.name("s"), DBClusterIdentifier="x"
    )
    aws("kms").disable_key(KeyId=cluster["KmsKeyId"])
    assert refusal(create, DBClusterSnapshotIdentifier=aws.name("s"), DBClusterIdentifier=name) in (
        NO_KEY,
        CLUSTER_STATE,
    )


def test_only_manual_snapshots_are_deleted(aws: Aws) -> None:
    """A manual snapshot can be deleted, an automated one cannot; an unknown one is not found."""
    cluster = aws.cluster()
    taken, delete = aws.snapshot(cluster), aws("rds").delete_db_cluster_snapshot
    automated = aws("rds").describe_db_cluster_snapshots(
        DBClusterIdentifier=cluster["DBClusterIdentifier"], SnapshotType="automated"
    )["DBClusterSnapshots"][0]
    assert SNAPSHOT_STATE == refusal(delete, DBClusterSnapshotIdentifier=automated["DBClusterSnapshotIdentifier"])
    delete(DBClusterSnapshotIdentifier=taken["DBClusterSnapshotIdentifier"])
    assert "DBClusterSnapshotNotFoundFault" == refusal(
        delete, DBClusterSnapshotIdentifier=taken["DBClusterSnapshotIdentifier"]
    )


# ---- copying


def test_a_copy_keeps_the_key_or_takes_another(aws: Aws) -> None:
    """In the same Region a copy uses the source's key by default, or the given key, and names its source."""
    source, key = aws.snapshot(aws.encrypted()), aws.key()
    same, rekeyed = aws.copied(source), aws.copied(source, KmsKeyId=key["KeyId"])
    assert encryption(source) == encryption(same)
    assert ("sse-kms", True, key["Arn"]) == encryption(rekeyed)
    assert {source["DBClusterSnapshotArn"]} == {one["SourceDBClusterSnapshotArn"] for one in (same, rekeyed)}
    assert ("manual", "available") == (same["SnapshotType"], same["Status"])


@pytest.mark.parametrize("kind", ["none", "sse-rds"])
def test_a_copy_does_not_encrypt(aws: Aws, kind: str) -> None:
    """A snapshot without a KMS key keeps its type when copied, and rejects a key."""
    source = aws.snapshot(MAKE[kind](aws))
    assert encryption(source) == encryption(aws.copied(source))
    asked = refusal(lambda: aws.copied(source, KmsKeyId=aws.key()["Arn"]))
    assert asked in (COMBINATION, SNAPSHOT_STATE)


@pytest.mark.parametrize("key", ["disabled", "unknown id", "unknown alias", "another Region's"])
def test_a_copy_rejects_unusable_keys(aws: Aws, key: str) -> None:
    """An unusable key is a KMSKeyNotAccessibleFault, and no copy is created."""
    names = {"disabled": aws.disabled(), "unknown id": UNKNOWN, "unknown alias": "alias/there-is-none",
             "another Region's": aws.key(OTHER_REGION)["Arn"]}  # fmt: skip
    source = aws.snapshot(aws.encrypted())
    before = len(aws("rds").describe_db_cluster_snapshots()["DBClusterSnapshots"])
    assert NO_KEY == refusal(lambda: aws.copied(source, KmsKeyId=names[key]))
    assert before == len(aws("rds").describe_db_cluster_snapshots()["DBClusterSnapshots"])


def test_a_copy_needs_the_sources_key(aws: Aws) -> None:
    """While the source's key is disabled nothing can be copied, not even to another key."""
    source, key = aws.snapshot(aws.encrypted()), aws.key()
    aws("kms").disable_key(KeyId=source["KmsKeyId"])
    assert NO_KEY == refusal(lambda: aws.copied(source))
    assert NO_KEY == refusal(lambda: aws.copied(source, KmsKeyId=key["Arn"]))


def test_a_copy_to_another_region_needs_a_key_of_that_region(aws: Aws) -> None:
    """A copy in another Region, by the source's ARN, requires a key of that Region when encrypted."""
    source, there = aws.snapshot(aws.encrypted()), aws.key(OTHER_REGION)
    assert refusal(lambda: aws.copied(source, OTHER_REGION)) in (NO_KEY, COMBINATION, VALUE)
    assert NO_KEY == refusal(lambda: aws.copied(source, OTHER_REGION, KmsKeyId=source["KmsKeyId"]))
    copy = aws.copied(source, OTHER_REGION, KmsKeyId=there["Arn"])
    assert ("sse-kms", True, there["Arn"]) == encryption(copy)
    assert f":{OTHER_REGION}:" in copy["DBClusterSnapshotArn"]
    assert f":{REGION}:" in copy["SourceDBClusterSnapshotArn"]
    assert ("sse-rds", False, None) == encryption(aws.copied(aws.snapshot(aws.cluster()), OTHER_REGION))


def test_other_rejected_copies(aws: Aws) -> None:
    """A name in use and an unknown source are rejected."""
    source = aws.snapshot(aws.cluster())
    copy = aws("rds").copy_db_cluster_snapshot
    taken = source["DBClusterSnapshotIdentifier"]
    assert "DBClusterSnapshotAlreadyExistsFault" == refusal(
        copy, SourceDBClusterSnapshotIdentifier=taken, TargetDBClusterSnapshotIdentifier=taken
    )
    assert "DBClusterSnapshotNotFoundFault" == refusal(
        copy, SourceDBClusterSnapshotIdentifier="nope", TargetDBClusterSnapshotIdentifier=aws.name("s")
    )


def test_tags_are_copied_on_request(aws: Aws) -> None:
    """CopyTagsToSnapshot of the cluster and CopyTags of the copy take effect."""
    tags = [{"Key": "stage", "Value": "test"}]
    source = aws.snapshot(aws.cluster(Tags=tags, CopyTagsToSnapshot=True))
    assert tags == source["TagList"] == aws.copied(source, CopyTags=True)["TagList"]
    assert [] == aws.copied(source)["TagList"]


# ---- sharing


def _share(aws: Aws, snapshot: Any, *accounts: str) -> Any:
    return aws("rds").modify_db_cluster_snapshot_attribute(
        DBClusterSnapshotIdentifier=snapshot["DBClusterSnapshotIdentifier"], AttributeName="restore",
        ValuesToAdd=list(accounts),
    )  # fmt: skip


def _let_in(aws: Aws, other: Aws, key_arn: str) -> None:
    """Let the other account use a key through RDS."""
    import json

    document = json.loads(aws("kms").get_key_policy(KeyId=key_arn, PolicyName="default")["Policy"])
    actions = ["kms:CreateGrant", "kms:DescribeKey", "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*",
               "kms:GenerateDataKey*"]  # fmt: skip
    document["Statement"].append(
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{other.account}:root"},
            "Action": actions,
            "Resource": "*",
        }
    )
    aws("kms").put_key_policy(KeyId=key_arn, PolicyName="default", Policy=json.dumps(document))


def test_an_encrypted_snapshot_is_shared_with_its_key(aws: Aws, other: Aws) -> None:
    """The other account needs access to the snapshot and to its key, and a key of its own for the copy."""
    source, own = aws.snapshot(aws.encrypted()), other.key()
    assert "DBClusterSnapshotNotFoundFault" == refusal(lambda: other.copied(source, KmsKeyId=own["Arn"]))
    _share(aws, source, other.account)
    shared = other("rds").describe_db_cluster_snapshots(SnapshotType="shared")["DBClusterSnapshots"]
    assert [source["DBClusterSnapshotArn"]] == [one["DBClusterSnapshotArn"] for one in shared]
    assert NO_KEY == refusal(lambda: other.copied(source, KmsKeyId=own["Arn"]))
    _let_in(aws, other, source["KmsKeyId"])
    assert NO_KEY == refusal(lambda: other.copied(source))
    assert ("sse-kms", True, own["Arn"]) == encryption(other.copied(source, KmsKeyId=own["Arn"]))


def test_encrypted_snapshots_are_never_public(aws: Aws) -> None:
    """`all` is rejected for an encrypted snapshot, and accepted for an unencrypted one."""
    assert refusal(lambda: _share(aws, aws.snapshot(aws.encrypted()), "all")) in (SNAPSHOT_STATE, VALUE, NO_KEY)
    answer = _share(aws, aws.snapshot(unencrypted(aws)), "all")["DBClusterSnapshotAttributesResult"]
    assert ["all"] == answer["DBClusterSnapshotAttributes"][0]["AttributeValues"]


def test_snapshots_encrypted_with_aws_rds_are_not_shared(aws: Aws, other: Aws) -> None:
    """A snapshot encrypted with aws/rds cannot be shared, since that key cannot be; a copy with another key can."""
    source = aws.snapshot(aws.cluster(StorageEncrypted=True))
    assert refusal(lambda: _share(aws, source, other.account)) in (SNAPSHOT_STATE, NO_KEY, VALUE)
    _share(aws, aws.copied(source, KmsKeyId=aws.key()["Arn"]), other.account)


def test_sharing_is_removed(aws: Aws, other: Aws) -> None:
    """ValuesToRemove ends sharing, and DescribeDBClusterSnapshotAttributes shows it."""
    source = aws.snapshot(aws.encrypted())
    _share(aws, source, other.account, "444455556666")
    name = source["DBClusterSnapshotIdentifier"]
    aws("rds").modify_db_cluster_snapshot_attribute(
        DBClusterSnapshotIdentifier=name, AttributeName="restore", ValuesToRemove=[other.account]
    )
    answer = aws("rds").describe_db_cluster_snapshot_attributes(DBClusterSnapshotIdentifier=name)
    listed = answer["DBClusterSnapshotAttributesResult"]["DBClusterSnapshotAttributes"]
    assert [{"AttributeName": "restore", "AttributeValues": ["444455556666"]}] == listed
    assert VALUE == refusal(lambda: _share(aws, source, "nobody"))


# ---- restoring


@pytest.mark.parametrize(("kind", "expected"), [("sse-kms", None), ("sse-rds", "sse-rds"), ("none", "sse-rds")])
def test_a_restore_without_a_key(aws: Aws, kind: str, expected: str | None) -> None:
    """Without a key a restore uses the source's key, or sse-rds if the source has none."""
    source = aws.snapshot(MAKE[kind](aws))
    made = encryption(aws.restored(source))
    assert made == (encryption(source) if expected is None else (expected, False, None))


@pytest.mark.parametrize("kind", MAKE)
def test_a_restore_with_a_key(aws: Aws, kind: str) -> None:
    """A restore with a key encrypts an unencrypted source, and changes the key of an encrypted one."""
    key, source = aws.key(), aws.snapshot(MAKE[kind](aws))
    made = aws.restored(source, KmsKeyId=key["KeyId"])
    assert ("sse-kms", True, key["Arn"]) == encryption(made)
    grants = aws("kms").list_grants(KeyId=key["KeyId"])["Grants"]
    assert [made["DbClusterResourceId"]] == [
        grant["Constraints"]["EncryptionContextSubset"]["aws:rds:dbc-id"] for grant in grants
    ]
    assert ([], "chief") == (made["DBClusterMembers"], made["MasterUsername"])


def test_rejected_restores(aws: Aws) -> None:
    """Unusable keys, a lost source key, a name in use, another engine and an older version are rejected."""
    cluster = aws.encrypted()
    source = aws.snapshot(cluster)
    assert NO_KEY == refusal(lambda: aws.restored(source, KmsKeyId=UNKNOWN))
    assert NO_KEY == refusal(lambda: aws.restored(source, KmsKeyId=aws.disabled()))
    assert "DBClusterAlreadyExistsFault" == refusal(
        lambda: aws.restored(source, DBClusterIdentifier=cluster["DBClusterIdentifier"])
    )
    assert COMBINATION == refusal(lambda: aws.restored(source, Engine=POSTGRESQL))
    assert COMBINATION == refusal(lambda: aws.restored(source, EngineVersion="8.0.mysql_aurora.3.10.0"))
    assert "DBSubnetGroupNotFoundFault" == refusal(lambda: aws.restored(source, DBSubnetGroupName="nope"))
    missing = {**source, "DBClusterSnapshotArn": source["DBClusterSnapshotArn"] + "x"}
    assert "DBClusterSnapshotNotFoundFault" == refusal(lambda: aws.restored(missing))
    aws("kms").disable_key(KeyId=cluster["KmsKeyId"])
    assert NO_KEY == refusal(lambda: aws.restored(source))
    assert NO_KEY == refusal(lambda: aws.restored(source, KmsKeyId=aws.key()["Arn"]))


def test_a_restore_sets_groups_to_their_defaults(aws: Aws) -> None:
    """Security groups and parameter group are the defaults unless given; the port is the source's."""
    rds, name = aws("rds"), aws.name("pg")
    rds.create_db_cluster_parameter_group(
        DBClusterParameterGroupName=name, DBParameterGroupFamily="aurora-mysql8.0", Description="x"
    )
    source = aws.snapshot(aws.cluster(DBClusterParameterGroupName=name, Port=3333, BackupRetentionPeriod=5))
    made = aws.restored(source)
    assert ("default.aurora-mysql8.0", 3333, 5) == (
        made["DBClusterParameterGroup"], made["Port"], made["BackupRetentionPeriod"],
    )  # fmt: skip
    assert name == aws.restored(source, DBClusterParameterGroupName=name)["DBClusterParameterGroup"]


# ---- points in time


def test_to_a_point_in_time_with_the_same_or_another_key(aws: Aws) -> None:
    """A restore uses the source's key by default, or the given key; the new cluster has its own resource id."""
    source, key = aws.encrypted(), aws.key()
    same, rekeyed = aws.rewound(source), aws.rewound(source, KmsKeyId=key["Arn"])
    assert encryption(source) == encryption(same)
    assert ("sse-kms", True, key["Arn"]) == encryption(rekeyed)
    assert 3 == len({one["DbClusterResourceId"] for one in (source, same, rekeyed)})


@pytest.mark.parametrize("kind", ["none", "sse-rds"])
def test_to_a_point_in_time_without_a_key_rejects_a_key(aws: Aws, kind: str) -> None:
    """KmsKeyId is rejected unless the source uses a KMS key; without it the restore is sse-rds."""
    source = MAKE[kind](aws)
    assert COMBINATION == refusal(lambda: aws.rewound(source, KmsKeyId=aws.key()["Arn"]))
    assert ("sse-rds", False, None) == encryption(aws.rewound(source))


def test_a_clone_keeps_its_sources_encryption(aws: Aws) -> None:
    """A clone of an unencrypted cluster is unencrypted, a clone of an encrypted cluster has its key."""
    for make in (unencrypted, Aws.encrypted):
        source = make(aws)
        clone = aws.rewound(source, RestoreType="copy-on-write")
        assert encryption(source) == encryption(clone)
        assert clone["CloneGroupId"] == aws.described(source)["CloneGroupId"]


def test_rejected_points_in_time(moved: Aws) -> None:
    """Times outside the window, both or neither time parameter, unusable keys and an unknown source are rejected."""
    aws = moved
    source = aws.encrypted()
    advance(aws.url, hours=3)
    middle = now(aws.url) - timedelta(hours=1)
    assert "creating" == aws.rewound(source, RestoreToTime=middle)["Status"]
    for wrong in (timedelta(hours=9), -timedelta(hours=1)):
        moment = now(aws.url) - wrong
        assert "InvalidRestoreFault" == refusal(lambda moment=moment: aws.rewound(source, RestoreToTime=moment))
    both = {"RestoreToTime": middle, "UseLatestRestorableTime": True}
    assert COMBINATION == refusal(lambda: aws.rewound(source, **both))
    assert COMBINATION == refusal(lambda: aws.rewound(source, UseLatestRestorableTime=False))
    assert NO_KEY == refusal(lambda: aws.rewound(source, KmsKeyId=aws.disabled()))
    assert "DBClusterNotFoundFault" == refusal(lambda: aws.rewound({"DBClusterIdentifier": "nope"}))
    aws("kms").disable_key(KeyId=source["KmsKeyId"])
    assert refusal(lambda: aws.rewound(source)) in (NO_KEY, CLUSTER_STATE)


# ---- automated backups


def test_backups_of_a_deleted_cluster_can_be_retained(moved: Aws) -> None:
    """With DeleteAutomatedBackups=False backups are retained, can be restored by resource id, and expire."""
    aws, rds = moved, moved("rds")
    source = aws.encrypted()
    name, resource_id = source["DBClusterIdentifier"], source["DbClusterResourceId"]
    rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True, DeleteAutomatedBackups=False)
    assert "DBClusterNotFoundFault" == refusal(rds.describe_db_clusters, DBClusterIdentifier=name)
    backup = rds.describe_db_cluster_automated_backups(DbClusterResourceId=resource_id)["DBClusterAutomatedBackups"]
    assert [("retained", *encryption(source))] == [(one["Status"], *encryption(one)) for one in backup]
    made = rds.restore_db_cluster_to_point_in_time(
        DBClusterIdentifier=name, SourceDbClusterResourceId=resource_id, UseLatestRestorableTime=True
    )["DBCluster"]
    assert encryption(source) == encryption(made)
    advance(aws.url, days=2)
    gone = rds.describe_db_cluster_automated_backups
    assert "DBClusterAutomatedBackupNotFoundFault" == refusal(gone, DbClusterResourceId=resource_id)


def test_backups_are_deleted_with_their_cluster(aws: Aws) -> None:
    """By default a deletion leaves no automated backup; a final snapshot remains, with the cluster's key."""
    rds, source, final = aws("rds"), aws.encrypted(), aws.name("final")
    name = source["DBClusterIdentifier"]
    rds.delete_db_cluster(DBClusterIdentifier=name, FinalDBSnapshotIdentifier=final)
    rds.describe_db_clusters()
    left = rds.describe_db_cluster_snapshots(DBClusterIdentifier=name)["DBClusterSnapshots"]
    assert [(final, "manual", *encryption(source))] == [
        (one["DBClusterSnapshotIdentifier"], one["SnapshotType"], *encryption(one)) for one in left
    ]
    backups = rds.describe_db_cluster_automated_backups(DBClusterIdentifier=name)
    assert [] == backups["DBClusterAutomatedBackups"]


def test_only_retained_backups_can_be_deleted(aws: Aws) -> None:
    """DeleteDBClusterAutomatedBackup works only for retained backups of a deleted cluster."""
    rds, source = aws("rds"), aws.cluster()
    delete, resource_id = rds.delete_db_cluster_automated_backup, source["DbClusterResourceId"]
    assert "InvalidDBClusterAutomatedBackupStateFault" == refusal(delete, DbClusterResourceId=resource_id)
    rds.delete_db_cluster(
        DBClusterIdentifier=source["DBClusterIdentifier"], SkipFinalSnapshot=True, DeleteAutomatedBackups=False
    )
    rds.describe_db_clusters()
    delete(DbClusterResourceId=resource_id)
    assert "DBClusterAutomatedBackupNotFoundFault" == refusal(delete, DbClusterResourceId=resource_id)


def test_a_restored_cluster_tags_its_automated_backup(aws: Aws) -> None:
    """TagSpecifications tags the automated backup and not the cluster, in both kinds of restore; no other resource."""
    own, other = [{"Key": "kept", "Value": "long"}], [{"Key": "team", "Value": "b"}]
    asked = {"Tags": other, "TagSpecifications": [{"ResourceType": "cluster-auto-backup", "Tags": own}]}
    cluster = aws.cluster(Tags=other)
    snapshot = aws.snapshot(cluster)

    def backup(made: Any) -> Any:
        found = aws("rds").describe_db_cluster_automated_backups(DbClusterResourceId=made["DbClusterResourceId"])
        return found["DBClusterAutomatedBackups"][0]["TagList"]

    assert other == backup(cluster)
    for made in (aws.restored(snapshot, **asked), aws.rewound(cluster, **asked)):
        assert (other, own) == (made["TagList"], backup(made))
    for wrong in ({"ResourceType": "cluster", "Tags": own}, {"Tags": own}):
        assert VALUE == refusal(lambda **asked: aws.restored(snapshot, **asked), TagSpecifications=[wrong])
