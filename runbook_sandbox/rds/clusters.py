"""DB clusters: create, describe, delete. See cluster_changes for changes.

moto gaps: CreateDBCluster with an existing identifier replaces the stored cluster before it fails; create, delete
and create again within a minute fails because of a snapshot name; hardly any parameter is checked;
StorageEncryptionType is missing; a cluster can be deleted with instances, and without a choice of final snapshot.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.logs.models import logs_backends
from moto.rds.models import RDSBackend

from runbook_sandbox.instruments import accounts, ids
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.rds import checks, engines, managed_secrets, placement, quotas
from runbook_sandbox.rds import encryption as rds_encryption
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.describe import describe_cluster
from runbook_sandbox.rds.encryption import Caller
from runbook_sandbox.rds.engines import ENGINES, MYSQL, Version
from runbook_sandbox.rds.errors import apply_filters, bad_combination, bad_value, page, raise_error
from runbook_sandbox.rds.global_clusters import join_global
from runbook_sandbox.rds.resources import (  # fmt: skip
    LOST,
    RECOVERABLE,
    Cluster,
    Encryption,
    add_event,
    plain_tags,
    retained_backups,
)
from runbook_sandbox.rds.snapshots import delete_automated, free_snapshot_name, take_automated, take_snapshot
from runbook_sandbox.rds.states import transition

HOSTED_ZONE = "Z1TTGA775OQIYO"


def new_resource_id(account: str) -> str:
    """Return a new DbClusterResourceId, which the key's encryption context contains."""
    return "cluster-" + ids.text_for("rds-cluster", account, 26)


def export_logs(account: str, region: str, identifier: str, names: list[str]) -> None:
    """Create the CloudWatch log groups for exported logs.

    moto gap: it exports no logs.
    """
    backend = logs_backends[account][region]
    for name in names:
        group = f"/aws/rds/cluster/{identifier}/{name}"
        if group not in backend.groups:
            backend.create_log_group(group, {})


def claim_identifier(handler: RdsBase, name: str | None) -> str:
    """Return the identifier for a new cluster. Raises DBClusterAlreadyExistsFault and DBClusterQuotaExceededFault."""
    identifier = _free_identifier(handler, name)
    quotas.require_cluster(handler)
    return identifier


def _free_identifier(handler: RdsBase, name: str | None) -> str:
    identifier = checks.identifier(name, "DBClusterIdentifier")
    existing = handler.backend.clusters.get(identifier)
    if existing is not None and isinstance(existing, Cluster):
        try:
            handler._find_cluster(identifier)
        except Exception as error:  # it was deleted meanwhile
            if getattr(error, "code", "") != "DBClusterNotFoundFault":
                raise
            return identifier
        raise_error("DBClusterAlreadyExistsFault", "DB Cluster already exists")
    return identifier


def common_fields(handler: RdsBase, given: dict[str, Any], version: Version) -> dict[str, Any]:
    """Check and return the fields that create and restore share: placement, windows, monitoring, options."""
    backend, region = handler.backend, handler.region
    group = placement.subnet_group(backend, given.get("DBSubnetGroupName"))
    checks.windows(given.get("PreferredBackupWindow"), given.get("PreferredMaintenanceWindow"))
    checks.monitoring(given, handler._roles)
    checks.insights(given)
    checks.tags(given.get("Tags"))
    checks.one_of(given.get("NetworkType"), ("IPV4", "DUAL"), "NetworkType")
    checks.one_of(given.get("EngineMode"), ("provisioned",), "EngineMode")
    return {
        "Engine": version.engine,
        "EngineVersion": version.name,
        **_constant_fields(),
        "EngineLifecycleSupport": checks.lifecycle(version, given.get("EngineLifecycleSupport")),
        "StorageType": None if checks.storage_type(given.get("StorageType")) == "aurora" else given["StorageType"],
        "AvailabilityZones": placement.zones(backend, given.get("AvailabilityZones"), group),
        "BackupRetentionPeriod": checks.retention(given.get("BackupRetentionPeriod")),
        "DBClusterParameterGroup": placement.cluster_parameter_group(
            backend, given.get("DBClusterParameterGroupName"), version
        ),
        "DBSubnetGroup": group.name,
        "Port": checks.port(version.engine, given.get("Port")),
        "PreferredBackupWindow": given.get("PreferredBackupWindow", "03:14-03:44"),
        "PreferredMaintenanceWindow": str(given.get("PreferredMaintenanceWindow", "sun:04:30-sun:05:00")).lower(),
        "IAMDatabaseAuthenticationEnabled": bool(given.get("EnableIAMDatabaseAuthentication")),
        "EnabledCloudwatchLogsExports": checks.log_exports(version, given.get("EnableCloudwatchLogsExports")) or None,
        "DeletionProtection": bool(given.get("DeletionProtection")),
        "CopyTagsToSnapshot": bool(given.get("CopyTagsToSnapshot")),
        "HttpEndpointEnabled": bool(given.get("EnableHttpEndpoint")),
        "AutoMinorVersionUpgrade": given.get("AutoMinorVersionUpgrade", True),
        "NetworkType": given.get("NetworkType", "IPV4"),
        "ServerlessV2ScalingConfiguration": checks.scaling(version, given.get("ServerlessV2ScalingConfiguration")),
        **_monitoring_fields(handler._caller, given),
        "BacktrackWindow": _backtrack(version, given.get("BacktrackWindow")),
        "security_groups": placement.security_groups(backend, given.get("VpcSecurityGroupIds"), group.vpc_id),
        "vpc_id": group.vpc_id,
        "backup_tags": checks.backup_tags(given),
        "region": region,
    }  # fmt: skip


