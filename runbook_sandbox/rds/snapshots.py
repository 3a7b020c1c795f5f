"""Cluster snapshots: create, describe, copy, share, delete.

moto gaps: snapshots are not found by ARN or when shared and have no StorageEncryptionType, a copy accepts any key
and has no SourceDBClusterSnapshotArn, and encrypted snapshots can be made public.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.rds.models import RDSBackend, rds_backends

from runbook_sandbox.instruments import clock
from runbook_sandbox.kms.keys import resolve
from runbook_sandbox.rds import checks, engines, states
from runbook_sandbox.rds import encryption as rds_encryption
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.errors import apply_filters, bad_combination, bad_value, page, raise_error
from runbook_sandbox.rds.resources import (
    LOST,
    Cluster,
    Encryption,
    Resource,
    Snapshot,
    add_event,
    all_backends,
    plain_tags,
    snapshots,
)  # fmt: skip
from runbook_sandbox.rds.states import transition

QUOTA = 100


def describe_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as AWS shows it."""
    fields = snapshot.shown_fields
    return fields | snapshot.encryption.as_fields | {
        "DBClusterSnapshotIdentifier": snapshot.identifier,
        "DBClusterSnapshotArn": snapshot.arn,
        "DbClusterResourceId": snapshot.resource_id,
        "SnapshotCreateTime": snapshot.created,
        "Status": snapshot.status or "deleted",
        "PercentProgress": 0 if snapshot.status in ("creating", "copying") else 100,
        "TagList": snapshot.get_tags(),
    }  # fmt: skip


def free_snapshot_name(backend: RDSBackend, name: str | None, parameter: str) -> str:
    """Return the identifier for a new snapshot. Raises DBClusterSnapshotAlreadyExistsFault."""
    identifier = checks.identifier(name, parameter, longest=63 if parameter.startswith("DB") else 255)
    if identifier in backend.cluster_snapshots:
        raise_error(
            "DBClusterSnapshotAlreadyExistsFault",
            f"Cannot create the cluster snapshot because one with the identifier {identifier} already exists.",
        )
    return identifier


def _of(cluster: Cluster, kind: str) -> dict[str, Any]:
    fields = cluster.fields
    return {
        "DBClusterIdentifier": cluster.identifier, "Engine": fields["Engine"], "EngineVersion": fields["EngineVersion"],
        "EngineMode": "provisioned", "AllocatedStorage": 1, "Port": fields["Port"], "VpcId": fields["vpc_id"],
        "ClusterCreateTime": cluster.created, "MasterUsername": fields["MasterUsername"], "SnapshotType": kind,
        "LicenseModel": engines.license_model(fields["Engine"]),
        "AvailabilityZones": fields["AvailabilityZones"], "StorageType": fields.get("StorageType") or "aurora",
        "IAMDatabaseAuthenticationEnabled": fields["IAMDatabaseAuthenticationEnabled"],
        "BackupRetentionPeriod": fields["BackupRetentionPeriod"],
        "PreferredBackupWindow": fields["PreferredBackupWindow"], "database": fields.get("DatabaseName"),
    }  # fmt: skip


def take_snapshot(cluster: Cluster, identifier: str, tags: Any = None, *, kind: str = "manual") -> Snapshot:
    """Create a manual snapshot, or one of AWS Backup, with its cluster's encryption."""
    own_tags = plain_tags(tags)
    if cluster.fields["CopyTagsToSnapshot"]:
        names = {tag["Key"] for tag in own_tags}
        own_tags += [tag for tag in cluster.get_tags() if tag["Key"] not in names]
    snapshot = Snapshot(cluster.backend, identifier, _of(cluster, kind), cluster.encryption, tags=own_tags,
                        resource_id=cluster.resource_id)  # fmt: skip
    transition(snapshot, "creating", "available")
    cluster.backend.cluster_snapshots[identifier] = snapshot  # type: ignore[assignment]
    add_event(snapshot, f"Creating {kind} cluster snapshot", "backup")
    return snapshot


