"""Global databases: create, join, describe, leave, delete.

moto gap: its global clusters contain moto's own cluster objects, and have no StorageEncryptionType.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.rds.models import rds_backends

from runbook_sandbox.instruments import ids
from runbook_sandbox.rds import checks, engines
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.encryption import default_encryption
from runbook_sandbox.rds.errors import bad_combination, page, raise_error
from runbook_sandbox.rds.resources import Cluster, Encryption, clusters, plain_tags


def _all(account: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = rds_backends[account]["us-east-1"].__dict__.setdefault("runbook_global", {})
    return found


def _members(account: str, identifier: str) -> list[Cluster]:
    found = [cluster for backend in list(rds_backends[account].values()) for cluster in clusters(backend)]
    mine = [cluster for cluster in found if cluster.fields.get("GlobalClusterIdentifier") == identifier]
    return sorted(mine, key=lambda cluster: cluster.created)


def _find(account: str, name: Any) -> dict[str, Any]:
    known = _all(account)
    if str(name or "").lower() not in known:
        raise_error("GlobalClusterNotFoundFault", f"Global cluster {name} not found")
    return known[str(name).lower()]


def _describe(account: str, entry: dict[str, Any]) -> dict[str, Any]:
    members = _members(account, entry["GlobalClusterIdentifier"])
    readers = [cluster.arn for cluster in members[1:]]
    return entry | {
        "GlobalClusterMembers": [
            {"DBClusterArn": cluster.arn, "IsWriter": index == 0, "Readers": readers if index == 0 else [],
             "SynchronizationStatus": "connected"}
            for index, cluster in enumerate(members)
        ]
    }  # fmt: skip


def join_global(
    handler: RdsBase, name: str | None, encryption: Encryption, fields: dict[str, Any]
) -> Callable[[Cluster], None] | None:
    """Check that a new cluster can join a global database; return a function to call once it is stored."""
    if name is None:
        return None
    entry = _find(handler.current_account, name)
    if entry["Engine"] != fields["Engine"]:
        bad_combination(f"The global cluster {name} is of engine {entry['Engine']}.")
    members = _members(handler.current_account, entry["GlobalClusterIdentifier"])
    if members and (members[0].encryption.type == "sse-kms") != (encryption.type == "sse-kms"):
        bad_combination(
            "A secondary cluster must be encrypted as the global cluster is; specify KmsKeyId of its Region."
        )
    fields["GlobalClusterIdentifier"] = entry["GlobalClusterIdentifier"]

    def joined(cluster: Cluster) -> None:
        if not members:
            entry["StorageEncryptionType"] = cluster.encryption.type
            entry["StorageEncrypted"] = cluster.encryption.type == "sse-kms"

    return joined


class GlobalOperations(RdsBase):
    """CreateGlobalCluster, DescribeGlobalClusters, RemoveFromGlobalCluster, DeleteGlobalCluster."""

    def create_global_cluster(self) -> ActionResult:
        """moto gap: no engine check, no StorageEncryptionType."""
        given, account = self._given, self.current_account
        identifier = checks.identifier(given.get("GlobalClusterIdentifier"), "GlobalClusterIdentifier")
        if identifier in _all(account):
            raise_error("GlobalClusterAlreadyExistsFault", f"Global cluster {identifier} already exists")
        source: Cluster | None = None
        encryption = default_encryption()
        if (arn := given.get("SourceDBClusterIdentifier")) is not None:
            if given.get("Engine") or given.get("EngineVersion") or given.get("StorageEncrypted") is not None:
                bad_combination(
                    "When creating a global cluster from a DB cluster, do not specify engine or encryption."
                )
            parts = str(arn).split(":")
            if len(parts) != 7 or parts[4] != account:
                raise_error("DBClusterNotFoundFault", f"DBCluster {arn} not found.")
            found = rds_backends[account][parts[3]].clusters.get(parts[6])
            if not isinstance(found, Cluster):
                raise_error("DBClusterNotFoundFault", f"DBCluster {arn} not found.")
            source, encryption = found, found.encryption
            engine, version = found.fields["Engine"], found.fields["EngineVersion"]
        else:
            engine = engines.known_engine(given.get("Engine") or engines.MYSQL)
            version = engines.find_version(engine, given.get("EngineVersion")).name
            if given.get("StorageEncrypted"):
                encryption = Encryption("sse-kms")
        unique = ids.hex_for("rds-global", account, 16)
        entry = {
            "GlobalClusterIdentifier": identifier, "GlobalClusterResourceId": f"cluster-{unique}",
            "GlobalClusterArn": f"arn:aws:rds::{account}:global-cluster:{identifier}", "Status": "available",
            "Engine": engine, "EngineVersion": version, "DatabaseName": given.get("DatabaseName"),
            "StorageEncrypted": encryption.type == "sse-kms", "StorageEncryptionType": encryption.type,
            "DeletionProtection": bool(given.get("DeletionProtection")), "TagList": plain_tags(given.get("Tags")),
            "Endpoint": f"{identifier}.global-{unique[:12]}.global.rds.amazonaws.com",
        }  # fmt: skip
        _all(account)[identifier] = entry
        if source is not None:
            source.fields["GlobalClusterIdentifier"] = identifier
        return ActionResult({"GlobalCluster": _describe(account, entry)})

    def describe_global_clusters(self) -> ActionResult:
        """moto gap: it returns all, whichever is requested."""
        given, account = self._given, self.current_account
        name = given.get("GlobalClusterIdentifier")
        found = [_find(account, name)] if name else list(_all(account).values())
        chosen, marker = page(found, given)
        return ActionResult({"GlobalClusters": [_describe(account, entry) for entry in chosen], "Marker": marker})

    def remove_from_global_cluster(self) -> ActionResult:
        """moto gap: it requires moto's own cluster objects."""
        given, account = self._given, self.current_account
        entry = _find(account, given.get("GlobalClusterIdentifier"))
        for cluster in _members(account, entry["GlobalClusterIdentifier"]):
            if given.get("DbClusterIdentifier") in (cluster.arn, cluster.identifier):
                cluster.fields["GlobalClusterIdentifier"] = None
                return ActionResult({"GlobalCluster": _describe(account, entry)})
        raise_error("DBClusterNotFoundFault", f"DBCluster {given.get('DbClusterIdentifier')} not found.")

    def delete_global_cluster(self) -> ActionResult:
        """moto gap: it ignores deletion protection and members."""
        account = self.current_account
        entry = _find(account, self._given.get("GlobalClusterIdentifier"))
        if entry["DeletionProtection"]:
            bad_combination("Cannot delete protected global cluster, please disable deletion protection and try again.")
        if _members(account, entry["GlobalClusterIdentifier"]):
            raise_error(
                "InvalidGlobalClusterStateFault", f"Global cluster {entry['GlobalClusterIdentifier']} is not empty"
            )
        del _all(account)[entry["GlobalClusterIdentifier"]]
        return ActionResult({"GlobalCluster": entry | {"Status": "deleting", "GlobalClusterMembers": []}})
