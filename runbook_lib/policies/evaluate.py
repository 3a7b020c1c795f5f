"""Decide requests by policies: explicit deny, allow, or nothing, as IAM evaluates them. Pure.

Sources: IAM user guide, reference_policies_evaluation-logic, reference_policies_elements_principal (an account as
principal) and reference_policies_elements_notprincipal; KMS developer guide, key-policy-overview.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runbook_lib.policies.conditions import holds
from runbook_lib.policies.patterns import like, names, overlap
from runbook_lib.policies.statements import Patterns, Statement, account_of, is_account, read
from runbook_lib.policies.variables import any_value, filled

ANY_KEY = "arn:*:kms:*:*:key/*"


class Decision(Enum):
    """What a key policy says of a request."""

    DENY = "denied"
    ALLOW = "allowed"
    ACCOUNT = "allowed if an IAM policy of the caller's account allows it"
    NONE = "not allowed"


@dataclass(frozen=True)
class Request:
    """A request to a key.

    `identities` are the ARNs of the caller itself: a user, or a role and its session; none for the account alone.
    `account` is the caller's account, `service` a service principal. `key_arn` may contain wildcards for what is not
    known yet. `context` maps condition keys to a value or a list of values.
    """

    action: str
    identities: frozenset[str] = frozenset()
    account: str = ""
    service: str = ""
    key_arn: str = ANY_KEY
    context: Mapping[str, Any] = field(default_factory=dict)


def decide(
    policy: Any, request: Request, condition_holds: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] = holds
) -> Decision:
    """Return what a key policy says of a request; an explicit deny overrides.

    A statement for an account denies to all of it, and allows what IAM policies of that account allow. A statement
    without Resource or Action has no effect. Raises `PolicyInvalid` for a document that is not a policy.
    """
    found = Decision.NONE
    for statement in read(policy):
        named = _named(statement, request)
        if named is Decision.NONE or not concerns(statement, request.action, request.key_arn):
            continue
        if not condition_holds(statement.condition, request.context):
            continue
        if statement.effect == "Deny":
            return Decision.DENY
        if statement.effect == "Allow" and found is not Decision.ALLOW:
            found = named
    return found


def concerns(statement: Statement, action: str, key_arn: str = ANY_KEY) -> bool:
    """Return whether a statement of a key policy names this action on this key."""
    return acts_on(statement.action, action) and covers_key(statement.resource, key_arn)


def acts_on(patterns: Patterns, action: str) -> bool:
    """Return whether Action or NotAction comprises an action."""
    return bool(patterns.values) and names(action, patterns.values) is not patterns.negated


def covers_key(patterns: Patterns, key_arn: str = ANY_KEY) -> bool:
    """Return whether Resource or NotResource comprises a key, or can where the key's ARN is not known.

    In a key policy `*` means this key (KMS developer guide, key-policy-overview).
    """
    if patterns.negated and "*" in key_arn:
        return bool(patterns.values) and not any(like(key_arn, pattern) for pattern in patterns.values)
    return (
        bool(patterns.values)
        and any(overlap(any_value(pattern), key_arn) for pattern in patterns.values) is not patterns.negated
    )


def _named(statement: Statement, request: Request) -> Decision:
    """Return how a statement names the caller: ALLOW for itself, ACCOUNT for its account, NONE for not at all."""
    if not statement.principals and not statement.not_principal:
        return Decision.NONE
    if any(one.is_everyone for one in statement.principals):
        return Decision.NONE if statement.not_principal else Decision.ALLOW
    own = {one.name for one in statement.principals if one.kind != "Service"}
    services = {one.name for one in statement.principals if one.kind == "Service"}
    account = bool(request.account) and any(
        one.is_account and one.account == request.account for one in statement.principals
    )
    if statement.not_principal:
        return Decision.NONE if _excepted(request, own, services, account=account) else Decision.ALLOW
    if request.identities & own or (request.service and services & {request.service, "*"}):
        return Decision.ALLOW
    return Decision.ACCOUNT if account else Decision.NONE


def _excepted(request: Request, own: set[str], services: set[str], *, account: bool) -> bool:
    """Return whether a NotPrincipal excepts the caller: it must list the account, the role and its session.

    Source: IAM user guide, reference_policies_elements_notprincipal ("you must also specify the account ARN").
    """
    if request.service:
        return bool(services & {request.service, "*"})
    return account and request.identities <= own


def allows(policy: Mapping[str, Any], *, principal: str, action: str, context: Mapping[str, Any] | None = None) -> bool:
    """Return whether the key policy itself allows `principal` (an ARN) the `action`.

    The statement for the account's root is not counted for others: it only lets IAM policies decide.
    """
    whole = is_account(principal)
    identities = frozenset() if whole else frozenset([principal])
    decision = decide(policy, Request(action, identities, account_of(principal), context=context or {}))
    return decision is Decision.ALLOW or (whole and decision is Decision.ACCOUNT)


def permitted(
    policies: Iterable[Mapping[str, Any]], *, action: str, resource: str, context: Mapping[str, Any] | None = None
) -> bool | None:
    """Return what the IAM policies of a caller say of an `action` on a `resource` (an ARN, or `*` for none).

    True for an Allow, False for an explicit Deny (which overrides), None when no statement matches.
    """
    found: bool | None = None
    known = {key.lower(): value for key, value in (context or {}).items()}
    for policy in policies:
        for statement in read(policy):
            if not acts_on(statement.action, action) or not _on(statement.resource, resource, known):
                continue
            if not holds(statement.condition, context or {}):
                continue
            if statement.effect == "Deny":
                return False
            found = True if statement.effect == "Allow" else found
    return found


def _on(patterns: Patterns, resource: str, context: Mapping[str, Any]) -> bool:
    values = [filled(one, context, pattern=True) for one in patterns.values]
    return bool(values) and any(one is not None and like(resource, one) for one in values) is not patterns.negated
