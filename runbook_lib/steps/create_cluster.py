"""Step 05: the DB cluster and its instances, encrypted under the run's key; plan, apply and verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, offers, rds
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.retry import retry_until_passed, retry_until_visible
from runbook_lib.checks import Checks
from runbook_lib.errors import KeyNotUsable, StepMissing
from runbook_lib.inputs.rds import CreateClusterInputs
from runbook_lib.plan import Change, Plan
from runbook_lib.run.materials import current_id
from runbook_lib.run.records import ClusterRecord, ImportRecord, KeyRecord
from runbook_lib.steps import cluster_network, ownership
from runbook_lib.steps.cluster_request import (
    MADE,
    cluster_request,
    differences,
    instance_names,
    instance_request,
    short_key,
)
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, INSTANCE, Found
from runbook_lib.tables import Result

# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: CreateClusterInputs) -> Plan:
    """Plan network, cluster and instances, after comparing the key with the run's record; read only.

    Raises `KeyNotUsable` unless the key is Enabled, symmetric, of origin EXTERNAL and in this Region, and
    `PreflightFailed` for a version, class or group that is not available.
    """
    key_arn = usable_key(step)
    version = _offered_version(step, asked)
    changes = cluster_network.plan_network(step, asked)
    if (other := _other_cluster(step, asked)) is not None:
        changes.append(other)
    request = cluster_request(step, asked, version=version, key_arn=key_arn)
    changes.append(_cluster_change(step, asked, request))
    for index, name in enumerate(instance_names(asked)):
        changes.append(_instance_change(step, asked, name, instance_request(step, asked, name, index)))
    return step.plan(asked, changes)


def usable_key(step: OpenStep) -> str:
    """Return the ARN of the run's key; raise `KeyNotUsable` unless it is usable and holds the imported material."""
    session, key = step.session, KeyRecord.from_run(step.run)
    ImportRecord.from_run(step.run)
    metadata = kms.require_usable(session, key.key_id, region=session.region)
    if metadata["Arn"] != key.key_arn:
        raise KeyNotUsable(
            f"the key is {metadata['Arn']}, this run's record names {key.key_arn}; check state.json of this run "
            "and the CloudTrail events of the key before you continue"
        )
    current = current_id(step.run)
    if metadata.get("CurrentKeyMaterialId", current) != current:
        raise KeyNotUsable(
            f"{metadata['Arn']} does not hold the material that this run imported last; review its materials manually"
        )
    return str(metadata["Arn"])


def _offered_version(step: OpenStep, asked: CreateClusterInputs) -> str:
    """Return the engine version to create; raise `PreflightFailed` unless version, class and groups are available."""
    session = step.session
    version = offers.choose_engine_version(session, engine=asked.engine, engine_version=asked.engine_version)
    offers.require_class(
        session,
        engine=asked.engine,
        engine_version=version,
        db_instance_class=asked.db_instance_class,
        readers=asked.reader_count,
    )
    family = offers.parameter_group_family(session, engine=asked.engine, engine_version=version)
    groups = asked.db_cluster_parameter_group_name, asked.db_parameter_group_name
    offers.require_parameter_groups(session, *groups, family=family)
    return version


def _other_cluster(step: OpenStep, asked: CreateClusterInputs) -> Change | None:
    """Return the row that refuses a second cluster by another name in one run."""
    existing = ClusterRecord.so_far(step.run).db_cluster_identifier
    if existing in ("", asked.db_cluster_identifier) or rds.find_cluster(step.session, existing) is None:
        return None
    why = f"this run already created {existing}; use that identifier, delete it with step 90, or start a new run"
    return Change("refuse", CLUSTER, asked.db_cluster_identifier, why)


