"""Step 00: fix the run's target, and check everything that later steps need before anything costs money."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import filelock

from runbook_lib.aws import kms, sandbox_process
from runbook_lib.aws.seats import sandbox_account
from runbook_lib.aws.session import Session, known_regions, sandbox_session
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    ParameterChanged,
    PreflightFailed,
    RunDamaged,
    RunFormatTooNew,
    RunNotFound,
    RunNotWritable,
    WrongRegion,
)
from runbook_lib.files import private_folder
from runbook_lib.inputs.start import StartInputs
from runbook_lib.pages import costs
from runbook_lib.plan import Change, Plan
from runbook_lib.run.paths import runs_folder
from runbook_lib.run.run import Run
from runbook_lib.run.steps import chain
from runbook_lib.steps import cluster_network
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.preflight import engine_version, gather
from runbook_lib.tables import Table

STEP = "00_start"


# The run and its target -----------------------------------------------------------------------------------------


def start_run(inputs: StartInputs, *, runs_dir: Path | str | None = None) -> OpenStep:
    """Make the run, or go on with it, fixed to target, account and Region.

    With target sandbox the sandbox is started when none runs, and a run whose sandbox has ended is set aside,
    in one printed line. With target aws the account must be the one that the caller is signed in to.
    Raises `WrongRegion`, `WrongAccount`, `NoCredentials`, `ParameterChanged`, `RunNotWritable`.
    """
    folder = runs_folder(runs_dir)
    try:
        private_folder(folder, parents=True)
        lock = filelock.FileLock(folder / ".start.lock", mode=0o600)
        lock.acquire(timeout=60)
    except OSError as error:
        raise RunNotWritable(
            f"cannot use the runs folder {folder} ({error}); mend it, or give --runs-dir DIR"
        ) from error
    try:
        session, sandbox_id = target_session(inputs, folder)
        target = {
            "target": inputs.target,
            "account_id": session.account_id,
            "region": inputs.region,
            "sandbox_id": sandbox_id,
        }
        return OpenStep(STEP, _run(inputs.run_id, folder, target), session)
    finally:
        lock.release()


def earlier(run_id: str) -> dict[str, tuple[Any, str]]:
    """Return the values that run `run_id` was started with, for a form that is opened again; none for a new run."""
    try:
        return OpenStep(STEP, Run.open(run_id)).earlier()
    except (RunNotFound, RunDamaged, RunFormatTooNew):
        return {}  # starting the run says what is the matter


def _run(run_id: str, folder: Path, target: dict[str, str]) -> Run:
    try:
        run = Run.open(run_id, runs_dir=folder)
    except RunNotFound:
        return Run.create(run_id, runs_dir=folder, target=target)
    if run.target["target"] == target["target"] == "sandbox" and run.target["sandbox_id"] != target["sandbox_id"]:
        aside = run.set_aside()
        print(f"run {run_id!r} was made in a sandbox that has ended; it is set aside as {aside.name!r}")
        return Run.create(run_id, runs_dir=folder, target=target)
    for field in ("target", "account_id", "region"):
        if run.target[field] != target[field]:
            raise ParameterChanged(
                f"{field}: run {run_id!r} is fixed to {run.target[field]!r}, asked is {target[field]!r}; "
                "choose another run_id for it"
            )
    return run


def target_session(inputs: StartInputs, folder: Path) -> tuple[Session, str]:
    """Return clients for the target asked for, its account checked, and the sandbox's id ("" for AWS).

    Raises `WrongRegion`, `WrongAccount`, `NoCredentials`.
    """
    require_region(inputs.region)
    if inputs.target == "aws":
        session = Session(target="aws", region=inputs.region, account_id=inputs.account_id)
        session.identity()
        return session, ""
    sandbox = sandbox_process.ensure(folder)
    session = sandbox_session(
        sandbox, region=inputs.region, account_id=sandbox_account(inputs, sandbox, runs_dir=folder)
    )
    session.identity()
    return session, sandbox.sandbox_id


def require_region(region: str) -> None:
    """Raise `WrongRegion` for a Region that the SDK does not know."""
    known = known_regions()
    if region.startswith(("cn-", "us-gov-", "eusc-", "us-iso")):
        return  # another partition; AWS itself answers whether it exists
    if region not in known:
        near = difflib.get_close_matches(region, known, n=1)
        raise WrongRegion(
            f"region {region!r} is unknown{f'; did you mean {near[0]!r}?' if near else f'; choose one of {known}'}"
        )


# Plan, apply, verify ----------------------------------------------------------------------------------------------


def plan_start(step: OpenStep, inputs: StartInputs) -> Plan:
    """Return what the whole run will change, step by step; this step itself changes nothing."""
    session, cluster = step.session, inputs.db_cluster_identifier
    rows = []
    if inputs.grant_rds_service_linked_role:
        there = kms.service_linked_role(session)
        rows.append(
            Change(
                "keep" if there else "create",
                "service-linked role",
                kms.SERVICE_LINKED_ROLE,
                "exists" if there else "by 01",
                "" if there else "iam:CreateServiceLinkedRole",
            )
        )
    rows.append(
        Change("create", "KMS key", inputs.key_alias, "by 01, origin EXTERNAL", "kms:CreateKey, kms:CreateAlias")
    )
    rows.append(Change("change", "KMS key", inputs.key_alias, "by 04, gets its material", "kms:ImportKeyMaterial"))
    name = cluster_network.group_name(cluster)
    if not inputs.db_subnet_group_name:
        rows.append(Change("create", "subnet group", name, "by 05", "rds:CreateDBSubnetGroup"))
    if not inputs.vpc_security_group_ids:
        rows.append(Change("create", "security group", name, "by 05", "ec2:CreateSecurityGroup"))
    rows.append(Change("create", "DB cluster", cluster, "by 05, with its managed secret", "rds:CreateDBCluster"))
    for number in range(1, inputs.reader_count + 2):
        rows.append(
            Change(
                "create",
                "DB instance",
                f"{cluster}-{number}",
                f"by 05, {inputs.db_instance_class}",
                "rds:CreateDBInstance",
            )
        )
    return step.plan(inputs, rows)


def steps_table() -> Table:
    """Return the steps of the run with what each changes, the IAM actions it needs, and its cost."""
    rows = [(step.number, step.words, step.changes, step.actions_by_service, step.cost) for step in chain()]
    return Table("The steps of the run", ("", "step", "changes in your account", "IAM actions", "cost"), rows)


def estimate(inputs: StartInputs) -> Table:
    """Return the cost estimate of what the run will make."""
    return costs.estimate(db_instance_class=inputs.db_instance_class, instances=inputs.reader_count + 1)


def check_everything(step: OpenStep, inputs: StartInputs, plan: Plan) -> Checks:
    """Check what every later step needs, note it in the run, and finish the step.

    Reads only. Raises `PreflightFailed`, naming all that is missing at once.
    """
    session = step.session
    checks = gather(step, inputs)
    failed = [check.actual for check in checks.rows if not check.passed]
    if failed:
        print(checks)
        raise PreflightFailed(f"nothing was created: {'; '.join(failed)}")
    hourly = costs.hourly(db_instance_class=inputs.db_instance_class, instances=inputs.reader_count + 1)
    with step.applying(plan):
        step.run.finish(
            step.name,
            caller_arn=session.identity()["Arn"],
            key_alias=inputs.key_alias,
            db_cluster_identifier=inputs.db_cluster_identifier,
            engine_version=engine_version(session, inputs),
            changes=[f"{change.action} {change.resource} {change.name}" for change in plan.changes],
            summary=f"{len(plan.changes)} changes planned, {hourly} plus storage",
        )
    return checks
