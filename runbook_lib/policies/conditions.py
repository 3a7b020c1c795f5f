"""Evaluate the conditions of policies and match names against patterns. Pure: no AWS call, no file.

Used for the runbook's key policies and by the sandbox. Supports the operators of the IAM user guide
(reference_policies_elements_condition_operators) except those for IP addresses and binary values. Raises
`PolicyInvalid` for any other operator instead of guessing its result.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from runbook_lib.errors import PolicyInvalid


def listed(value: Any) -> list[Any]:
    """Return a list; policies write a single value without one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def like(value: str, pattern: str) -> bool:
    """Return whether a value matches a pattern with `*` and `?`; brackets are literal, as in IAM."""
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def names(action: str, patterns: Any) -> bool:
    """Return whether one of the patterns of an Action matches this action, ignoring case."""
    return any(like(action.lower(), str(pattern).lower()) for pattern in listed(patterns))


def holds(condition: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Return whether a Condition holds in a context of condition keys and values.

    Key names are compared without case; a key may have several values. Raises `PolicyInvalid` for an unsupported
    operator.
    """
    found = {key.lower(): value for key, value in context.items()}
    return all(
        _one(operator, [_text(value) for value in listed(wanted)], found.get(str(key).lower()))
        for operator, asked in condition.items()
        for key, wanted in _mapping(operator, asked).items()
    )


def _mapping(operator: str, asked: Any) -> Mapping[str, Any]:
    if not isinstance(asked, Mapping):
        raise PolicyInvalid(f"condition operator {operator!r} has no keys and values; review the policy manually")
    return asked


def _one(operator: str, wanted: Sequence[str], actual: Any) -> bool:
    quantifier, _, name = operator.rpartition(":")
    name, if_exists = name.removesuffix("IfExists"), name.endswith("IfExists")
    if name == "Null":
        return (actual is None) == (wanted[0].lower() == "true")
    negated, compare = _comparison(operator, name)
    if quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise _unknown(operator)
    if actual is None:
        return if_exists or negated or quantifier == "ForAllValues"
    results = [any(compare(_text(value), text) for text in wanted) is not negated for value in listed(actual)]
    return all(results) if quantifier == "ForAllValues" or (negated and not quantifier) else any(results)


def _comparison(operator: str, name: str) -> tuple[bool, Callable[[str, str], bool]]:
    """Return whether an operator is a negated one, and how it compares."""
    if name.startswith(("Numeric", "Date")):
        kind, relation = ("Numeric", name[7:]) if name.startswith("Numeric") else ("Date", name[4:])
        if relation.removeprefix("Not") not in _RELATIONS:
            raise _unknown(operator)
        order, parse = _RELATIONS[relation.removeprefix("Not")], float if kind == "Numeric" else _moment
        return relation.startswith("Not"), lambda value, text: _ordered(order, parse, value, text)
    plain = name.replace("Not", "", 1)
    if plain not in _TEXTS:
        raise _unknown(operator)
    return "Not" in name, _TEXTS[plain]


_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, text: value == text,
    "StringEqualsIgnoreCase": lambda value, text: value.lower() == text.lower(),
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda value, text: value.lower() == text.lower(),
}
_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda left, right: left == right,
    "LessThan": lambda left, right: left < right,
    "LessThanEquals": lambda left, right: left <= right,
    "GreaterThan": lambda left, right: left > right,
    "GreaterThanEquals": lambda left, right: left >= right,
}


def _ordered(order: Callable[[Any, Any], bool], parse: Callable[[str], Any], value: str, text: str) -> bool:
    try:
        wanted = parse(text)
    except ValueError:
        raise PolicyInvalid(
            f"{text!r} in a condition is not a valid number or date; review the policy manually"
        ) from None
    try:
        return order(parse(value), wanted)
    except ValueError:
        return False


def _moment(text: str) -> datetime:
    if text.replace(".", "", 1).isdigit():
        return datetime.fromtimestamp(float(text), UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(operator: str) -> PolicyInvalid:
    return PolicyInvalid(f"condition operator {operator!r} is not supported here; review the policy manually")
