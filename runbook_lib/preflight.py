"""Step 00: fix the run's target, and check everything that later steps need before anything costs money."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import filelock
from botocore.exceptions import ClientError

from runbook_lib import costs, kms, network, offers, rds
from runbook_lib.errors import (
    ParameterChanged,
    PreflightFailed,
    RunbookError,
    RunDamaged,
    RunFormatTooNew,
    RunNotFound,
    RunNotWritable,
    WrongRegion,
)
from runbook_lib.inputs import StartInputs
from runbook_lib.paths import runs_folder
from runbook_lib.private_files import private_folder
from runbook_lib.report import Change, Checks, Plan, Table
from runbook_lib.run import Run
from runbook_lib.sandbox import process
from runbook_lib.seats import sandbox_account
from runbook_lib.session import Session, error_code, error_text, known_regions, sandbox_session
from runbook_lib.step import OpenStep
from runbook_lib.steps import chain

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
    sandbox = process.ensure(folder)
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
    name = network.group_name(cluster)
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
            engine_version=_version(session, inputs),
            changes=[f"{change.action} {change.resource} {change.name}" for change in plan.changes],
            summary=f"{len(plan.changes)} changes planned, {hourly} plus storage",
        )
    return checks


def gather(step: OpenStep, inputs: StartInputs) -> Checks:
    """Check what every later step needs; reads only, and judges nothing."""
    session = step.session
    checks = Checks("Pre-flight")

    def attempt(claim: str, look: Callable[[], str], source: str) -> None:
        """Add a claim that holds when `look` returns, and fails with the words of what it raises."""
        try:
            found = look()
        except RunbookError as error:
            checks.holds(claim, "yes", str(error), lambda _: False, source=source)
        else:
            checks.holds(claim, "yes", found, lambda _: True, source=source)

    attempt("you are signed in", lambda: f"{session.identity()['Arn']}", "sts:GetCallerIdentity")
    attempt("your key policy principal is known", session.principal_arn, "iam:GetRole")
    attempt(
        "the key administrators exist",
        lambda: _principals(session, inputs, "key_administrators"),
        "iam:GetRole",
    )
    attempt("the key users exist", lambda: _principals(session, inputs, "key_users"), "iam:GetRole")
    attempt(
        "the service-linked role of RDS",
        lambda: kms.service_linked_role(session) or "absent; 01 creates it if asked",
        "iam:GetRole",
    )
    attempt("the alias is free", lambda: _alias(step, inputs.key_alias), "kms:ListAliases")
    attempt(
        "the cluster's name is free",
        lambda: _cluster(step, inputs.db_cluster_identifier),
        "rds:DescribeDBClusters",
    )
    for number in range(1, inputs.reader_count + 2):
        name = f"{inputs.db_cluster_identifier}-{number}"
        attempt(
            f"the instance name {name} is free",
            partial(_instance, step, name),
            "rds:DescribeDBInstances",
        )
    attempt("the engine version is on offer", lambda: _version(session, inputs), "rds:DescribeDBEngineVersions")
    attempt(
        "the instance class can be ordered, encrypted",
        lambda: _class(session, inputs),
        "rds:DescribeOrderableDBInstanceOptions",
    )
    attempt("the network has two zones", lambda: _network(session, inputs), "ec2:DescribeSubnets")
    attempt(
        "the parameter groups exist",
        lambda: _parameter_groups(session, inputs),
        "rds:DescribeDBClusterParameterGroups",
    )
    if inputs.monitoring_role_arn:
        attempt("the monitoring role exists", lambda: _role(session, inputs.monitoring_role_arn), "iam:GetRole")
    if inputs.master_user_secret_kms_key_id:
        attempt(
            "the key of the managed password can be used",
            lambda: _secret_key(session, inputs),
            "kms:DescribeKey",
        )
    attempt("the quotas leave room", lambda: _quotas(session, inputs), "rds:DescribeAccountAttributes")

    return checks


def _principals(session: Session, inputs: StartInputs, field: str) -> str:
    try:
        return ", ".join(kms.principals(session, getattr(inputs, field)))
    except PreflightFailed as error:
        raise PreflightFailed(f"{field} {error}") from error


def _alias(step: OpenStep, alias: str) -> str:
    target = kms.find_alias(step.session, alias)
    if target is None:
        return "free"
    tags = kms.tags_of(step.session, target)
    if step.is_ours(tags):
        return "made by this run"
    raise PreflightFailed(
        f"key_alias {alias!r} already points to key {target}, and {step.whose(tags)}; choose another alias"
    )


def _cluster(step: OpenStep, identifier: str) -> str:
    there = rds.find_cluster(step.session, identifier)
    if there is None:
        return "free"
    tags = rds.rds_tags(there)
    if step.is_ours(tags):
        return "made by this run"
    raise PreflightFailed(f"db_cluster_identifier {identifier!r} exists, and {step.whose(tags)}; choose another name")


def _instance(step: OpenStep, identifier: str) -> str:
    there = rds.find_instance(step.session, identifier)
    if there is None:
        return "free"
    if step.is_ours(rds.rds_tags(there)):
        return "made by this run"
    raise PreflightFailed(
        f"an instance {identifier!r} exists, and this run did not make it; choose another db_cluster_identifier"
    )


def _version(session: Session, inputs: StartInputs) -> str:
    return offers.choose_engine_version(session, engine=inputs.engine, engine_version=inputs.engine_version)


def _class(session: Session, inputs: StartInputs) -> str:
    option = offers.require_class(
        session,
        engine=inputs.engine,
        engine_version=_version(session, inputs),
        db_instance_class=inputs.db_instance_class,
        readers=inputs.reader_count,
    )
    return f"{inputs.db_instance_class} in {len(option.get('AvailabilityZones', []))} zones"


def _network(session: Session, inputs: StartInputs) -> str:
    if inputs.db_subnet_group_name:
        vpc_id = network.require_subnet_group(session, inputs.db_subnet_group_name)["VpcId"]
        words = f"subnet group {inputs.db_subnet_group_name}"
    else:
        vpc_id = network.find_vpc(session, inputs.vpc_id)
        words = ", ".join(subnet["AvailabilityZone"] for subnet in network.find_subnets(session, vpc_id))
    if inputs.vpc_security_group_ids:
        network.require_security_groups(session, inputs.vpc_security_group_ids, vpc_id)
    return f"{vpc_id}: {words}"


def _parameter_groups(session: Session, inputs: StartInputs) -> str:
    version = _version(session, inputs)
    family = offers.parameter_group_family(session, engine=inputs.engine, engine_version=version)
    offers.require_parameter_groups(
        session, inputs.db_cluster_parameter_group_name, inputs.db_parameter_group_name, family=family
    )
    named = [name for name in (inputs.db_cluster_parameter_group_name, inputs.db_parameter_group_name) if name]
    return ", ".join(named) or "the engine's defaults"


def _role(session: Session, arn: str) -> str:
    try:
        found = session.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except ClientError as error:
        if error_code(error) != "NoSuchEntity":
            raise
        raise PreflightFailed(
            f"monitoring_role_arn {arn!r}: there is no such role; create it or set monitoring_interval to 0"
        ) from error
    if "monitoring.rds.amazonaws.com" not in str(found.get("AssumeRolePolicyDocument", "")):
        raise PreflightFailed(
            f"monitoring_role_arn {arn!r} does not trust monitoring.rds.amazonaws.com; mend its trust policy"
        )
    return arn


def _secret_key(session: Session, inputs: StartInputs) -> str:
    asked = inputs.master_user_secret_kms_key_id
    metadata = kms.describe(session, asked)
    if metadata is None and asked == inputs.key_alias:
        return f"{asked}, the key of this run"
    if metadata is None or metadata["KeyState"] != "Enabled":
        state = metadata["KeyState"] if metadata else "not there"
        raise PreflightFailed(
            f"master_user_secret_kms_key_id {asked!r} is {state}; name an Enabled key or leave it empty"
        )
    return str(metadata["Arn"])


def _quotas(session: Session, inputs: StartInputs) -> str:
    try:
        quotas = session.client("rds").describe_account_attributes()["AccountQuotas"]
    except ClientError as error:
        return f"not known ({error_text(error)})"
    wanted = {
        "DBClusters": 1,
        "DBInstances": inputs.reader_count + 1,
        "DBSubnetGroups": 0 if inputs.db_subnet_group_name else 1,
    }
    rows = []
    for quota in quotas:
        if (more := wanted.get(quota["AccountQuotaName"])) is None:
            continue
        if quota["Used"] + more > quota["Max"]:
            raise PreflightFailed(
                f"{quota['AccountQuotaName']}: {quota['Used']} of {quota['Max']} are used; ask AWS for more, or delete some"
            )
        rows.append(f"{quota['AccountQuotaName']} {quota['Used']} of {quota['Max']}")
    return ", ".join(rows)
