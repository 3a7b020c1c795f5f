"""Runs before every KMS operation: check parameters, find the key, check permission and the table of key states.

moto gap: it hardly enforces key states (a disabled key encrypts), crashes on an ARN where it expects an id, and
accepts aliases where AWS does not. moto calls the hook below before each operation, so one table says which
operations a state allows, and operations find the key in `self.key`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms.models import Key
from moto.kms.responses import KmsResponse

from runbook_sandbox.instruments import ids
from runbook_sandbox.kms import grant_tokens, keys, policy, validate
from runbook_sandbox.kms.extension import KeyExtension
from runbook_sandbox.kms.keys import KEY_ID

# Operations that also accept an alias; all others accept only a key id or key ARN.
TAKES_ALIAS = frozenset(
    [
        "DescribeKey",
        "Encrypt",
        "Decrypt",
        "ReEncrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateMac",
        "VerifyMac",
        "Sign",
        "Verify",
        "GetPublicKey",
        "DeriveSharedSecret",
        "Encapsulate",
        "Decapsulate",
    ]
)
CRYPTOGRAPHIC = TAKES_ALIAS - {"DescribeKey", "GetPublicKey"}
TAKES_OTHER_ACCOUNTS = TAKES_ALIAS | frozenset(
    ["CreateGrant", "ListGrants", "RevokeGrant", "RetireGrant", "GetKeyRotationStatus"]
)
# The states that reject an operation, from the guide's table of key states; others work in every state.
_USE = {"PendingImport": "invalid", "Disabled": "disabled", "PendingDeletion": "invalid"}
_NOT_PENDING_DELETION = {"PendingDeletion": "invalid"}
_SWITCH = {"PendingImport": "invalid", "PendingDeletion": "invalid"}
_AUTOMATIC = {"Disabled": "disabled", "PendingDeletion": "invalid"}
REFUSED: dict[str, dict[str, str]] = {
    **dict.fromkeys(CRYPTOGRAPHIC | {"GetPublicKey", "CreateGrant", "RotateKeyOnDemand", "ReplicateKey"}, _USE),
    **dict.fromkeys(
        [
            "CreateAlias",
            "UpdateAlias",
            "TagResource",
            "UntagResource",
            "UpdateKeyDescription",
            "GetParametersForImport",
            "ImportKeyMaterial",
            "ScheduleKeyDeletion",
        ],
        _NOT_PENDING_DELETION,
    ),
    **dict.fromkeys(("EnableKey", "DisableKey"), _SWITCH),
    **dict.fromkeys(("EnableKeyRotation", "DisableKeyRotation"), _AUTOMATIC),
    "CancelKeyDeletion": dict.fromkeys(("PendingImport", "Enabled", "Disabled"), "not pending"),
}
_MESSAGES = {
    "PendingDeletion": "{arn} is pending deletion (or pending replica deletion).",
    "PendingImport": "{arn} is pending import.",
}
_IMPORT = ("GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial")


def error(code: str, message: str) -> JsonRESTError:
    """Return a KMS error to raise, with AWS's error code."""
    return JsonRESTError(code, message)


