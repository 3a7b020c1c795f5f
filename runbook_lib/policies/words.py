"""Put statements of a key policy into words: actions, conditions, and why a statement has no effect. Pure."""

from __future__ import annotations

from runbook_lib.policies.conditions import EACH, Comparison, comparisons, holds_without
from runbook_lib.policies.evaluate import ANY_KEY, covers_key
from runbook_lib.policies.key_policy import ADMINISTRATION, DELETION, GRANTS
from runbook_lib.policies.patterns import names, overlap
from runbook_lib.policies.statements import Patterns, Statement

_USE = ("Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "DescribeKey", "GenerateDataKey")
_DATA_KEYS = ("GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")
# Words, the actions that they need, and the actions that they stand for.
_POWERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("administer it", ("PutKeyPolicy", "EnableKey", "DisableKey"), ADMINISTRATION),
    ("change its key policy", ("PutKeyPolicy",), ("PutKeyPolicy",)),
    ("import its material", ("ImportKeyMaterial",), ("ImportKeyMaterial", "GetParametersForImport")),
    ("schedule its deletion", ("ScheduleKeyDeletion",), DELETION),
    ("encrypt and decrypt with it", ("Encrypt", "Decrypt"), (*_USE, *_DATA_KEYS)),
    ("decrypt with it", ("Decrypt",), ("Decrypt",)),
    ("encrypt with it", ("Encrypt",), ("Encrypt",)),
    ("create grants on it", ("CreateGrant",), (*GRANTS, "RetireGrant")),
)
_INSTEAD = {"change its key policy": "administer it"} | dict.fromkeys(
    ("decrypt with it", "encrypt with it"), "encrypt and decrypt with it"
)
_FRIENDLY = {
    ("StringEquals", "kms:viaservice"): "through {}",
    ("StringEquals", "kms:calleraccount"): "called from account {}",
    ("Bool", "kms:grantisforawsresource"): "for a resource of an AWS service",
}
_RELATIONS = {
    "StringEqualsIgnoreCase": "equal, ignoring case, to",
    "StringLike": "like",
    "ArnEquals": "like",
    "ArnLike": "like",
    "IpAddress": "in",
    "NumericLessThan": "less than",
    "NumericLessThanEquals": "at most",
    "NumericGreaterThan": "greater than",
    "NumericGreaterThanEquals": "at least",
    "DateLessThan": "before",
    "DateLessThanEquals": "at or before",
    "DateGreaterThan": "after",
    "DateGreaterThanEquals": "at or after",
}


# Actions ------------------------------------------------------------------------------------------------------


def is_everything(patterns: Patterns) -> bool:
    """Return whether an Action comprises every action of KMS."""
    return not patterns.negated and names("kms:~~~~~~~~", patterns.values)


def actions_in_words(patterns: Patterns) -> str:
    """Return what a statement's Action or NotAction comprises, such as "encrypt and decrypt with it, Sign"."""
    if patterns.negated:
        return f"everything except {', '.join(_short(action) for action in patterns.values)}"
    said: list[str] = []
    stands_for: set[str] = set()
    for words, needed, comprised in _POWERS:
        if _INSTEAD.get(words) not in said and all(names(_full(action), patterns.values) for action in needed):
            said.append(words)
            stands_for |= {_full(action) for action in comprised}
    rest = [one for one in patterns.values if not any(names(action, one) for action in stands_for)]
    return ", ".join([*said, *(_short(action) for action in rest)])


def _full(action: str) -> str:
    return action if ":" in action else f"kms:{action}"


def _short(action: str) -> str:
    return action.removeprefix("kms:")


# Effect -------------------------------------------------------------------------------------------------------


