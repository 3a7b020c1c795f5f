"""Key policies: validate them, decide what a principal may do, and check that the policy can still be changed.

moto gap: it accepts any text as a policy, and evaluates only `Deny` on DescribeKey to `*`. Statements are evaluated by
`runbook_lib.policies.evaluate`. An Allow for an account's root delegates to IAM; without IAM enforcement the caller is
an administrator of the account.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms.models import Key, kms_backends

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies import evaluate
from runbook_lib.policies.conditions import comparisons
from runbook_lib.policies.evaluate import Decision, Request
from runbook_lib.policies.patterns import listed
from runbook_lib.policies.statements import ELEMENTS
from runbook_sandbox.instruments import accounts, clock
from runbook_sandbox.kms.keys import extension_of, is_replica

QUOTA = 32 * 1024


def _malformed(message: str) -> JsonRESTError:
    return JsonRESTError("MalformedPolicyDocumentException", message)


def check(
    policy: str,
    account: str,
    access_key: str,
    *,
    key_arn: str,
    key_context: Mapping[str, Any],
    bypass_lockout: bool,
) -> None:
    """Reject a policy as CreateKey and PutKeyPolicy do.

    The policy must allow the caller PutKeyPolicy later, unless that check is bypassed. A statement without Resource or
    Action, or with a Resource that is not the key, is accepted, as by AWS, and has no effect. Raises JsonRESTError:
    LimitExceededException over 32 KB, otherwise MalformedPolicyDocumentException.
    """
    if len(policy.encode()) > QUOTA:
        raise JsonRESTError("LimitExceededException", "The key policy is larger than the limit of 32768 bytes.")
    try:
        parsed = json.loads(policy)
    except ValueError:
        raise _malformed("The policy is not in valid JSON format.") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("Statement"), (list, dict)):
        raise _malformed("Syntax errors in policy: a policy is an object with a Statement.")
    if parsed.get("Version", "2008-10-17") not in ("2012-10-17", "2008-10-17"):
        raise _malformed("The policy must contain a valid version string.")
    if not listed(parsed["Statement"]):
        raise _malformed("Policy statement must not be empty.")
    for entry in listed(parsed["Statement"]):
        _check_statement(entry)
    request = _request("kms:PutKeyPolicy", account, access_key, key_arn, key_context)
    if not bypass_lockout and decide(policy, request) not in (Decision.ALLOW, Decision.ACCOUNT):
        raise _malformed("The new key policy will not allow you to update the key policy in the future.")


def _check_statement(entry: Any) -> None:
    if not isinstance(entry, dict) or entry.get("Effect") not in ("Allow", "Deny"):
        raise _malformed("Policy statement must have an Effect of Allow or Deny.")
    if unknown := set(entry) - ELEMENTS:
        raise _malformed(f"Syntax errors in policy: unknown element {sorted(unknown)[0]}.")
    for name in ("Principal", "Action", "Resource"):
        if name in entry and f"Not{name}" in entry:
            raise _malformed(f"Syntax errors in policy: {name} and Not{name} exclude each other.")
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        if not all(isinstance(value, str) for value in listed(entry.get(name, ""))):
            raise _malformed(f"Syntax errors in policy: {name} must be text or a list of texts.")
    _check_condition(entry.get("Condition", {}))
    if "NotPrincipal" in entry and entry["Effect"] == "Allow":
        raise _malformed("Syntax errors in policy: NotPrincipal must be used with Effect Deny.")
    _check_principal(entry.get("Principal", entry.get("NotPrincipal")))


def _check_condition(condition: Any) -> None:
    if not isinstance(condition, dict):
        raise _malformed("Syntax errors in policy: Condition must be an object.")
    try:
        list(comparisons(condition))
    except PolicyInvalid as error:
        raise _malformed(f"Syntax errors in policy: {str(error).partition(';')[0]}.") from error


def _check_principal(principal: Any) -> None:
    if principal is None:
        raise _malformed("Policy contains a statement with no principal.")
    if principal == "*":
        return
    if not isinstance(principal, dict) or not principal:
        raise _malformed("Policy contains a statement with one or more invalid principals.")
    for kind, names in principal.items():
        for name in listed(names):
            if not _exists(kind, name):
                raise _malformed("Policy contains a statement with one or more invalid principals.")


def _exists(kind: str, name: Any) -> bool:
    if not isinstance(name, str) or not name:
        return False
    if kind == "AWS":
        return accounts.principal_exists(name)
    if kind == "Service":
        return name.endswith((".amazonaws.com", ".amazonaws.com.cn")) and " " not in name
    return kind == "Federated"


def caller_names(account: str, access_key: str) -> frozenset[str]:
    """Return all names by which a policy can match this caller, including its account's root."""
    arn = accounts.caller(account, access_key)[1]
    names = {arn, "*", account, f"arn:aws:iam::{account}:root"}
    if ":assumed-role/" in arn:
        role_name = arn.split("/")[1]
        names |= {role.arn for role in accounts.iam_of(account).roles.values() if role.name == role_name}
    return frozenset(names)


