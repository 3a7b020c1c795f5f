"""The rows of step 10's plan: snapshot, restored cluster, instances, what is set afterwards, and what cannot be carried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import rds
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.cluster_settings import ClusterSettings, parameters_of, read_settings
from runbook_lib.inputs.existing import SUFFIX
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import ExistingClusterRecord
from runbook_lib.steps import carry_over, ownership
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, INSTANCE, SNAPSHOT

SNAPSHOT_TAG = "runbook:snapshot"  # of a restored cluster: RDS does not tell what a cluster was restored from
SETTINGS, ENDPOINT, SCALING = "cluster settings", "custom endpoint", "autoscaling of readers"


def changes_for(
    step: OpenStep, settings: ClusterSettings, identifier: str, key_arn: str, *, snapshot: str = ""
) -> list[Change]:
    """Return the rows of the snapshot, the restored cluster, its instances and its settings; only read."""
    snapshot = snapshot or f"{identifier}-source"
    request = {
        "DBClusterIdentifier": settings.name, "DBClusterSnapshotIdentifier": snapshot, "Tags": step.tag_list()
    }  # fmt: skip
    changes = [
        _made(step, SNAPSHOT, snapshot, f"of {settings.name}, under the key of the source", "rds:CreateDBClusterSnapshot", request)
    ]  # fmt: skip
    known = parameters_of(step.session, "RestoreDBClusterFromSnapshot")
    restore = carry_over.restore_request(
        settings.cluster, identifier=identifier, snapshot=snapshot, key_arn=key_arn, known=known,
        tags=step.tag_list({**carry_over.carried_tags(settings.cluster), SNAPSHOT_TAG: snapshot}),
    )  # fmt: skip
    detail = f"restored from {snapshot}, encrypted under key {key_arn.rpartition('/')[2][:8]}…, with the settings of the source"
    changes.append(_made(step, CLUSTER, identifier, detail, "rds:RestoreDBClusterFromSnapshot", restore))
    tags = {one["DBInstanceIdentifier"]: step.tag_list(carry_over.carried_tags(one)) for one in settings.instances}
    for one, source in zip(
        carry_over.instance_requests(settings, identifier=identifier, key_arn=key_arn, tags=tags),
        settings.instances,
        strict=True,
    ):
        detail = (
            f"as {source['DBInstanceIdentifier']}: {one['DBInstanceClass']}, {one.get('AvailabilityZone', 'any zone')}"
        )
        changes.append(_made(step, INSTANCE, one["DBInstanceIdentifier"], detail, "rds:CreateDBInstance", one))
    return [*changes, *_afterwards(step, settings, identifier, key_arn, known), *_not_carried(settings, identifier)]


def _made(step: OpenStep, resource: str, name: str, detail: str, call: str, request: Mapping[str, Any]) -> Change:
    """Return the row that creates a resource, keeps this run's, or refuses another's of that name."""
    find, of = {
        SNAPSHOT: (rds.find_snapshot, ownership.of_snapshot),
        CLUSTER: (rds.find_cluster, ownership.of_cluster),
        INSTANCE: (rds.find_instance, ownership.of_instance),
    }[resource]
    found = find(step.session, name)
    if found is None:
        return Change("create", resource, name, detail, call, request)
    one = of(found)
    if resource == CLUSTER and (held := restored_from(step, found)) and held != request["SnapshotIdentifier"]:
        return Change(
            "refuse", resource, name, f"exists, restored from {held}; cut over or roll back (11), or delete it (90)"
        )
    if ownership.is_ours(step, one, creator=step.name):
        return Change("keep", resource, name, "created by this run", "", request, one.identity)
    return Change("refuse", resource, name, f"exists, and {step.whose(one.tags)}; choose another db_cluster_identifier")


def restored_from(step: OpenStep, found: Mapping[str, Any]) -> str:
    """Return the snapshot that a cluster was restored from: its tag, or what 10 recorded; "" if neither tells."""
    record = ExistingClusterRecord.so_far(step.run)
    recorded = found.get("DbClusterResourceId") == record.db_cluster_resource_id
    tag = rds.rds_tags(dict(found)).get(SNAPSHOT_TAG, "")
    return tag or (record.db_cluster_snapshot_identifier if recorded else "")


def _afterwards(
    step: OpenStep, settings: ClusterSettings, identifier: str, key_arn: str, known: frozenset[str]
) -> list[Change]:
    """Return the rows of what is set once the new cluster is available."""
    changes = []
    cluster = settings.cluster
    if modify := carry_over.modify_request(settings, identifier=identifier, key_arn=key_arn, known=known):
        names = sorted(set(modify) - {"DBClusterIdentifier", "ApplyImmediately"})
        words = f"{', '.join(names)}: a restore does not take them"
        changes.append(Change("change", SETTINGS, identifier, words, "rds:ModifyDBCluster", modify))
    if "AssociatedRoles" not in known:
        for role in carry_over.roles_of(cluster):
            request = {"DBClusterIdentifier": identifier, **role}
            changes.append(
                Change("change", SETTINGS, identifier, f"role {role['RoleArn']}", "rds:AddRoleToDBCluster", request)
            )
    if cluster.get("HttpEndpointEnabled"):
        changes.append(Change("change", SETTINGS, identifier, "the Data API is enabled", "rds:EnableHttpEndpoint"))
    there = read_settings(step.session, identifier)
    made = {one["DBClusterEndpointIdentifier"] for one in (there.custom_endpoints if there else [])}
    for request in carry_over.endpoint_requests(settings, identifier=identifier, suffix=SUFFIX):
        if request["DBClusterEndpointIdentifier"] in made:
            changes.append(Change("keep", ENDPOINT, request["DBClusterEndpointIdentifier"], "created by this run"))
            continue
        name, why = request["DBClusterEndpointIdentifier"], "under a temporary name: the source holds the final one"
        changes.append(Change("create", ENDPOINT, name, why, "rds:CreateDBClusterEndpoint", request))
    for request in carry_over.target_requests(settings, identifier=identifier):
        words = f"{request['MinCapacity']} to {request['MaxCapacity']} readers"
        call = "application-autoscaling:RegisterScalableTarget"
        changes.append(Change("change", SCALING, request["ResourceId"], words, call, request))
    for request in carry_over.policy_requests(settings, identifier=identifier):
        call = "application-autoscaling:PutScalingPolicy"
        changes.append(Change("change", SCALING, request["PolicyName"], "as on the source", call, request))
    return changes


def _not_carried(settings: ClusterSettings, identifier: str) -> list[Change]:
    """Return the rows of what a new cluster cannot have, or has only after the cut-over."""
    cluster, rows = settings.cluster, []
    if cluster.get("MasterUserSecret"):
        rows.append(
            (
                "master password",
                identifier,
                "RDS makes a new secret, with a new ARN and a new password: tell its readers",
            )
        )
    rows.append(
        ("backups", settings.name, "automated backups and point-in-time recovery of the new cluster start with it")
    )
    for one in settings.event_subscriptions:
        why = f"lists names of {settings.name}: it follows the cluster's name after the cut-over, not those of the instances"
        rows.append(("event subscription", str(one["CustSubscriptionId"]), why))
    rows += [
        ("replica", str(one), f"stays a replica of {settings.name}; create one of the new cluster")
        for one in cluster.get("ReadReplicaIdentifiers") or []
    ]
    return [Change("keep", *row) for row in rows]


# What is set once the new cluster is available --------------------------------------------------------------------


def set_afterwards(step: OpenStep, plan: Plan, arn: str) -> None:
    """Set what a restore does not take. Each call may be repeated: it sets what the plan says."""
    client = step.client("rds")
    scaling = step.client("application-autoscaling") if any(one.resource == SCALING for one in plan.changes) else None
    for change in plan.changes:
        request = dict(change.request)
        match change.calls.rpartition(":")[2]:
            case "ModifyDBCluster":
                _modify(step, request)
            case "AddRoleToDBCluster":
                _unless(client.add_role_to_db_cluster, "DBClusterRoleAlreadyExists", request)
            case "EnableHttpEndpoint":
                client.enable_http_endpoint(ResourceArn=arn)
            case "CreateDBClusterEndpoint":
                _unless(client.create_db_cluster_endpoint, "DBClusterEndpointAlreadyExistsFault", request)
            case "RegisterScalableTarget" if scaling:
                scaling.register_scalable_target(**request)
            case "PutScalingPolicy" if scaling:
                scaling.put_scaling_policy(**request)
    made = [one.name for one in plan.changes if one.resource == ENDPOINT]
    step.run.note(step.name, custom_endpoint_identifiers=made)


def _modify(step: OpenStep, request: dict[str, Any]) -> None:
    """Send the modification unless the cluster has its values already: a managed password must not be made twice."""
    now = rds.find_cluster(step.session, request["DBClusterIdentifier"]) or {}
    if request.get("ManageMasterUserPassword") and now.get("MasterUserSecret"):
        request = {
            name: value
            for name, value in request.items()
            if name not in ("ManageMasterUserPassword", "MasterUserSecretKmsKeyId")
        }
    step.client("rds").modify_db_cluster(**request)


def _unless(call: Any, code: str, request: dict[str, Any]) -> None:
    try:
        call(**request)
    except ClientError as error:
        if error_code(error) != code:
            raise
