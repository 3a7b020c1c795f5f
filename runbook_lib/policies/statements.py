"""Read the statements of a policy document into records. Pure; what is not a policy raises `PolicyInvalid`.

Source: IAM user guide, reference_policies_elements (the elements of a policy and which of them exclude each other).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies.patterns import listed
from runbook_lib.policies.variables import has_variable

_VERSION = "2012-10-17"
ELEMENTS = frozenset(
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"]
)


class Principal(NamedTuple):
    """One name of a Principal element; `kind` is AWS, Service, Federated or CanonicalUser."""

    kind: str
    name: str

    @property
    def is_everyone(self) -> bool:
        """Return whether this is `*`: every identity of every account."""
        return self == ("AWS", "*")

    @property
    def account(self) -> str:
        """Return the id of the account that this principal stands for or belongs to; "" for none."""
        return account_of(self.name) if self.kind == "AWS" else ""

    @property
    def is_account(self) -> bool:
        """Return whether this is a whole account: its id or the ARN of its root."""
        return self.kind == "AWS" and is_account(self.name)


@dataclass(frozen=True)
class Patterns:
    """The values of Action or Resource; `negated` for NotAction and NotResource."""

    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True)
class Statement:
    """One statement. `effect` is Allow, Deny, or "" where it is missing; `not_principal` negates `principals`."""

    name: str
    effect: str
    principals: tuple[Principal, ...]
    not_principal: bool
    action: Patterns
    resource: Patterns
    condition: Mapping[str, Any]
    elements: frozenset[str]


def is_account(name: str) -> bool:
    """Return whether a principal's name is an account id or the ARN of an account's root."""
    return bool(re.fullmatch(r"[0-9]{12}|arn:[^:]+:iam::[0-9]{12}:root", name))


def account_of(name: str) -> str:
    """Return the account id in an ARN or an account id; "" for none."""
    found = re.fullmatch(r"([0-9]{12})|arn:[^:]+:(?:iam|sts)::([0-9]{12}):.+", name)
    return (found[1] or found[2]) if found else ""


def read(policy: Any) -> list[Statement]:
    """Return the statements of a policy. Raises `PolicyInvalid` where the document is not a policy."""
    if not isinstance(policy, Mapping):
        raise PolicyInvalid(f"a policy is an object with a Statement, not {type(policy).__name__}")
    statements = [_statement(number, entry) for number, entry in enumerate(listed(policy.get("Statement") or []), 1)]
    if policy.get("Version") != _VERSION and any(_has_variable(one) for one in statements):
        raise PolicyInvalid(f'"${{…}}" is plain text in this policy; set Version to {_VERSION} for policy variables')
    return statements


def _has_variable(statement: Statement) -> bool:
    return has_variable(f"{statement.resource.values} {dict(statement.condition)}")


def _statement(number: int, entry: Any) -> Statement:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("Sid", ""), str):
        raise PolicyInvalid(f"statement {number} is not a valid statement; review the policy manually")
    if not isinstance(entry.get("Condition") or {}, Mapping):
        raise PolicyInvalid(f"statement {number} has a Condition that is not an object; review the policy manually")
    if entry.get("Effect", "Allow") not in ("Allow", "Deny"):
        raise PolicyInvalid(f"statement {number} has the Effect {entry['Effect']!r}; set it to Allow or Deny")
    for element in ("Principal", "Action", "Resource"):
        if element in entry and f"Not{element}" in entry:
            raise PolicyInvalid(f"statement {number} has both {element} and Not{element}; keep one of them")
    return Statement(
        name=entry.get("Sid") or f"statement {number}",
        effect=entry.get("Effect", ""),
        principals=_principals(entry.get("Principal") or entry.get("NotPrincipal") or {}),
        not_principal="NotPrincipal" in entry,
        action=_patterns(entry, "Action"),
        resource=_patterns(entry, "Resource"),
        condition=entry.get("Condition") or {},
        elements=frozenset(map(str, entry)),
    )


def _patterns(entry: Mapping[str, Any], element: str) -> Patterns:
    negated = f"Not{element}" in entry
    values = listed(entry.get(f"Not{element}" if negated else element) or [])
    return Patterns(tuple(str(value) for value in values if value), negated)


def _principals(principal: Any) -> tuple[Principal, ...]:
    if isinstance(principal, str):
        principal = {"AWS": principal}
    if not isinstance(principal, Mapping):
        raise PolicyInvalid(
            f"the Principal {principal!r} is neither '*' nor an object; write for instance {{'AWS': 'arn:…'}}"
        )
    return tuple(Principal(str(kind), str(name)) for kind, names in principal.items() for name in listed(names) if name)