def no_effect(statement: Statement, key_arn: str = ANY_KEY) -> str:
    """Return why a statement of a key policy has no effect; "" if it has one.

    Source: KMS developer guide, key-policy-overview (Resource is `*`, "this KMS key"; without it, no effect).
    """
    action, resource = statement.action, statement.resource
    if not action.values:
        return "has no Action, so it has no effect"
    if not action.negated and not any(overlap(one.lower(), "kms:*") for one in action.values):
        return f"has no effect: its Action names no action of KMS ({', '.join(action.values)})"
    if not resource.values:
        return "has no Resource, so it has no effect"
    if not covers_key(resource, key_arn):
        element = "NotResource" if resource.negated else "Resource"
        return f'has no effect: its {element} {", ".join(resource.values)} {_excludes(resource)} this key; write Resource "*"'
    return ""


def _excludes(resource: Patterns) -> str:
    return "excludes" if resource.negated else "cannot be"


# Conditions ---------------------------------------------------------------------------------------------------


def condition_in_words(statement: Statement) -> str:
    """Return on which condition a statement applies; for a Deny "denied if …" or "denied unless …".

    Raises `PolicyInvalid` for an operator that IAM does not have.
    """
    asked = list(comparisons(statement.condition))
    if statement.effect == "Deny":
        return _denied(asked)
    friendly = [_friendly(one) for one in asked]
    return (", " if all(friendly) else " and ").join(
        words or comparison_in_words(one) for words, one in zip(friendly, asked, strict=True)
    )


def _denied(asked: list[Comparison]) -> str:
    """Return when a Deny applies: it needs every comparison, so one that fails is a way out."""
    needed = [comparison_in_words(one) for one in asked if not one.operator.negated]
    ways_out = [comparison_in_words(one, fails=True) for one in asked if one.operator.negated]
    words = ["denied"]
    if needed:
        words.append(f"if {' and '.join(needed)}" + ("," if ways_out else ""))
    if ways_out:
        words.append(f"unless {' or '.join(ways_out)}")
    return " ".join(words) if asked else "always denied"


def _friendly(comparison: Comparison) -> str:
    operator = comparison.operator
    words = _FRIENDLY.get((operator.kind, comparison.key.lower()), "")
    plain = not (operator.negated or operator.if_exists or operator.quantifier)
    if not plain or (operator.kind == "Bool" and {value.lower() for value in comparison.values} != {"true"}):
        return ""
    return words.format(" or ".join(comparison.values))


def comparison_in_words(comparison: Comparison, *, fails: bool = False) -> str:
    """Return what is the case when a comparison holds; with `fails`, when it fails."""
    operator = comparison.operator
    if operator.kind == "Null":
        return _presence(comparison)
    subject, positive = _subject(comparison, fails=fails)
    words = f"{subject} {_relation(comparison, positive=positive)}"
    if holds_without(comparison) is fails or subject.startswith("no value"):
        return words
    return f"{words} (or {'there is none' if operator.quantifier else 'is absent'})"


def _presence(comparison: Comparison) -> str:
    wanted = {value.lower() == "true" for value in comparison.values}
    states = ("absent" if True in wanted else "", "present" if False in wanted else "")
    return f"{comparison.key} is {' or '.join(filter(None, states))}"


def _subject(comparison: Comparison, *, fails: bool) -> tuple[str, bool]:
    """Return whose value is compared, and whether the relation is stated without "not"."""
    operator, key = comparison.operator, comparison.key
    matches = operator.negated is fails  # whether the values that count are in the relation
    if not operator.quantifier:
        return key, matches
    if (operator.quantifier == EACH) is not fails:
        return f"{'every' if matches else 'no'} value of {key}", True
    return f"at least one value of {key}", matches


def _relation(comparison: Comparison, *, positive: bool) -> str:
    values, kind = comparison.values, comparison.operator.kind
    relation = _RELATIONS.get(kind, "")
    if kind.startswith("Arn") and not any(set(value) & {"*", "?"} for value in values):
        relation = ""
    several = "one of" if len(values) != 1 else ""
    return " ".join(filter(None, ["is", "" if positive else "not", relation, several, ", ".join(values)]))
