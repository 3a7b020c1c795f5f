"""Step 05: the DB cluster and its instances, encrypted under the run's key; plan, apply and verify."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, offers
from runbook_lib.aws.create_once import create_once, settled, until_seen
from runbook_lib.aws.rds import find_cluster, find_instance, instances_of, rds_tags
from runbook_lib.aws.session import error_code, error_text
from runbook_lib.checks import Checks
from runbook_lib.errors import KeyNotUsable, StepMissing
from runbook_lib.inputs.rds import PORTS, CreateClusterInputs
from runbook_lib.plan import Change, Plan
from runbook_lib.steps import cluster_network
from runbook_lib.steps.open_step import OpenStep


def instance_names(inputs: CreateClusterInputs) -> list[str]:
    """Return the instance identifiers: the writer, then the readers."""
    return [f"{inputs.db_cluster_identifier}-{number}" for number in range(1, inputs.reader_count + 2)]


# 05 create cluster ---------------------------------------------------------------------------------------------


def plan_create_cluster(step: OpenStep, inputs: CreateClusterInputs) -> Plan:
    """Plan network, cluster and instances, after comparing the key with the one of this run.

    Reads only. Raises `KeyNotUsable` before anything is created unless the key is Enabled, symmetric, EXTERNAL
    and of this Region; `PreflightFailed` for a version, class or group that is not there.
    """
    session = step.session
    key = step.run.record("01_create_key")
    imported = step.run.record("04_import_key_material")
    metadata = kms.require_usable(session, key["key_id"], region=session.region)
    if metadata["Arn"] != key["key_arn"]:
        raise KeyNotUsable(
            f"the key is {metadata['Arn']}, this run made {key['key_arn']}; find out who changed the record before launching"
        )
    if metadata.get("CurrentKeyMaterialId", imported["key_material_id"]) != imported["key_material_id"]:
        raise KeyNotUsable(
            f"{metadata['Arn']} does not hold the material that this run imported; compare before launching"
        )
    version = offers.choose_engine_version(session, engine=inputs.engine, engine_version=inputs.engine_version)
    offers.require_class(
        session,
        engine=inputs.engine,
        engine_version=version,
        db_instance_class=inputs.db_instance_class,
        readers=inputs.reader_count,
    )
    family = offers.parameter_group_family(session, engine=inputs.engine, engine_version=version)
    offers.require_parameter_groups(
        session, inputs.db_cluster_parameter_group_name, inputs.db_parameter_group_name, family=family
    )
    changes = cluster_network.plan_network(step, inputs)
    made = step.made().get("db_cluster_identifier", inputs.db_cluster_identifier)
    if made != inputs.db_cluster_identifier and find_cluster(step.session, made) is not None:
        why = f"this run has made {made} already; ask for that name, delete it with 90, or start a new run for another"
        changes.append(Change("refuse", "DB cluster", inputs.db_cluster_identifier, why))
    cluster = _cluster_request(step, inputs, version=version, key_arn=metadata["Arn"])
    changes.append(_cluster_change(step, inputs, cluster))
    for index, name in enumerate(instance_names(inputs)):
        changes.append(_instance_change(step, inputs, name, _instance_request(step, inputs, name, index)))
    return step.plan(inputs, changes)


def _cluster_request(step: OpenStep, inputs: CreateClusterInputs, *, version: str, key_arn: str) -> dict[str, Any]:
    request: dict[str, Any] = {
        "DBClusterIdentifier": inputs.db_cluster_identifier,
        "Engine": inputs.engine,
        "EngineVersion": version,
        "EngineLifecycleSupport": "open-source-rds-extended-support-disabled",
        "Port": inputs.port or PORTS[inputs.engine],
        "MasterUsername": inputs.master_username,
        "ManageMasterUserPassword": True,
        "StorageEncrypted": True,
        "KmsKeyId": key_arn,
        "BackupRetentionPeriod": inputs.backup_retention_period,
        "DeletionProtection": inputs.deletion_protection,
        "CopyTagsToSnapshot": inputs.copy_tags_to_snapshot,
        "Tags": step.tag_list(inputs.tags),
    }
    optional = {
        "DatabaseName": inputs.database_name,
        "MasterUserSecretKmsKeyId": inputs.master_user_secret_kms_key_id,
        "DBClusterParameterGroupName": inputs.db_cluster_parameter_group_name,
        "EnableCloudwatchLogsExports": inputs.enable_cloudwatch_logs_exports,
    }
    request.update({name: value for name, value in optional.items() if value})
    if inputs.db_instance_class == "db.serverless":
        request["ServerlessV2ScalingConfiguration"] = {
            "MinCapacity": inputs.serverless_min_capacity,
            "MaxCapacity": inputs.serverless_max_capacity,
        }
    return request


def _instance_request(step: OpenStep, inputs: CreateClusterInputs, name: str, index: int) -> dict[str, Any]:
    request: dict[str, Any] = {
        "DBInstanceIdentifier": name,
        "DBClusterIdentifier": inputs.db_cluster_identifier,
        "Engine": inputs.engine,
        "DBInstanceClass": inputs.db_instance_class,
        "PubliclyAccessible": False,
        "PromotionTier": min(inputs.promotion_tier + index, 15),
        "MonitoringInterval": inputs.monitoring_interval,
        "Tags": step.tag_list(inputs.tags),
    }
    optional = {
        "DBParameterGroupName": inputs.db_parameter_group_name,
        "MonitoringRoleArn": inputs.monitoring_role_arn,
    }
    return request | {field: value for field, value in optional.items() if value}


def _cluster_change(step: OpenStep, inputs: CreateClusterInputs, request: dict[str, Any]) -> Change:
    name = inputs.db_cluster_identifier
    there = find_cluster(step.session, name)
    if there is None:
        detail = (
            f"{inputs.engine} {request['EngineVersion']}, encrypted under {inputs_key(request)}, backups kept "
            f"{inputs.backup_retention_period} d, password managed by RDS, deletion protection "
            f"{'on' if inputs.deletion_protection else 'off'}"
        )
        return Change("create", "DB cluster", name, detail, "rds:CreateDBCluster", request)
    if not step.is_ours(rds_tags(there)):
        detail = f"exists, and {step.whose(rds_tags(there))}; choose another db_cluster_identifier"
        return Change("refuse", "DB cluster", name, detail)
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
    # What RDS calls otherwise when it describes than when it creates.
    seen = {
        **there,
        "DBClusterParameterGroupName": there.get("DBClusterParameterGroup"),
        "EnableCloudwatchLogsExports": sorted(there.get("EnabledCloudwatchLogsExports") or []),
    }
    asked = {**request, "EnableCloudwatchLogsExports": sorted(request.get("EnableCloudwatchLogsExports", []))}
    if differs := _differences(seen, asked, (*fields, "DBClusterParameterGroupName", "EnableCloudwatchLogsExports")):
        return Change("refuse", "DB cluster", name, differs)
    return Change("keep", "DB cluster", name, "made by this run, as asked", "", request)


def _differences(there: dict[str, Any], asked: dict[str, Any], fields: tuple[str, ...]) -> str:
    """Say field by field how what is there differs from what is asked, and the way out; '' when it does not."""
    differs = [
        f"{field} is {there.get(field)!r}, asked {asked[field]!r}"
        for field in fields
        if field in asked and there.get(field) != asked[field]
    ]
    return "; ".join([*differs, "ask for what is there, or change it yourself"]) if differs else ""


def inputs_key(request: dict[str, Any]) -> str:
    """Return the key of a cluster request in short: key/ and the first eight digits of its id."""
    return f"key {request['KmsKeyId'].rpartition('/')[2][:8]}…"


def _instance_change(step: OpenStep, inputs: CreateClusterInputs, name: str, request: dict[str, Any]) -> Change:
    there = find_instance(step.session, name)
    if there is None:
        role = "writer" if name.endswith("-1") else "reader"
        detail = f"{role}, {inputs.db_instance_class}, not public, failover tier {request['PromotionTier']}"
        if inputs.monitoring_interval:
            detail += f", Enhanced Monitoring every {inputs.monitoring_interval} s"
        return Change("create", f"DB instance {name}", name, detail, "rds:CreateDBInstance", request)
    if there.get("DBClusterIdentifier") != inputs.db_cluster_identifier or not step.is_ours(rds_tags(there)):
        return Change(
            "refuse",
            f"DB instance {name}",
            name,
            f"exists, and {step.whose(rds_tags(there))}; choose another cluster identifier",
        )
    fields = (
        "Engine",
        "DBInstanceClass",
        "PubliclyAccessible",
        "PromotionTier",
        "MonitoringInterval",
        "MonitoringRoleArn",
    )
    if differs := _differences(there, request, fields):
        return Change("refuse", f"DB instance {name}", name, differs)
    return Change("keep", f"DB instance {name}", name, "made by this run, as asked", "", request)


def apply_create_cluster(step: OpenStep, plan: Plan) -> str:
    """Make what the plan says, once; return the cluster's ARN. It goes on in `creating`.

    Raises `KeyNotUsable` when RDS cannot reach the key, and what `create_once` raises.
    """
    session = step.session
    with step.applying(plan):
        subnet_group = cluster_network.apply_subnet_group(step, plan.change("subnet group"))
        cluster = plan.change("DB cluster")
        groups = cluster_network.apply_security_group(
            step,
            plan.change("security group"),
            port=cluster.request["Port"],
            allowed_cidr=str(plan.inputs["allowed_cidr"]),
        )
        rds = step.client("rds", retry=False)
        if cluster.action == "create":
            request = {**cluster.request, "DBSubnetGroupName": subnet_group, "VpcSecurityGroupIds": groups}
            try:
                there = create_once(
                    step.run,
                    step.name,
                    "rds:CreateDBCluster",
                    find=lambda: _ours(step, find_cluster(session, cluster.name)),
                    create=lambda: (
                        until_seen(  # that the key is Enabled, and the subnet group there, may not be seen yet
                            lambda: dict(rds.create_db_cluster(**request)["DBCluster"]),
                            codes=("KMSKeyNotAccessibleFault", "DBSubnetGroupNotFoundFault"),
                            target=session.target,
                        )
                    ),
                )
            except ClientError as error:
                if error_code(error) != "KMSKeyNotAccessibleFault":
                    raise
                raise KeyNotUsable(f"{error_text(error)}; {_key_advice(request)}") from error
        else:
            there = find_cluster(session, cluster.name) or {}
        step.run.note(
            step.name,
            db_cluster_identifier=cluster.name,
            db_cluster_arn=there.get("DBClusterArn", ""),
            db_cluster_resource_id=there.get("DbClusterResourceId", ""),
            db_subnet_group_name=subnet_group,
            vpc_security_group_ids=groups,
            db_instance_identifiers=[
                change.name for change in plan.changes if change.resource.startswith("DB instance")
            ],
        )
        for change in plan.changes:
            if change.resource.startswith("DB instance") and change.action == "create":
                _create_instance(step, rds, change)
    return str(there.get("DBClusterArn", ""))


def _key_advice(request: dict[str, Any]) -> str:
    """Say what may be missing when RDS cannot reach a key; it does not tell which."""
    advice = "check that the key is Enabled and that you may call kms:CreateGrant and kms:DescribeKey on it through RDS"
    if "MasterUserSecretKmsKeyId" in request:
        advice += (
            ", and kms:CreateGrant, kms:Decrypt, kms:GenerateDataKey and kms:DescribeKey on the password's key through "
            "Secrets Manager"
        )
    return advice


def _ours(step: OpenStep, found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what was found if this run made it: somebody else may have taken the name meanwhile."""
    return found if found is not None and step.is_ours(rds_tags(found)) else None


