"""Step 00: fix the run's target, and check everything that later steps need before anything costs money."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock

from runbook_lib.attended import is_attended
from runbook_lib.aws import kms, sandbox_process
from runbook_lib.aws.sdk import known_regions
from runbook_lib.aws.seats import sandbox_account
from runbook_lib.aws.session import Session, sandbox_session
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    FileNotWritable,
    ParameterChanged,
    PreflightFailed,
    RunNotFound,
    SandboxEnded,
    StepMissing,
    WrongRegion,
)
from runbook_lib.files import private_folder
from runbook_lib.inputs.start import StartInputs
from runbook_lib.pages import cells, costs
from runbook_lib.pages.form import Form
from runbook_lib.plan import Change, Plan
from runbook_lib.run import drafts
from runbook_lib.run.current import make_current
from runbook_lib.run.paths import runs_folder
from runbook_lib.run.records import StartRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import START, chain
from runbook_lib.steps import choices, choose_run, cluster_network
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.preflight import engine_version, gather
from runbook_lib.tables import Table

# The run and its target -----------------------------------------------------------------------------------------


def form(given: Mapping[str, Any]) -> Form:
    """Return the form of 00; the notebook passes `locals()`, which holds its parameters.

    For a person it starts from the current run of the lab, and from a new run if that one has ended.
    """
    cells.install()
    cells.require_parameters(given)
    run_id = str(given.get("run_id", StartInputs.model_fields["run_id"].default))
    return Form(
        StartInputs,
        given=given,
        offers=choices.for_step(START, lambda: _no_session()),
        known=lambda typed: choose_run.known_at_first(run_id) if typed is None else choose_run.known_of(typed),
    )


def _no_session() -> Session:
    raise AssertionError("00 offers nothing that needs a session")


def open_run(asked: StartInputs, *, form: Form | None = None, runs_dir: Path | str | None = None) -> OpenStep:
    """Create the run, or resume it, fixed to target, account and Region.

    With target `sandbox`, start the sandbox if none runs; set aside a run whose sandbox has ended, and print that. With
    target `aws`, require the account that the caller is signed in to. `apply` refuses a plan once `form` was edited.

    For a person, no folder is set aside: a run that has ended is refused. The run becomes the current one of the lab.

    Raises `WrongRegion`, `WrongAccount`, `CredentialsMissing`, `ParameterChanged`, `FileNotWritable`, and `SandboxEnded`.
    """
    try:
        run, session = _open(asked, runs_folder(runs_dir))
    except BaseException:
        if form is not None:
            form.failed = True
        raise
    if form is not None:
        form.keep_draft(lambda chosen: drafts.keep(run, START, StartInputs, chosen))
    make_current(run.run_id)
    return OpenStep(START, run, session, form)


def _open(asked: StartInputs, folder: Path) -> tuple[Run, Session]:
    try:
        private_folder(folder, parents=True)
        lock = filelock.FileLock(folder / ".start.lock", mode=0o600)
        lock.acquire(timeout=60)
    except OSError as error:
        raise FileNotWritable(
            f"cannot use the runs folder {folder} ({error}); fix its permissions, or pass --runs-dir DIR"
        ) from error
    try:
        session, sandbox_id = target_session(asked, folder)
        target = {
            "target": asked.target,
            "account_id": session.account_id,
            "region": asked.region,
            "sandbox_id": sandbox_id,
        }
        return _run(asked.run_id, folder, target), session
    finally:
        lock.release()


def _run(run_id: str, folder: Path, target: dict[str, str]) -> Run:
    try:
        run = Run.open(run_id, runs_dir=folder)
    except RunNotFound:
        return Run.create(run_id, runs_dir=folder, target=target)
    if is_attended() and (ended := choose_run.why_ended(run)):
        raise SandboxEnded(
            f"run_id: {ended}, so that nothing more can be done in it; its folder is kept: choose another run, e.g. "
            f"{choose_run.free_name(run_id, folder)!r}"
        )
    if run.target["target"] == target["target"] == "sandbox" and run.target["sandbox_id"] != target["sandbox_id"]:
        aside = run.set_aside()
        print(
            f"the sandbox of run {run_id!r} has ended; its folder was renamed to {aside.name!r}, and a new run {run_id!r} starts"
        )
        return Run.create(run_id, runs_dir=folder, target=target)
    for field in ("target", "account_id", "region"):
        if run.target[field] != target[field]:
            raise ParameterChanged(
                f"{field}: run {run_id!r} is fixed to {run.target[field]!r}, not to {target[field]!r}; "
                "choose another run_id"
            )
    return run


def target_session(inputs: StartInputs, folder: Path) -> tuple[Session, str]:
    """Return a session for the requested target, its account checked, and the sandbox's id ("" for AWS).

    Raises `WrongRegion`, `WrongAccount`, `CredentialsMissing`.
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
        return  # another partition; the first call to AWS tells whether it exists
    if region not in known:
        near = difflib.get_close_matches(region, known, n=1)
        raise WrongRegion(
            f"region {region!r} is unknown{f'; did you mean {near[0]!r}?' if near else f'; choose one of {known}'}"
        )


