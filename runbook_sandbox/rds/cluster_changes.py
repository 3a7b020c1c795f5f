"""Changes to an existing DB cluster: modify, rename, stop, start, fail over, reboot.

moto gaps: ModifyDBCluster removes the cluster first, so that any error loses it, and crashes if it does not exist;
StartDBCluster does not check the key.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds import checks, encryption, engines, managed_secrets, placement, renames
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.clusters import export_logs, performance_insights
from runbook_sandbox.rds.describe import describe_cluster
from runbook_sandbox.rds.errors import bad_combination, bad_value, raise_error
from runbook_sandbox.rds.resources import RECOVERABLE, Cluster, add_event, clusters
from runbook_sandbox.rds.states import transition

# Stored as sent, after the checks.
_PLAIN = ("AutoMinorVersionUpgrade", "CopyTagsToSnapshot", "DeletionProtection", "PreferredBackupWindow",
          "DatabaseInsightsMode", "MonitoringInterval", "MonitoringRoleArn", "NetworkType")  # fmt: skip
_CAN_CHANGE = ("available", "stopped")


class ChangeOperations(RdsBase):
    """ModifyDBCluster, StartDBCluster, StopDBCluster, FailoverDBCluster, RebootDBCluster."""

    def modify_db_cluster(self) -> ActionResult:
        """moto gap: an error loses the cluster. Here all checks come first, and nothing changes when one fails."""
        given = self._given
        cluster = self._find_cluster(given.get("DBClusterIdentifier"))
        if cluster.status not in _CAN_CHANGE and set(given) - {
            "DBClusterIdentifier",
            "DeletionProtection",
            "ApplyImmediately",
        }:
            raise_error(
                "InvalidDBClusterStateFault",
                f"DB cluster {cluster.identifier} is in the state {cluster.status}, not available.",
            )
        changed = self._checked_changes(cluster, given)
        new_name = self._new_name(cluster, given.get("NewDBClusterIdentifier"))
        secret = self._secret_after(cluster, given)
        cluster.fields |= changed
        if "DatabaseInsightsMode" in changed:  # instances have the mode of their cluster
            for instance in cluster.instances:
                instance.fields["DatabaseInsightsMode"] = changed["DatabaseInsightsMode"]
        if secret is not cluster.secret:
            if cluster.secret is not None:
                managed_secrets.delete(cluster.secret)
            cluster.secret = secret
        if new_name is not None and not given.get("ApplyImmediately"):
            renames.wait_for_window(cluster, new_name)
            new_name = None
        elif new_name is not None:
            renames.rename(cluster, new_name)
        if given.get("RotateMasterUserPassword") and cluster.secret is not None:
            managed_secrets.rotate(cluster.secret)
        if cluster.status == "available":
            status = (
                "renaming"
                if new_name
                else "resetting-master-credentials"
                if "MasterUserPassword" in given
                else "modifying"
            )
            transition(cluster, status, "available")
        return ActionResult({"DBCluster": describe_cluster(cluster)})

    def _checked_changes(self, cluster: Cluster, given: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that change. Storage encryption and its key never do."""
        fields, backend = cluster.fields, self.backend
        version = self._version_after(fields, given)
        changed = {name: given[name] for name in _PLAIN if name in given}
        if version.name != fields["EngineVersion"]:
            changed["EngineVersion"] = version.name
        checks.windows(given.get("PreferredBackupWindow"), given.get("PreferredMaintenanceWindow"))
        checks.insights(given)
        changed |= self._monitoring_after(fields, given)
        if "PreferredMaintenanceWindow" in given:
            changed["PreferredMaintenanceWindow"] = str(given["PreferredMaintenanceWindow"]).lower()
        if "BackupRetentionPeriod" in given:
            changed["BackupRetentionPeriod"] = checks.retention(given["BackupRetentionPeriod"])
        if "Port" in given:
            changed["Port"] = checks.port(fields["Engine"], given["Port"])
        if "EnableIAMDatabaseAuthentication" in given:
            changed["IAMDatabaseAuthenticationEnabled"] = given["EnableIAMDatabaseAuthentication"]
        if "EnableHttpEndpoint" in given:
            changed["HttpEndpointEnabled"] = given["EnableHttpEndpoint"]
        if "DBClusterParameterGroupName" in given:
            changed["DBClusterParameterGroup"] = placement.cluster_parameter_group(
                backend, given["DBClusterParameterGroupName"], version
            )
        if "VpcSecurityGroupIds" in given:
            changed["security_groups"] = placement.security_groups(
                backend, given["VpcSecurityGroupIds"], fields["vpc_id"]
            )
            changed["clients_cut_off"] = False
        if "ServerlessV2ScalingConfiguration" in given:
            changed["ServerlessV2ScalingConfiguration"] = checks.scaling(
                version, given["ServerlessV2ScalingConfiguration"]
            )
        if "EnablePerformanceInsights" in given:
            changed |= performance_insights(self._caller, given)
        if "EnableLocalWriteForwarding" in given:
            changed["LocalWriteForwardingStatus"] = "enabled" if given["EnableLocalWriteForwarding"] else "disabled"
        if "StorageType" in given:
            kind = checks.storage_type(given["StorageType"])
            changed["StorageType"] = None if kind == "aurora" else kind
        if (logs := given.get("CloudwatchLogsExportConfiguration")) is not None:
            changed["EnabledCloudwatchLogsExports"] = self._logs_after(cluster, version, logs)
        return changed

    def _version_after(self, fields: dict[str, Any], given: dict[str, Any]) -> engines.Version:
        """Return the engine version to run after the change; only upgrades are allowed."""
        version = engines.find_version(fields["Engine"], fields["EngineVersion"])
        if (wanted := given.get("EngineVersion")) in (None, version.name):
            return version
        newer = engines.find_version(fields["Engine"], wanted)
        if newer.order < version.order:
            bad_combination(f"Cannot upgrade {version.engine} from {version.name} to {newer.name}")
        if newer.major != version.major and not given.get("AllowMajorVersionUpgrade"):
            bad_combination("The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version.")
        return newer

    def _monitoring_after(self, fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Check both parameters of enhanced monitoring; return what changes besides the given parameters."""
        names = ("MonitoringInterval", "MonitoringRoleArn")
        if not any(name in given for name in names):
            return {}
        both = {name: fields.get(name) for name in names}
        changed: dict[str, Any] = {}
        if given.get("MonitoringInterval") == 0:
            both["MonitoringRoleArn"] = changed["MonitoringRoleArn"] = None
        checks.monitoring(both | {name: given[name] for name in names if name in given}, self._roles)
        return changed

    def _logs_after(self, cluster: Cluster, version: engines.Version, asked: dict[str, Any]) -> list[str] | None:
        on = checks.log_exports(version, asked.get("EnableLogTypes"))
        off = set(checks.log_exports(version, asked.get("DisableLogTypes")))
        kept = [name for name in cluster.fields.get("EnabledCloudwatchLogsExports") or [] if name not in off]
        export_logs(self.current_account, self.region, cluster.identifier, on)
        return list(dict.fromkeys([*kept, *on])) or None

    def _secret_after(self, cluster: Cluster, given: dict[str, Any]) -> Any:
        """Return the managed secret after the change: kept, newly created, or None."""
        managed, password = given.get("ManageMasterUserPassword"), given.get("MasterUserPassword")
        if managed and password is not None:
            bad_combination("You can't specify MasterUserPassword and ManageMasterUserPassword together.")
        if given.get("RotateMasterUserPassword") and cluster.secret is None:
            bad_combination("You can't rotate a master user password that Secrets Manager doesn't manage.")
        if password is not None:
            checks.password(password)
            if cluster.secret is not None and managed is not False:
                bad_combination(
                    "You can't specify MasterUserPassword for a cluster whose password Secrets Manager manages."
                )
        key = given.get("MasterUserSecretKmsKeyId")
        if key is not None and cluster.secret is not None:
            bad_combination("The KMS key of a managed master user secret can't be changed.")
        if managed is False:
            if password is None and cluster.secret is not None:
                bad_combination("MasterUserPassword is needed when Secrets Manager no longer manages it.")
            return None
        if not managed or cluster.secret is not None:
            return cluster.secret
        arn = key and str(encryption.usable_key(self._caller, key, service="secretsmanager").arn)
        return managed_secrets.create(
            self.current_account, self.region, username=str(cluster.fields["MasterUsername"]),
            resource_arn=cluster.arn, kms_key_arn=arn,
        )  # fmt: skip

    def _new_name(self, cluster: Cluster, name: str | None) -> str | None:
        if name is None:
            return None
        new = checks.identifier(name, "NewDBClusterIdentifier")
        if any(one.identifier == new for one in clusters(self.backend)) and new != cluster.identifier:
            raise_error("DBClusterAlreadyExistsFault", "DB Cluster already exists")
        return new

    def stop_db_cluster(self) -> ActionResult:
        """moto gap: it stops at once, even in a global database."""
        cluster = self._find_cluster(self._given.get("DBClusterIdentifier"))
        if cluster.status != "available":
            raise_error(
                "InvalidDBClusterStateFault",
                f"DbCluster {cluster.identifier} is in {cluster.status} state but expected it to be one of available.",
            )
        if cluster.fields.get("GlobalClusterIdentifier") or cluster.fields.get("ReplicationSourceIdentifier"):
            raise_error(
                "InvalidDBClusterStateFault",
                "A cluster of a global database or with cross-Region replicas can't be stopped.",
            )
        transition(cluster, "stopping", "stopped")
        cluster.stopped_at = clock.now()
        for instance in cluster.instances:
            transition(instance, "stopping", "stopped")
        add_event(cluster, "DB cluster stopped", "notification")
        return ActionResult({"DBCluster": describe_cluster(cluster)})

    def start_db_cluster(self) -> ActionResult:
        """moto gap: a cluster starts without its key."""
        cluster = self._find_cluster(self._given.get("DBClusterIdentifier"))
        if cluster.status not in ("stopped", RECOVERABLE):
            raise_error(
                "InvalidDBClusterStateFault",
                f"DbCluster {cluster.identifier} is in {cluster.status} state but expected it to be one of "
                "stopped,inaccessible-encryption-credentials-recoverable.",
            )
        encryption.require_key(cluster)
        encryption.start(cluster)
        return ActionResult({"DBCluster": describe_cluster(cluster)})

    def failover_db_cluster(self) -> ActionResult:
        """moto gap: the writer does not change."""
        given = self._given
        cluster = self._find_cluster(given.get("DBClusterIdentifier"))
        if cluster.status != "available":
            raise_error(
                "InvalidDBClusterStateFault",
                f"DB cluster {cluster.identifier} is in the state {cluster.status}, not available.",
            )
        readers = [one for one in cluster.instances if one.identifier != cluster.writer and one.status == "available"]
        if not readers:
            raise_error(
                "InvalidDBClusterStateFault",
                f"Cannot failover cluster {cluster.identifier}: it has no reader that is available.",
            )
        target = given.get("TargetDBInstanceIdentifier")
        chosen = [one for one in readers if target is None or one.identifier == str(target).lower()]
        if not chosen:
            bad_value(f"The target DB instance {target} is not a reader of cluster {cluster.identifier}.")
        encryption.require_key(cluster)
        cluster.writer = min(chosen, key=lambda one: one.fields["PromotionTier"]).identifier
        transition(cluster, "failing-over", "available")
        add_event(cluster, f"Completed failover to DB instance: {cluster.writer}", "failover")
        return ActionResult({"DBCluster": describe_cluster(cluster)})

    def reboot_db_cluster(self) -> ActionResult:
        """moto gap: nothing happens."""
        cluster = self._find_cluster(self._given.get("DBClusterIdentifier"))
        if cluster.status != "available":
            raise_error(
                "InvalidDBClusterStateFault",
                f"DB cluster {cluster.identifier} is in the state {cluster.status}, not available.",
            )
        encryption.require_key(cluster)
        for instance in cluster.instances:
            transition(instance, "rebooting", "available")
        return ActionResult({"DBCluster": describe_cluster(cluster)})
