"""What 90 finds of step 10: the restored cluster under whatever name, and what it keeps."""

from __future__ import annotations

from typing import Any

from runbook_lib.aws import rds
from runbook_lib.aws.cluster_settings import cluster_of
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Change
from runbook_lib.run.clusters import ExistingClusterRecord
from runbook_lib.run.steps import ENCRYPT_EXISTING_CLUSTER
from runbook_lib.steps import ownership
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, SECURITY_GROUP, SNAPSHOT


def find(step: OpenStep) -> dict[str, Any] | None:
    """Return the cluster that 10 restored: as recorded, or by its name where the response of the restore was lost."""
    record = ExistingClusterRecord.so_far(step.run)
    ids = [record.db_cluster_resource_id, *ownership.names_of(step, CLUSTER, creator=ENCRYPT_EXISTING_CLUSTER)]
    for one in dict.fromkeys(filter(None, ids)):
        if (found := cluster_of(step.session, one)) is not None:
            return dict(found)
    name = record.temporary_db_cluster_identifier
    found = rds.find_cluster(step.session, name) if name else None
    if found is None or not any(ids):
        return found
    return found if ownership.is_ours(step, ownership.of_cluster(found), creator=ENCRYPT_EXISTING_CLUSTER) else None


def other_than(found: dict[str, Any] | None, restored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the cluster that was found by name, unless it is the restored one."""
    same = found and restored and found["DbClusterResourceId"] == restored["DbClusterResourceId"]
    return None if same else found


def kept_after_cut_over(step: OpenStep, found: dict[str, Any]) -> list[Change]:
    """Return the row that keeps the restored cluster once it has the name of the cluster that it replaced."""
    name = found["DBClusterIdentifier"]
    if name != ExistingClusterRecord.so_far(step.run).source_db_cluster_identifier:
        return []
    why = f"it has the name of the cluster that it replaced, {name}: delete it yourself if nobody needs it"
    return [Change("keep", CLUSTER, name, why)]


def kept_snapshots(step: OpenStep) -> list[Change]:
    """Return the rows of the snapshots that 10 took of the existing cluster, with the command that deletes each."""
    rows = []
    for name in ownership.names_of(step, SNAPSHOT, creator=ENCRYPT_EXISTING_CLUSTER):
        if rds.find_snapshot(step.session, name) is not None:
            command = f"aws rds delete-db-cluster-snapshot --db-cluster-snapshot-identifier {name}"
            rows.append(
                Change(
                    "keep",
                    SNAPSHOT,
                    name,
                    f"of the existing cluster; to delete it: {command}",
                )
            )
    return rows


def kept_group(step: OpenStep, group_id: str) -> Change | None:
    """Return the row that keeps the security group of 11 while the existing cluster has it, or None."""
    source = cluster_of(step.session, ExistingClusterRecord.so_far(step.run).source_db_cluster_resource_id) or {}
    if group_id not in [one["VpcSecurityGroupId"] for one in source.get("VpcSecurityGroups", [])]:
        return None
    name = source["DBClusterIdentifier"]
    why = f"closes {name}, which has it: roll back (11), or give {name} other groups"
    return Change("keep", SECURITY_GROUP, group_id, why)


def own_snapshot(asked: CleanUpInputs, found: dict[str, Any], *, beside: object) -> CleanUpInputs:
    """Return the choices of 90 with a final snapshot of this cluster's own name, if another cluster is deleted too."""
    final = asked.final_db_snapshot_identifier
    if not final or beside is None:
        return asked
    return asked.model_copy(update={"final_db_snapshot_identifier": f"{final}-{found['DBClusterIdentifier']}"})
