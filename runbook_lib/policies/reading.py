"""Read policies: validate and compare them, and evaluate who may do what. Pure: no AWS call, no file.

Sources: "Key policies in AWS KMS" (KMS developer guide, key-policy-default) and "Determining the use of KMS keys"
(Aurora user guide, Overview.Encryption.Keys).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies.conditions import holds, like, listed, names
from runbook_lib.policies.key_policy import DELETION

QUOTA_BYTES = 32 * 1024
_NEGATED = ("NotPrincipal", "NotAction", "NotResource")


def validate(policy: Mapping[str, Any]) -> None:
    """Raise `PolicyInvalid`, naming each statement that KMS would reject or accept without effect."""
    problems = []
    for number, statement in enumerate(_statements(policy), 1):
        name = statement.get("Sid") or f"statement {number}"
        if negated := [part for part in _NEGATED if part in statement]:
            problems.append(f"{name} has {negated[0]}, which matches everything else; name what is meant instead")
            continue
        problems += [
            f"{name} has no {part}, so it has no effect"
            for part in ("Effect", "Principal", "Action", "Resource")
            if not statement.get(part)
        ]
        if "*" in _principals(statement) and statement.get("Effect") == "Allow" and not statement.get("Condition"):
            problems.append(f"{name} allows everyone: name principals, or add a condition")
    size = len(json.dumps(policy).encode())
    if size > QUOTA_BYTES:
        problems.append(f"it has {size} bytes, KMS accepts {QUOTA_BYTES}: name fewer principals")
    if not problems and not _can_be_changed(policy):
        problems.append("no principal could change it (kms:PutKeyPolicy): keep the statement of the account root")
    if problems:
        raise PolicyInvalid(f"the key policy is not valid: {'; '.join(problems)}")


def _can_be_changed(policy: Mapping[str, Any]) -> bool:
    """Return whether a principal is allowed kms:PutKeyPolicy without condition, and not denied it."""
    statements = [one for one in _statements(policy) if names("kms:PutKeyPolicy", one["Action"])]
    denied = {name for one in statements if one.get("Effect") == "Deny" for name in _principals(one)}
    allowed = {
        name
        for one in statements
        if one.get("Effect") == "Allow" and not one.get("Condition")
        for name in _principals(one)
    }
    return "*" not in denied and bool(allowed - denied)


def _principals(statement: Mapping[str, Any]) -> list[str]:
    principal = statement.get("Principal") or {}
    if isinstance(principal, str):
        return [principal]
    if not isinstance(principal, Mapping):
        raise PolicyInvalid(f"the Principal {principal!r} is not a name or a mapping; write e.g. {{'AWS': 'arn:…'}}")
    return [str(one) for value in principal.values() for one in listed(value)]


def _statements(policy: Any) -> list[Mapping[str, Any]]:
    """Return the statements. Raises `PolicyInvalid` for a malformed policy."""
    if not isinstance(policy, Mapping):
        raise PolicyInvalid(f"a policy is an object with a Statement, not {type(policy).__name__}; review it manually")
    statements = listed(policy.get("Statement") or [])
    for number, statement in enumerate(statements, 1):
        if not isinstance(statement, Mapping) or not isinstance(statement.get("Sid", ""), str):
            raise PolicyInvalid(f"statement {number} is not an object; review the policy manually")
        if not isinstance(statement.get("Condition") or {}, Mapping):
            raise PolicyInvalid(f"statement {number} has a Condition that is not an object; review the policy manually")
        if statement.get("Effect", "Allow") not in ("Allow", "Deny"):
            raise PolicyInvalid(f"statement {number} has the Effect {statement['Effect']!r}; write Allow or Deny")
    return statements


def _readable(policy: Any) -> list[Mapping[str, Any]]:
    """Return the statements. Raises `PolicyInvalid` for one with NotPrincipal, NotAction or NotResource."""
    statements = _statements(policy)
    for statement in statements:
        if negated := [part for part in _NEGATED if part in statement]:
            raise PolicyInvalid(
                f"{statement.get('Sid') or 'a statement'} has {negated[0]}, which is not evaluated here; review the policy manually"
            )
    return statements


def permitted(
    policies: Iterable[Mapping[str, Any]], *, action: str, resource: str, context: Mapping[str, Any] | None = None
) -> bool | None:
    """Evaluate a caller's IAM policies for an `action` on a `resource` (an ARN, or `*` for none).

    Returns False for an explicit Deny, else True for an Allow, else None: no statement applies. Raises `PolicyInvalid`.
    """
    found: bool | None = None
    for policy in policies:
        for statement in _readable(policy):
            if not names(action, statement.get("Action") or []):
                continue
            if not any(like(resource, str(pattern)) for pattern in listed(statement.get("Resource") or [])):
                continue
            if not holds(statement.get("Condition") or {}, context or {}):
                continue
            if statement.get("Effect") == "Deny":
                return False
            found = True if statement.get("Effect") == "Allow" else found
    return found


def allows(policy: Mapping[str, Any], *, principal: str, action: str, context: Mapping[str, str] | None = None) -> bool:
    """Return whether the policy itself allows `principal` (an ARN) the `action`; an explicit Deny wins.

    The statement for the account root counts for no other principal: it only enables IAM policies.
    Raises `PolicyInvalid`.
    """
    allowed = False
    for statement in _readable(policy):
        named = _principals(statement)
        if (principal in named or "*" in named) and names(action, statement.get("Action") or []):
            if not holds(statement.get("Condition") or {}, context or {}):
                continue
            if statement.get("Effect") == "Deny":
                return False
            allowed = allowed or statement.get("Effect") == "Allow"
    return allowed


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two policies are equal, ignoring the order of lists and lists of one value."""
    return bool(_normal(one) == _normal(other))