def _create_instance(step: OpenStep, rds: Any, change: Change) -> None:
    create_once(
        step.run,
        step.name,
        f"rds:CreateDBInstance {change.name}",
        find=lambda: _ours(step, find_instance(step.session, change.name)),
        create=lambda: until_seen(
            lambda: dict(rds.create_db_instance(**change.request)["DBInstance"]),
            codes=("DBClusterNotFoundFault",),
            target=step.session.target,
        ),
    )


def verify_create_cluster(step: OpenStep) -> Checks:
    """Hold the launched cluster against what was asked, and finish the step. Raises `VerificationFailed`.

    The cluster is still being created; the evidence proper is step 06.
    """
    made = step.made()
    if "db_cluster_identifier" not in made:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    there: dict[str, Any] = {}

    def gather() -> Checks:
        there.clear()
        there.update(find_cluster(step.session, made["db_cluster_identifier"]) or {})
        return _held_against(step, made, there)

    checks = settled(gather, target=step.session.target)
    checks.require_passed()
    count = len(made["db_instance_identifiers"])
    step.run.finish(
        step.name,
        summary=f"{made['db_cluster_identifier']} {there['Status']}, {there['Engine']} {there['EngineVersion']}, {count} "
        f"instance{'s' * (count > 1)}",
    )
    return checks


def _held_against(step: OpenStep, made: dict[str, Any], there: dict[str, Any]) -> Checks:
    members = [
        instance["DBInstanceIdentifier"] for instance in instances_of(step.session, made["db_cluster_identifier"])
    ]
    checks = Checks("The launched cluster")
    checks.equal(
        "it is to be encrypted under the key of this run",
        step.run.record("01_create_key")["key_arn"],
        there.get("KmsKeyId"),
        source="rds:DescribeDBClusters",
    )
    checks.equal(
        "its storage encryption is asked for",
        True,
        there.get("StorageEncrypted"),
        source="rds:DescribeDBClusters",
    )
    checks.holds(
        "it is there and comes up",
        "creating, available or on the way",
        there.get("Status"),
        lambda status: bool(status) and "inaccessible" not in status and "failed" not in status,
        source="rds:DescribeDBClusters",
    )
    checks.equal(
        "it has the instances asked for",
        made["db_instance_identifiers"],
        members,
        source="rds:DescribeDBInstances",
    )
    return checks