def decide(policy: str, request: Request) -> Decision:
    """Return what a stored policy says of a request; NONE for a text that is not a policy."""
    try:
        return evaluate.decide(json.loads(policy), request)
    except (ValueError, PolicyInvalid):
        return Decision.NONE


def caller_context(account: str, access_key: str) -> dict[str, Any]:
    """Return the condition keys that every request of a caller has.

    Source: IAM user guide, reference_policies_condition-keys (aws:PrincipalArn of a session is its role's ARN).
    """
    user_id, arn = accounts.caller(account, access_key)
    roles = sorted(name for name in caller_names(account, access_key) if ":role/" in name)
    session = ":assumed-role/" in arn
    return {
        "kms:CallerAccount": account, "aws:PrincipalAccount": account, "aws:PrincipalArn": (roles or [arn])[0],
        "aws:PrincipalType": "AssumedRole" if session else "User", "aws:userid": user_id,
        "aws:PrincipalIsAWSService": False, "aws:SecureTransport": True, "aws:CurrentTime": clock.now().isoformat(),
        **({"aws:MultiFactorAuthPresent": False} if session else {"aws:username": arn.rpartition("/")[2]}),
    }  # fmt: skip


def key_context(key: Key) -> dict[str, Any]:
    """Return the condition keys that every request to a key has: its attributes."""
    return {
        "aws:RequestedRegion": key.region, "aws:ResourceAccount": key.account_id, "kms:KeyOrigin": key.origin,
        "kms:KeySpec": key.key_spec, "kms:KeyUsage": key.key_usage, "kms:MultiRegion": key.multi_region,
        **({"kms:MultiRegionKeyType": "REPLICA" if is_replica(key) else "PRIMARY"} if key.multi_region else {}),
    }  # fmt: skip


def days_without_use(key: Key, action: str) -> dict[str, Any]:
    """Return the condition key of the days since the last use, else since the creation, for the two actions that have it.

    Source: KMS developer guide, conditions-kms (kms:TrailingDaysWithoutKeyUsage: DisableKey and ScheduleKeyDeletion).
    """
    if action not in ("kms:DisableKey", "kms:ScheduleKeyDeletion"):
        return {}
    used = extension_of(key).last_usage
    since = used[1] if used is not None else datetime.fromtimestamp(float(key.creation_date), UTC)
    return {"kms:TrailingDaysWithoutKeyUsage": (clock.now() - since).days}


def key_labels(key: Key) -> dict[str, Any]:
    """Return the condition keys that only IAM policies may use: the key's tags and aliases.

    Source: KMS developer guide, tag-authorization ("supported only in IAM policies") and alias-authorization.
    """
    tags = kms_backends[key.account_id][key.region].tagger.list_tags_for_resource(key.id)
    return {
        "kms:ResourceAliases": sorted(key.aliases),
        **{f"aws:ResourceTag/{tag['TagKey']}": tag["TagValue"] for tag in tags.get("Tags", tags.get("TagList", []))},
    }


def _request(action: str, account: str, access_key: str, key_arn: str, context: Mapping[str, Any]) -> Request:
    own = caller_names(account, access_key) - {"*", account, f"arn:aws:iam::{account}:root"}
    full = {**caller_context(account, access_key), **context}
    full.setdefault("aws:ViaAWSService", "kms:ViaService" in full)
    return Request(action, frozenset(own), account, key_arn=key_arn, context=full)


def key_decision(
    key: Key, account: str, access_key: str, action: str, context: Mapping[str, Any] | None = None
) -> Decision:
    """Return what the key's policy says of a caller's `action` ("kms:CreateGrant").

    For a service that acts for the caller pass its conditions: `{"kms:ViaService": "rds.eu-west-2.amazonaws.com",
    "kms:GrantIsForAWSResource": True}`. The condition keys of the caller and of the key are added here.
    """
    full = {**key_context(key), **days_without_use(key, action), **(context or {})}
    return decide(key.policy, _request(action, account, access_key, str(key.arn), full))


def caller_may(key: Key, account: str, access_key: str, action: str, context: Mapping[str, Any] | None = None) -> bool:
    """Return whether the key's policy or a grant allows a caller `action`; parameters as for `key_decision`."""
    decision = key_decision(key, account, access_key, action, context)
    if decision is not Decision.NONE:
        return decision is not Decision.DENY
    return granted(key, account, access_key, action)


def granted(key: Key, account: str, access_key: str, action: str) -> bool:
    """Return whether a grant on the key allows a caller `action`."""
    names, operation = caller_names(account, access_key), action.removeprefix("kms:")
    return any(
        grant.grantee_principal in names and operation in grant.operations for grant in list(key.grants.values())
    )
