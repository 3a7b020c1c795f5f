"""Warn of statements that are valid but should be reviewed. Pure.

Sources: KMS developer guide, key-policy-overview (Principal) and key-policy-modifying-external-accounts; IAM user
guide, reference_policies_elements_notprincipal.
"""

from __future__ import annotations

from runbook_lib.policies.conditions import EACH, Comparison, comparisons
from runbook_lib.policies.evaluate import ANY_KEY
from runbook_lib.policies.statements import Principal, Statement, account_of
from runbook_lib.policies.words import actions_in_words, no_effect

# Condition keys that restrict who calls; with a fixed value they make `*` a limited set of callers.
_ACCOUNTS = ("aws:principalarn", "aws:principalaccount", "kms:calleraccount")
_WHO = (
    "aws:principalorgid", "aws:principalorgpaths", "aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid",
    "aws:sourcevpc", "aws:sourcevpce", "aws:sourceip", "aws:userid", "aws:username",
)  # fmt: skip


def statement(found: Statement, *, account_id: str, key_arn: str = ANY_KEY) -> list[str]:
    """Return the warnings about one statement, each once."""
    principals = [None] if found.not_principal else list(found.principals)
    rows = [row(found, one, account_id=account_id, key_arn=key_arn) for one in principals]
    return list(dict.fromkeys(warning for warnings in rows for warning in warnings))


def row(found: Statement, principal: Principal | None, *, account_id: str, key_arn: str = ANY_KEY) -> list[str]:
    """Return the warnings about one principal of a statement; None stands for a NotPrincipal.

    `account_id` is the key's account; "" if it is not known, and then no account counts as another one.
    """
    if reason := no_effect(found, key_arn):
        return [f"the statement {reason}"]
    if principal is None:
        return _not_principal(found)
    if found.effect != "Allow":
        return []
    if principal.is_everyone:
        return _everyone(found, account_id)
    if principal.account and account_id and principal.account != account_id:
        return [_other_account(found, principal)]
    return []


def _other_account(found: Statement, principal: Principal) -> str:
    account = principal.account
    if principal.is_account:
        return (
            f"account {account} is another account: whatever IAM policies of account {account} allow; "
            "remove it unless its administrators may decide who uses the key"
        )
    words = actions_in_words(found.action)
    return f"{principal.name} belongs to another account, {account} ({words}); remove it unless that is intended"


def _everyone(found: Statement, account_id: str) -> list[str]:
    restricting = [one for one in comparisons(found.condition) if _restricts(one)]
    if not restricting:
        return ["everyone, in every AWS account: name principals, or add a condition on the caller's account"]
    accounts = {account_of(value) for one in restricting if one.key.lower() in _ACCOUNTS for value in one.values}
    words = actions_in_words(found.action)
    return [
        f"everyone in another account, {account} ({words}); remove it unless that is intended"
        for account in sorted(accounts - {"", account_id})
        if account_id
    ]


def _not_principal(found: Statement) -> list[str]:
    if found.effect == "Allow":
        return ["everyone else is allowed this, in every AWS account: name principals instead of NotPrincipal"]
    accounts = {one.account for one in found.principals if one.is_account}
    missing = sorted({one.account for one in found.principals if one.account} - accounts)
    return [
        f"NotPrincipal does not list account {one} itself, so AWS may deny all of it: add its root" for one in missing
    ]


def _restricts(comparison: Comparison) -> bool:
    """Return whether a comparison limits who may call to what it names."""
    operator, key = comparison.operator, comparison.key.lower()
    if operator.negated or operator.kind == "Null" or operator.quantifier == EACH:
        return False
    if key in _ACCOUNTS:  # every caller has these keys, so IfExists changes nothing
        return all(account_of(value) for value in comparison.values)
    if operator.if_exists or not (key in _WHO or key.startswith("aws:principaltag/")):
        return False
    return not {"*", "0.0.0.0/0", "::/0"} & set(comparison.values)
