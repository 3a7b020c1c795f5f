"""Read RDS: clusters, instances, snapshots, tags, and what is encrypted under a key. Knows no step."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.session import Session


def find_cluster(session: Session, identifier: str) -> dict[str, Any] | None:
    """Return a DB cluster, or None."""
    try:
        return dict(session.client("rds").describe_db_clusters(DBClusterIdentifier=identifier)["DBClusters"][0])
    except ClientError as error:
        if error_code(error) == "DBClusterNotFoundFault":
            return None
        raise


def clusters_under(session: Session, key_arn: str) -> list[str]:
    """Return the names of the clusters that are encrypted under a key, sorted (rds:DescribeDBClusters)."""
    pages = session.client("rds").get_paginator("describe_db_clusters").paginate()
    found = (one for page in pages for one in page["DBClusters"] if one.get("KmsKeyId") == key_arn)
    return sorted(str(one["DBClusterIdentifier"]) for one in found)


def find_instance(session: Session, identifier: str) -> dict[str, Any] | None:
    """Return a DB instance, or None."""
    try:
        found = session.client("rds").describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
        return dict(found[0]) if found else None
    except ClientError as error:
        if error_code(error) in ("DBInstanceNotFound", "DBInstanceNotFoundFault"):
            return None
        raise


def instances_of(session: Session, identifier: str) -> list[dict[str, Any]]:
    """Return the instances of a cluster, by name."""
    pages = session.client("rds").get_paginator("describe_db_instances")
    pages = pages.paginate(Filters=[{"Name": "db-cluster-id", "Values": [identifier]}])
    return sorted(
        (dict(one) for page in pages for one in page["DBInstances"]),
        key=lambda one: str(one["DBInstanceIdentifier"]),
    )


def rds_tags(resource: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a cluster's or instance's description."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("TagList", [])}


UNKNOWN = "unknown: none or sse-rds"


def storage_encryption_type(resource: dict[str, Any]) -> str:
    """Return RDS's StorageEncryptionType: `none`, `sse-rds` or `sse-kms`.

    `StorageEncrypted` alone misleads: it is false for a cluster under an AWS owned key (sse-rds, the default since
    2026-02-18). Without the type, as in an older API, return sse-kms when StorageEncrypted is true, else unknown.
    """
    if reported := resource.get("StorageEncryptionType"):
        return str(reported)
    return "sse-kms" if resource.get("StorageEncrypted") else UNKNOWN


def find_snapshot(session: Session, name: str) -> dict[str, Any] | None:
    """Return a DB cluster snapshot, or None."""
    try:
        found = session.client("rds").describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name)[
            "DBClusterSnapshots"
        ]
    except ClientError as error:
        if error_code(error) == "DBClusterSnapshotNotFoundFault":
            return None
        raise
    return dict(found[0]) if found else None


def latest_connections(session: Session, identifier: str, *, since: datetime) -> tuple[datetime, int] | None:
    """Return the newest reading of the connections to a cluster's writer after `since`, with its time; None if there is none.

    By cluster alone, readers count too, which nobody can write to. CloudWatch has one reading a minute (Aurora user guide,
    Amazon CloudWatch metrics for Amazon Aurora).
    """
    found = _connections(session, identifier, since=since, until=since + timedelta(hours=1))
    last = max(found, key=lambda one: one["Timestamp"], default=None)
    return (last["Timestamp"], int(last["Maximum"])) if last else None


def most_connections(session: Session, identifier: str, *, since: datetime, until: datetime) -> int:
    """Return the most connections that a cluster's writer had at once in that time; 0 also without any reading."""
    found = _connections(session, identifier, since=since.replace(second=0, microsecond=0), until=until)
    return max((int(one["Maximum"]) for one in found), default=0)


def _connections(session: Session, identifier: str, *, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Return the readings between two times, at most 1440, as a response has (GetMetricStatistics)."""
    minutes = int((until - since).total_seconds() // 60 // 1440) + 1
    found = session.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS", MetricName="DatabaseConnections", Period=60 * minutes, Statistics=["Maximum"],
        Dimensions=[{"Name": "DBClusterIdentifier", "Value": identifier}, {"Name": "Role", "Value": "WRITER"}],
        StartTime=since, EndTime=max(until, since + timedelta(minutes=1)),
    )  # fmt: skip
    return [dict(one) for one in found["Datapoints"]]
