"""Step 11: the two clusters change names; plan, apply, verify, and the way back.

It acts on the cluster that 10 read, by its DbClusterResourceId, after its name was typed, and deletes nothing of it: the one
exception to the rule that what the run did not create is never changed. Every part may be interrupted and is done once: what
is left to do is read from AWS, whose resource ids no rename changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from runbook_lib.aws import rds
from runbook_lib.aws.cluster_settings import ClusterSettings
from runbook_lib.checks import Checks
from runbook_lib.errors import NotConfirmed, StepMissing, WaitFailed
from runbook_lib.inputs.cut_over import NOT_COMPARED, STOPPED_BEFORE, CutOverInputs
from runbook_lib.inputs.existing import OLD_SUFFIX
from runbook_lib.pages.progress import interruptible
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import BEGUN, NEW, OLD, SETTINGS_FILE, CutOverRecord, ExistingClusterRecord
from runbook_lib.run.records import KeyRecord
from runbook_lib.run.steps import ENCRYPT_EXISTING_CLUSTER
from runbook_lib.steps import reports, restored_cluster, writers
from runbook_lib.steps.after_cut_over import advice, row_counts, still_under_the_old_key
from runbook_lib.steps.last_snapshot import needs_another, not_the_last, renew, rows_of_renewal, scaling_follows
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER
from runbook_lib.steps.rename import rename
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
    def is_to_be_renamed(self) -> bool:
        """The existing cluster has its name still: writers may be connected, and the last snapshot is yet to be restored."""
        return self.source is not None and self.name_of_source == self.name

    @property
    def is_cut_over(self) -> bool:
        return self.name_of_new == self.name and self.name_of_source == self.old_name


def _pair(step: OpenStep) -> _Pair:
    record = ExistingClusterRecord.from_run(step.run)
    source = writers.cluster_by_id(step, record.source_db_cluster_resource_id)
    name, temporary = record.source_db_cluster_identifier, record.temporary_db_cluster_identifier
    return _Pair(source, restored_cluster.find(step), name, temporary)


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
    if pair.source is not None and pair.is_to_be_renamed:
        rows += writers.changes(step, pair.source, asked)
        if asked.writers != STOPPED_BEFORE:
            rows += rows_of_renewal(step, pair.new, another=needs_another(step, asked, pair.source))
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
    if pair.source is not None and writers.is_closed(step, pair.source):
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
    if pair.source is not None and pair.is_to_be_renamed:
        found += not_the_last(step, asked, pair.source)
    replaced = pair.is_to_be_renamed and asked.writers != STOPPED_BEFORE
    for cluster in (pair.source, None if replaced else pair.new):
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
    minutes = float(asked.wait_timeout_minutes)
    if pair.source is not None and pair.is_to_be_renamed:
        # Before anything is sent: whoever repeats this after a failure must not take an older snapshot for the last one.
        number = CutOverRecord.so_far(step.run).round + int(needs_another(step, asked, pair.source))
        step.run.note(step.name, names=BEGUN, round=number)
        step.run.note(step.name, writers_stopped=writers.stop(step, pair.source, asked))
        if asked.writers != STOPPED_BEFORE:
            renew(step, pair.new, minutes=minutes)
        pair = _pair(step)
    if pair.source is None or pair.new is None:
        raise WaitFailed(f"one of the two clusters of {pair.name} does not exist any more; run the plan cell again")
    rename(step, str(pair.source["DbClusterResourceId"]), pair.old_name, minutes=minutes)
    _note_name(step, rename(step, str(pair.new["DbClusterResourceId"]), pair.name, minutes=minutes))
    scaling_follows(step, pair.name, do=True)
    told = CutOverRecord.so_far(step.run)
    rows = asked.row_counts if asked.row_counts != NOT_COMPARED else told.row_counts or NOT_COMPARED
    step.run.note(step.name, names=NEW, writers_let_in=asked.writers_let_in or told.writers_let_in, row_counts=rows)
    return Result(pair.name, "The cluster under the key of this run is now named {}.")


def _note_name(step: OpenStep, cluster: dict[str, Any]) -> None:
    """Record in 10 what a rename changes."""
    step.run.note(
        ENCRYPT_EXISTING_CLUSTER,
        db_cluster_identifier=cluster["DBClusterIdentifier"],
        db_cluster_arn=cluster["DBClusterArn"],
        db_cluster_resource_id=cluster["DbClusterResourceId"],
    )


def _roll_back(step: OpenStep, asked: CutOverInputs, pair: _Pair) -> str:
    told, minutes = CutOverRecord.so_far(step.run), float(asked.wait_timeout_minutes)
    if told.names in (BEGUN, NEW):  # first, so that no failure after it leaves an open cluster with a last snapshot
        step.run.note(step.name, names=BEGUN, round=told.round + 1, row_counts="", writers_stopped="")
    # One that has its temporary name may be deleting, or be restored for hours: the way back does not wait for it.
    if pair.new is not None and (pair.name_of_new != pair.temporary or pair.new["Status"] == "renaming"):
        pair = replace(pair, new=rename(step, str(pair.new["DbClusterResourceId"]), pair.temporary, minutes=minutes))
    if pair.new is not None:
        _note_name(step, pair.new)
    source = rename(
        step, ExistingClusterRecord.from_run(step.run).source_db_cluster_resource_id, pair.name, minutes=minutes
    )
    writers.let_in(step, source, _groups_before(step), asked)
    step.run.note(step.name, names=OLD)
    return Result(pair.name, "The existing cluster has its name {} again.")


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks | Text:
    """Check who has which name, and finish the step. Raises `VerificationFailed`."""
    told, pair = CutOverRecord.so_far(step.run), _pair(step)
    if not told.names:
        return Text("The cut-over", "Nothing was changed, so there is nothing to verify.")
    if told.names == BEGUN:
        raise StepMissing(
            f"the change of names of {pair.name} was begun and not finished; run the apply cell or command again, or roll back"
        )
    new_has, old_has = (pair.name, pair.old_name) if told.names == NEW else (pair.temporary, pair.name)
    checks, source = Checks(f"The names of {pair.name}"), "rds:DescribeDBClusters"
    checks.equal("the existing cluster has this name", old_has, pair.name_of_source, source=source)
    if pair.new is not None or told.names == NEW:  # rolled back before the last snapshot was restored, there is none
        checks.equal("the cluster under the key of this run has this name", new_has, pair.name_of_new, source=source)
        key, found = KeyRecord.from_run(step.run).key_arn, (pair.new or {}).get("KmsKeyId")
        checks.equal(f"{new_has} is encrypted with the key of this run", key, found, source=source)
    before = _settings(step).cluster
    if told.names == NEW:
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
