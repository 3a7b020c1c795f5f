"""What AWS authorizes for a request: every action with its resource and condition keys, dependent actions included.

Complete for every operation that the runbook calls; for others it is the operation itself on `*`. Sources: the
service authorization reference, and the required permissions on each operation's page (tags, grants, secrets, roles).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from runbook_sandbox.iam.required_action import Form, Place, Required, RequiredAction, of_resource
from runbook_sandbox.iam.required_by_monitoring import OF_MONITORING
from runbook_sandbox.iam.required_by_rds import OF_RDS
from runbook_sandbox.kms.base import condition_keys, encryption_context
from runbook_sandbox.kms.ciphertexts import Unreadable, key_id_of
from runbook_sandbox.kms.keys import KEY_ID


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


def _alias(action: str) -> Required:
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


def _unbound(action: str) -> Required:
    """Return a function for an action that IAM authorizes on no resource."""
    return lambda form, place, tags: [RequiredAction(action)]


# EC2, IAM, Secrets Manager -----------------------------------------------------------------------------------------


def _create_security_group(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    group, action = place.arn("ec2", "security-group/new"), "ec2:CreateSecurityGroup"
    found = [RequiredAction(action, group, tags), RequiredAction(action, place.arn("ec2", f"vpc/{form.get('VpcId')}"))]
    return found + (
        [RequiredAction("ec2:CreateTags", group, {"ec2:CreateAction": "CreateSecurityGroup", **tags})] if tags else []
    )


def _security_group(action: str) -> Required:
    return of_resource(action, lambda form, place: place.arn("ec2", f"security-group/{form.get('GroupId')}"))


def _ec2_tags(action: str) -> Required:
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


_TABLE: dict[str, Required] = {
    "kms:CreateKey": _create_key,
    "kms:CreateAlias": _alias("kms:CreateAlias"),
    "kms:UpdateAlias": _alias("kms:UpdateAlias"),
    "kms:DeleteAlias": _alias("kms:DeleteAlias"),
    "kms:Decrypt": _decrypt,
    "kms:ReEncrypt": _re_encrypt,
    "kms:UntagResource": _untag_key,
    "kms:ListAliases": _unbound("kms:ListAliases"),
    **OF_RDS,
    **OF_MONITORING,
    "ec2:CreateSecurityGroup": _create_security_group,
    "ec2:AuthorizeSecurityGroupIngress": _security_group("ec2:AuthorizeSecurityGroupIngress"),
    "ec2:DeleteSecurityGroup": _security_group("ec2:DeleteSecurityGroup"),
    "ec2:CreateTags": _ec2_tags("ec2:CreateTags"),
    "ec2:DeleteTags": _ec2_tags("ec2:DeleteTags"),
    "iam:GetRole": of_resource(
        "iam:GetRole", lambda form, place: place.arn("iam", f"role/{form.get('RoleName')}", regional=False)
    ),
    "iam:GetUser": of_resource(
        "iam:GetUser", lambda form, place: place.arn("iam", f"user/{form.get('UserName')}", regional=False)
    ),
    "iam:CreateServiceLinkedRole": _service_linked_role,
    "secretsmanager:DescribeSecret": of_resource(
        "secretsmanager:DescribeSecret", lambda form, place: str(form.get("SecretId"))
    ),
}  # fmt: skip