def _cluster_change(step: OpenStep, inputs: CreateClusterInputs, request: dict[str, Any]) -> Change:
    name = inputs.db_cluster_identifier
    found = rds.find_cluster(step.session, name)
    if found is None:
        detail = (
            f"{inputs.engine} {request['EngineVersion']}, encrypted under {short_key(request)}, backups kept "
            f"{inputs.backup_retention_period} d, password managed by RDS, deletion protection "
            f"{'on' if inputs.deletion_protection else 'off'}"
        )
        return Change("create", CLUSTER, name, detail, "rds:CreateDBCluster", request)
    one = ownership.of_cluster(found)
    if not ownership.is_ours(step, one):
        detail = f"exists, and {step.whose(one.tags)}; choose another db_cluster_identifier"
        return Change("refuse", CLUSTER, name, detail)
    if inputs.engine_version == "" or found["EngineVersion"].startswith(f"{inputs.engine_version}."):
        request = {
            **request,
            "EngineVersion": found["EngineVersion"],
        }  # what RDS chose then, whatever it would choose now
    fields = (
        "Engine",
        "EngineVersion",
        "StorageEncrypted",
        "KmsKeyId",
        "MasterUsername",
        "Port",
        "DatabaseName",
        "BackupRetentionPeriod",
        "DeletionProtection",
        "CopyTagsToSnapshot",
        "ServerlessV2ScalingConfiguration",
    )
    # Fields that DescribeDBClusters names differently from CreateDBCluster.
    existing = {
        **found,
        "DBClusterParameterGroupName": found.get("DBClusterParameterGroup"),
        "EnableCloudwatchLogsExports": sorted(found.get("EnabledCloudwatchLogsExports") or []),
    }
    requested = {**request, "EnableCloudwatchLogsExports": sorted(request.get("EnableCloudwatchLogsExports", []))}
    if differs := differences(
        existing, requested, (*fields, "DBClusterParameterGroupName", "EnableCloudwatchLogsExports")
    ):
        return Change("refuse", CLUSTER, name, differs)
    return Change("keep", CLUSTER, name, f"{MADE}{ownership.by_tags(step, one)}", "", request, one.identity)


def _instance_change(step: OpenStep, inputs: CreateClusterInputs, name: str, request: dict[str, Any]) -> Change:
    found = rds.find_instance(step.session, name)
    if found is None:
        role = "writer" if name.endswith("-1") else "reader"
        detail = (
            f"{role}, {inputs.db_instance_class}, not publicly accessible, failover priority {request['PromotionTier']}"
        )
        if inputs.monitoring_interval:
            detail += f", Enhanced Monitoring every {inputs.monitoring_interval} s"
        return Change("create", INSTANCE, name, detail, "rds:CreateDBInstance", request)
    one = ownership.of_instance(found)
    if found.get("DBClusterIdentifier") != inputs.db_cluster_identifier or not ownership.is_ours(step, one):
        detail = f"exists, and {step.whose(one.tags)}; choose another db_cluster_identifier"
        return Change("refuse", INSTANCE, name, detail)
    fields = (
        "Engine",
        "DBInstanceClass",
        "PubliclyAccessible",
        "PromotionTier",
        "MonitoringInterval",
        "MonitoringRoleArn",
    )
    if differs := differences(found, request, fields):
        return Change("refuse", INSTANCE, name, differs)
    return Change("keep", INSTANCE, name, f"{MADE}{ownership.by_tags(step, one)}", "", request, one.identity)


def apply(step: OpenStep, plan: Plan) -> str:
    """Create what the plan says, at most once; return the cluster's ARN. The cluster is then `creating`.

    Raises `KeyNotUsable` when RDS cannot use the key, and what `create_once` raises.
    """
    asked: CreateClusterInputs = plan.inputs
    with step.applying(plan):
        cluster = plan.change(CLUSTER)
        subnet_group = cluster_network.apply_subnet_group(step, plan.change("subnet group"))
        groups = cluster_network.apply_security_group(
            step, plan.change("security group"), port=cluster.request["Port"], allowed_cidr=asked.allowed_cidr
        )
        found = _cluster(step, cluster, subnet_group, groups)
        instances = [change for change in plan.changes if change.resource == INSTANCE]
        step.run.note(
            step.name,
            db_cluster_identifier=cluster.name,
            db_cluster_arn=found.get("DBClusterArn", ""),
            db_cluster_resource_id=found.get("DbClusterResourceId", ""),
            db_subnet_group_name=subnet_group,
            vpc_security_group_ids=groups,
            db_instance_identifiers=[change.name for change in instances],
        )
        for change in instances:
            if change.action == "keep":
                ownership.keep(step, change)
            else:
                ownership.require_same(step, replace(cluster, identity=found.get("DbClusterResourceId", "")))
                _create_instance(step, change)
    return Result(
        str(found.get("DBClusterArn", "")), "The DB cluster {} is being created; step 06 waits until it is available."
    )


