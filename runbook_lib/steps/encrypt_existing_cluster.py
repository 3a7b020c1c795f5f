"""Step 10: an existing cluster, restored from a snapshot under the run's key with all its settings; plan, apply, verify.

The source is read and a snapshot of it is taken; nothing of it is modified.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from runbook_lib.aws import kms, practice_source, rds
from runbook_lib.aws.cluster_settings import ClusterSettings, read_settings
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    InputError,
    PlanOutdated,
    PreflightFailed,
    StepMissing,
)
from runbook_lib.inputs.existing import EncryptExistingClusterInputs
from runbook_lib.pages.progress import interruptible
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import SETTINGS_FILE, ExistingClusterRecord
from runbook_lib.run.records import ClusterRecord, KeyRecord
from runbook_lib.steps import create_cluster, ownership, restore
from runbook_lib.steps.comparison import compare, not_compared
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, SNAPSHOT
from runbook_lib.steps.restore_plan import changes_for
from runbook_lib.steps.survey import blockers, encryption_of, expiry_problem, name_problems, require_quotas, roads
from runbook_lib.tables import Result, Table

__all__ = ["apply", "compare", "not_compared", "plan", "survey", "verify"]


# Survey and plan --------------------------------------------------------------------------------------------------


def survey(step: OpenStep, asked: EncryptExistingClusterInputs) -> Table:
    """Return how the existing cluster is encrypted, and the ways to another key.

    In the sandbox, without a named cluster, create the practice cluster first. Raises `InputError`.
    """
    settings = _settings(step, _source(step, asked))
    return roads(step.session, settings, _encryption(step, settings))


def _source(step: OpenStep, asked: EncryptExistingClusterInputs) -> str:
    if asked.source_db_cluster_identifier:
        return asked.source_db_cluster_identifier
    if step.session.target != "sandbox":
        raise InputError(
            [("source_db_cluster_identifier", "'' names no cluster; write the identifier of an existing one")]
        )
    return practice_source.make(step.session)


def _settings(step: OpenStep, name: str) -> ClusterSettings:
    settings = read_settings(step.session, name)
    if settings is None:
        problem = (
            f"{name!r} does not exist in account {step.session.account_id}, {step.session.region}; correct the name"
        )
        raise InputError([("source_db_cluster_identifier", problem)])
    return settings


def _encryption(step: OpenStep, settings: ClusterSettings) -> Any:
    return encryption_of(step.session, settings.cluster, our_key=KeyRecord.from_run(step.run).key_arn)


def plan(step: OpenStep, asked: EncryptExistingClusterInputs) -> Plan:
    """Plan the snapshot, the restored cluster, its instances and what is set on it afterwards; read only.

    Raises `InputError` without an existing cluster, and `KeyNotUsable`. A row with action `refuse` stands for each thing in
    the way.
    """
    key_arn = create_cluster.usable_key(step)
    settings = _settings(step, _source(step, asked))
    encryption = _encryption(step, settings)
    source = Change(
        "keep",
        CLUSTER,
        settings.name,
        f"{encryption.words}; is read, and a snapshot of it is taken; nothing of it changes",
    )
    source = replace(source, identity=str(settings.cluster["DbClusterResourceId"]))
    if encryption.state == "ours" and not ownership.is_ours(step, ownership.of_cluster(settings.cluster)):
        return step.plan(asked, [replace(source, detail=f"{encryption.words} already: there is nothing to do")])
    identifier = _identifier(step, asked, settings)
    problems = [
        *blockers(step.session, settings, encryption),
        *name_problems(step.session, settings, identifier, lambda name: _is_ours(step, name)),
    ]
    if problem := expiry_problem(
        (kms.describe(step.session, key_arn) or {}).get("ValidTo"), step.now(), minutes=asked.wait_timeout_minutes
    ):
        problems.append(problem)
    problems += _another_source(step, settings)
    if rds.find_cluster(step.session, identifier) is None:
        try:
            require_quotas(step.session, settings)
        except PreflightFailed as error:
            problems.append(str(error))
    if problems:
        return step.plan(asked, [source, *(Change("refuse", CLUSTER, settings.name, one) for one in problems)])
    snapshot = ExistingClusterRecord.so_far(step.run).db_cluster_snapshot_identifier  # that of 11, once it was restored
    return step.plan(asked, [source, *changes_for(step, settings, identifier, key_arn, snapshot=snapshot)])


def _another_source(step: OpenStep, settings: ClusterSettings) -> list[str]:
    """Return that this run works on another cluster already, which may have had the same name."""
    record = ExistingClusterRecord.so_far(step.run)
    if record.source_db_cluster_resource_id in ("", settings.cluster["DbClusterResourceId"]):
        return []
    return [
        f"this run encrypts {record.source_db_cluster_identifier} with the resource ID {record.source_db_cluster_resource_id}, "
        "which is another cluster; choose another run_id"
    ]


def _identifier(step: OpenStep, asked: EncryptExistingClusterInputs, settings: ClusterSettings) -> str:
    """Return the temporary name; the name of 05's cluster, given to all steps of a run, is not meant for this one."""
    of_05 = ClusterRecord.so_far(step.run).db_cluster_identifier
    named = asked.db_cluster_identifier if asked.db_cluster_identifier != of_05 else ""
    return EncryptExistingClusterInputs(
        source_db_cluster_identifier=settings.name, db_cluster_identifier=named
    ).identifier