def take_automated(cluster: Cluster) -> None:
    """Create the automated snapshot of a new cluster."""
    stem = f"rds:{cluster.identifier}-{clock.now():%Y-%m-%d-%H-%M}"
    name, number = stem, 1
    while name in cluster.backend.cluster_snapshots:
        name, number = f"{stem}-{number}", number + 1
    snapshot = Snapshot(cluster.backend, name, _of(cluster, "automated"), cluster.encryption,
                        resource_id=cluster.resource_id)  # fmt: skip
    transition(snapshot, "creating", "available")
    cluster.backend.cluster_snapshots[name] = snapshot  # type: ignore[assignment]


def delete_automated(backend: RDSBackend, resource_id: str) -> None:
    """Delete the automated snapshots of a cluster."""
    for snapshot in snapshots(backend):
        if snapshot.resource_id == resource_id and snapshot.fields["SnapshotType"] == "automated":
            del backend.cluster_snapshots[snapshot.identifier]


def shared_with(account: str, region: str, *, public: bool = False) -> list[Snapshot]:
    """Return the snapshots of other accounts that are shared with this one, or with all."""
    wanted = "all" if public else account
    found = [one for backend in all_backends(region) if backend.account_id != account for one in snapshots(backend)]
    return [one for one in found if wanted in one.shared_with]


def _names_of_cluster(snapshot: Snapshot) -> tuple[str, str]:
    name = str(snapshot.fields["DBClusterIdentifier"])
    return name, f"{snapshot.arn.rsplit(':cluster-snapshot:', 1)[0]}:cluster:{name}"


