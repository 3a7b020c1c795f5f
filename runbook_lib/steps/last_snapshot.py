"""The last snapshot of an existing cluster, restored in place of the rehearsal's cluster, once per cut-over; and autoscaling.

The rehearsal's cluster is deleted only when the last snapshot is available, and the new one is compared with the source
before it gets its name. A restored cluster has the name of its snapshot as a tag, since RDS does not tell it: only one of
this round's snapshot is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.aws import rds
from runbook_lib.aws.cluster_settings import ClusterSettings, cluster_of, members_of, read_settings
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.errors import PlanOutdated, WaitFailed
from runbook_lib.inputs.cut_over import CLOSE, STOPPED_BEFORE, CutOverInputs
from runbook_lib.inputs.existing import EncryptExistingClusterInputs
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Change
from runbook_lib.run.clusters import SETTINGS_FILE, CutOverRecord, ExistingClusterRecord
from runbook_lib.run.records import KeyRecord
from runbook_lib.run.steps import ENCRYPT_EXISTING_CLUSTER
from runbook_lib.steps import carry_over, clean_up, ownership, restore, writers
from runbook_lib.steps.comparison import compare
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, SNAPSHOT
from runbook_lib.steps.restore_plan import SCALING, changes_for, restored_from
from runbook_lib.steps.settings_difference import differences


def snapshot_name(step: OpenStep, *, ahead: int = 0) -> str:
    """Return the name of this round's last snapshot, or with `ahead` of a later round's."""
    temporary = ExistingClusterRecord.so_far(step.run).temporary_db_cluster_identifier
    return f"{temporary}-final-{CutOverRecord.so_far(step.run).round + 1 + ahead}"


def is_begun(step: OpenStep) -> bool:
    """Return whether this round's last snapshot was requested, whatever became of it."""
    return snapshot_name(step) in ownership.names_of(step, SNAPSHOT, creator=ENCRYPT_EXISTING_CLUSTER)


def _settings(step: OpenStep) -> ClusterSettings:
    return ClusterSettings.from_json(step.run.read(SETTINGS_FILE))


def needs_another(step: OpenStep, asked: CutOverInputs, source: Mapping[str, Any]) -> bool:
    """Return whether somebody may have written since this round's last snapshot: the network is open, or a client was connected."""
    if not is_begun(step):
        return False
    is_open = asked.writers == CLOSE and not writers.is_closed(step, source)
    taken = (rds.find_snapshot(step.session, snapshot_name(step)) or {}).get("SnapshotCreateTime")
    name = str(source["DBClusterIdentifier"])
    return is_open or (
        taken is not None and rds.most_connections(step.session, name, since=taken, until=step.now()) > 0
    )


def not_the_last(step: OpenStep, asked: CutOverInputs, source: Mapping[str, Any]) -> list[str]:
    """Return why what 10 read or restored is not what the existing cluster is now; only read."""
    found = []
    if asked.writers == STOPPED_BEFORE and (CutOverRecord.so_far(step.run).round or is_begun(step)):
        found.append(
            "writers: 'stopped_before_snapshot' is true only for the first cut-over, before a last snapshot was begun; choose "
            "close_network, or stopped_by_operator"
        )
    if not writers.is_closed(step, source):
        found += _changed_settings(step, str(source["DBClusterIdentifier"]))
    return found


def _changed_settings(step: OpenStep, name: str) -> list[str]:
    """Return, as a problem, which settings of the existing cluster changed since 10 read them; only read."""
    now = read_settings(step.session, name)
    if now is None:
        return []
    cluster, instance = members_of(step.session, "DBCluster"), members_of(step.session, "DBInstance")
    now = ClusterSettings.from_json(now.to_json())
    found = differences(_settings(step), now, cluster_members=cluster, instance_members=instance)
    # Security groups are how an operator stops the writers; the new cluster has those that 10 read.
    members = ", ".join(dict.fromkeys(one.member for one in found if one.member != "VpcSecurityGroups"))
    if not members:
        return []
    return [
        f"settings of {name} changed since 10 read them ({members}), and the new cluster would not have them; set them back, "
        "or encrypt it in a run of another run_id"
    ]