def _is_ours(step: OpenStep, name: str) -> bool:
    found = rds.find_cluster(step.session, name)
    return found is not None and ownership.is_ours(step, ownership.of_cluster(found), creator=step.name)


# Apply ------------------------------------------------------------------------------------------------------------


def apply(step: OpenStep, plan: Plan) -> str:
    """Take the snapshot, restore it and create what the plan says, each at most once; return the new cluster's ARN.

    Waits for the snapshot and for the new cluster; interrupt it and run it again at any time. Raises `KeyNotUsable`,
    `WaitFailed`, `WaitTimedOut`, and what `create_once` raises.
    """
    asked: EncryptExistingClusterInputs = plan.inputs
    if all(change.resource == CLUSTER and change.action == "keep" for change in plan.changes):
        return "Nothing was done: the cluster is encrypted with the key of this run already."
    with step.applying(plan), interruptible():
        settings = _settings(step, plan.changes[0].name)
        if settings.cluster["DbClusterResourceId"] != plan.changes[0].identity:
            raise PlanOutdated(
                f"nothing was created: {settings.name} is now another cluster of the same name; run the plan cell again"
            )
        snapshot = plan.change(SNAPSHOT)
        _note_source(step, settings, snapshot.name, restore.cluster_row(plan).name)
        cluster = restore.carry_out(step, plan, minutes=float(asked.wait_timeout_minutes))
    return Result(str(cluster["DBClusterArn"]), "The restored DB cluster, encrypted with the key of this run, is {}.")


def _note_source(step: OpenStep, settings: ClusterSettings, snapshot: str, temporary: str) -> None:
    """Keep what was read of the source, before anything is created; a later attempt compares with the first reading."""
    before = ExistingClusterRecord.so_far(step.run)
    cluster = settings.cluster
    if before.settings_sha256 and before.source_db_cluster_resource_id == cluster["DbClusterResourceId"]:
        return
    content, encryption = settings.to_json(), _encryption(step, settings)
    step.run.write(SETTINGS_FILE, content)
    step.run.note(
        step.name,
        settings_sha256=sha256(content).hexdigest(),
        source_db_cluster_identifier=settings.name,
        source_db_cluster_resource_id=cluster["DbClusterResourceId"],
        source_db_cluster_arn=cluster["DBClusterArn"],
        source_encryption=encryption.words,
        source_kms_key_id=cluster.get("KmsKeyId", ""),
        db_cluster_snapshot_identifier=snapshot,
        temporary_db_cluster_identifier=temporary,
        password_managed=bool(cluster.get("MasterUserSecret")),
    )


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Compare the new cluster with the source, member by member, and finish the step.

    Raises `StepMissing`, and `VerificationFailed` with each difference.
    """
    record = ExistingClusterRecord.so_far(step.run)
    if not record.db_cluster_identifier:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks = retry_until_passed(lambda: compare(step, record), target=step.session.target)
    checks.require_passed()
    step.run.finish(
        step.name,
        summary=f"{record.db_cluster_identifier} has the settings of {record.source_db_cluster_identifier} "
        f"({len(record.db_instance_identifiers)} instances)",
    )
    return checks
