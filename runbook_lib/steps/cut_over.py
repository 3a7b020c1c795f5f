"""Step 11: the two clusters change names; plan, apply, verify, and the way back.

It acts on the cluster that 10 read, by its DbClusterResourceId, after its name was typed, and deletes nothing of it: the one
exception to the rule that what the run did not create is never changed. Every part may be interrupted and is done once: what
is left to do is read from AWS, whose resource ids no rename changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import rds
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.cluster_settings import ClusterSettings
from runbook_lib.aws.retry import poll
from runbook_lib.aws.waiting import poll_interval
from runbook_lib.checks import Checks
from runbook_lib.errors import NotConfirmed, PlanOutdated, WaitTimedOut
from runbook_lib.inputs.cut_over import STOPPED_BEFORE, CutOverInputs
from runbook_lib.inputs.existing import OLD_SUFFIX
from runbook_lib.pages.progress import interruptible
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import SETTINGS_FILE, CutOverRecord, ExistingClusterRecord
from runbook_lib.run.records import KeyRecord
from runbook_lib.run.steps import ENCRYPT_EXISTING_CLUSTER
from runbook_lib.steps import reports, writers
from runbook_lib.steps.after_cut_over import advice, row_counts, still_under_the_old_key
from runbook_lib.steps.last_snapshot import renew, rows_of_renewal, scaling_follows
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER
from runbook_lib.tables import Result, Text

__all__ = ["advice", "apply", "plan", "row_counts", "still_under_the_old_key", "verify"]

_MODIFY = "rds:ModifyDBCluster"


@dataclass(frozen=True)
class _Pair:
    """The two clusters as they are now, found by resource id; None for one that does not exist. And the names at stake."""

    source: dict[str, Any] | None
    new: dict[str, Any] | None
    name: str
    temporary: str

    @property
    def old_name(self) -> str:
        return f"{self.name}{OLD_SUFFIX}"

    @property
    def name_of_source(self) -> str:
        return str((self.source or {}).get("DBClusterIdentifier", ""))

    @property
    def name_of_new(self) -> str:
        return str((self.new or {}).get("DBClusterIdentifier", ""))

    @property
    def is_cut_over(self) -> bool:
        return self.name_of_new == self.name and self.name_of_source == self.old_name


def _pair(step: OpenStep) -> _Pair:
    record = ExistingClusterRecord.from_run(step.run)
    source = writers.cluster_by_id(step, record.source_db_cluster_resource_id)
    new = writers.cluster_by_id(step, record.db_cluster_resource_id)
    return _Pair(source, new, record.source_db_cluster_identifier, record.temporary_db_cluster_identifier)


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: CutOverInputs) -> Plan:
    """Plan the change of names, or the way back; only read. Raises `StepMissing` before 10 has finished."""
    pair = _pair(step)
    if problems := _problems(step, asked, pair):
        return step.plan(asked, [Change("refuse", CLUSTER, pair.name, one) for one in problems])
    if asked.roll_back:
        return step.plan(asked, _way_back(step, pair))
    if pair.is_cut_over:
        return step.plan(asked, [Change("keep", CLUSTER, pair.name, "the new cluster has this name already")])
    rows = []
    if pair.source is not None and pair.name_of_source == pair.name:
        rows += writers.changes(step, pair.source, asked)
        if asked.writers != STOPPED_BEFORE:
            rows += rows_of_renewal(step, pair.new)
        rows.append(_renamed(pair.name, pair.old_name, "the existing cluster; nothing of it is deleted"))
    rows.append(_renamed(pair.temporary, pair.name, "the cluster under the key of this run"))
    rows += scaling_follows(step, pair.name)
    return step.plan(asked, [*rows, *_for_you(step)])


def _renamed(name: str, to: str, what: str) -> Change:
    return Change("change", CLUSTER, name, f"is renamed {to}: {what}", _MODIFY)


def _way_back(step: OpenStep, pair: _Pair) -> list[Change]:
    rows = []
    if pair.name_of_new == pair.name:
        rows.append(_renamed(pair.name, pair.temporary, "the cluster under the key of this run"))
    if pair.name_of_source == pair.old_name:
        rows.append(_renamed(pair.old_name, pair.name, "the existing cluster"))
    closed = CutOverRecord.so_far(step.run).closed_security_group_id
    if pair.source is not None and closed and writers.groups_of(pair.source) == [closed]:
        groups = ", ".join(_groups_before(step))
        rows.append(Change("change", CLUSTER, pair.name, f"gets its security groups back: {groups}", _MODIFY))
    return rows or [
        Change("keep", CLUSTER, pair.name, "the existing cluster has its name: there is nothing to roll back")
    ]


def _problems(step: OpenStep, asked: CutOverInputs, pair: _Pair) -> list[str]:
    """Return what is in the way, each with the way out."""
    found, record = [], ExistingClusterRecord.from_run(step.run)
    if pair.source is None:
        found.append(
            f"the existing cluster ({record.source_db_cluster_resource_id}) does not exist any more; nothing can be cut over"
        )
    elif pair.name_of_source not in (pair.name, pair.old_name):
        found.append(f"the existing cluster is now named {pair.name_of_source}; name it {pair.name} again")
    for name, mine in ((pair.name, (pair.source, pair.new)), (pair.old_name, (pair.source,))):
        there = rds.find_cluster(step.session, name)
        ids = [str(one["DbClusterResourceId"]) for one in mine if one]
        if there is not None and there["DbClusterResourceId"] not in ids:
            found.append(f"another cluster has the name {name}; rename or delete it")
    told = CutOverRecord.so_far(step.run)
    if asked.roll_back and told.writers_let_in:
        found.append(
            "writers were let in: what they wrote to the new cluster since is not in the old one and would be lost; copy it "
            "to the old cluster, then rename both yourself (rds:ModifyDBCluster)"
        )
    if asked.roll_back:
        return found
    for cluster in (pair.source, pair.new):
        if cluster and cluster["Status"] not in ("available", "renaming", "modifying"):
            found.append(f"{cluster['DBClusterIdentifier']} is {cluster['Status']}; wait or start it")
    if pair.new is None and (asked.writers == STOPPED_BEFORE or pair.name_of_source == pair.old_name):
        found.append("the cluster that 10 restored does not exist any more; run 10 again, or roll back")
    return found


def _for_you(step: OpenStep) -> list[Change]:
    """Return the rows of what no API call of this step does."""
    settings = _settings(step)
    rows = [
        ("custom endpoint", str(one["DBClusterEndpointIdentifier"]), "stays with the old cluster, which holds its name; "
         "delete it there and create it on the new one when nobody needs the old one")
        for one in settings.custom_endpoints
    ]  # fmt: skip
    rows += [
        ("RDS proxy", name, "register the new cluster as its target (rds:RegisterDBProxyTargets)")
        for name in settings.proxies
    ]
    return [Change("keep", *row) for row in rows]


def _settings(step: OpenStep) -> ClusterSettings:
    return ClusterSettings.from_json(step.run.read(SETTINGS_FILE))


def _groups_before(step: OpenStep) -> list[str]:
    return writers.groups_of(_settings(step).cluster)


# Apply ------------------------------------------------------------------------------------------------------------


def existing_name(step: OpenStep) -> str:
    """Return the name that the existing cluster had when 10 read it. Raises `StepMissing`."""
    return ExistingClusterRecord.from_run(step.run).source_db_cluster_identifier


def is_confirmed(step: OpenStep, asked: CutOverInputs) -> bool:
    """Return whether the existing cluster's name was typed; False for nothing. Raises `NotConfirmed` for another name."""
    typed, name = asked.confirm_source_db_cluster_identifier, existing_name(step)
    if typed and typed != name:
        raise NotConfirmed(
            f"confirm_source_db_cluster_identifier is {typed!r}, the existing cluster is {name!r}; nothing was changed: type "
            "that name to continue"
        )
    return bool(typed)


