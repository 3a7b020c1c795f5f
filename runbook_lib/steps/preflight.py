"""What 00 checks before anything costs money: everything that a later step needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from botocore.exceptions import ClientError

from runbook_lib.aws import ec2, kms, offers, rds
from runbook_lib.aws.session import Session, error_code, error_text
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    PreflightFailed,
    RunbookError,
)
from runbook_lib.inputs.start import StartInputs
from runbook_lib.steps import review_policy
from runbook_lib.steps.open_step import OpenStep


def gather(step: OpenStep, asked: StartInputs) -> Checks:
    """Check what every later step needs, in the order of the steps; reads only, and judges nothing."""
    found = _Attempts()
    _identity(found, step.session, asked)
    _names(found, step, asked)
    _offers(found, step.session, asked)
    _surroundings(found, step.session, asked)
    return found.checks


class _Attempts:
    """Checks that hold when a read returns, and fail with the words of what it raises."""

    def __init__(self) -> None:
        self.checks = Checks("Pre-flight")

    def add(self, claim: str, read: Callable[[], str], source: str) -> None:
        """Add a claim; `read` returns the actual value, or raises why the claim does not hold."""
        try:
            actual = read()
        except RunbookError as error:
            self.checks.holds(claim, "yes", str(error), lambda _: False, source=source)
        else:
            self.checks.holds(claim, "yes", actual, lambda _: True, source=source)


def _identity(found: _Attempts, session: Session, asked: StartInputs) -> None:
    """Who calls, and who shall administer and use the key."""
    found.add("you are signed in", lambda: str(session.identity()["Arn"]), "sts:GetCallerIdentity")
    found.add("your key policy principal is known", session.principal_arn, "iam:GetRole")
    for field in ("key_administrators", "key_users"):
        found.add(f"the {field.replace('_', ' ')} exist", partial(_principals, session, asked, field), "iam:GetRole")
    role = "absent; 01 creates it if asked"
    found.add("the service-linked role of RDS", lambda: kms.service_linked_role(session) or role, "iam:GetRole")


def _names(found: _Attempts, step: OpenStep, asked: StartInputs) -> None:
    """The names that the run will take."""
    found.add("the alias is free", lambda: _alias(step, asked.key_alias), "kms:ListAliases")
    cluster = asked.db_cluster_identifier
    found.add("the cluster's name is free", lambda: _cluster(step, cluster), "rds:DescribeDBClusters")
    for number in range(1, asked.reader_count + 2):
        name = f"{cluster}-{number}"
        found.add(f"the instance name {name} is free", partial(_instance, step, name), "rds:DescribeDBInstances")


def _offers(found: _Attempts, session: Session, asked: StartInputs) -> None:
    """What RDS offers of what is asked for."""
    source = "rds:DescribeDBEngineVersions"
    found.add("the engine version is on offer", lambda: engine_version(session, asked), source)
    source = "rds:DescribeOrderableDBInstanceOptions"
    found.add("the instance class can be ordered, encrypted", lambda: _class(session, asked), source)


def _surroundings(found: _Attempts, session: Session, asked: StartInputs) -> None:
    """What the cluster will stand in: network, groups, roles, keys and quotas."""
    found.add("the network has two zones", lambda: _network(session, asked), "ec2:DescribeSubnets")
    source = "rds:DescribeDBClusterParameterGroups"
    found.add("the parameter groups exist", lambda: _parameter_groups(session, asked), source)
    if asked.monitoring_role_arn:
        found.add("the monitoring role exists", lambda: _role(session, asked.monitoring_role_arn), "iam:GetRole")
    if asked.master_user_secret_kms_key_id:
        claim = "the key of the managed password can be used"
        found.add(claim, lambda: _secret_key(session, asked), "kms:DescribeKey")
    found.add("the quotas leave room", lambda: _quotas(session, asked), "rds:DescribeAccountAttributes")


def _principals(session: Session, inputs: StartInputs, field: str) -> str:
    try:
        return ", ".join(review_policy.principals(session, getattr(inputs, field)))
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


def engine_version(session: Session, inputs: StartInputs) -> str:
    return offers.choose_engine_version(session, engine=inputs.engine, engine_version=inputs.engine_version)


def _class(session: Session, inputs: StartInputs) -> str:
    option = offers.require_class(
        session,
        engine=inputs.engine,
        engine_version=engine_version(session, inputs),
        db_instance_class=inputs.db_instance_class,
        readers=inputs.reader_count,
    )
    return f"{inputs.db_instance_class} in {len(option.get('AvailabilityZones', []))} zones"


def _network(session: Session, inputs: StartInputs) -> str:
    if inputs.db_subnet_group_name:
        vpc_id = ec2.require_subnet_group(session, inputs.db_subnet_group_name)["VpcId"]
        words = f"subnet group {inputs.db_subnet_group_name}"
    else:
        vpc_id = ec2.find_vpc(session, inputs.vpc_id)
        words = ", ".join(subnet["AvailabilityZone"] for subnet in ec2.find_subnets(session, vpc_id))
    if inputs.vpc_security_group_ids:
        ec2.require_security_groups(session, inputs.vpc_security_group_ids, vpc_id)
    return f"{vpc_id}: {words}"


def _parameter_groups(session: Session, inputs: StartInputs) -> str:
    version = engine_version(session, inputs)
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
