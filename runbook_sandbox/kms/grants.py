"""Grants: with all their fields, idempotent by name, with paging, revoked or retired only by those whom AWS allows.

moto gap: a grant on an unknown key is a crash, one on an alias is accepted, dates and accounts are missing, a
repeated named request creates a second grant, and the granted operations are not checked.
"""

from __future__ import annotations

import json
import re
from typing import Any

from moto.kms.models import Key

from runbook_sandbox.kms import grant_tokens, policy
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.kms.base import KmsBase, condition_keys, error

_SYMMETRIC = frozenset(
    [
        "Encrypt",
        "Decrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
        "CreateGrant",
        "RetireGrant",
        "DescribeKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
    ]
)
_PRINCIPAL = re.compile(
    r"arn:(aws(?:-[a-z]+)*):(iam::\d{12}:(root|(user|role)/.+)|sts::\d{12}:(assumed-role|federated-user)/.+)"
)
_ANY_KEY = frozenset(("CreateGrant", "RetireGrant", "DescribeKey"))
_OF_USAGE = {
    "ENCRYPT_DECRYPT": frozenset(["Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GetPublicKey"]),
    "SIGN_VERIFY": frozenset(["Sign", "Verify", "GetPublicKey"]),
    "GENERATE_VERIFY_MAC": frozenset(["GenerateMac", "VerifyMac"]),
    "KEY_AGREEMENT": frozenset(["DeriveSharedSecret", "GetPublicKey"]),
}


def _grant_entry(key: Key, grant: Any) -> dict[str, Any]:
    """Return a grant as ListGrants shows it."""
    created = getattr(grant, "runbook_created", None)
    shown = {
        "KeyId": key.arn,
        "GrantId": grant.id,
        "CreationDate": created.timestamp() if created else key.creation_date,
        "GranteePrincipal": grant.grantee_principal,
        "IssuingAccount": f"arn:aws:iam::{getattr(grant, 'runbook_issuer', key.account_id)}:root",
        "Operations": grant.operations,
    }
    if grant.name:
        shown["Name"] = grant.name
    if grant.retiring_principal:
        shown["RetiringPrincipal"] = grant.retiring_principal
    if grant.constraints:
        shown["Constraints"] = grant.constraints
    return shown