def apply(step: OpenStep, plan: Plan) -> str:
    """Cut over, or roll back; return the outcome. Without the existing cluster's name, nothing changes.

    Resumes when it is called again. Raises `NotConfirmed`, `WritersConnected`, `VerificationFailed` for a new cluster that
    differs, `PlanOutdated`, `WaitFailed`, `WaitTimedOut`, and what `create_once` raises.
    """
    asked: CutOverInputs = plan.inputs
    pair = _pair(step)
    if not is_confirmed(step, asked):
        return f"Nothing was changed. To continue, type the existing cluster's name, {pair.name!r}, and run this again."
    with step.applying(plan), interruptible():
        if asked.roll_back:
            return _roll_back(step, asked, pair)
        return _cut_over(step, asked, pair)


def _cut_over(step: OpenStep, asked: CutOverInputs, pair: _Pair) -> str:
    if pair.name_of_source == pair.name and pair.source is not None:
        told = writers.stop(step, pair.source, asked)
        step.run.note(step.name, writers_stopped=told, row_counts=asked.row_counts)
        if asked.writers != STOPPED_BEFORE:
            renew(step, pair.new, minutes=float(asked.wait_timeout_minutes))
    record = ExistingClusterRecord.from_run(step.run)
    _rename(step, record.source_db_cluster_resource_id, pair.old_name, asked)
    _rename(step, record.db_cluster_resource_id, pair.name, asked)
    scaling_follows(step, pair.name, do=True)
    step.run.note(step.name, names="new", writers_let_in=asked.writers_let_in, row_counts=asked.row_counts)
    step.run.note(ENCRYPT_EXISTING_CLUSTER, db_cluster_identifier=pair.name)
    return Result(pair.name, "The cluster under the key of this run is now named {}.")


