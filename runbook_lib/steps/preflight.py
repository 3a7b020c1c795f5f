"""The checks of step 00: everything that a later step needs, before anything costs money."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from botocore.exceptions import ClientError

from runbook_lib.aws import ec2, kms, offers, rds
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.cluster_settings import read_settings
from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    PreflightFailed,
    RunbookError,
)
from runbook_lib.inputs.start import StartInputs
from runbook_lib.steps import ownership, review_policy, survey
from runbook_lib.steps.open_step import OpenStep


def gather(step: OpenStep, asked: StartInputs) -> Checks:
    """Check what every later step needs, in the order of the steps; read only, and raise nothing for a failed check."""
    found = _Attempts()
    _identity(found, step.session, asked)
    if asked.source_db_cluster_identifier:
        found.add("the alias is free", _FREE, lambda: _alias(step, asked.key_alias), "kms:ListAliases")
        _existing(found, step, asked)
        return found.checks
    _names(found, step, asked)
    _offers(found, step.session, asked)
    _surroundings(found, step.session, asked)
    return found.checks


_FREE = "absent, or created by this run"


def _existing(found: _Attempts, step: OpenStep, asked: StartInputs) -> None:
    """Check the existing cluster that 10 will encrypt: what is in the way, the names, the quotas, and values given for it."""
    name, session, source = asked.source_db_cluster_identifier, step.session, "rds:DescribeDBClusters"
    settings = read_settings(session, name)
    claim = f"the existing cluster {name} exists"
    if settings is None:
        found.add(claim, name, partial(_fail, _absent(name, session)), source)
        return
    encryption = survey.encryption_of(session, settings.cluster)
    found.add(claim, name, lambda: f"{name}, {encryption.words}", source)
    names = survey.name_problems(session, settings, asked.cluster_identifier, lambda one: _is_ours(step, one))
    for claim, problems in (
        ("nothing is in the way of a snapshot and a restore", survey.blockers(session, settings, encryption)),
        ("the names of the new cluster and of the cut-over are free", names),
        ("what is given for the cluster is what the existing one has", survey.given_otherwise(asked, settings)),
    ):
        found.add(claim, "nothing", partial(_fail, "; ".join(problems)) if problems else lambda: "nothing", source)
    quotas = "rds:DescribeAccountAttributes"
    found.add("the quotas suffice", "a second cluster", lambda: survey.require_quotas(session, settings), quotas)


def _absent(name: str, session: Session) -> str:
    return (
        f"source_db_cluster_identifier: {name!r} does not exist in account {session.account_id}, {session.region}; correct the "
        "name, or leave it empty for a new cluster"
    )


def _fail(reason: str) -> str:
    raise PreflightFailed(reason)


def _is_ours(step: OpenStep, name: str) -> bool:
    found = rds.find_cluster(step.session, name)
    return found is not None and ownership.is_ours(step, ownership.of_cluster(found))


class _Attempts:
    """Checks that pass when a read returns, and fail with the message of the error that it raises."""

    def __init__(self) -> None:
        self.checks = Checks("Pre-flight")

    def add(self, claim: str, expected: str, read: Callable[[], str], source: str) -> None:
        """Add a claim; `read` returns the actual value, or raises an error that says why the claim does not hold."""
        try:
            actual = read()
        except RunbookError as error:
            self.checks.holds(claim, expected, str(error), lambda _: False, source=source)
        else:
            self.checks.holds(claim, expected, actual, lambda _: True, source=source)


def _identity(found: _Attempts, session: Session, asked: StartInputs) -> None:
    """Check the caller, and the principals that administer and use the key."""
    source = "sts:GetCallerIdentity"
    found.add("the credentials are valid", "a caller's ARN", lambda: str(session.identity()["Arn"]), source)
    claim, expected = "the caller can be a principal of the key policy", "the ARN of a role or user"
    found.add(claim, expected, session.principal_arn, "iam:GetRole")
    for field in ("key_administrators", "key_users"):
        claim, expected = (
            f"the {field.replace('_', ' ')} exist",
            ", ".join(getattr(asked, field)) or "the caller's role",
        )
        found.add(claim, expected, partial(_principals, session, asked, field), "iam:GetRole")
    claim = "the service-linked role of RDS exists or can be created"
    expected = "its ARN, or absent: step 01 creates it" if asked.grant_rds_service_linked_role else "its ARN, or absent"
    found.add(claim, expected, lambda: kms.service_linked_role(session) or "absent", "iam:GetRole")


def _names(found: _Attempts, step: OpenStep, asked: StartInputs) -> None:
    """Check that the names which the run will use are free."""
    expected = _FREE
    found.add("the alias is free", expected, lambda: _alias(step, asked.key_alias), "kms:ListAliases")
    cluster = asked.db_cluster_identifier
    claim = f"the cluster identifier {cluster} is free"
    found.add(claim, expected, lambda: _cluster(step, cluster), "rds:DescribeDBClusters")
    for number in range(1, asked.reader_count + 2):
        name = f"{cluster}-{number}"
        claim = f"the instance identifier {name} is free"
        found.add(claim, expected, partial(_instance, step, name), "rds:DescribeDBInstances")


def _offers(found: _Attempts, session: Session, asked: StartInputs) -> None:
    """Check that RDS offers the engine version and the instance class."""
    expected, source = (
        asked.engine_version or "one with long-term support, or the default",
        "rds:DescribeDBEngineVersions",
    )
    found.add("the engine version is available", expected, lambda: engine_version(session, asked), source)
    claim, source = "the instance class supports storage encryption", "rds:DescribeOrderableDBInstanceOptions"
    found.add(claim, asked.db_instance_class, lambda: _class(session, asked), source)


def _surroundings(found: _Attempts, session: Session, asked: StartInputs) -> None:
    """Check network, parameter groups, monitoring role, the secret's key, and quotas."""
    claim, expected = "the network spans two Availability Zones", "two zones or more"
    found.add(claim, expected, lambda: _network(session, asked), "ec2:DescribeSubnets")
    expected, source = ", ".join(_group_names(asked)) or "the engine's defaults", "rds:DescribeDBClusterParameterGroups"
    found.add("the parameter groups exist", expected, lambda: _parameter_groups(session, asked), source)
    if asked.monitoring_role_arn:
        claim, expected = "the monitoring role exists", "a role that trusts monitoring.rds.amazonaws.com"
        found.add(claim, expected, lambda: _role(session, asked.monitoring_role_arn), "iam:GetRole")
    if asked.master_user_secret_kms_key_id:
        claim, expected = "the key of the managed password can be used", "an Enabled key"
        found.add(claim, expected, lambda: _secret_key(session, asked), "kms:DescribeKey")
    expected = ", ".join(f"{more} more {name}" for name, more in _quotas_needed(asked).items() if more)
    source = "rds:DescribeAccountAttributes"
    found.add("the quotas suffice", expected, lambda: _quotas(session, asked), source)