class GrantOperations(KmsBase):
    """CreateGrant, ListGrants, ListRetirableGrants, RevokeGrant, RetireGrant."""

    def create_grant(self) -> str:
        given = self.parameters
        if "GranteeServicePrincipal" in given or "RetiringServicePrincipal" in given:
            raise error("ValidationException", "Only AWS services can specify service principals.")
        grantee = given.get("GranteePrincipal")
        if grantee is None:
            raise error("ValidationException", "GranteePrincipal must not be null.")
        for principal in (grantee, given.get("RetiringPrincipal")):
            if principal is not None and not _valid_principal(principal):
                raise error("InvalidArnException", f"{principal} is not the ARN of a principal.")
        operations = sorted(set(given["Operations"]))
        allowed = _SYMMETRIC if kms_keys.is_symmetric(self.key) else _ANY_KEY | _OF_USAGE[self.key.key_usage]
        if not operations or not set(operations) <= allowed:
            raise error("ValidationException", f"A grant on {self.key.arn} cannot permit {', '.join(operations)}.")
        constraints = {name: value for name, value in given.get("Constraints", {}).items() if value}
        if len(constraints.keys() & {"EncryptionContextSubset", "EncryptionContextEquals"}) > 1:
            raise error("ValidationException", "Specify EncryptionContextSubset or EncryptionContextEquals, not both.")
        self._authorize(grantee, operations)
        grant = self._same_named(grantee, operations, constraints)
        if grant is None:
            grant_id = kms_keys.add_grant(
                self.current_account, self.region, self.key, grantee_principal=grantee, operations=operations,
                constraints=constraints, name=given.get("Name"), retiring_principal=given.get("RetiringPrincipal"),
            )  # fmt: skip
            grant = self.key.grants[grant_id]
        return json.dumps({"GrantId": grant.id, "GrantToken": grant_tokens.of_grant(grant)})

    def _authorize(self, grantee: str, operations: list[str]) -> None:
        context = condition_keys(self.parameters)
        if not policy.caller_may(self.key, self.current_account, self.access_key, "kms:CreateGrant", context):
            raise error(
                "AccessDeniedException",
                f"The caller is not authorized to perform: kms:CreateGrant on resource: {self.key.arn}",
            )

    def _same_named(self, grantee: str, operations: list[str], constraints: dict[str, Any]) -> Any:
        """Return the existing grant of the same named request, so that a retry creates no second one."""
        name = self.parameters.get("Name")
        for grant in self.key.grants.values():
            if (
                name is not None and grant.name == name and grant.grantee_principal == grantee
                and sorted(grant.operations) == operations and grant.constraints == constraints
                and grant.retiring_principal == (self.parameters.get("RetiringPrincipal") or "")
            ):  # fmt: skip
                return grant
        return None

    def list_grants(self) -> str:
        wanted_id, grantee = self.parameters.get("GrantId"), self.parameters.get("GranteePrincipal")
        if wanted_id is not None and wanted_id not in self.key.grants:
            raise error("InvalidGrantIdException", f"Grant ID {wanted_id} not found.")
        found = [
            _grant_entry(self.key, grant)
            for grant in self.key.grants.values()
            if wanted_id in (None, grant.id) and grantee in (None, grant.grantee_principal)
        ]
        chosen, paging = self.page(found, default=50, largest=100)
        return json.dumps({"Grants": chosen, **paging})

    def list_retirable_grants(self) -> str:
        retiring = self.parameters.get("RetiringPrincipal")
        if retiring is None:
            raise error("ValidationException", "RetiringPrincipal must not be null.")
        if not _valid_principal(retiring):
            raise error("InvalidArnException", f"{retiring} is not the ARN of a principal.")
        found = [
            _grant_entry(key, grant)
            for key in kms_keys.all_keys(self.current_account, self.region)
            for grant in key.grants.values()
            if grant.retiring_principal == retiring
        ]
        chosen, paging = self.page(found, default=50, largest=100)
        return json.dumps({"Grants": chosen, **paging})

    def revoke_grant(self) -> str:
        grant_id = self.parameters["GrantId"]
        if self.key.grants.pop(grant_id, None) is None:
            raise error("NotFoundException", f"Grant ID {grant_id} not found.")
        return "{}"

    def retire_grant(self) -> str:
        """Retire a grant by its token, or by key and grant id."""
        given = self.parameters
        token, grant_id, key_id = given.get("GrantToken"), given.get("GrantId"), given.get("KeyId")
        if (token is None) == (grant_id is None or key_id is None):
            raise error("ValidationException", "Specify GrantToken, or GrantId and KeyId.")
        keys = [self.key] if key_id is not None else kms_keys.all_keys(self.current_account, self.region)
        for key in keys:
            for grant in list(key.grants.values()):
                if grant.id == grant_id or (token is not None and grant_tokens.of_grant(grant) == token):
                    self._authorize_retiring(key, grant)
                    del key.grants[grant.id]
                    return "{}"
        if token is not None:
            raise error("InvalidGrantTokenException", "The grant token is not valid.")
        raise error("NotFoundException", f"Grant ID {grant_id} not found.")

    def _authorize_retiring(self, key: Key, grant: Any) -> None:
        """Allow only the key's account, the retiring principal, and a grantee with RetireGrant."""
        names = policy.caller_names(self.current_account, self.access_key)
        grantee_may = grant.grantee_principal in names and "RetireGrant" in grant.operations
        if self.current_account != key.account_id and grant.retiring_principal not in names and not grantee_may:
            raise error("AccessDeniedException", "The caller is not authorized to perform: kms:RetireGrant.")


def _valid_principal(principal: str) -> bool:
    """Return whether this is a well-formed ARN of an account, user, role or session; it need not exist."""
    return _PRINCIPAL.fullmatch(principal) is not None
