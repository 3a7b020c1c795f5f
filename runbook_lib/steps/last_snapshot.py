"""The last snapshot of an existing cluster, restored in place of the rehearsal's cluster, once per cut-over; and autoscaling.

The rehearsal's cluster is deleted only when the last snapshot is available, and the new one is compared with the source
before it gets its name.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.aws.cluster_settings import ClusterSettings
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.inputs.existing import EncryptExistingClusterInputs
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Change
from runbook_lib.run.clusters import SETTINGS_FILE, CutOverRecord, ExistingClusterRecord
from runbook_lib.run.records import KeyRecord
from runbook_lib.run.steps import ENCRYPT_EXISTING_CLUSTER
from runbook_lib.steps import carry_over, clean_up, restore
from runbook_lib.steps.comparison import compare
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, SNAPSHOT
from runbook_lib.steps.restore_plan import SCALING, changes_for


def snapshot_name(step: OpenStep) -> str:
    """Return the name of this cut-over's last snapshot; after a rollback, the next one has another."""
    temporary = ExistingClusterRecord.so_far(step.run).temporary_db_cluster_identifier
    return f"{temporary}-final-{CutOverRecord.so_far(step.run).round + 1}"


def _settings(step: OpenStep) -> ClusterSettings:
    return ClusterSettings.from_json(step.run.read(SETTINGS_FILE))


def _is_renewed(step: OpenStep) -> bool:
    return ExistingClusterRecord.so_far(step.run).db_cluster_snapshot_identifier == snapshot_name(step)


def rows_of_renewal(step: OpenStep, new: dict[str, Any] | None) -> list[Change]:
    """Return the rows of the last snapshot and what replaces the rehearsal's cluster; only read."""
    record, name = ExistingClusterRecord.so_far(step.run), snapshot_name(step)
    temporary = record.temporary_db_cluster_identifier
    if _is_renewed(step) and new is not None:
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
    """Take the last snapshot, replace the rehearsal's cluster by what it holds, and compare it with the source.

    Raises what `restore.carry_out` raises, and `VerificationFailed` for a difference.
    """
    ten = OpenStep(ENCRYPT_EXISTING_CLUSTER, step.run, step.session)
    record, snapshot = ExistingClusterRecord.from_run(step.run), snapshot_name(step)
    temporary, key_arn = record.temporary_db_cluster_identifier, KeyRecord.from_run(step.run).key_arn
    asked = EncryptExistingClusterInputs.check(step.run.applied_inputs(ENCRYPT_EXISTING_CLUSTER))
    if not (_is_renewed(step) and new is not None):
        rows = changes_for(ten, _settings(step), temporary, key_arn, snapshot=snapshot)
        restore.take_snapshot(ten, next(one for one in rows if one.resource == SNAPSHOT), minutes=minutes)
        if new is not None:
            for change in clean_up.rows_of_cluster(step, CleanUpInputs.check({}), new):
                clean_up.carry_out(step, change, CleanUpInputs.check({}))
    plan = ten.plan(asked, changes_for(ten, _settings(step), temporary, key_arn, snapshot=snapshot))
    plan.require_applicable()
    restore.carry_out(ten, plan, minutes=minutes)
    record = ExistingClusterRecord.from_run(step.run)
    retry_until_passed(lambda: compare(ten, record), target=step.session.target).require_passed()
    step.run.note(step.name, renewed_round=CutOverRecord.so_far(step.run).round)


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
