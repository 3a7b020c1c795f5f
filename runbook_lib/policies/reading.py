"""Judge a key policy: what KMS would refuse, who may do what, and what to warn about. Pure: no AWS, no files.

Sources: "Key policies in AWS KMS" (KMS developer guide, key-policy-overview and key-policy-default) and "Determining
the use of KMS keys" (Aurora user guide, Overview.Encryption.Keys).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies import warnings_of
from runbook_lib.policies.conditions import comparisons
from runbook_lib.policies.evaluate import ANY_KEY, allows, concerns, permitted
from runbook_lib.policies.lockout import ACTION, can_be_changed
from runbook_lib.policies.statements import ELEMENTS, Principal, Statement, read
from runbook_lib.policies.words import actions_in_words, condition_in_words, is_everything, no_effect

__all__ = ["allows", "permitted", "same", "validate", "warnings", "who_may"]

QUOTA_BYTES = 32 * 1024


def validate(policy: Mapping[str, Any], *, account_id: str = "", key_arn: str = ANY_KEY) -> None:
    """Raise `PolicyInvalid` for what KMS would refuse, or would accept although it has no effect.

    `account_id` is the key's account; without it, principals of any account count. `key_arn` is the key's ARN, with
    wildcards for what is not known yet.
    """
    statements = read(policy)
    problems = [f"{one.name} {problem}" for one in statements for problem in _problems(one, key_arn)]
    size = len(json.dumps(policy).encode())
    if size > QUOTA_BYTES:
        problems.append(f"it has {size} bytes, KMS accepts {QUOTA_BYTES}: name fewer principals")
    if not can_be_changed(policy, account_id=account_id, key_arn=key_arn):
        problems.append("no principal could change it (kms:PutKeyPolicy): keep the statement of the account's root")
    if problems:
        raise PolicyInvalid(f"the key policy is not valid: {'; '.join(problems)}")


def _problems(statement: Statement, key_arn: str) -> list[str]:
    """Return what is wrong with one statement."""
    list(comparisons(statement.condition))
    if unknown := statement.elements - ELEMENTS:
        return [f"has {min(unknown)}, which is not an element of a policy"]
    if statement.not_principal and statement.effect == "Allow":
        return ["has NotPrincipal, which matches everything else: name principals instead"]
    problems = [f"has no {part}, so it has no effect" for part, value in
                (("Effect", statement.effect), ("Principal", statement.principals)) if not value]  # fmt: skip
    if reason := no_effect(statement, key_arn):
        problems.append(reason)
    everyone = any(one.is_everyone for one in statement.principals)
    if everyone and statement.effect == "Allow" and not statement.condition:
        problems.append("allows everyone: name principals, or add a condition")
    return problems


def warnings(policy: Mapping[str, Any], *, account_id: str = "", key_arn: str = ANY_KEY) -> list[str]:
    """Return what is valid but should be reviewed: other accounts, everyone, statements without effect."""
    account = account_id or _own_account(policy)
    return [
        f"{statement.name}: {warning}"
        for statement in read(policy)
        for warning in warnings_of.statement(statement, account_id=account, key_arn=key_arn)
    ]


def who_may(policy: Mapping[str, Any], *, account_id: str = "", key_arn: str = ANY_KEY) -> list[dict[str, str]]:
    """Return one row per statement and principal: `who`, `may` (for a Deny `may not`), `only if`, any `warning`.

    `account_id` is the key's account. Without it, it is the first account that the policy lets change the policy.
    Raises `PolicyInvalid` for what is not a policy.
    """
    account = account_id or _own_account(policy)
    rows = []
    for statement in read(policy):
        may = "may not" if statement.effect == "Deny" else "may"
        for who, principal in _who(statement):
            row = {
                "who": who,
                may: _may(statement, principal, account, key_arn),
                "only if": condition_in_words(statement),
            }
            found = warnings_of.row(statement, principal, account_id=account, key_arn=key_arn)
            rows.append(row | ({"warning": "; ".join(found)} if found else {}))
    return rows


def _who(statement: Statement) -> list[tuple[str, Principal | None]]:
    if statement.not_principal:
        return [(f"everyone except {', '.join(one.name for one in statement.principals)}", None)]
    return [(one.name, one) for one in statement.principals]


def _may(statement: Statement, principal: Principal | None, account: str, key_arn: str) -> str:
    """Return what a statement allows or denies a principal."""
    if reason := no_effect(statement, key_arn):
        return f"nothing: the statement {reason}"
    everything = is_everything(statement.action)
    words = actions_in_words(statement.action)
    if statement.effect == "Deny":
        return "everything" if everything else words
    if not statement.effect:
        return "nothing: the statement has no Effect, so it has no effect"
    if principal is None or not principal.is_account:
        return words
    whose = "this account" if principal.account == account else f"account {principal.account}"
    return f"whatever IAM policies of {whose} allow{'' if everything else f', of: {words}'}; nothing by itself"


def _own_account(policy: Mapping[str, Any]) -> str:
    """Return the account of the first principal that a statement lets change the policy; "" for none."""
    for statement in read(policy):
        if statement.effect == "Allow" and not statement.not_principal and concerns(statement, ACTION):
            for principal in statement.principals:
                if principal.account:
                    return principal.account
    return ""


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two policies are the same, however lists of one and the order of lists are written."""
    return bool(_normal(one) == _normal(other))


def _normal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _normal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        items = sorted((_normal(inner) for inner in value), key=lambda item: json.dumps(item, sort_keys=True))
        return items[0] if len(items) == 1 else items
    return value
