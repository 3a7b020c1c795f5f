"""What AWS offers: DescribeDBEngineVersions, DescribeOrderableDBInstanceOptions and related calls, and the quotas.

moto gap: the first is not implemented, the second lacks Aurora MySQL.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult

from runbook_sandbox.rds import engines, quotas
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.engines import VERSIONS
from runbook_sandbox.rds.errors import apply_filters, page
from runbook_sandbox.rds.resources import clusters, snapshots

# End of standard support, by engine and major version.
_SUPPORTED_UNTIL = {
    ("aurora-mysql", "5.7"): (2018, 2, 1, 2024, 10, 31), ("aurora-mysql", "8.0"): (2021, 11, 18, 2028, 4, 30),
    ("aurora-mysql", "8.4"): (2026, 5, 21, 2032, 4, 30), ("aurora-postgresql", "14"): (2022, 6, 20, 2027, 2, 28),
    ("aurora-postgresql", "15"): (2023, 3, 29, 2028, 2, 29), ("aurora-postgresql", "16"): (2024, 1, 31, 2029, 2, 28),
    ("aurora-postgresql", "17"): (2025, 5, 1, 2030, 2, 28), ("aurora-postgresql", "18"): (2026, 3, 1, 2031, 2, 28),
}  # fmt: skip


class CatalogueOperations(RdsBase):
    """Engine versions, orderable options, major versions, quotas."""

    def describe_account_attributes(self) -> ActionResult:
        """moto gap: not implemented. Enforced are those of clusters, instances and manual snapshots."""
        backend = self.backend
        used: dict[str, Collection[Any]] = {
            "DBInstances": backend.databases,
            "DBClusters": clusters(backend),
            "DBSubnetGroups": backend.subnet_groups,
            "DBParameterGroups": backend.db_parameter_groups,
            "DBClusterParameterGroups": backend.db_cluster_parameter_groups,
            "ManualClusterSnapshots": [one for one in snapshots(backend) if one.fields["SnapshotType"] == "manual"],
        }
        shown = [{"AccountQuotaName": name, "Used": len(used[name]), "Max": most} for name, most in quotas.MOST.items()]
        return ActionResult({"AccountQuotas": shown})

    def describe_db_engine_versions(self) -> ActionResult:
        """moto gap: not implemented."""
        given = self._given
        found = [version for version in VERSIONS if version.status == "available" or given.get("IncludeAll")]
        if (engine := given.get("Engine")) is not None:
            found = [version for version in found if version.engine == engine]
        if (name := given.get("EngineVersion")) is not None:
            found = [version for version in found if name in (version.name, version.major)]
        if (family := given.get("DBParameterGroupFamily")) is not None:
            found = [version for version in found if version.family == family]
        if given.get("DefaultOnly"):
            newest = max(found, key=lambda version: (version.default, version.order), default=None)
            found = [version for version in found if version.default] or ([newest] if newest and name else [])
        found = apply_filters(found, given.get("Filters"), {
            "db-parameter-group-family": lambda version: (version.family,),
            "engine": lambda version: (version.engine,),
            "engine-mode": lambda version: ("provisioned",),
            "engine-version": lambda version: (version.name,),
            "status": lambda version: (version.status,),
        })  # fmt: skip
        chosen, marker = page(found, given)
        shown = [engines.describe_version(version, self.region, self.current_account) for version in chosen]
        return ActionResult({"DBEngineVersions": shown, "Marker": marker})

    def describe_orderable_db_instance_options(self) -> ActionResult:
        """moto gap: it has only options for one version of Aurora PostgreSQL."""
        given = self._given
        found = list(engines.describe_orderable(given, self.region))
        chosen, marker = page(found, given, largest=10_000)
        return ActionResult({"OrderableDBInstanceOptions": chosen, "Marker": marker})

    def describe_db_major_engine_versions(self) -> ActionResult:
        """moto gap: not implemented."""
        given = self._given
        found: list[dict[str, Any]] = []
        for (engine, major), (y1, m1, d1, y2, m2, d2) in _SUPPORTED_UNTIL.items():
            if given.get("Engine") in (None, engine) and given.get("MajorEngineVersion") in (None, major):
                begun, ended = datetime(y1, m1, d1, tzinfo=UTC), datetime(y2, m2, d2, tzinfo=UTC)
                cycle = {"LifecycleSupportName": "open-source-rds-standard-support",
                         "LifecycleSupportStartDate": begun, "LifecycleSupportEndDate": ended}  # fmt: skip
                found.append({"Engine": engine, "MajorEngineVersion": major, "SupportedEngineLifecycles": [cycle]})
        chosen, marker = page(found, given)
        return ActionResult({"DBMajorEngineVersions": chosen, "Marker": marker})
