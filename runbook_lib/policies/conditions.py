"""Conditions of policies: the operators of IAM, and whether a Condition holds in a request's context. Pure.

One evaluator for the project's key policies and for the sandbox. An operator that IAM does not have raises
`PolicyInvalid`: a policy that was not understood is not judged.

Sources: IAM user guide, reference_policies_elements_condition_operators,
reference_policies_condition-single-vs-multi-valued-context-keys (ForAllValues, ForAnyValue) and
reference_policies_condition-logic-multiple-context-keys-or-values (several keys and values).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies.patterns import arn_like, like, listed
from runbook_lib.policies.variables import filled

EACH, ANY = "ForAllValues", "ForAnyValue"


@dataclass(frozen=True)
class Operator:
    """A condition operator, such as `ForAnyValue:StringNotLikeIfExists`.

    `kind` is the operator without negation, suffix and quantifier ("StringLike"); `quantifier` is ForAllValues,
    ForAnyValue or "".
    """

    kind: str
    negated: bool = False
    if_exists: bool = False
    quantifier: str = ""


@dataclass(frozen=True)
class Comparison:
    """One comparison of a Condition: an operator, a context key, and the values of the policy."""

    operator: Operator
    key: str
    values: tuple[str, ...]


def parse_operator(text: str) -> Operator:
    """Return what an operator's name says. Raises `PolicyInvalid` for one that IAM does not have."""
    quantifier, colon, rest = text.rpartition(":")
    base = rest.removesuffix("IfExists")
    kind = _NEGATED.get(base, base)
    known = kind in _COMPARISONS or kind == "Null"
    if not known or (colon and quantifier not in (EACH, ANY)) or (kind == "Null" and text != "Null"):
        raise PolicyInvalid(f"{text!r} is not a condition operator of IAM; review the policy manually")
    return Operator(kind, base in _NEGATED, base != rest, quantifier)


def comparisons(condition: Mapping[str, Any]) -> Iterator[Comparison]:
    """Yield the comparisons of a Condition; all must hold.

    Raises `PolicyInvalid` for an operator that IAM does not have, and for a value that its operator cannot compare.
    """
    for name, keys in condition.items():
        operator = parse_operator(str(name))
        if not isinstance(keys, Mapping):
            raise PolicyInvalid(f"condition operator {name!r} has no keys and values; review the policy manually")
        for key, values in keys.items():
            found = Comparison(operator, str(key), tuple(_text(value) for value in listed(values)))
            comparison_holds(found, "0")  # raises for a value that cannot be compared, whatever the request has
            yield found


def holds(condition: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Return whether a Condition holds in the context of a request.

    `context` maps condition keys (in any case) to a value or a list of values. Raises `PolicyInvalid` for an
    operator or a value that IAM does not have.
    """
    found = {key.lower(): value for key, value in context.items()}
    results = [comparison_holds(_filled(one, found), found.get(one.key.lower())) for one in comparisons(condition)]
    return all(results)


def _filled(comparison: Comparison, context: Mapping[str, Any]) -> Comparison:
    """Return a comparison with its policy variables replaced; a value whose variable is absent matches nothing."""
    pattern = comparison.operator.kind in ("StringLike", "ArnEquals", "ArnLike")
    values = (filled(value, context, pattern=pattern) for value in comparison.values)
    return replace(comparison, values=tuple(value for value in values if value is not None))


def comparison_holds(comparison: Comparison, actual: Any) -> bool:
    """Return whether one comparison holds for the key's value in the request; None for an absent key."""
    operator = comparison.operator
    values = [] if actual is None else [_text(value) for value in listed(actual)]
    if operator.kind == "Null":
        return any((value.lower() == "true") is not bool(values) for value in comparison.values)
    if operator.quantifier:
        values = [value for value in values if value]  # an empty text is an empty set to ForAllValues and ForAnyValue
    compare = _COMPARISONS[operator.kind]
    results = [_matches(compare, value, comparison.values) is not operator.negated for value in values]
    if not values:
        absent = operator.negated if not operator.quantifier else operator.quantifier == EACH
        return operator.if_exists or absent
    return (
        all(results) if operator.quantifier == EACH or (operator.negated and not operator.quantifier) else any(results)
    )


def holds_without(comparison: Comparison) -> bool:
    """Return whether a comparison holds in a request that does not have its key."""
    return comparison_holds(comparison, None)


def _matches(compare: Callable[[str, str], bool], value: str, wanted: Sequence[str]) -> bool:
    results = [compare(value, text) for text in wanted]  # all of them: each value of the policy is parsed
    return any(results)


def _ordered(order: Callable[[Any, Any], bool], parse: Callable[[str], Any], what: str) -> Callable[[str, str], bool]:
    """Return a comparison of parsed values: a wrong value in the policy is refused, in the request it never matches."""

    def compare(value: str, text: str) -> bool:
        try:
            wanted = parse(text)
        except (ValueError, OverflowError, OSError):
            raise PolicyInvalid(f"{text!r} in a condition is not a valid {what}; review the policy manually") from None
        try:
            return order(parse(value), wanted)
        except (ValueError, OverflowError, OSError):
            return False

    return compare


def _moment(text: str) -> datetime:
    if text.replace(".", "", 1).isdigit():
        return datetime.fromtimestamp(float(text), UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


def _within(address: Any, network: Any) -> bool:
    """Return whether an address (a range of one) is within a range of its IP version."""
    one = address.num_addresses == 1
    return bool(one and address.version == network.version and address.subnet_of(network))


def _network(text: str) -> Any:
    return ipaddress.ip_network(text, strict=False)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda left, right: left == right,
    "LessThan": lambda left, right: left < right,
    "LessThanEquals": lambda left, right: left <= right,
    "GreaterThan": lambda left, right: left > right,
    "GreaterThanEquals": lambda left, right: left >= right,
}
_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, text: value == text,
    "StringEqualsIgnoreCase": lambda value, text: value.lower() == text.lower(),
    "StringLike": like,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    "Bool": lambda value, text: value.lower() == text.lower(),
    "BinaryEquals": _ordered(_RELATIONS["Equals"], _binary, "base64 value"),
    "IpAddress": _ordered(_within, _network, "IP address or range"),
    **{f"Numeric{name}": _ordered(order, float, "number") for name, order in _RELATIONS.items()},
    **{f"Date{name}": _ordered(order, _moment, "date") for name, order in _RELATIONS.items()},
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