def _normal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _normal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        items = sorted((_normal(inner) for inner in value), key=lambda item: json.dumps(item, sort_keys=True))
        return items[0] if len(items) == 1 else items
    return value


def _is_root(principal: str) -> bool:
    """Return whether a principal is the account root, which enables IAM policies."""
    return bool(re.fullmatch(r"\d{12}|arn:[^:]+:iam::\d{12}:root", principal))


def who_may(policy: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one row per statement and principal: `who`, `may` or `may not`, `only if`. Raises `PolicyInvalid`."""
    rows = []
    for statement in _readable(policy):
        actions = [str(action) for action in listed(statement.get("Action") or [])]
        for principal in _principals(statement):
            rows.append(
                {
                    "who": principal,
                    "may" if statement.get("Effect") == "Allow" else "may not": _in_words(actions, principal),
                    "only if": _condition_in_words(statement),
                }
            )
    return rows


def _in_words(actions: list[str], principal: str) -> str:
    if actions == ["kms:*"] and _is_root(principal):
        return "whatever IAM policies of this account allow; nothing by itself"
    groups = {
        "administer it": ("kms:PutKeyPolicy",),
        "import its material": ("kms:ImportKeyMaterial",),
        "schedule its deletion": DELETION,
        "encrypt and decrypt with it": ("kms:Decrypt",),
        "create grants on it": ("kms:CreateGrant",),
    }
    said = [words for words, asked in groups.items() if _matches_any(actions, asked)]
    return ", ".join(said) or ", ".join(action.removeprefix("kms:") for action in actions)


def _matches_any(patterns: list[str], actions: Sequence[str]) -> bool:
    return any(names(action, patterns) for action in actions)


def _condition_in_words(statement: Mapping[str, Any]) -> str:
    words = {
        "kms:ViaService": "through {}",
        "kms:CallerAccount": "called from account {}",
        "kms:GrantIsForAWSResource": "for a resource of an AWS service",
    }
    said = []
    for asked in (statement.get("Condition") or {}).values():
        for key, value in asked.items():
            said.append(words.get(key, f"{key} is {{}}").format(" or ".join(map(str, listed(value)))))
    return ", ".join(said)
