"""Who uses a key: everything of RDS that is encrypted under a KMS key and needs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from runbook_lib.aws.session import Session


class KeyUser(NamedTuple):
    """A resource that is encrypted under a key. `deleted_with`: the cluster with which AWS deletes it, "" for none."""

    kind: str
    name: str
    deleted_with: str = ""


def who_uses(session: Session, key_arn: str) -> list[KeyUser]:
    """Return every RDS resource in the session's Region that is encrypted under a key."""
    client = session.client("rds")

    def each(call: str, items: str) -> Iterator[dict[str, Any]]:
        for page in client.get_paginator(call).paginate():
            yield from (item for item in page[items] if item.get("KmsKeyId") == key_arn)

    found = [KeyUser("DB cluster", item["DBClusterIdentifier"]) for item in each("describe_db_clusters", "DBClusters")]
    for item in each("describe_db_instances", "DBInstances"):
        found.append(KeyUser("DB instance", item["DBInstanceIdentifier"], item.get("DBClusterIdentifier", "")))
    for item in each("describe_db_cluster_snapshots", "DBClusterSnapshots"):
        automated = item["SnapshotType"] == "automated"
        name = item["DBClusterSnapshotIdentifier"]
        found.append(KeyUser("cluster snapshot", name, item["DBClusterIdentifier"] if automated else ""))
    for item in each("describe_db_cluster_automated_backups", "DBClusterAutomatedBackups"):
        name = item["DBClusterIdentifier"]
        # A retained backup belongs to a deleted cluster, and is not deleted with any.
        found.append(KeyUser("automated backup", name, "" if item.get("Status") == "retained" else name))
    return found
