"""The clusters of a run: that of 05, and that which 10 restored from a snapshot of an existing one."""

from __future__ import annotations

from runbook_lib.run import steps
from runbook_lib.run.records import ClusterRecord, StepRecord
from runbook_lib.run.run import Run

# Where the change of names stands: interrupted, or not yet verified; carried out; given back.
BEGUN, NEW, OLD = "begun", "new", "old"

# What 10 reads of the existing cluster, in the run folder.
SETTINGS_FILE = "SourceClusterSettings.json"


class ExistingClusterRecord(ClusterRecord):
    """10: the cluster that was restored from a snapshot of an existing one, and that one (`source_…`).

    `settings_sha256` is that of SETTINGS_FILE, which holds what was read of the source before anything was created.
    """

    step = steps.ENCRYPT_EXISTING_CLUSTER

    source_db_cluster_identifier: str = ""
    source_db_cluster_resource_id: str = ""
    source_db_cluster_arn: str = ""
    source_encryption: str = ""
    source_kms_key_id: str = ""
    db_cluster_snapshot_identifier: str = ""
    temporary_db_cluster_identifier: str = ""
    settings_sha256: str = ""
    public_db_instance_identifiers: tuple[str, ...] = ()
    password_managed: bool = True
    custom_endpoint_identifiers: tuple[str, ...] = ()


class CutOverRecord(StepRecord):
    """11: where the change of names stands, in `names`: "", BEGUN, NEW or OLD.

    `round` is the number of the last snapshot, from 0: it is raised before writers are let in again, and before a network
    that somebody opened is closed again, so that no snapshot from before that time is taken for the last one.
    `writers_stopped` is how it is known, in words.
    """

    step = steps.CUT_OVER

    round: int = 0
    closed_security_group_id: str = ""
    rebooted_round: int = -1
    writers_stopped: str = ""
    row_counts: str = ""
    names: str = ""
    writers_let_in: bool = False


def clusters(run: Run) -> tuple[ClusterRecord, ...]:
    """Return the clusters that the run has recorded: that of 05, then that of 10. Raises `RunUnreadable`."""
    found = (kind.so_far(run) for kind in (ClusterRecord, ExistingClusterRecord))
    return tuple(record for record in found if record.db_cluster_identifier)


def chain_of(run: Run) -> list[steps.Step]:
    """Return the steps that a headless execution of this run has: with 10 in place of 05 for an existing cluster."""
    asked = run.steps.get(steps.START, {}).get("inputs", {})
    return steps.chain(existing=bool(asked.get("source_db_cluster_identifier")))


def finished_clusters(run: Run) -> tuple[ClusterRecord, ...]:
    """Return the clusters whose step has finished, at least one. Raises `StepMissing` and `RunUnreadable`."""
    finished = [kind for kind in (ClusterRecord, ExistingClusterRecord) if run.is_finished(kind.step)]
    return tuple(kind.from_run(run) for kind in finished) or (ClusterRecord.from_run(run),)