def _constant_fields() -> dict[str, Any]:
    return {
        "EngineMode": "provisioned", "AllocatedStorage": 1, "HostedZoneId": HOSTED_ZONE, "CrossAccountClone": False,
        "AssociatedRoles": [], "ReadReplicaIdentifiers": [], "DomainMemberships": [], "ActivityStreamStatus": "stopped",
    }  # fmt: skip


def _monitoring_fields(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    return {
        "MonitoringInterval": given.get("MonitoringInterval"),
        "MonitoringRoleArn": given.get("MonitoringRoleArn"),
        "DatabaseInsightsMode": given.get("DatabaseInsightsMode", "standard"),
        **performance_insights(caller, given),
    }


def performance_insights(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of Performance Insights of a cluster: whether it is on, under which key, and for how many days."""
    on = bool(given.get("EnablePerformanceInsights"))
    return {
        "PerformanceInsightsEnabled": on or None,
        "PerformanceInsightsKMSKeyId": insights_key(caller, given),
        "PerformanceInsightsRetentionPeriod": given.get("PerformanceInsightsRetentionPeriod", 7) if on else None,
    }


def _backtrack(version: Version, window: int | None) -> int | None:
    if not window:
        return None
    if version.engine != MYSQL:
        bad_value("Backtrack is not enabled for the postgres engine.")
    if not 0 <= window <= 259200:
        bad_value(
            f"The specified value ({window}) is not a valid Backtrack Window. Allowed values are within the range of "
            "0 to 259200"
        )
    return window


def insights_key(caller: Caller, given: dict[str, Any]) -> str | None:
    """Return the ARN of the key for Performance Insights: the given one or aws/rds; None when it is off."""
    if not given.get("EnablePerformanceInsights"):
        return None
    if (name := given.get("PerformanceInsightsKMSKeyId")) is not None:
        return str(rds_encryption.usable_key(caller, name).arn)
    return str(kms_keys.default_service_key(caller.account, caller.region, "rds").arn)


def start_cluster(
    handler: RdsBase, identifier: str, resource_id: str, fields: dict[str, Any], encryption: Encryption, tags: Any
) -> Cluster:
    """Store a new cluster in status creating: the last step of create and restore, after all checks."""
    backend: RDSBackend = handler.backend
    cluster = Cluster(backend, identifier, fields, encryption, tags=plain_tags(tags), resource_id=resource_id)
    transition(cluster, "creating", "available")
    rds_encryption.add_grant(handler._caller, cluster)
    backend.clusters[identifier] = cluster  # type: ignore[assignment]
    export_logs(handler.current_account, handler.region, identifier, fields["EnabledCloudwatchLogsExports"] or [])
    take_automated(cluster)
    _service_linked_role(handler)
    return cluster


def _service_linked_role(handler: RdsBase) -> None:
    """Create AWSServiceRoleForRDS with the first cluster, as AWS does."""
    iam = accounts.iam_of(handler.current_account)
    if not any(role.name == "AWSServiceRoleForRDS" for role in list(iam.roles.values())):
        iam.create_service_linked_role("rds.amazonaws.com", "", None)


class ClusterOperations(RdsBase):
    """CreateDBCluster, DescribeDBClusters, DeleteDBCluster."""

    def create_db_cluster(self) -> ActionResult:
        """moto gap: see the module's docstring. All checks come first, and nothing is stored when one fails."""
        given = self._given
        identifier = claim_identifier(self, given.get("DBClusterIdentifier"))
        engine = engines.known_engine(given.get("Engine"))
        if engine not in ENGINES:
            bad_value(f"The sandbox supports clusters of aurora-mysql and aurora-postgresql only, not {engine}.")
        version = engines.find_version(engine, given.get("EngineVersion"))
        secondary = "GlobalClusterIdentifier" in given and "MasterUsername" not in given
        username = None if secondary else checks.master_user(engine, given.get("MasterUsername"))
        managed = checks.password_choice(given, needed=not secondary)
        checks.database_name(engine, given.get("DatabaseName"))
        resource_id = new_resource_id(self.current_account)
        fields = common_fields(self, given, version) | {
            "MasterUsername": username,
            "DatabaseName": given.get("DatabaseName"),
            "GlobalClusterIdentifier": given.get("GlobalClusterIdentifier"),
            "ReplicationSourceIdentifier": given.get("ReplicationSourceIdentifier"),
        }
        encryption = rds_encryption.for_new_cluster(
            self._caller, given.get("StorageEncrypted"), given.get("KmsKeyId"), resource_id
        )
        secret_key = given.get("MasterUserSecretKmsKeyId")
        secret_key = secret_key and str(
            rds_encryption.usable_key(self._caller, secret_key, service="secretsmanager").arn
        )
        join = join_global(self, given.get("GlobalClusterIdentifier"), encryption, fields)
        cluster = start_cluster(self, identifier, resource_id, fields, encryption, given.get("Tags"))
        if join is not None:
            join(cluster)
        if managed:
            cluster.secret = managed_secrets.create(
                self.current_account,
                self.region,
                username=str(username),
                resource_arn=cluster.arn,
                kms_key_arn=secret_key,
            )
        return ActionResult({"DBCluster": describe_cluster(cluster)})

    def describe_db_clusters(self) -> ActionResult:
        """moto gap: no paging, two filters, and statuses that change when they are read."""
        given = self._given
        if (name := given.get("DBClusterIdentifier")) is not None:
            found = [self._find_cluster(name, counts=True)]
        else:
            found = self._poll_all_clusters()
        found = apply_filters(found, given.get("Filters"), {
            "db-cluster-id": lambda one: (one.identifier, one.arn),
            "db-cluster-resource-id": lambda one: (one.resource_id,),
            "engine": lambda one: (one.fields["Engine"],),
            "clone-group-id": lambda one: (),
            "domain": lambda one: (),
        })  # fmt: skip
        chosen, marker = page(found, given)
        return ActionResult({"DBClusters": [describe_cluster(cluster) for cluster in chosen], "Marker": marker})

    def delete_db_cluster(self) -> ActionResult:
        """moto gap: it does not require a choice of final snapshot, and answers with status available."""
        given = self._given
        cluster = self._find_cluster(given.get("DBClusterIdentifier"))
        skip, final = bool(given.get("SkipFinalSnapshot")), given.get("FinalDBSnapshotIdentifier")
        if skip and final:
            bad_combination("FinalDBSnapshotIdentifier can't be specified when SkipFinalSnapshot is true.")
        if not skip and not final:
            bad_combination("FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
        if cluster.fields["DeletionProtection"]:
            bad_combination("Cannot delete protected Cluster, please disable deletion protection and try again.")
        if cluster.status not in ("available", "stopped", "creating", "backing-up", *LOST):
            raise_error(
                "InvalidDBClusterStateFault", f"DB cluster {cluster.identifier} is in the state {cluster.status}."
            )
        if any(instance.status != "deleting" for instance in cluster.instances):
            raise_error(
                "InvalidDBClusterStateFault",
                "Cluster cannot be deleted, it still contains DB instances in non-deleting state.",
            )
        if cluster.fields.get("GlobalClusterIdentifier"):
            raise_error(
                "InvalidDBClusterStateFault",
                "This cluster is a part of a global cluster, please remove it from globalcluster first",
            )
        if final:
            if cluster.status in LOST or cluster.status == RECOVERABLE:
                raise_error(
                    "InvalidDBClusterStateFault",
                    f"No final snapshot can be taken of a cluster that is {cluster.status}.",
                )
            name = free_snapshot_name(self.backend, final, "FinalDBSnapshotIdentifier")
            rds_encryption.require_key(cluster)
            take_snapshot(cluster, name)
        self._end_backups(cluster, keep_them=given.get("DeleteAutomatedBackups") is False)
        transition(cluster, "deleting", "")
        add_event(cluster, "DB cluster is being deleted", "notification")
        return ActionResult({"DBCluster": describe_cluster(cluster)})

    def _end_backups(self, cluster: Cluster, *, keep_them: bool) -> None:
        """Retain a deleted cluster's automated backups, or delete them with it (the default)."""
        if keep_them:
            retained_backups(self.backend).append(cluster)
            return
        delete_automated(self.backend, cluster.resource_id)