def _principals(session: Session, inputs: StartInputs, field: str) -> str:
    try:
        return ", ".join(review_policy.principals(session, getattr(inputs, field)))
    except PreflightFailed as error:
        raise PreflightFailed(f"{field} {error}") from error


def _alias(step: OpenStep, alias: str) -> str:
    target = kms.find_alias(step.session, alias)
    if target is None:
        return "absent"
    key = ownership.of_key(step, target)
    if ownership.is_ours(step, key):
        return "created by this run"
    raise PreflightFailed(
        f"key_alias {alias!r} already points to key {target}, and {step.whose(key.tags)}; choose another alias"
    )


def _cluster(step: OpenStep, identifier: str) -> str:
    found = rds.find_cluster(step.session, identifier)
    if found is None:
        return "absent"
    cluster = ownership.of_cluster(found)
    if ownership.is_ours(step, cluster):
        return "created by this run"
    raise PreflightFailed(
        f"db_cluster_identifier {identifier!r} exists, and {step.whose(cluster.tags)}; choose another name"
    )


def _instance(step: OpenStep, identifier: str) -> str:
    found = rds.find_instance(step.session, identifier)
    if found is None:
        return "absent"
    if ownership.is_ours(step, ownership.of_instance(found)):
        return "created by this run"
    raise PreflightFailed(
        f"DB instance {identifier!r} exists, and this run did not create it; choose another db_cluster_identifier"
    )


def engine_version(session: Session, inputs: StartInputs) -> str:
    """Return the engine version that step 05 will create. Raises `PreflightFailed` when it is not available."""
    return offers.choose_engine_version(session, engine=inputs.engine, engine_version=inputs.engine_version)


