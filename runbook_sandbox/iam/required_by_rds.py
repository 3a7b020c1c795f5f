"""What AWS authorizes for the requests to RDS, and for those of autoscaling that concern clusters."""

from __future__ import annotations

import re
from typing import Any

from runbook_sandbox.iam.required_action import Form, Place, Required, RequiredAction, of_resource

RDS, MONITORING = "rds.amazonaws.com", "monitoring.rds.amazonaws.com"


def _tagging(resource: str, tags: dict[str, Any]) -> list[RequiredAction]:
    return [RequiredAction("rds:AddTagsToResource", resource, tags)] if tags else []


def _passed(role: str, service: str) -> RequiredAction:
    return RequiredAction("iam:PassRole", role, {"iam:PassedToService": service})


def _pass_role(form: Form) -> list[RequiredAction]:
    role = form.get("MonitoringRoleArn")
    return [_passed(str(role), MONITORING)] if role else []


def _secret(place: Place) -> list[RequiredAction]:
    secret = place.arn("secretsmanager", "secret:rds!cluster-new")
    return [RequiredAction(f"secretsmanager:{name}", secret) for name in ("CreateSecret", "TagResource")]


def _create_cluster(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    cluster = place.arn("rds", f"cluster:{form.get('DBClusterIdentifier')}")
    managed = str(form.get("ManageMasterUserPassword", "")).lower() == "true"
    context = {
        "rds:StorageEncrypted": str(form.get("StorageEncrypted", "false")).lower(),
        "rds:DatabaseEngine": form.get("Engine"), "rds:ManageMasterUserPassword": str(managed).lower(), **tags,
    }  # fmt: skip
    found = [RequiredAction("rds:CreateDBCluster", cluster, context)]
    found += [RequiredAction("rds:CreateDBCluster", place.arn("rds", f"{kind}:{form[name]}"), context)
              for name, kind in (("DBSubnetGroupName", "subgrp"), ("DBClusterParameterGroupName", "cluster-pg"))
              if form.get(name)]  # fmt: skip
    found += _tagging(cluster, tags) + _pass_role(form)
    return found + (_secret(place) if managed else [])


def _restore_cluster(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    cluster, action = place.arn("rds", f"cluster:{form.get('DBClusterIdentifier')}"), "rds:RestoreDBClusterFromSnapshot"
    snapshot = str(form.get("SnapshotIdentifier"))
    snapshot = snapshot if snapshot.startswith("arn:") else place.arn("rds", f"cluster-snapshot:{snapshot}")
    found = [RequiredAction(action, cluster, tags), RequiredAction(action, snapshot, tags)]
    found += [RequiredAction(action, place.arn("rds", f"{kind}:{form[name]}"), tags)
              for name, kind in (("DBSubnetGroupName", "subgrp"), ("DBClusterParameterGroupName", "cluster-pg"))
              if form.get(name)]  # fmt: skip
    roles = [str(value) for name, value in form.items() if re.fullmatch(r"AssociatedRoles\..*RoleArn", name)]
    return found + _tagging(cluster, tags) + [_passed(role, RDS) for role in roles]


def _modify_cluster(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    cluster = place.arn("rds", f"cluster:{form.get('DBClusterIdentifier')}")
    found = [RequiredAction("rds:ModifyDBCluster", cluster)]
    managed = str(form.get("ManageMasterUserPassword", "")).lower() == "true"
    return found + (_secret(place) if managed else [])


def _add_role(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    cluster = place.arn("rds", f"cluster:{form.get('DBClusterIdentifier')}")
    return [RequiredAction("rds:AddRoleToDBCluster", cluster), _passed(str(form.get("RoleArn")), RDS)]


def _create_endpoint(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    names = (("cluster", "DBClusterIdentifier"), ("cluster-endpoint", "DBClusterEndpointIdentifier"))
    resources = [place.arn("rds", f"{kind}:{form.get(name)}") for kind, name in names]
    return [RequiredAction("rds:CreateDBClusterEndpoint", resource, tags) for resource in resources]


def _scalable_target(action: str) -> Required:
    return of_resource(action, lambda form, place: place.arn("application-autoscaling", "scalable-target/new"))


def _create_instance(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    instance = place.arn("rds", f"db:{form.get('DBInstanceIdentifier')}")
    context = {"rds:DatabaseEngine": form.get("Engine"), "rds:DatabaseClass": form.get("DBInstanceClass"), **tags}
    found = [RequiredAction("rds:CreateDBInstance", instance, context)]
    found += [RequiredAction("rds:CreateDBInstance", place.arn("rds", f"{kind}:{form[name]}"), context)
              for name, kind in (("DBClusterIdentifier", "cluster"), ("DBParameterGroupName", "pg"))
              if form.get(name)]  # fmt: skip
    return found + _tagging(instance, tags) + _pass_role(form)


def _create_snapshot(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    snapshot = place.arn("rds", f"cluster-snapshot:{form.get('DBClusterSnapshotIdentifier')}")
    cluster = place.arn("rds", f"cluster:{form.get('DBClusterIdentifier')}")
    action = "rds:CreateDBClusterSnapshot"
    return [RequiredAction(action, snapshot, tags), RequiredAction(action, cluster, tags), *_tagging(snapshot, tags)]


def _create_subnet_group(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    group = place.arn("rds", f"subgrp:{form.get('DBSubnetGroupName')}")
    return [RequiredAction("rds:CreateDBSubnetGroup", group, tags), *_tagging(group, tags)]


def _delete_cluster(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    found = [RequiredAction("rds:DeleteDBCluster", place.arn("rds", f"cluster:{form.get('DBClusterIdentifier')}"))]
    if name := form.get("FinalDBSnapshotIdentifier"):
        found.append(RequiredAction("rds:CreateDBClusterSnapshot", place.arn("rds", f"cluster-snapshot:{name}")))
    return found


def _named(action: str, kind: str, parameter: str) -> Required:
    """Return a function for an operation on one RDS resource, which the request names in `parameter`."""
    return of_resource(action, lambda form, place: place.arn("rds", f"{kind}:{form.get(parameter)}"))


OF_RDS: dict[str, Required] = {
    "rds:CreateDBCluster": _create_cluster,
    "rds:CreateDBInstance": _create_instance,
    "rds:CreateDBClusterSnapshot": _create_snapshot,
    "rds:CreateDBSubnetGroup": _create_subnet_group,
    "rds:RestoreDBClusterFromSnapshot": _restore_cluster,
    "rds:ModifyDBCluster": _modify_cluster,
    "rds:AddRoleToDBCluster": _add_role,
    "rds:CreateDBClusterEndpoint": _create_endpoint,
    "rds:EnableHttpEndpoint": of_resource("rds:EnableHttpEndpoint", lambda form, place: str(form.get("ResourceArn"))),
    "application-autoscaling:RegisterScalableTarget": _scalable_target("application-autoscaling:RegisterScalableTarget"),
    "application-autoscaling:PutScalingPolicy": _scalable_target("application-autoscaling:PutScalingPolicy"),
    "application-autoscaling:DeregisterScalableTarget": _scalable_target(
        "application-autoscaling:DeregisterScalableTarget"
    ),
    "rds:RebootDBInstance": _named("rds:RebootDBInstance", "db", "DBInstanceIdentifier"),
    "rds:StartDBCluster": _named("rds:StartDBCluster", "cluster", "DBClusterIdentifier"),
    "rds:DeleteDBCluster": _delete_cluster,
    "rds:DeleteDBInstance": _named("rds:DeleteDBInstance", "db", "DBInstanceIdentifier"),
    "rds:DeleteDBSubnetGroup": _named("rds:DeleteDBSubnetGroup", "subgrp", "DBSubnetGroupName"),
    "rds:DeleteDBClusterSnapshot": _named(
        "rds:DeleteDBClusterSnapshot", "cluster-snapshot", "DBClusterSnapshotIdentifier"
    ),
    **{f"rds:{name}": of_resource(f"rds:{name}", lambda form, place: str(form.get("ResourceName")))
       for name in ("ListTagsForResource", "AddTagsToResource", "RemoveTagsFromResource")},
}  # fmt: skip
