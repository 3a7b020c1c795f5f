"""Build the key policy of the run's key as a plain document; no AWS call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ADMINISTRATION = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:ListKeyPolicies",
    "kms:PutKeyPolicy",
    "kms:ListGrants",
    "kms:RevokeGrant",
    "kms:ListResourceTags",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateKeyDescription",
    "kms:CreateAlias",
    "kms:UpdateAlias",
    "kms:DeleteAlias",
    "kms:EnableKey",
    "kms:DisableKey",
    "kms:GetParametersForImport",
    "kms:ImportKeyMaterial",
    "kms:DeleteImportedKeyMaterial",
    "kms:RotateKeyOnDemand",
    "kms:ListKeyRotations",
    "kms:GetKeyRotationStatus",
    "kms:GetKeyLastUsage",
)
DELETION = ("kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion")
DIRECT_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")
GRANTS = ("kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant")


def key_policy(
    *,
    account_id: str,
    region: str,
    partition: str = "aws",
    dns_suffix: str,
    key_administrators: Sequence[str],
    allow_key_deletion: bool,
    key_users: Sequence[str],
    rds_service_linked_role: bool,
) -> dict[str, Any]:
    """Return the key policy of an Aurora storage key.

    Administrators manage the key and cannot use it. Users can only create grants through RDS, in this Region and
    account ("Determining the use of KMS keys", Aurora user guide, Overview.Encryption.Keys). With
    `rds_service_linked_role`, the service-linked role of RDS is a key user too, as in the AWS post.

    `key_administrators` and `key_users` are ARNs. `dns_suffix` is that of the partition, such as `amazonaws.com`.
    """
    statements: list[dict[str, Any]] = [
        {
            "Sid": "EnableIamPolicies",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{partition}:iam::{account_id}:root"},
            "Action": "kms:*",
            "Resource": "*",
        },
        {
            "Sid": "KeyAdministrators",
            "Effect": "Allow",
            "Principal": {"AWS": sorted(key_administrators)},
            "Action": [*ADMINISTRATION, *(DELETION if allow_key_deletion else ())],
            "Resource": "*",
        },
        {
            "Sid": "KeyUsersLookAtTheKey",
            "Effect": "Allow",
            "Principal": {"AWS": sorted(key_users)},
            "Action": ["kms:DescribeKey", "kms:ListGrants"],
            "Resource": "*",
        },
        {
            "Sid": "KeyUsersCreateGrantsThroughRds",
            "Effect": "Allow",
            "Principal": {"AWS": sorted(key_users)},
            "Action": "kms:CreateGrant",
            "Resource": "*",
            "Condition": {
                "StringEquals": {
                    "kms:ViaService": f"rds.{region}.{dns_suffix}",
                    "kms:CallerAccount": account_id,
                },
                "Bool": {"kms:GrantIsForAWSResource": "true"},
            },
        },
    ]
    if rds_service_linked_role:
        role = f"arn:{partition}:iam::{account_id}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
        statements += [
            {
                "Sid": "RdsServiceRoleUsesTheKey",
                "Effect": "Allow",
                "Principal": {"AWS": role},
                "Action": list(DIRECT_USE),
                "Resource": "*",
            },
            {
                "Sid": "RdsServiceRoleManagesGrants",
                "Effect": "Allow",
                "Principal": {"AWS": role},
                "Action": list(GRANTS),
                "Resource": "*",
                "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
            },
        ]
    return {"Version": "2012-10-17", "Id": "aurora-byok", "Statement": statements}


def principal_arn(text: str, *, account_id: str, partition: str = "aws") -> str:
    """Return the ARN for `role/Name` or `user/Name` (paths included); an ARN is returned unchanged."""
    return text if text.startswith("arn:") else f"arn:{partition}:iam::{account_id}:{text}"