def _roll_back(step: OpenStep, asked: CutOverInputs, pair: _Pair) -> str:
    record, told = ExistingClusterRecord.from_run(step.run), CutOverRecord.so_far(step.run)
    if pair.new is not None:
        _rename(step, record.db_cluster_resource_id, pair.temporary, asked)
    _rename(step, record.source_db_cluster_resource_id, pair.name, asked)
    if (source := writers.cluster_by_id(step, record.source_db_cluster_resource_id)) is not None:
        writers.let_in(step, source, _groups_before(step))
    if told.names != "old":
        step.run.note(step.name, names="old", round=told.round + 1)
    step.run.note(ENCRYPT_EXISTING_CLUSTER, db_cluster_identifier=pair.temporary)
    return Result(pair.name, "The existing cluster has its name {} again.")


def _rename(step: OpenStep, resource_id: str, to: str, asked: CutOverInputs) -> None:
    """Give the cluster with this resource id a name, at once, and wait; one that has it is left alone.

    Without ApplyImmediately the rename waits for the maintenance window (API reference, ModifyDBCluster).
    Raises `PlanOutdated` if another cluster took the name, and `WaitTimedOut`.
    """

    def named() -> dict[str, Any]:
        return writers.cluster_by_id(step, resource_id) or {}

    every, timeout = poll_interval(step.session.target, 0), asked.wait_timeout_minutes * 60.0
    now, _ = poll(named, until=lambda one: one.get("Status") == "available", every=every, timeout=timeout)
    if now and now["DBClusterIdentifier"] != to:
        try:
            step.client("rds").modify_db_cluster(
                DBClusterIdentifier=now["DBClusterIdentifier"], NewDBClusterIdentifier=to, ApplyImmediately=True
            )
        except ClientError as error:
            if error_code(error) == "DBClusterAlreadyExistsFault":
                raise PlanOutdated(
                    f"another cluster took the name {to}; rename or delete it, then run this again"
                ) from error
            if (
                error_code(error) != "DBClusterNotFoundFault"
            ):  # an earlier request, whose response was lost, took effect
                raise
    found, done = poll(
        named,
        until=lambda one: one.get("DBClusterIdentifier") == to and one.get("Status") == "available",
        every=every,
        timeout=timeout,
    )
    if not done:
        raise WaitTimedOut(
            f"{found.get('DBClusterIdentifier', resource_id)} is {found.get('Status', 'gone')} and not yet named {to}; run the "
            "cell or command again to continue, or with roll_back to give the names back"
        )


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks | Text:
    """Check who has which name, and finish the step. Raises `VerificationFailed`."""
    told, pair = CutOverRecord.so_far(step.run), _pair(step)
    if not told.names:
        return Text("The cut-over", "Nothing was changed, so there is nothing to verify.")
    new_has, old_has = (pair.name, pair.old_name) if told.names == "new" else (pair.temporary, pair.name)
    checks, source = Checks(f"The names of {pair.name}"), "rds:DescribeDBClusters"
    checks.equal("the existing cluster has this name", old_has, pair.name_of_source, source=source)
    if pair.new is not None or told.names == "new":  # rolled back before the last snapshot was restored, there is none
        checks.equal("the cluster under the key of this run has this name", new_has, pair.name_of_new, source=source)
        key, found = KeyRecord.from_run(step.run).key_arn, (pair.new or {}).get("KmsKeyId")
        checks.equal(f"{new_has} is encrypted with the key of this run", key, found, source=source)
    before = _settings(step).cluster
    if told.names == "new":
        checks.equal(
            f"{pair.name} has the endpoint that applications know", before.get("Endpoint"), (pair.new or {}).get("Endpoint"),
            source=source,
        )  # fmt: skip
        checks.holds(
            "the writers were stopped before the last snapshot", "shown by CloudWatch, or the operator's word",
            told.writers_stopped, bool, source="CloudWatch, or the operator",
        )  # fmt: skip
        checks.holds("rows compared by the operator", "equal, or not_compared", told.row_counts,
                     lambda found: found != "different", source="the operator")  # fmt: skip
    else:
        checks.equal(f"{pair.name} has its security groups", sorted(_groups_before(step)),
                     sorted(writers.groups_of(pair.source or {})), source=source)  # fmt: skip
    for cluster in (pair.new, pair.source):
        if cluster:
            checks.equal(
                f"{cluster['DBClusterIdentifier']} is available", "available", cluster["Status"], source=source
            )
    reports.add_result(step, checks)
    checks.require_passed()
    done = f"{new_has} is under the key of this run, the existing cluster is {old_has}"
    step.run.finish(step.name, summary=done)
    return checks
