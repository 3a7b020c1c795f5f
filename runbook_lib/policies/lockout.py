"""Check that a key policy can still be changed after it is set. Pure.

KMS refuses a policy that does not allow the caller a later PutKeyPolicy (MalformedPolicyDocumentException), unless
BypassPolicyLockoutSafetyCheck is set. Here the caller is not known, so at least one principal must be able to: each principal that
the policy names is tried. What a condition asks of the caller's identity is evaluated for that principal; an Allow
under any other condition does not count, and neither does such a Deny.

Sources: KMS API reference, CreateKey and PutKeyPolicy (Policy, BypassPolicyLockoutSafetyCheck; PutKeyPolicy has no
cross-account use).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook_lib.policies.conditions import comparison_holds, comparisons
from runbook_lib.policies.evaluate import ANY_KEY, Decision, Request, decide
from runbook_lib.policies.statements import Statement, account_of, is_account, read
from runbook_lib.policies.variables import has_variable

ACTION = "kms:PutKeyPolicy"
# Keys that only requests through services, requests for grants and cryptographic operations have.
_ABSENT = (
    "kms:viaservice",
    "kms:grant",
    "kms:encryptioncontext",
    "aws:sourcearn",
    "aws:sourceaccount",
    "aws:calledvia",
)


def can_be_changed(policy: Any, *, account_id: str = "", key_arn: str = ANY_KEY) -> bool:
    """Return whether a principal, in account `account_id` if given, may call PutKeyPolicy later."""
    for name in _candidates(read(policy)):
        account = account_of(name)
        if not account or (account_id and account != account_id):
            continue
        context = {"aws:PrincipalArn": name, "aws:PrincipalAccount": account, "kms:CallerAccount": account}
        request = Request(
            ACTION,
            frozenset() if is_account(name) else frozenset([name]),
            account,
            key_arn=key_arn,
            context={**context, "aws:PrincipalIsAWSService": False, "aws:ViaAWSService": False},
        )
        if decide(policy, request, _surely_holds) in (Decision.ALLOW, Decision.ACCOUNT):
            return True
    return False


def _candidates(statements: list[Statement]) -> Iterator[str]:
    """Yield the principals that could change the policy: those that it names, and one in each of their accounts."""
    for statement in statements:
        for principal in statement.principals:
            yield principal.name
            if principal.account:
                yield f"arn:aws:iam::{principal.account}:role/another"
        for comparison in comparisons(statement.condition):
            if comparison.key.lower() == "aws:principalarn":
                yield from (value.replace("*", "x").replace("?", "x") for value in comparison.values)
            if comparison.key.lower() in ("aws:principalaccount", "kms:calleraccount"):
                yield from (f"arn:aws:iam::{value}:role/another" for value in comparison.values)


def _surely_holds(condition: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Return whether a Condition holds in every request of a principal; False where that depends on the request."""
    known = {key.lower(): value for key, value in context.items()}
    asked = list(comparisons(condition))
    if not all(one.key.lower() in known or one.key.lower().startswith(_ABSENT) for one in asked):
        return False
    if any(has_variable(value) for one in asked for value in one.values):
        return False
    return all(comparison_holds(one, known.get(one.key.lower())) for one in asked)
