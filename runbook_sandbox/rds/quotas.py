"""The default quotas of an account and Region that concern Aurora, and the two that stop a second cluster and its instances.

moto gap: it has quotas of snapshots and proxies only. The numbers are those of the Aurora User Guide, "Quotas and
constraints for Amazon Aurora", per Region; instances of all engines count.
RUNBOOK_SANDBOX_QUOTA is another number for both, as AWS raises them on request.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

from runbook_sandbox.rds.base import RdsBase, poll_cluster, poll_instances
from runbook_sandbox.rds.errors import raise_error
from runbook_sandbox.rds.resources import Instance, clusters
from runbook_sandbox.rds.snapshots import QUOTA as SNAPSHOTS

_HERE = int(os.environ.get("RUNBOOK_SANDBOX_QUOTA") or 40)
MOST = {"DBInstances": _HERE, "DBClusters": _HERE, "DBSubnetGroups": 50, "DBParameterGroups": 50,
        "DBClusterParameterGroups": 50, "ManualClusterSnapshots": SNAPSHOTS}  # fmt: skip


def require_cluster(handler: RdsBase) -> None:
    """Raise DBClusterQuotaExceededFault if the account has as many clusters as it can (API reference, CreateDBCluster)."""
    most = MOST["DBClusters"]
    if len(clusters(handler.backend)) < most:
        return
    for cluster in clusters(handler.backend):
        poll_cluster(cluster, counts=False)  # some may be deleted by now
    if len(clusters(handler.backend)) >= most:
        raise_error("DBClusterQuotaExceededFault", f"The account has {most} DB clusters, which is its quota.")


def require_instance(handler: RdsBase) -> None:
    """Raise InstanceQuotaExceeded if the account has as many instances as it can (API reference, CreateDBInstance)."""
    stored: MutableMapping[str, Any] = handler.backend.databases
    most = MOST["DBInstances"]
    if len(stored) < most:
        return
    poll_instances([one for one in stored.values() if isinstance(one, Instance)], counts=False)
    if len(stored) >= most:
        raise_error("InstanceQuotaExceeded", f"The account has {most} DB instances, which is its quota.")