class SnapshotOperations(RdsBase):
    """Create, describe, copy and delete cluster snapshots, and their attributes."""

    def create_db_cluster_snapshot(self) -> ActionResult:
        """moto gap: it ignores the cluster's state and key, and the cluster is never backing-up."""
        given = self._given
        name = free_snapshot_name(self.backend, given.get("DBClusterSnapshotIdentifier"), "DBClusterSnapshotIdentifier")
        cluster = self._find_cluster(given.get("DBClusterIdentifier"))
        checks.tags(given.get("Tags"))
        if cluster.status not in ("available", "stopped", *LOST) or cluster.status in LOST:
            raise_error(
                "InvalidDBClusterStateFault",
                f"The DB cluster {cluster.identifier} is not in the available state but {cluster.status}.",
            )
        rds_encryption.require_key(cluster)
        if sum(one.fields["SnapshotType"] == "manual" for one in snapshots(self.backend)) >= QUOTA:
            raise_error("SnapshotQuotaExceeded", f"The limit of {QUOTA} manual cluster snapshots is reached.")
        snapshot = take_snapshot(cluster, name, given.get("Tags"))
        if cluster.status == "available":
            transition(cluster, "backing-up", "available")
        return ActionResult({"DBClusterSnapshot": describe_snapshot(snapshot)})

    def describe_db_cluster_snapshots(self) -> ActionResult:
        """moto gap: snapshots are not found by ARN, and sharing is ignored."""
        given = self._given
        name, kind = given.get("DBClusterSnapshotIdentifier"), given.get("SnapshotType")
        checks.one_of(kind, ("automated", "manual", "shared", "public", "awsbackup"), "SnapshotType")
        for snapshot in snapshots(self.backend):
            states.poll(snapshot)
            states.remove_if_deleted(snapshot)
        found = snapshots(self.backend)
        if kind in ("shared", "public"):
            found = shared_with(self.current_account, self.region, public=kind == "public")
        else:
            if given.get("IncludeShared"):
                found = found + shared_with(self.current_account, self.region)
            if given.get("IncludePublic"):
                found = found + shared_with(self.current_account, self.region, public=True)
            if kind is not None:
                found = [one for one in found if one.fields["SnapshotType"] == kind]
        if name is not None:
            wanted = str(name).lower()
            found = [one for one in found if wanted in (one.identifier.lower(), one.arn.lower())]
            if not found:
                raise_error("DBClusterSnapshotNotFoundFault", f"DBClusterSnapshot not found: {name}")
        if (cluster := given.get("DBClusterIdentifier")) is not None:
            wanted = str(cluster).split(":")[-1].lower()
            found = [one for one in found if one.fields["DBClusterIdentifier"] == wanted]
        if (resource_id := given.get("DbClusterResourceId")) is not None:
            found = [one for one in found if one.resource_id == resource_id]
        found = apply_filters(found, given.get("Filters"), {
            "db-cluster-id": _names_of_cluster,
            "db-cluster-snapshot-id": lambda one: (one.identifier, one.arn),
            "snapshot-type": lambda one: (one.fields["SnapshotType"],),
            "engine": lambda one: (one.fields["Engine"],),
        })  # fmt: skip
        chosen, marker = page(found, given)
        return ActionResult({"DBClusterSnapshots": [describe_snapshot(one) for one in chosen], "Marker": marker})

    def source_snapshot(self, name: str | None) -> Snapshot:
        """Return the snapshot to copy or restore: this account's, another Region's by ARN, or one shared with it."""
        parts = str(name or "").split(":", 6)
        if len(parts) != 7 or parts[0] != "arn":
            return self._find_snapshot(name)
        region, account = parts[3], parts[4]
        found = None
        known = account in rds_backends and region in rds_backends[account]
        if known and (parts[2], parts[5]) == ("rds", "cluster-snapshot"):
            found = rds_backends[account][region].cluster_snapshots.get(parts[6])
        if isinstance(found, Snapshot):
            states.poll(found, counts=False)
            if account == self.current_account or {self.current_account, "all"} & set(found.shared_with):
                return found
        raise_error("DBClusterSnapshotNotFoundFault", f"DBClusterSnapshot not found: {name}")

    def copy_db_cluster_snapshot(self) -> ActionResult:
        """moto gap: it accepts any key, encrypts unencrypted snapshots, and does not name the source."""
        given = self._given
        name = free_snapshot_name(
            self.backend, given.get("TargetDBClusterSnapshotIdentifier"), "TargetDBClusterSnapshotIdentifier"
        )
        source = self.source_snapshot(given.get("SourceDBClusterSnapshotIdentifier"))
        checks.tags(given.get("Tags"))
        if source.status != "available":
            raise_error(
                "InvalidDBClusterSnapshotStateFault",
                f"The snapshot {source.identifier} is not available but {source.status}.",
            )
        encryption = self._copied_encryption(source, given.get("KmsKeyId"))
        tags = plain_tags(given.get("Tags"))
        if given.get("CopyTags") and not tags:
            tags = source.get_tags()
        fields = source.fields | {"SnapshotType": "manual", "SourceDBClusterSnapshotArn": source.arn}
        copy = Snapshot(self.backend, name, fields, encryption, tags=tags, resource_id=source.resource_id)
        transition(copy, "copying", "available")
        self.backend.cluster_snapshots[name] = copy  # type: ignore[assignment]
        add_event(copy, "Started copy of cluster snapshot", "backup")
        return ActionResult({"DBClusterSnapshot": describe_snapshot(copy)})

    def _copied_encryption(self, source: Snapshot, kms_key_id: str | None) -> Encryption:
        if source.encryption.type != "sse-kms":
            if kms_key_id is not None:
                bad_combination(
                    "You can't encrypt an unencrypted DB cluster snapshot by copying it; restore it with KmsKeyId "
                    "instead."
                )
            return source.encryption
        self.require_source_key(source)
        if kms_key_id is not None:
            return Encryption("sse-kms", str(rds_encryption.usable_key(self._caller, kms_key_id).arn))
        if source.region != self.region:
            raise_error(
                "KMSKeyNotAccessibleFault",
                "Copying an encrypted snapshot from another Region needs KmsKeyId, a key of this Region.",
            )
        if source.account != self.current_account:
            raise_error(
                "KMSKeyNotAccessibleFault",
                "Copying an encrypted snapshot of another account needs KmsKeyId, a key of this account.",
            )
        return source.encryption

    def require_source_key(self, source: Resource) -> None:
        """Raise KMSKeyNotAccessibleFault unless this caller can use the source's own key."""
        rds_encryption.require_key(source)
        if source.region == self.region and source.encryption.key_arn:
            key = resolve(source.account, source.region, source.encryption.key_arn)
            if key is not None and key.key_manager != "AWS":
                rds_encryption.usable_key(self._caller, source.encryption.key_arn)

    def delete_db_cluster_snapshot(self) -> ActionResult:
        """moto gap: automated snapshots can be deleted."""
        snapshot = self._find_snapshot(self._given.get("DBClusterSnapshotIdentifier"))
        if snapshot.fields["SnapshotType"] == "automated":
            raise_error("InvalidDBClusterSnapshotStateFault", "Only manual snapshots may be deleted.")
        if snapshot.status != "available":
            raise_error(
                "InvalidDBClusterSnapshotStateFault",
                f"The snapshot {snapshot.identifier} is not available but {snapshot.status}.",
            )
        snapshot.status = "deleted"
        del self.backend.cluster_snapshots[snapshot.identifier]
        return ActionResult({"DBClusterSnapshot": describe_snapshot(snapshot)})

    def describe_db_cluster_snapshot_attributes(self) -> ActionResult:
        """moto gap: it requires moto's own snapshot objects."""
        snapshot = self._find_snapshot(self._given.get("DBClusterSnapshotIdentifier"))
        return self._attributes(snapshot)

    def modify_db_cluster_snapshot_attribute(self) -> ActionResult:
        """moto gap: an encrypted snapshot can be made public, and shared when encrypted with aws/rds."""
        given = self._given
        snapshot = self._find_snapshot(given.get("DBClusterSnapshotIdentifier"))
        if given.get("AttributeName") != "restore":
            bad_value(f"Invalid snapshot attribute {given.get('AttributeName')}")
        added, removed = given.get("ValuesToAdd") or [], given.get("ValuesToRemove") or []
        if common := set(added) & set(removed):
            bad_combination(f"A value may not appear in both the add list and remove list. {sorted(common)}")
        if bad := [
            value for value in [*added, *removed] if value != "all" and not (value.isdigit() and len(value) == 12)
        ]:
            bad_value(f"Invalid account: {bad[0]}")
        if snapshot.fields["SnapshotType"] != "manual" or snapshot.status != "available":
            raise_error("InvalidDBClusterSnapshotStateFault", "Only manual snapshots that are available can be shared.")
        if "all" in added and snapshot.encryption.type != "none":
            raise_error("InvalidDBClusterSnapshotStateFault", "An encrypted DB cluster snapshot can't be made public.")
        if added and snapshot.encryption.key_arn:
            key = resolve(snapshot.account, snapshot.region, snapshot.encryption.key_arn)
            if key is not None and key.key_manager == "AWS":
                raise_error(
                    "InvalidDBClusterSnapshotStateFault",
                    "A snapshot encrypted with the default key aws/rds can't be shared; copy it to another key.",
                )
        wanted = list(dict.fromkeys([*snapshot.shared_with, *added]))
        wanted = [value for value in wanted if value not in removed]
        if len(wanted) > 20:
            raise_error("SharedSnapshotQuotaExceeded", "A snapshot can be shared with at most 20 accounts.")
        snapshot.shared_with = wanted
        return self._attributes(snapshot)

    def _attributes(self, snapshot: Snapshot) -> ActionResult:
        attributes = [{"AttributeName": "restore", "AttributeValues": snapshot.shared_with}]
        return ActionResult({"DBClusterSnapshotAttributesResult": {
            "DBClusterSnapshotIdentifier": snapshot.identifier, "DBClusterSnapshotAttributes": attributes,
        }})  # fmt: skip
