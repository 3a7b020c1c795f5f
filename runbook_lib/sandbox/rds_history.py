"""Events and automated backups."""

from typing import Any

from moto.core.responses import ActionResult

from runbook_lib.sandbox.rds_base import RdsBase
from runbook_lib.sandbox.rds_faults import page
from runbook_lib.sandbox.rds_records import clusters, retained_backups


class HistoryOperations(RdsBase):
    """DescribeDBClusterAutomatedBackups."""

    def describe_db_cluster_automated_backups(self) -> ActionResult:
        """moto gap: not implemented."""
        found: list[Any] = [*clusters(self.backend), *retained_backups(self.backend)]
        chosen, marker = page(found, self._given)
        shown = [
            one.encryption.wire | {"DBClusterIdentifier": one.identifier, "DbClusterResourceId": one.resource_id}
            for one in chosen
        ]
        return ActionResult({"DBClusterAutomatedBackups": shown, "Marker": marker})
