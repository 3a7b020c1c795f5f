"""A new identifier for a DB cluster: at once, or in the next maintenance window.

moto gap: it renames at once, whatever ApplyImmediately says (API reference, ModifyDBCluster, NewDBClusterIdentifier).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds.resources import Cluster, cluster_endpoints

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAME, _SINCE = "DBClusterIdentifier", "rename_asked_at"


def wait_for_window(cluster: Cluster, new: str) -> None:
    """Show the new identifier in PendingModifiedValues until the maintenance window begins."""
    cluster.fields["PendingModifiedValues"] = {_NAME: new}
    cluster.fields[_SINCE] = clock.now()


def rename_if_due(cluster: Cluster) -> None:
    """Give the cluster its pending identifier if a maintenance window has begun since it was asked for."""
    if (asked := cluster.fields.get(_SINCE)) and clock.now() >= _next(
        str(cluster.fields["PreferredMaintenanceWindow"]), asked
    ):
        rename(cluster, cluster.fields["PendingModifiedValues"][_NAME])


def rename(cluster: Cluster, new: str) -> None:
    """Give the cluster its new identifier; its instances and custom endpoints follow, and keep their own names."""
    instances, old = cluster.instances, cluster.identifier
    for endpoint in cluster_endpoints(cluster.backend).values():
        if endpoint["DBClusterIdentifier"] == old:
            endpoint["DBClusterIdentifier"] = new
    del cluster.backend.clusters[old]
    cluster.identifier = new
    cluster.backend.clusters[new] = cluster  # type: ignore[assignment]
    for instance in instances:
        instance.cluster_id = new
    for name in ("PendingModifiedValues", _SINCE):
        cluster.fields.pop(name, None)


def _next(window: str, after: datetime) -> datetime:
    """Return the first beginning of a window such as `sun:03:10-sun:03:40`, in UTC, after a moment."""
    day, hour, minute = window.partition("-")[0].split(":")
    begins = after.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    begins += timedelta(days=(_DAYS.index(day) - after.weekday()) % 7)
    return begins if begins > after else begins + timedelta(days=7)
