"""Read KMS: keys, aliases, tags, materials and grants. Knows no step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.retry import find_until_visible
from runbook_lib.aws.session import Session
from runbook_lib.errors import KeyNotUsable

SERVICE_LINKED_ROLE = "AWSServiceRoleForRDS"


def describe(session: Session, key_id: str) -> dict[str, Any] | None:
    """Return DescribeKey's KeyMetadata for a key id, ARN or alias; None when the key does not exist."""
    try:
        return dict(session.client("kms").describe_key(KeyId=key_id)["KeyMetadata"])
    except ClientError as error:
        if error_code(error) == "NotFoundException":
            return None
        raise


def tags_of(session: Session, key_id: str) -> dict[str, str]:
    """Return the tags of a key."""
    pages = session.client("kms").get_paginator("list_resource_tags").paginate(KeyId=key_id)
    return {tag["TagKey"]: tag["TagValue"] for page in pages for tag in page["Tags"]}


def aliases_of(session: Session, key_id: str) -> list[str]:
    """Return the alias names that point to a key."""
    pages = session.client("kms").get_paginator("list_aliases").paginate(KeyId=key_id)
    return sorted(alias["AliasName"] for page in pages for alias in page["Aliases"])


def find_alias(session: Session, name: str) -> str | None:
    """Return the key id that the alias `name` points to, or None."""
    for page in session.client("kms").get_paginator("list_aliases").paginate():
        for alias in page["Aliases"]:
            if alias["AliasName"] == name:
                return str(alias.get("TargetKeyId", ""))
    return None


def require_usable(session: Session, key_id: str, *, region: str) -> dict[str, Any]:
    """Return the key's metadata if Aurora can encrypt a cluster of `region` under it.

    Raises `KeyNotUsable`: the key must exist, be Enabled, symmetric, for encryption, of origin EXTERNAL, and in
    the cluster's Region.
    """
    metadata = describe(session, key_id)
    if metadata is None:
        raise KeyNotUsable(f"key {key_id} does not exist in {region}; run notebooks/01_create_key.ipynb first")
    arn, state = metadata["Arn"], metadata["KeyState"]
    if arn.split(":")[3] != region:
        raise KeyNotUsable(f"{arn} is in another Region than the cluster, {region}; use a key in {region}")
    if (metadata["KeySpec"], metadata["KeyUsage"]) != ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"):
        raise KeyNotUsable(
            f"{arn} has key spec {metadata['KeySpec']} and key usage {metadata['KeyUsage']}; Aurora requires a "
            "symmetric key for encryption: use the key of step 01"
        )
    if metadata["Origin"] != "EXTERNAL":
        raise KeyNotUsable(f"{arn} has origin {metadata['Origin']}, not EXTERNAL; use the key of step 01")
    if state != "Enabled":
        advice = {
            "PendingImport": "run notebooks/04_import_key_material.ipynb, or runbook recover if it had material before",
            "Disabled": "enable it (kms:EnableKey)",
            "PendingDeletion": "cancel its deletion (kms:CancelKeyDeletion) and enable it",
        }.get(state, "wait until it is Enabled")
        raise KeyNotUsable(f"{arn} is {state}, so nothing can be encrypted under it; {advice}")
    return metadata


def materials(session: Session, key_id: str) -> list[dict[str, Any]]:
    """Return every key material of a key (kms:ListKeyRotations with ALL_KEY_MATERIAL)."""
    pages = session.client("kms").get_paginator("list_key_rotations")
    return [
        entry
        for page in pages.paginate(KeyId=key_id, IncludeKeyMaterial="ALL_KEY_MATERIAL")
        for entry in page["Rotations"]
    ]


def service_linked_role(session: Session) -> str | None:
    """Return the ARN of AWSServiceRoleForRDS, or None when it does not exist."""
    try:
        return str(session.client("iam").get_role(RoleName=SERVICE_LINKED_ROLE)["Role"]["Arn"])
    except ClientError as error:
        if error_code(error) == "NoSuchEntity":
            return None
        raise


def grants_for(session: Session, key_id: str, cluster: dict[str, Any]) -> list[str]:
    """Return the grantees of RDS on the key for this cluster (kms:ListGrants).

    A grant whose encryption context names another cluster does not count.
    """
    found = []
    for page in session.client("kms").get_paginator("list_grants").paginate(KeyId=key_id):
        for grant in page["Grants"]:
            constraints = grant.get("Constraints", {})
            context = constraints.get("EncryptionContextSubset") or constraints.get("EncryptionContextEquals") or {}
            grantee = grant.get("GranteeServicePrincipal") or grant.get("GranteePrincipal", "")
            named = context.get("aws:rds:dbc-id", cluster.get("DbClusterResourceId"))
            if "rds" in str(grantee).lower() and named == cluster.get("DbClusterResourceId"):
                found.append(str(grantee))
    return sorted(set(found))


def current_materials(session: Session, key_id: str) -> list[dict[str, Any]]:
    """Return the key material that is CURRENT: one entry for a key with material, none for a key without."""
    return [entry for entry in materials(session, key_id) if entry.get("KeyMaterialState") == "CURRENT"]


def wait_for_state(session: Session, key_id: str, is_expected: Callable[[str], bool]) -> dict[str, Any]:
    """Poll the key until `is_expected` is true of its state, for some seconds; return its last metadata."""
    metadata: dict[str, Any] = {}

    def find() -> dict[str, Any] | None:
        metadata.update(describe(session, key_id) or {})
        return metadata if metadata and is_expected(metadata["KeyState"]) else None

    find_until_visible(find, target=session.target)
    return metadata