def _cluster(step: OpenStep, cluster: Change, subnet_group: str, groups: list[str]) -> dict[str, Any]:
    """Return the planned cluster; create it if the plan says so. Raises `KeyNotUsable`."""
    session, client = step.session, step.client("rds", retry=False)
    if cluster.action != "create":
        ownership.keep(step, cluster)
        return rds.find_cluster(session, cluster.name) or {}
    request = {**cluster.request, "DBSubnetGroupName": subnet_group, "VpcSecurityGroupIds": groups}
    try:
        return create_once(
            step.run,
            step.name,
            "rds:CreateDBCluster",
            find=lambda: _ours(step, rds.find_cluster(session, cluster.name), ownership.of_cluster),
            # RDS may not see yet that the key is Enabled or that the subnet group exists.
            create=lambda: retry_until_visible(
                lambda: dict(client.create_db_cluster(**step.marked(request))["DBCluster"]),
                codes=("KMSKeyNotAccessibleFault", "DBSubnetGroupNotFoundFault"),
                target=session.target,
            ),
            identity=lambda made: ownership.of_cluster(made).identity,
        )
    except ClientError as error:
        if error_code(error) != "KMSKeyNotAccessibleFault":
            raise
        raise KeyNotUsable(f"{error_text(error)}; {_key_advice(request)}") from error


def _key_advice(request: dict[str, Any]) -> str:
    """Return what may be missing; KMSKeyNotAccessibleFault does not tell which."""
    advice = "check that the key is Enabled and that you may call kms:CreateGrant and kms:DescribeKey on it through RDS"
    if "MasterUserSecretKmsKeyId" in request:
        advice += (
            ", and kms:CreateGrant, kms:Decrypt, kms:GenerateDataKey and kms:DescribeKey on the password's key through "
            "Secrets Manager"
        )
    return advice


def _ours(
    step: OpenStep, found: dict[str, Any] | None, of: Callable[[Mapping[str, Any]], Found]
) -> dict[str, Any] | None:
    """Return the resource if this run created it, else None: somebody else may have used the name meanwhile."""
    return found if found is not None and ownership.is_ours(step, of(found)) else None


def _create_instance(step: OpenStep, change: Change) -> None:
    client = step.client("rds", retry=False)
    create_once(
        step.run,
        step.name,
        f"rds:CreateDBInstance {change.name}",
        find=lambda: _ours(step, rds.find_instance(step.session, change.name), ownership.of_instance),
        create=lambda: retry_until_visible(
            lambda: dict(client.create_db_instance(**step.marked(change.request))["DBInstance"]),
            codes=("DBClusterNotFoundFault",),
            target=step.session.target,
        ),
        identity=lambda made: ownership.of_instance(made).identity,
    )


def verify(step: OpenStep) -> Checks:
    """Compare the new cluster with the plan, and finish the step. Raises `StepMissing`, `VerificationFailed`.

    The cluster is still being created; step 06 collects the evidence.
    """
    record = ClusterRecord.so_far(step.run)
    if not record.db_cluster_identifier:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    found: dict[str, Any] = {}

    def gather() -> Checks:
        found.clear()
        found.update(rds.find_cluster(step.session, record.db_cluster_identifier) or {})
        return _gather(step, record, found)

    checks = retry_until_passed(gather, target=step.session.target)
    checks.require_passed()
    count = len(record.db_instance_identifiers)
    step.run.finish(
        step.name,
        summary=f"{record.db_cluster_identifier} {found['Status']}, {found['Engine']} {found['EngineVersion']}, {count} "
        f"instance{'s' * (count > 1)}",
    )
    return checks


def _gather(step: OpenStep, record: ClusterRecord, found: dict[str, Any]) -> Checks:
    checks, source = Checks("The new cluster"), "rds:DescribeDBClusters"
    key_arn = KeyRecord.from_run(step.run).key_arn
    checks.equal("its KMS key is the key of this run", key_arn, found.get("KmsKeyId"), source=source)
    checks.equal("its storage is encrypted", True, found.get("StorageEncrypted"), source=source)
    checks.holds(
        "its status is not a failure",
        "creating, available, or a status between these two",
        found.get("Status"),
        lambda status: bool(status) and "inaccessible" not in status and "failed" not in status,
        source=source,
    )
    members = [str(one["DBInstanceIdentifier"]) for one in rds.instances_of(step.session, record.db_cluster_identifier)]
    names = list(record.db_instance_identifiers)
    checks.equal("its instances are the planned ones", names, members, source="rds:DescribeDBInstances")
    return checks