def check_state(operation: str, key: Key) -> None:
    """Raise JsonRESTError if the key's state does not allow the operation."""
    state = keys.state_of(key).replace("PendingReplicaDeletion", "PendingDeletion")
    refusal = REFUSED.get(operation, {}).get(state)
    if refusal == "disabled":
        raise error("DisabledException", f"{key.arn} is disabled.")
    if refusal == "not pending":
        raise error("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
    if refusal is not None:
        raise error("KMSInvalidStateException", _MESSAGES[state].format(arn=key.arn))


class KmsBase(KmsResponse):
    """What all KMS operations share."""

    key: Key
    parameters: dict[str, Any]
    runbook_key_arn: str | None = None
    runbook_event_id: str | None = None

    @property
    def operation(self) -> str:
        """The operation's name in AWS's API."""
        return str(self._get_action())

    @property
    def extension(self) -> KeyExtension:
        """The key's state that moto's Key does not store, refreshed."""
        return keys.refresh(self.key)

    def _authenticate_and_authorize_normal_action(self, resource: str = "*") -> None:
        """Check and prepare the request; moto calls this before each operation, for its own authentication."""
        self.parameters = {}
        self.response_headers["Content-Type"] = "application/x-amz-json-1.1"
        if self.operation not in validate.operations():
            raise error("UnknownOperationException", f"KMS has no operation {self.operation}.")
        self.parameters = validate.parse(self.operation, self.body)
        if not all(grant_tokens.is_genuine(token) for token in self.parameters.get("GrantTokens", ())):
            raise error("InvalidGrantTokenException", "A grant token is not valid.")
        name = self._key_named()
        if name is None:
            super()._authenticate_and_authorize_normal_action("*")
        else:
            self.key = self.find(name, alias=self.operation in TAKES_ALIAS)
            self.runbook_key_arn = self.key.arn
            super()._authenticate_and_authorize_normal_action(self.key.arn)
            self.authorize(self.operation, self.key)
            self.check_origin()
            check_state(self.operation, self.key)
        if self.parameters.get("DryRun"):
            raise error("DryRunOperationException", "The request would have succeeded, but DryRun is set.")

    def _key_named(self) -> str | None:
        """Return the request's name for the key whose state and policy are checked."""
        if self.operation in ("Decrypt", "ReEncrypt"):
            return self.key_of_ciphertext()
        if self.operation in ("CreateAlias", "UpdateAlias"):
            target = str(self.parameters["TargetKeyId"])
            if target.startswith("alias/") or (target.startswith("arn:") and ":alias/" in target):
                raise error("ValidationException", "Aliases must refer to keys. Not aliases")
            return target
        if self.operation in ("DeleteAlias", "ListAliases"):
            return None
        return self.parameters.get("KeyId")

    def used(self, key: Key) -> None:
        """Record a successful use of the key, with this request's CloudTrail event id."""
        if self.runbook_event_id is None:
            self.runbook_event_id = ids.uuid_for(f"event {self.operation}", self.current_account)
        keys.remember_use(key, self.operation, self.current_account, self.runbook_event_id)

    def key_of_ciphertext(self) -> str | None:
        """Return the key of a Decrypt or ReEncrypt request; implemented with those operations."""
        raise NotImplementedError

    def find(self, name: str, *, alias: bool) -> Key:
        """Return the key that a request names.

        Raises JsonRESTError: NotFoundException if it does not exist here (in another Region, for instance),
        InvalidArnException for an invalid ARN, or an alias ARN where aliases are not accepted.
        """
        if name.startswith("arn:"):
            self._check_arn(name, alias=alias)
        elif name.startswith("alias/"):
            if not alias:
                raise error("NotFoundException", f"Invalid keyId '{name}'")
        elif KEY_ID.fullmatch(name) is None:
            raise error("NotFoundException", f"Invalid keyId '{name}'")
        found = keys.resolve(self.current_account, self.region, name)
        if found is None:
            arn = self._display_arn(name)
            what = f"Alias {arn} is not found." if ":alias/" in arn else f"Key '{arn}' does not exist"
            raise error("NotFoundException", what)
        return found

    def _check_arn(self, name: str, *, alias: bool) -> None:
        match = re.fullmatch(r"arn:(aws(?:-[a-z]+)*):kms:([a-z0-9-]+):(\d{12}):(key|alias)/(.+)", name)
        if match is None:
            raise error("InvalidArnException", f"{name} is not a valid key ARN.")
        if match[4] == "alias" and not alias:
            raise error("InvalidArnException", f"{name} is an alias ARN; this operation requires a key id or key ARN.")
        if match[2] != self.region:
            raise error("NotFoundException", f"Invalid arn {match[2]}")
        if match[3] != self.current_account and self.operation not in TAKES_OTHER_ACCOUNTS:
            raise error("AccessDeniedException", f"{self.operation} accepts only keys of the caller's own account.")

    def authorize(self, operation: str, key: Key) -> None:
        """Raise AccessDeniedException unless the key's policy or a grant allows the caller this operation."""
        action = {"ReEncrypt": "ReEncryptFrom"}.get(operation, operation)
        if operation in ("CreateGrant", "RetireGrant", "ListRetirableGrants"):
            return  # their own rules, in kms.grants
        context = condition_keys(self.parameters)
        if not policy.caller_may(key, self.current_account, self.access_key, f"kms:{action}", context):
            raise error(
                "AccessDeniedException",
                f"The caller is not authorized to perform: kms:{action} on resource: {key.arn}",
            )

    def check_origin(self) -> None:
        """Reject operations that a key with this origin or type never supports."""
        arn, origin, operation = self.key.arn, self.key.origin, self.operation
        if operation in _IMPORT:
            if origin != "EXTERNAL":
                raise error(
                    "UnsupportedOperationException",
                    f"{arn} origin is {origin} which is not valid for this operation.",
                )
            if not keys.is_symmetric(self.key):
                raise error(
                    "UnsupportedOperationException",
                    f"The sandbox supports import only for symmetric key material; {arn} is {self.key.key_spec}.",
                )
        if operation in ("EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand"):
            if operation != "RotateKeyOnDemand" and origin == "EXTERNAL":
                raise error(
                    "UnsupportedOperationException",
                    f"{arn} origin is EXTERNAL which is not valid for this operation.",
                )
            if not keys.is_symmetric(self.key):
                raise error("UnsupportedOperationException", f"{arn} is not a symmetric encryption key.")
        if self.key.key_manager == "AWS" and operation in _NOT_FOR_AWS_MANAGED:
            raise error("AccessDeniedException", f"{arn} is an AWS managed key; {operation} is not allowed on it.")

    def _get_param(self, param_name: str, if_none: Any = None) -> Any:
        """Return a checked parameter; moto's own operations also read theirs here."""
        value = self.parameters.get(param_name)
        return if_none if value is None else value

    def page(self, items: Sequence[Any], *, default: int, largest: int = 1000) -> tuple[list[Any], dict[str, Any]]:
        """Return one page of `items` by Limit and Marker, and the response's paging fields.

        moto gap: it returns everything, whatever the Limit. Raises InvalidMarkerException.
        """
        limit = self.parameters.get("Limit", default)
        if limit > largest:
            raise error(
                "ValidationException",
                f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: "
                f"Member must have value less than or equal to {largest}",
            )
        start = 0
        if (marker := self.parameters.get("Marker")) is not None:
            try:
                operation, start = json.loads(base64.urlsafe_b64decode(marker.encode()))
                if operation != self.operation or not 0 <= int(start) <= len(items):
                    raise ValueError
            except (ValueError, TypeError, binascii.Error):
                raise error("InvalidMarkerException", "The marker is not valid.") from None
        chosen = list(items[start : start + limit])
        if start + limit >= len(items):
            return chosen, {"Truncated": False}
        following = base64.urlsafe_b64encode(json.dumps([self.operation, start + limit]).encode()).decode()
        return chosen, {"Truncated": True, "NextMarker": following}


_NOT_FOR_AWS_MANAGED = frozenset(
    [
        "PutKeyPolicy",
        "DisableKey",
        "EnableKey",
        "ScheduleKeyDeletion",
        "CancelKeyDeletion",
        "EnableKeyRotation",
        "DisableKeyRotation",
        "RotateKeyOnDemand",
        "TagResource",
        "UntagResource",
        "UpdateKeyDescription",
        "CreateAlias",
        "UpdateAlias",
    ]
)


def condition_keys(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kms: condition keys that follow from a request's parameters.

    Source: KMS developer guide, conditions-kms.
    """
    named = {
        "WrappingAlgorithm": "kms:WrappingAlgorithm", "WrappingKeySpec": "kms:WrappingKeySpec",
        "ExpirationModel": "kms:ExpirationModel", "PendingWindowInDays":
        "kms:ScheduleKeyDeletionPendingWindowInDays", "GranteePrincipal": "kms:GranteePrincipal",
        "RetiringPrincipal": "kms:RetiringPrincipal", "Operations": "kms:GrantOperations",
        "BypassPolicyLockoutSafetyCheck": "kms:BypassPolicyLockoutSafetyCheck",
        "EncryptionAlgorithm": "kms:EncryptionAlgorithm",
    }  # fmt: skip
    found = {key: parameters[name] for name, key in named.items() if name in parameters}
    if "ValidTo" in parameters:
        found["kms:ValidTo"] = _moment(parameters["ValidTo"])
    constraints = parameters.get("Constraints") or {}
    if kinds := [name for name in ("EncryptionContextEquals", "EncryptionContextSubset") if constraints.get(name)]:
        found["kms:GrantConstraintType"] = kinds[0]
    context = parameters.get("EncryptionContext", parameters.get("SourceEncryptionContext"))
    found |= encryption_context(context or constraints.get((kinds or [""])[0]) or {})
    if (name := str(parameters.get("KeyId", ""))).partition(":alias/")[1] or name.startswith("alias/"):
        found["kms:RequestAlias"] = name[name.find("alias/") :]
    return found


def encryption_context(pairs: Mapping[str, str]) -> dict[str, Any]:
    """Return the condition keys of an encryption context."""
    found: dict[str, Any] = {f"kms:EncryptionContext:{key}": value for key, value in pairs.items()}
    return found | ({"kms:EncryptionContextKeys": list(pairs)} if pairs else {})


def _moment(value: Any) -> str:
    """Return a parameter's time (parsed, or seconds since 1970 as sent) in ISO 8601."""
    try:
        return (value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):  # the request is refused when it is parsed
        return str(value)
