"""What AWS authorizes for a request: every action with its resource and condition keys, dependent actions included.

Complete for every operation that the runbook calls; for others it is the operation itself on `*`. Sources: the
service authorization reference, and the required permissions on each operation's page (tags, grants, secrets, roles).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook_sandbox.kms.base import condition_keys

Form = Mapping[str, Any]
MONITORING = "monitoring.rds.amazonaws.com"


@dataclass(frozen=True)
class RequiredAction:
    """One action to authorize, with its resource and condition keys."""

    action: str
    resource: str = "*"
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """The account and Region of a request, for building ARNs."""

    account: str
    region: str

    def arn(self, service: str, name: str, *, regional: bool = True) -> str:
        """Return the ARN of a resource of this account."""
        return f"arn:aws:{service}:{self.region if regional else ''}:{self.account}:{name}"


def required_actions(service: str, operation: str, form: Form, place: Place) -> list[RequiredAction]:
    """Return the actions that a request requires; none for GetCallerIdentity, which needs no permission.

    `form` contains the request's parameters: as JSON has them, or flat as a query has them.
    """
    if operation == "GetCallerIdentity":
        return []
    tags = _request_tags(tags_of(form))
    if required := _TABLE.get(f"{service}:{operation}"):
        return required(form, place, tags)
    if service == "kms":
        return [RequiredAction(f"kms:{operation}", str(form.get("KeyId", "*")), {**condition_keys(dict(form)), **tags})]
    return [RequiredAction(f"{service}:{operation}", "*", tags)]


def tags_of(form: Form) -> dict[str, str]:
    """Return the tags of a request, from JSON or from a flat query."""
    if isinstance(form.get("Tags"), list):
        return {
            str(tag.get("TagKey", tag.get("Key"))): str(tag.get("TagValue", tag.get("Value"))) for tag in form["Tags"]
        }
    found: dict[str, dict[str, str]] = {}
    for name, value in form.items():
        if match := re.fullmatch(r"(?:TagSpecification\.\d+\.|Tags\.)(?:Tag|member)\.(\d+)\.(Key|Value)", name):
            found.setdefault(match[1], {})[match[2]] = str(value)
    return {tag["Key"]: tag.get("Value", "") for tag in found.values() if "Key" in tag}


def _request_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    context: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    return context | ({"aws:TagKeys": list(tags)} if tags else {})


# KMS -----------------------------------------------------------------------------------------------------------


def _create_key(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    context = {
        "kms:KeyOrigin": form.get("Origin", "AWS_KMS"), "kms:KeySpec": form.get("KeySpec", "SYMMETRIC_DEFAULT"),
        "kms:KeyUsage": form.get("KeyUsage", "ENCRYPT_DECRYPT"), "kms:MultiRegion": bool(form.get("MultiRegion")),
        "kms:BypassPolicyLockoutSafetyCheck": bool(form.get("BypassPolicyLockoutSafetyCheck")), **tags,
    }  # fmt: skip
    return [
        RequiredAction("kms:CreateKey", "*", context),
        *([RequiredAction("kms:TagResource", "*", tags)] if tags else []),
    ]


def _alias(action: str) -> Callable[[Form, Place, dict[str, Any]], list[RequiredAction]]:
    def required(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
        alias = RequiredAction(action, place.arn("kms", str(form.get("AliasName"))))
        return [alias, RequiredAction(action, str(form.get("TargetKeyId", form.get("AliasName"))))]

    return required


# RDS -----------------------------------------------------------------------------------------------------------


def _tagging(resource: str, tags: dict[str, Any]) -> list[RequiredAction]:
    return [RequiredAction("rds:AddTagsToResource", resource, tags)] if tags else []


def _pass_role(form: Form) -> list[RequiredAction]:
    role = form.get("MonitoringRoleArn")
    return [RequiredAction("iam:PassRole", str(role), {"iam:PassedToService": MONITORING})] if role else []


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
    if managed:
        secret = place.arn("secretsmanager", "secret:rds!cluster-new")
        found += [
            RequiredAction("secretsmanager:CreateSecret", secret),
            RequiredAction("secretsmanager:TagResource", secret),
        ]
    return found


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


def _named(action: str, kind: str, parameter: str) -> Callable[[Form, Place, dict[str, Any]], list[RequiredAction]]:
    """Return a function for an operation on one RDS resource, which the request names in `parameter`."""
    return lambda form, place, tags: [RequiredAction(action, place.arn("rds", f"{kind}:{form.get(parameter)}"), tags)]


# EC2, IAM, Secrets Manager -----------------------------------------------------------------------------------------


def _create_security_group(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    group, action = place.arn("ec2", "security-group/new"), "ec2:CreateSecurityGroup"
    found = [RequiredAction(action, group, tags), RequiredAction(action, place.arn("ec2", f"vpc/{form.get('VpcId')}"))]
    return found + (
        [RequiredAction("ec2:CreateTags", group, {"ec2:CreateAction": "CreateSecurityGroup", **tags})] if tags else []
    )


def _security_group(action: str) -> Callable[[Form, Place, dict[str, Any]], list[RequiredAction]]:
    return lambda form, place, tags: [
        RequiredAction(action, place.arn("ec2", f"security-group/{form.get('GroupId')}"), tags)
    ]


def _service_linked_role(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    service = str(form.get("AWSServiceName"))
    role = place.arn("iam", f"role/aws-service-role/{service}/AWSServiceRoleForRDS", regional=False)
    return [RequiredAction("iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": service})]


_TABLE: dict[str, Callable[[Form, Place, dict[str, Any]], list[RequiredAction]]] = {
    "kms:CreateKey": _create_key,
    "kms:CreateAlias": _alias("kms:CreateAlias"),
    "kms:DeleteAlias": _alias("kms:DeleteAlias"),
    "rds:CreateDBCluster": _create_cluster,
    "rds:CreateDBInstance": _create_instance,
    "rds:CreateDBClusterSnapshot": _create_snapshot,
    "rds:CreateDBSubnetGroup": _create_subnet_group,
    "rds:ModifyDBCluster": _named("rds:ModifyDBCluster", "cluster", "DBClusterIdentifier"),
    "rds:StartDBCluster": _named("rds:StartDBCluster", "cluster", "DBClusterIdentifier"),
    "rds:DeleteDBCluster": _delete_cluster,
    "rds:DeleteDBInstance": _named("rds:DeleteDBInstance", "db", "DBInstanceIdentifier"),
    "rds:DeleteDBSubnetGroup": _named("rds:DeleteDBSubnetGroup", "subgrp", "DBSubnetGroupName"),
    "rds:DeleteDBClusterSnapshot": _named(
        "rds:DeleteDBClusterSnapshot", "cluster-snapshot", "DBClusterSnapshotIdentifier"
    ),
    "rds:ListTagsForResource": lambda form, place, tags: [
        RequiredAction("rds:ListTagsForResource", str(form.get("ResourceName")))
    ],
    "ec2:CreateSecurityGroup": _create_security_group,
    "ec2:AuthorizeSecurityGroupIngress": _security_group("ec2:AuthorizeSecurityGroupIngress"),
    "ec2:DeleteSecurityGroup": _security_group("ec2:DeleteSecurityGroup"),
    "iam:GetRole": lambda form, place, tags: [
        RequiredAction("iam:GetRole", place.arn("iam", f"role/{form.get('RoleName')}", regional=False))
    ],
    "iam:GetUser": lambda form, place, tags: [
        RequiredAction("iam:GetUser", place.arn("iam", f"user/{form.get('UserName')}", regional=False))
    ],
    "iam:CreateServiceLinkedRole": _service_linked_role,
    "secretsmanager:DescribeSecret": lambda form, place, tags: [
        RequiredAction("secretsmanager:DescribeSecret", str(form.get("SecretId")))
    ],
}
