"""Key policies: validate them, decide what a principal may do, and check that the policy can still be changed.

moto gap: it accepts any text as a policy, and evaluates only `Deny` on DescribeKey to `*`. This module evaluates
principals and actions, and `runbook_lib.policies.conditions` the conditions. An Allow for an account's root delegates
to IAM; without IAM enforcement the caller is an administrator of the account.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms.models import Key

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies import conditions
from runbook_lib.policies.conditions import listed
from runbook_lib.policies.conditions import names as names_action
from runbook_sandbox.instruments import accounts

QUOTA = 32 * 1024


def _malformed(message: str) -> JsonRESTError:
    return JsonRESTError("MalformedPolicyDocumentException", message)


def statements(policy: str) -> list[dict[str, Any]]:
    """Return a stored policy's statements."""
    try:
        parsed = json.loads(policy)
        return [entry for entry in listed(parsed["Statement"]) if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError):
        return []


def check(policy: str, account: str, access_key: str, *, bypass_lockout: bool) -> None:
    """Reject a policy as CreateKey and PutKeyPolicy do.

    Raises JsonRESTError: LimitExceededException over 32 KB, otherwise MalformedPolicyDocumentException. A
    statement without Resource or Action is accepted, as by AWS, and has no effect.
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
    if not bypass_lockout and not allows(policy, caller_names(account, access_key), "kms:PutKeyPolicy", {}):
        raise _malformed("The new key policy will not allow you to update the key policy in the future.")


def _check_statement(entry: Any) -> None:
    if not isinstance(entry, dict) or entry.get("Effect") not in ("Allow", "Deny"):
        raise _malformed("Policy statement must have an Effect of Allow or Deny.")
    unknown = set(entry) - {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction",
                            "Resource", "NotResource", "Condition"}  # fmt: skip
    if unknown:
        raise _malformed(f"Syntax errors in policy: unknown element {sorted(unknown)[0]}.")
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        if not all(isinstance(value, str) for value in listed(entry.get(name, ""))):
            raise _malformed(f"Syntax errors in policy: {name} must be text or a list of texts.")
    if not isinstance(entry.get("Condition", {}), dict):
        raise _malformed("Syntax errors in policy: Condition must be an object.")
    principal = entry.get("Principal", entry.get("NotPrincipal"))
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


def allows(policy: str, names: frozenset[str], action: str, context: Mapping[str, Any]) -> bool:
    """Return whether a policy allows `action` to a caller with these names."""
    return verdict(policy, names, action, context) is True


def verdict(policy: str, names: frozenset[str], action: str, context: Mapping[str, Any]) -> bool | None:
    """Return True for an Allow, False for an explicit Deny (which overrides), None if no statement matches.

    `context` contains condition keys: `{"kms:ViaService": "rds.eu-west-2.amazonaws.com"}`.
    """
    found: bool | None = None
    for entry in statements(policy):
        if not _concerns(entry, names, action):
            continue
        if not _condition(entry.get("Condition", {}), context):
            continue
        if entry.get("Effect") == "Deny":
            return False
        found = True
    return found


def _concerns(entry: Mapping[str, Any], names: frozenset[str], action: str) -> bool:
    if "Resource" not in entry and "NotResource" not in entry:
        return False
    if "Action" in entry:
        if not names_action(action, entry["Action"]):
            return False
    elif "NotAction" not in entry or names_action(action, entry["NotAction"]):
        return False
    if "NotPrincipal" in entry:
        return not names & _named(entry["NotPrincipal"])
    return bool(names & _named(entry.get("Principal")))


def _named(principal: Any) -> set[str]:
    if principal == "*":
        return {"*"}
    if not isinstance(principal, dict):
        return set()
    named = {str(name) for name in listed(principal.get("AWS", []))}
    return named | {f"arn:aws:iam::{name}:root" for name in named if name.isdigit()}


def _condition(condition: Any, context: Mapping[str, Any]) -> bool:
    """Return whether a Condition matches; False if it has an unknown operator."""
    try:
        return isinstance(condition, dict) and conditions.holds(condition, context)
    except PolicyInvalid:
        return False


def caller_may(key: Key, account: str, access_key: str, action: str, context: Mapping[str, Any] | None = None) -> bool:
    """Return whether the key's policy or a grant allows a caller `action` ("kms:CreateGrant").

    For a service that acts for the caller pass its conditions: `{"kms:ViaService": "rds.eu-west-2.amazonaws.com",
    "kms:GrantIsForAWSResource": True}`. `kms:CallerAccount` and `aws:PrincipalArn` are added here.
    """
    names = caller_names(account, access_key)
    arn = next((name for name in names if ":role/" in name), accounts.caller(account, access_key)[1])
    full = {
        "kms:CallerAccount": account, "aws:PrincipalAccount": account, "aws:PrincipalArn": arn,
        "aws:RequestedRegion": key.region, "kms:KeyOrigin": key.origin, "kms:KeySpec": key.key_spec,
        "kms:KeyUsage": key.key_usage, "kms:MultiRegion": key.multi_region, **(context or {}),
    }  # fmt: skip
    decision = verdict(key.policy, names, action, full)
    if decision is not None:
        return decision
    operation = action.removeprefix("kms:")
    return any(
        grant.grantee_principal in names and operation in grant.operations for grant in list(key.grants.values())
    )