def _known_version(session: Session, inputs: StartInputs) -> str:
    """Return the engine version for a check that depends on it; the version's own check has the reason if there is none."""
    try:
        return engine_version(session, inputs)
    except PreflightFailed:
        raise PreflightFailed("not checked: the engine version is not available") from None


def _class(session: Session, inputs: StartInputs) -> str:
    option = offers.require_class(
        session,
        engine=inputs.engine,
        engine_version=_known_version(session, inputs),
        db_instance_class=inputs.db_instance_class,
        readers=inputs.reader_count,
    )
    return f"{inputs.db_instance_class} in {len(option.get('AvailabilityZones', []))} zones"


def _network(session: Session, inputs: StartInputs) -> str:
    if inputs.db_subnet_group_name:
        group = ec2.require_subnet_group(session, inputs.db_subnet_group_name)
        vpc_id, zones = group["VpcId"], {subnet["SubnetAvailabilityZone"]["Name"] for subnet in group["Subnets"]}
    else:
        vpc_id = ec2.find_vpc(session, inputs.vpc_id)
        zones = {subnet["AvailabilityZone"] for subnet in ec2.find_subnets(session, vpc_id)}
    if inputs.vpc_security_group_ids:
        ec2.require_security_groups(session, inputs.vpc_security_group_ids, vpc_id)
    return f"{vpc_id}: {', '.join(sorted(zones))}"


def _parameter_groups(session: Session, inputs: StartInputs) -> str:
    version = _known_version(session, inputs)
    family = offers.parameter_group_family(session, engine=inputs.engine, engine_version=version)
    offers.require_parameter_groups(
        session, inputs.db_cluster_parameter_group_name, inputs.db_parameter_group_name, family=family
    )
    return ", ".join(_group_names(inputs)) or "the engine's defaults"


def _group_names(inputs: StartInputs) -> list[str]:
    return [name for name in (inputs.db_cluster_parameter_group_name, inputs.db_parameter_group_name) if name]


def _role(session: Session, arn: str) -> str:
    try:
        found = session.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except ClientError as error:
        if error_code(error) != "NoSuchEntity":
            raise
        raise PreflightFailed(
            f"monitoring_role_arn {arn!r} does not exist; create the role or set monitoring_interval to 0"
        ) from error
    if "monitoring.rds.amazonaws.com" not in str(found.get("AssumeRolePolicyDocument", "")):
        raise PreflightFailed(
            f"monitoring_role_arn {arn!r} does not trust monitoring.rds.amazonaws.com; fix its trust policy"
        )
    return arn


def _secret_key(session: Session, inputs: StartInputs) -> str:
    asked = inputs.master_user_secret_kms_key_id
    metadata = kms.describe(session, asked)
    if metadata is None and asked == inputs.key_alias:
        return f"{asked}, the key of this run"
    if metadata is None or metadata["KeyState"] != "Enabled":
        problem = f"is {metadata['KeyState']}" if metadata else "does not exist"
        raise PreflightFailed(
            f"master_user_secret_kms_key_id {asked!r} {problem}; name an Enabled key or leave it empty"
        )
    return str(metadata["Arn"])


def _quotas(session: Session, inputs: StartInputs) -> str:
    try:
        quotas = session.client("rds").describe_account_attributes()["AccountQuotas"]
    except ClientError as error:
        return f"unknown: {error_text(error)}"
    needed, rows = _quotas_needed(inputs), []
    for quota in quotas:
        if (more := needed.get(quota["AccountQuotaName"])) is None:
            continue
        if quota["Used"] + more > quota["Max"]:
            raise PreflightFailed(
                f"{quota['AccountQuotaName']}: {quota['Used']} of {quota['Max']} are used, the run needs {more} more; "
                "request an increase, or delete some"
            )
        rows.append(f"{quota['AccountQuotaName']} {quota['Used']} of {quota['Max']} used")
    return ", ".join(rows)


def _quotas_needed(inputs: StartInputs) -> dict[str, int]:
    """Return how many more of each resource the run needs, by the name of its quota in DescribeAccountAttributes."""
    return {
        "DBClusters": 1,
        "DBInstances": inputs.reader_count + 1,
        "DBSubnetGroups": 0 if inputs.db_subnet_group_name else 1,
    }
