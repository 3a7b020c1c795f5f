"""Automated backups, including those of deleted clusters, and events.

moto gaps: automated backups of clusters are not implemented, and DescribeEvents has no clusters, times or categories.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds import checks, engines
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.errors import apply_filters, bad_combination, bad_value, page, raise_error
from runbook_sandbox.rds.resources import Cluster, plain_tags, retained_backups, window_start
from runbook_sandbox.rds.snapshots import delete_automated

_KEPT = timedelta(days=14)
_SOURCES = ("db-instance", "db-parameter-group", "db-security-group", "db-snapshot", "db-cluster",
            "db-cluster-snapshot", "custom-engine-version", "db-proxy", "blue-green-deployment")  # fmt: skip


def describe_backup(cluster: Cluster, *, retained: bool) -> dict[str, Any]:
    """Return the automated backup of a cluster as AWS shows it."""
    fields = cluster.fields
    copied = ("Engine", "EngineVersion", "EngineMode", "AllocatedStorage", "BackupRetentionPeriod", "MasterUsername",
              "PreferredBackupWindow", "AvailabilityZones", "Port", "IAMDatabaseAuthenticationEnabled")  # fmt: skip
    return {name: fields[name] for name in copied if fields.get(name) is not None} | cluster.encryption.as_fields | {
        "DBClusterIdentifier": cluster.identifier,
        "DBClusterArn": cluster.arn,
        "DbClusterResourceId": cluster.resource_id,
        "DBClusterAutomatedBackupsArn": cluster.arn.replace(":cluster:", ":cluster-auto-backup:").replace(
            f":{cluster.identifier}", ":ab-" + cluster.resource_id.removeprefix("cluster-").lower()
        ),
        "Region": cluster.region,
        "VpcId": fields["vpc_id"],
        "LicenseModel": engines.license_model(fields["Engine"]),
        "StorageType": fields.get("StorageType") or "aurora",
        "ClusterCreateTime": cluster.created,
        "Status": "retained" if retained else "active",
        "RestoreWindow": {
            "EarliestTime": window_start(cluster), "LatestTime": cluster.since if retained else clock.now(),
        },
        "TagList": cluster.get_tags() if (own := fields.get("backup_tags")) is None else plain_tags(own),
    }  # fmt: skip


class BackupAndEventOperations(RdsBase):
    """DescribeDBClusterAutomatedBackups, DeleteDBClusterAutomatedBackup, DescribeEvents."""

    def _backups(self) -> list[tuple[Cluster, bool]]:
        """Return clusters with automated backups, each with whether only the backups remain."""
        retained = retained_backups(self.backend)
        days = {id(one): timedelta(days=int(one.fields["BackupRetentionPeriod"])) for one in retained}
        retained[:] = [one for one in retained if clock.now() < one.since + days[id(one)]]
        living = [(one, False) for one in self._poll_all_clusters() if one.status != "deleting"]
        return [*living, *((one, True) for one in retained)]

    def describe_db_cluster_automated_backups(self) -> ActionResult:
        """moto gap: not implemented."""
        given, found = self._given, self._backups()
        if (resource_id := given.get("DbClusterResourceId")) is not None:
            found = [one for one in found if one[0].resource_id == resource_id]
            if not found:
                raise_error(
                    "DBClusterAutomatedBackupNotFoundFault", f"No automated backup for {resource_id} was found."
                )
        if (name := given.get("DBClusterIdentifier")) is not None:
            found = [one for one in found if str(name).lower() in (one[0].identifier, one[0].arn.lower())]
        found = apply_filters(found, given.get("Filters"), {
            "status": lambda one: ("retained" if one[1] else "active",),
            "db-cluster-id": lambda one: (one[0].identifier, one[0].arn),
            "db-cluster-resource-id": lambda one: (one[0].resource_id,),
        })  # fmt: skip
        chosen, marker = page(found, given)
        shown = [describe_backup(cluster, retained=retained) for cluster, retained in chosen]
        return ActionResult({"DBClusterAutomatedBackups": shown, "Marker": marker})

    def delete_db_cluster_automated_backup(self) -> ActionResult:
        """moto gap: not implemented."""
        wanted = self._given.get("DbClusterResourceId")
        for cluster, retained in self._backups():
            if cluster.resource_id != wanted:
                continue
            if not retained:
                raise_error(
                    "InvalidDBClusterAutomatedBackupStateFault",
                    f"The automated backup of {cluster.identifier} is deleted with its cluster; delete the cluster instead.",
                )
            retained_backups(self.backend).remove(cluster)
            delete_automated(self.backend, cluster.resource_id)
            shown = describe_backup(cluster, retained=True) | {"Status": "deleting"}
            return ActionResult({"DBClusterAutomatedBackup": shown})
        raise_error("DBClusterAutomatedBackupNotFoundFault", f"No automated backup for {wanted} was found.")

    def describe_events(self) -> ActionResult:
        """moto gap: it has no clusters, no times and no categories."""
        given = self._given
        source, kind = given.get("SourceIdentifier"), given.get("SourceType")
        checks.one_of(kind, _SOURCES, "SourceType")
        if source is not None and kind is None:
            bad_combination("SourceType must be given with SourceIdentifier.")
        start, end = self._span(given)
        categories = set(given.get("EventCategories") or ())
        found = []
        for entry in (_shown(event) for event in self.backend.events):
            if source is not None and str(source).lower() != str(entry["SourceIdentifier"]).lower():
                continue
            if kind is not None and kind != entry["SourceType"]:
                continue
            if categories and not categories & set(entry["EventCategories"]):
                continue
            if start <= entry["Date"] <= end:
                found.append(entry)
        chosen, marker = page(found, given)
        return ActionResult({"Events": chosen, "Marker": marker})

    def _span(self, given: dict[str, Any]) -> tuple[datetime, datetime]:
        """Return the requested time span, by default the last hour."""
        end = _aware(given["EndTime"]) if "EndTime" in given else clock.now()
        if not 1 <= (minutes := int(given.get("Duration", 60))) <= _KEPT.days * 24 * 60:
            bad_value(f"Invalid duration {minutes}. Must be between 1 and {_KEPT.days * 24 * 60} minutes.")
        lasting = timedelta(minutes=minutes)
        start = _aware(given["StartTime"]) if "StartTime" in given else end - lasting
        if start > end or start < clock.now() - _KEPT - timedelta(minutes=1):
            bad_value("StartTime must be before EndTime and within the last 14 days.")
        return start, end


def _shown(event: Any) -> dict[str, Any]:
    """Return an event as AWS shows it; moto stores objects for the events of its own instances."""
    if isinstance(event, dict):
        return event
    return {
        "SourceIdentifier": event.source_identifier, "SourceType": event.source_type, "Message": event.message,
        "EventCategories": list(event.event_categories), "Date": _aware(event.date), "SourceArn": event.source_arn,
    }  # fmt: skip


def _aware(moment: Any) -> datetime:
    parsed = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
