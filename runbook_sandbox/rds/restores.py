"""Restore from a cluster snapshot, to a point in time, and as a clone; keys are inherited or rejected as on AWS.

moto gaps: an unencrypted snapshot restored with a key stays unencrypted, keys are not checked, a source with a
managed password is a crash, and the source's own key is not checked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds import checks, engines
from runbook_sandbox.rds import encryption as rds_encryption
from runbook_sandbox.rds.cluster_features import role_of
from runbook_sandbox.rds.clusters import claim_identifier, common_fields, new_resource_id, start_cluster
from runbook_sandbox.rds.describe import describe_cluster
from runbook_sandbox.rds.engines import Version
from runbook_sandbox.rds.errors import bad_combination, raise_error
from runbook_sandbox.rds.resources import LOST, Cluster, Encryption, Resource, Snapshot, retained_backups, window_start
from runbook_sandbox.rds.snapshots import SnapshotOperations

# What a restored cluster inherits unless the request says otherwise. Everything else has AWS's defaults: the engine's
# default version, the storage type aurora, a backup window of its own, the default groups, and no log exports, roles, tags
# or protection (API reference, RestoreDBClusterFromSnapshot). A point in time has the engine's default port, too.
_INHERITED = ("BackupRetentionPeriod", "Port")
_ONLY_FOR_LIMITLESS = (
    "EnablePerformanceInsights", "PerformanceInsightsKMSKeyId", "PerformanceInsightsRetentionPeriod", "MonitoringInterval",
    "MonitoringRoleArn",
)  # fmt: skip


class RestoreOperations(SnapshotOperations):
    """RestoreDBClusterFromSnapshot and RestoreDBClusterToPointInTime."""

    def restore_db_cluster_from_snapshot(self) -> ActionResult:
        """moto gap: see the module's docstring."""
        given = self._given
        identifier = claim_identifier(self, given.get("DBClusterIdentifier"))
        source = self.source_snapshot(given.get("SnapshotIdentifier"))
        if source.status != "available":
            raise_error(
                "InvalidDBClusterSnapshotStateFault",
                f"The snapshot {source.identifier} is not available but {source.status}.",
            )
        version = self._version(given, source.fields, default=True)
        database = given.get("DatabaseName", source.fields.get("database"))
        resource_id = new_resource_id(self.current_account)
        encryption = self._restored_encryption(source, given.get("KmsKeyId"), resource_id)
        return self._restore(given, source, version, identifier, resource_id, encryption, {"DatabaseName": database})

    def restore_db_cluster_to_point_in_time(self) -> ActionResult:
        """moto gap: see the module's docstring."""
        given = self._given
        identifier = claim_identifier(self, given.get("DBClusterIdentifier"))
        source = self._source_cluster(given)
        kind = given.get("RestoreType", "full-copy")
        checks.one_of(kind, ("full-copy", "copy-on-write"), "RestoreType")
        if source.status in (*LOST, "creating"):
            raise_error(
                "InvalidDBClusterStateFault",
                f"DB cluster {source.identifier} is in the state {source.status} and can't be restored.",
            )
        self._check_time(given, source)
        version = self._version({}, source.fields)
        resource_id = new_resource_id(self.current_account)
        name = given.get("KmsKeyId")
        if name is not None and source.encryption.type != "sse-kms":
            bad_combination(
                f"DB cluster {source.identifier} isn't encrypted with a KMS key, so KmsKeyId can't be specified; "
                "restore a snapshot of it with KmsKeyId."
            )
        if kind == "copy-on-write" and name is None:
            rds_encryption.require_key(source)
            encryption = source.encryption  # a clone shares its source's storage
        else:
            encryption = self._restored_encryption(source, name, resource_id)
        more = {"DatabaseName": source.fields.get("DatabaseName"), "CloneGroupId": None}
        if kind == "copy-on-write":
            more["CloneGroupId"] = source.fields.setdefault("CloneGroupId", None) or source.resource_id
            source.fields["CloneGroupId"] = more["CloneGroupId"]
        return self._restore(given, source, version, identifier, resource_id, encryption, more)

    def _version(self, given: dict[str, Any], source: dict[str, Any], *, default: bool = False) -> Version:
        """Return the version to restore to: the given one, the default one if `default`, or the source's; none that is older."""
        engine = engines.known_engine(given.get("Engine") or source["Engine"])
        if engine != source["Engine"]:
            bad_combination(f"The engine {engine} doesn't match the engine of the source, {source['Engine']}.")
        own = engines.find_version(engine, source["EngineVersion"])
        if not given.get("EngineVersion"):
            return max(own, engines.default_version(engine), key=lambda one: one.order) if default else own
        wanted = engines.find_version(engine, given["EngineVersion"])
        if wanted.order < own.order:
            bad_combination(f"Cannot restore {engine} {own.name} to the older version {wanted.name}.")
        return wanted

    def _source_cluster(self, given: dict[str, Any]) -> Cluster:
        """Return the cluster whose backups to restore; a deleted one by its resource id, if they were retained."""
        name, resource_id = given.get("SourceDBClusterIdentifier"), given.get("SourceDbClusterResourceId")
        if (name is None) == (resource_id is None):
            bad_combination("Specify either SourceDBClusterIdentifier or SourceDbClusterResourceId.")
        if resource_id is None:
            return self._find_cluster(name)
        for cluster in [*self._poll_all_clusters(), *retained_backups(self.backend)]:
            if cluster.resource_id == resource_id:
                return cluster
        raise_error("DBClusterAutomatedBackupNotFoundFault", f"No automated backup for {resource_id} was found.")

    def _check_time(self, given: dict[str, Any], source: Cluster) -> None:
        wanted, latest = given.get("RestoreToTime"), bool(given.get("UseLatestRestorableTime"))
        if given.get("RestoreType") == "copy-on-write" and wanted is not None:
            bad_combination("RestoreToTime can't be specified when RestoreType is copy-on-write.")
        if (wanted is not None) == latest:
            bad_combination("Specify either RestoreToTime or UseLatestRestorableTime.")
        if wanted is None:
            return
        moment = wanted if isinstance(wanted, datetime) else datetime.fromisoformat(str(wanted))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        # Times in requests have whole seconds, so the window begins at the whole second of the cluster's creation.
        earliest = window_start(source).replace(microsecond=0)
        if not earliest <= moment <= clock.now():
            raise_error(
                "InvalidRestoreFault",
                f"RestoreToTime must be between {earliest:%Y-%m-%dT%H:%M:%SZ} and {clock.now():%Y-%m-%dT%H:%M:%SZ}.",
            )

    def _restored_encryption(self, source: Resource, name: str | None, resource_id: str) -> Encryption:
        """Return the encryption of a restore from `source`: with the given key, or the source's."""
        if source.encryption.type == "sse-kms":
            self.require_source_key(source)
        if name is not None:
            return Encryption(
                "sse-kms", str(rds_encryption.usable_key(self._caller, name, resource_id=resource_id).arn)
            )
        # An unencrypted source is encrypted by default when it is restored.
        return rds_encryption.default_encryption() if source.encryption.type == "none" else source.encryption

    def _restore(
        self, given: dict[str, Any], source: Resource, version: Version, identifier: str, resource_id: str,
        encryption: Encryption, more: dict[str, Any],
    ) -> ActionResult:  # fmt: skip
        for name in _ONLY_FOR_LIMITLESS:
            if name in given:
                bad_combination(
                    f"{name} can be specified only when restoring from a source Aurora Limitless DB cluster."
                )
        names = _INHERITED if isinstance(source, Snapshot) else _INHERITED[:1]
        inherited = {name: source.fields[name] for name in names if source.fields.get(name) is not None}
        fields = common_fields(self, inherited | given, version)
        fields |= {"MasterUsername": source.fields["MasterUsername"], **more}
        for one in given.get("AssociatedRoles") or []:
            fields["AssociatedRoles"] = [*fields["AssociatedRoles"], role_of(self, fields["AssociatedRoles"], one)]
        tags = given.get("Tags")
        cluster = start_cluster(self, identifier, resource_id, fields, encryption, tags)
        return ActionResult({"DBCluster": describe_cluster(cluster)})