def rows_of_renewal(step: OpenStep, new: dict[str, Any] | None, *, another: bool) -> list[Change]:
    """Return the rows of the last snapshot and what replaces the restored cluster; only read.

    `another`: somebody may have written since this round's snapshot, so that another one is taken.
    """
    name = snapshot_name(step, ahead=int(another))
    temporary = ExistingClusterRecord.so_far(step.run).temporary_db_cluster_identifier
    if new is not None and restored_from(step, new) == name:
        return [Change("keep", CLUSTER, temporary, f"restored from the last snapshot, {name}")]
    rows = [
        Change("create", SNAPSHOT, name, "the last one, after the writers were stopped", "rds:CreateDBClusterSnapshot")
    ]
    if new is not None:
        rows += clean_up.rows_of_cluster(step, CleanUpInputs.check({}), new)
    words = f"restored again from {name}, with its {len(_settings(step).instances)} instances and every setting, and compared"
    return [
        *rows,
        Change("create", CLUSTER, temporary, words, "rds:RestoreDBClusterFromSnapshot, rds:CreateDBInstance"),
    ]


def renew(step: OpenStep, new: dict[str, Any] | None, *, minutes: float) -> None:
    """Take the last snapshot, replace the restored cluster by what it holds, and compare it with the source.

    Raises what `restore.carry_out` raises, `PlanOutdated` for a snapshot of another cluster, `WaitFailed` for a restored
    cluster that cannot be deleted, and `VerificationFailed` for a difference.
    """
    ten = OpenStep(ENCRYPT_EXISTING_CLUSTER, step.run, step.session)
    record, snapshot = ExistingClusterRecord.from_run(step.run), snapshot_name(step)
    temporary, key_arn = record.temporary_db_cluster_identifier, KeyRecord.from_run(step.run).key_arn
    asked = EncryptExistingClusterInputs.check(step.run.applied_inputs(ENCRYPT_EXISTING_CLUSTER))
    if new is None or restored_from(step, new) != snapshot:
        rows = changes_for(ten, _settings(step), temporary, key_arn, snapshot=snapshot)
        restore.take_snapshot(ten, next(one for one in rows if one.resource == SNAPSHOT), minutes=minutes)
        _require_of(step, snapshot, record.source_db_cluster_resource_id)
        if new is not None:
            _delete(step, new)
    plan = ten.plan(asked, changes_for(ten, _settings(step), temporary, key_arn, snapshot=snapshot))
    plan.require_applicable()
    restore.carry_out(ten, plan, minutes=minutes)
    record = ExistingClusterRecord.from_run(step.run)
    retry_until_passed(lambda: compare(ten, record), target=step.session.target).require_passed()


def _require_of(step: OpenStep, snapshot: str, source: str) -> None:
    """Raise `PlanOutdated` unless the snapshot is one of the existing cluster: another may have had its name for a while."""
    of = (rds.find_snapshot(step.session, snapshot) or {}).get("DbClusterResourceId")
    if of != source:
        raise PlanOutdated(
            f"snapshot {snapshot} is of the cluster with the resource ID {of}, not {source}; delete it, then run the cell or "
            "command again"
        )


def _delete(step: OpenStep, new: dict[str, Any]) -> None:
    """Delete the restored cluster with its instances. Raises `WaitFailed` if it stays: it must not get the name."""
    asked = CleanUpInputs.check({})
    told = [
        clean_up.carry_out(step, change, asked) if change.action in ("change", "delete") else f"kept: {change.detail}"
        for change in clean_up.rows_of_cluster(step, asked, new)
    ]
    if cluster_of(step.session, str(new["DbClusterResourceId"])) is not None:
        why = next((one for one in told if one.startswith("kept")), "it still exists")
        raise WaitFailed(
            f"{new['DBClusterIdentifier']}, which is older than the last snapshot, was not deleted ({why}); delete it, then "
            "run the cell or command again"
        )


def scaling_follows(step: OpenStep, name: str, *, do: bool = False) -> list[Change]:
    """Return the rows that register autoscaling of readers under the final name; with `do`, register it."""
    settings, temporary = _settings(step), ExistingClusterRecord.so_far(step.run).temporary_db_cluster_identifier
    targets = carry_over.target_requests(settings, identifier=name)
    policies = carry_over.policy_requests(settings, identifier=name)
    if do and targets:
        client = step.client("application-autoscaling")
        for target in targets:
            client.register_scalable_target(**target)
        for policy in policies:
            client.put_scaling_policy(**policy)
        there = client.describe_scalable_targets(ServiceNamespace="rds", ResourceIds=[f"cluster:{temporary}"])
        for target in there["ScalableTargets"]:
            place = {part: target[part] for part in ("ServiceNamespace", "ScalableDimension", "ResourceId")}
            client.deregister_scalable_target(**place)
    calls = "application-autoscaling:RegisterScalableTarget"
    return [
        Change("change", SCALING, one["ResourceId"], f"{one['MinCapacity']} to {one['MaxCapacity']} readers", calls)
        for one in targets
    ]
