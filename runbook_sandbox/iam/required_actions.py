"""What AWS authorizes for a request: every action with its resource and condition keys, dependent actions included.

Complete for every operation that the runbook calls; for others it is the operation itself on `*`. Sources: the
service authorization reference, and the required permissions on each operation's page (tags, grants, secrets, roles).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook_sandbox.kms.base import condition_keys, encryption_context
from runbook_sandbox.kms.ciphertexts import Unreadable, key_id_of
from runbook_sandbox.kms.keys import KEY_ID

Form = Mapping[str, Any]
RDS, MONITORING = "rds.amazonaws.com", "monitoring.rds.amazonaws.com"


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


_Required = Callable[[Form, Place, dict[str, Any]], list[RequiredAction]]


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
        context = {**condition_keys(form), **tags}
        return [RequiredAction(f"kms:{operation}", _key(form.get("KeyId"), place), context)]
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


def _of_resource(action: str, arn: Callable[[Form, Place], str]) -> _Required:
    """Return a function for an operation on one resource, whose ARN follows from the request."""
    return lambda form, place, tags: [RequiredAction(action, arn(form, place), tags)]


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


def _key(name: Any, place: Place) -> str:
    """Return the ARN of a key id; an ARN and an alias as they are; `*` for a request without a key."""
    text = str(name or "*")
    return place.arn("kms", f"key/{text}") if KEY_ID.fullmatch(text) else text


def _alias(action: str) -> _Required:
    """Require the action on the alias and on each key that the alias has or gets."""

    def required(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
        name = str(form.get("AliasName"))
        keys = [name] if action != "kms:CreateAlias" else []
        keys += [str(form["TargetKeyId"])] if form.get("TargetKeyId") else []
        return [RequiredAction(action, place.arn("kms", name)), *(RequiredAction(action, _key(k, place)) for k in keys)]

    return required


def _of_ciphertext(form: Form, place: Place, named: str) -> str:
    """Return the key that decrypts: the one named in the request, else the one in the ciphertext."""
    if form.get(named):
        return _key(form[named], place)
    try:
        return _key(key_id_of(base64.b64decode(str(form.get("CiphertextBlob", "")), validate=True)), place)
    except (ValueError, Unreadable):
        return "*"


def _decrypt(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    return [RequiredAction("kms:Decrypt", _of_ciphertext(form, place, "KeyId"), condition_keys(form))]


def _re_encrypt(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    source, target = _of_ciphertext(form, place, "SourceKeyId"), _key(form.get("DestinationKeyId"), place)
    same = {"kms:ReEncryptOnSameKey": str(source == target).lower()}
    read = encryption_context(form.get("SourceEncryptionContext") or {})
    written = encryption_context(form.get("DestinationEncryptionContext") or {})
    return [
        RequiredAction("kms:ReEncryptFrom", source, {**read, **same}),
        RequiredAction("kms:ReEncryptTo", target, {**written, **same}),
    ]


def _untag_key(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    return [
        RequiredAction("kms:UntagResource", _key(form.get("KeyId"), place), {"aws:TagKeys": form.get("TagKeys", [])})
    ]


def _unbound(action: str) -> _Required:
    """Return a function for an action that IAM authorizes on no resource."""
    return lambda form, place, tags: [RequiredAction(action)]


# RDS -----------------------------------------------------------------------------------------------------------


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


def _scalable_target(action: str) -> _Required:
    return _of_resource(action, lambda form, place: place.arn("application-autoscaling", "scalable-target/new"))


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


def _named(action: str, kind: str, parameter: str) -> _Required:
    """Return a function for an operation on one RDS resource, which the request names in `parameter`."""
    return _of_resource(action, lambda form, place: place.arn("rds", f"{kind}:{form.get(parameter)}"))


# EC2, IAM, Secrets Manager -----------------------------------------------------------------------------------------


def _create_security_group(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    group, action = place.arn("ec2", "security-group/new"), "ec2:CreateSecurityGroup"
    found = [RequiredAction(action, group, tags), RequiredAction(action, place.arn("ec2", f"vpc/{form.get('VpcId')}"))]
    return found + (
        [RequiredAction("ec2:CreateTags", group, {"ec2:CreateAction": "CreateSecurityGroup", **tags})] if tags else []
    )


def _security_group(action: str) -> _Required:
    return _of_resource(action, lambda form, place: place.arn("ec2", f"security-group/{form.get('GroupId')}"))


def _ec2_tags(action: str) -> _Required:
    """Tags of existing resources: without ec2:CreateAction, which only a create has."""

    def required(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
        named = [str(value) for name, value in form.items() if name.startswith("ResourceId.")]
        groups = [place.arn("ec2", f"security-group/{name}") if name.startswith("sg-") else "*" for name in named]
        return [RequiredAction(action, resource, tags) for resource in groups or ["*"]]

    return required


def _service_linked_role(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    service = str(form.get("AWSServiceName"))
    role = place.arn("iam", f"role/aws-service-role/{service}/AWSServiceRoleForRDS", regional=False)
    return [RequiredAction("iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": service})]


_TABLE: dict[str, _Required] = {
    "kms:CreateKey": _create_key,
    "kms:CreateAlias": _alias("kms:CreateAlias"),
    "kms:UpdateAlias": _alias("kms:UpdateAlias"),
    "kms:DeleteAlias": _alias("kms:DeleteAlias"),
    "kms:Decrypt": _decrypt,
    "kms:ReEncrypt": _re_encrypt,
    "kms:UntagResource": _untag_key,
    "kms:ListAliases": _unbound("kms:ListAliases"),
    "rds:CreateDBCluster": _create_cluster,
    "rds:CreateDBInstance": _create_instance,
    "rds:CreateDBClusterSnapshot": _create_snapshot,
    "rds:CreateDBSubnetGroup": _create_subnet_group,
    "rds:RestoreDBClusterFromSnapshot": _restore_cluster,
    "rds:ModifyDBCluster": _modify_cluster,
    "rds:AddRoleToDBCluster": _add_role,
    "rds:CreateDBClusterEndpoint": _create_endpoint,
    "rds:EnableHttpEndpoint": _of_resource("rds:EnableHttpEndpoint", lambda form, place: str(form.get("ResourceArn"))),
    "application-autoscaling:RegisterScalableTarget": _scalable_target("application-autoscaling:RegisterScalableTarget"),
    "application-autoscaling:PutScalingPolicy": _scalable_target("application-autoscaling:PutScalingPolicy"),
    "rds:StartDBCluster": _named("rds:StartDBCluster", "cluster", "DBClusterIdentifier"),
    "rds:DeleteDBCluster": _delete_cluster,
    "rds:DeleteDBInstance": _named("rds:DeleteDBInstance", "db", "DBInstanceIdentifier"),
    "rds:DeleteDBSubnetGroup": _named("rds:DeleteDBSubnetGroup", "subgrp", "DBSubnetGroupName"),
    "rds:DeleteDBClusterSnapshot": _named(
        "rds:DeleteDBClusterSnapshot", "cluster-snapshot", "DBClusterSnapshotIdentifier"
    ),
    **{f"rds:{name}": _of_resource(f"rds:{name}", lambda form, place: str(form.get("ResourceName")))
       for name in ("ListTagsForResource", "AddTagsToResource", "RemoveTagsFromResource")},
    "ec2:CreateSecurityGroup": _create_security_group,
    "ec2:AuthorizeSecurityGroupIngress": _security_group("ec2:AuthorizeSecurityGroupIngress"),
    "ec2:DeleteSecurityGroup": _security_group("ec2:DeleteSecurityGroup"),
    "ec2:CreateTags": _ec2_tags("ec2:CreateTags"),
    "ec2:DeleteTags": _ec2_tags("ec2:DeleteTags"),
    "iam:GetRole": _of_resource(
        "iam:GetRole", lambda form, place: place.arn("iam", f"role/{form.get('RoleName')}", regional=False)
    ),
    "iam:GetUser": _of_resource(
        "iam:GetUser", lambda form, place: place.arn("iam", f"user/{form.get('UserName')}", regional=False)
    ),
    "iam:CreateServiceLinkedRole": _service_linked_role,
    "secretsmanager:DescribeSecret": _of_resource(
        "secretsmanager:DescribeSecret", lambda form, place: str(form.get("SecretId"))
    ),
}  # fmt: skip