# Plan, apply, verify ----------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: StartInputs) -> Plan:
    """Return what the whole run will change, step by step; this step itself changes nothing."""
    session, cluster, source = step.session, asked.cluster_identifier, asked.source_db_cluster_identifier
    rows = []
    if asked.grant_rds_service_linked_role:
        role = kms.service_linked_role(session)
        rows.append(
            Change(
                "keep" if role else "create",
                "service-linked role",
                kms.SERVICE_LINKED_ROLE,
                "exists" if role else "step 01",
                "" if role else "iam:CreateServiceLinkedRole",
            )
        )
    rows.append(
        Change("create", "KMS key", asked.key_alias, "step 01: origin EXTERNAL", "kms:CreateKey, kms:CreateAlias")
    )
    rows.append(
        Change("change", "KMS key", asked.key_alias, "step 04: imports the key material", "kms:ImportKeyMaterial")
    )
    if source:
        rows += _rows_of_existing(source, cluster)
        return replace(step.plan(asked, rows), cost="", of_later_steps=True)
    name = cluster_network.group_name(cluster)
    if not asked.db_subnet_group_name:
        rows.append(Change("create", "subnet group", name, "step 05", "rds:CreateDBSubnetGroup"))
    if not asked.vpc_security_group_ids:
        rows.append(Change("create", "security group", name, "step 05", "ec2:CreateSecurityGroup"))
    rows.append(
        Change("create", "DB cluster", cluster, "step 05: with a master password managed by RDS", "rds:CreateDBCluster")
    )
    for number in range(1, asked.reader_count + 2):
        rows.append(
            Change(
                "create",
                "DB instance",
                f"{cluster}-{number}",
                f"step 05: {asked.db_instance_class}",
                "rds:CreateDBInstance",
            )
        )
    return replace(step.plan(asked, rows), cost="", of_later_steps=True)  # `estimate` returns the cost


def _rows_of_existing(source: str, cluster: str) -> list[Change]:
    detail = f"step 10: restored from the snapshot, with every setting and as many instances as {source}"
    calls = "rds:RestoreDBClusterFromSnapshot, rds:CreateDBInstance"
    return [
        Change(
            "create", "cluster snapshot", f"{cluster}-source", f"step 10: of {source}", "rds:CreateDBClusterSnapshot"
        ),
        Change("create", "DB cluster", cluster, detail, calls),
        Change("keep", "DB cluster", source, "is read; nothing of it changes before you cut over"),
    ]


def steps_table(inputs: StartInputs) -> Table:
    """Return the steps of the run with what each changes, the IAM actions it needs, and its cost: those of `chain`."""
    steps = chain(existing=bool(inputs.source_db_cluster_identifier))
    rows = [(step.number, step.words, step.changes, step.actions_by_service, step.cost) for step in steps]
    return Table("The steps of the run", ("", "step", "changes in your account", "IAM actions", "cost"), rows)


def estimate(inputs: StartInputs) -> Table:
    """Return the cost estimate of what the run will create."""
    if inputs.source_db_cluster_identifier:
        return costs.estimate_existing(inputs.source_db_cluster_identifier)
    return costs.estimate(
        db_instance_class=inputs.db_instance_class,
        instances=inputs.reader_count + 1,
        serverless_min_capacity=inputs.serverless_min_capacity,
        serverless_max_capacity=inputs.serverless_max_capacity,
    )


def apply(step: OpenStep, plan: Plan) -> Checks:
    """Check what every later step needs, then record the choices in the run; change nothing in the account.

    Raises `PreflightFailed`, naming everything that is missing; nothing is recorded then.
    """
    step.require_current(plan)
    asked: StartInputs = plan.inputs
    checks = gather(step, asked)
    failed = [check.actual for check in checks.rows if not check.passed]
    if failed:
        print(checks)
        raise PreflightFailed(f"nothing was created: {'; '.join(failed)}")
    with step.applying(plan):
        step.run.note(
            step.name,
            caller_arn=step.session.identity()["Arn"],
            key_alias=asked.key_alias,
            db_cluster_identifier=asked.cluster_identifier,
            engine_version="" if asked.source_db_cluster_identifier else engine_version(step.session, asked),
            changes=[f"{change.action} {change.resource} {change.name}" for change in plan.changes],
        )
    return checks


def verify(step: OpenStep) -> Checks:
    """Check that the caller is signed in to the run's account and Region, and finish the step.

    Raises `StepMissing` when nothing was applied, and `VerificationFailed`.
    """
    record, target = StartRecord.so_far(step.run), step.run.target
    if not record.db_cluster_identifier:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks, identity = Checks("The run"), step.session.identity()
    source = "sts:GetCallerIdentity"
    checks.equal("its account is the caller's", target["account_id"], identity["Account"], source=source)
    checks.equal("its Region is the session's", target["region"], step.session.region, source="state.json")
    checks.require_passed()
    asked = StartInputs.check(step.run.steps[step.name]["inputs"])
    hourly = costs.hourly(estimate(asked))
    summary = f"{len(record.changes)} changes planned, {hourly} plus storage"
    step.run.finish(step.name, summary=summary)
    return checks
