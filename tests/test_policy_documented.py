"""The policy evaluator against AWS's documentation, and against a naive evaluator on random policies."""

from __future__ import annotations

import naive_policy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from policy_cases import ALICE, BOB, CONDITION_CASES, KEY, OTHER, OTHER_ROOT, OWN, POLICY_CASES, ROOT

from runbook_lib.policies.conditions import holds
from runbook_lib.policies.evaluate import Decision, Request, decide, permitted

NAMES = {Decision.DENY: "Deny", Decision.ALLOW: "Allow", Decision.ACCOUNT: "Account", Decision.NONE: "None"}


def caller(who):
    """Return ARNs, account and service from the parts of a case."""
    return {
        "arns": [part for part in who if part.startswith("arn:")],
        "account": next((part for part in who if part.isdigit()), ""),
        "service": next((part for part in who if part.endswith(".amazonaws.com")), ""),
    }


def read(policy, who, action, resource, context):
    """Return the reader's decision in the words of the cases."""
    request = Request(action, frozenset(who["arns"]), who["account"], who["service"], resource, context)
    return NAMES[decide(policy, request)]


def test_there_are_enough_documented_cases():
    """At least 60 cases, from at least ten pages."""
    cases = [*CONDITION_CASES, *POLICY_CASES]
    assert len(cases) >= 60
    assert len({case.page for case in cases}) >= 10


@pytest.mark.parametrize("case", CONDITION_CASES, ids=lambda case: f"{case.condition} {case.context}")
def test_conditions_hold_as_documented(case):
    """An Allow under the condition allows exactly when the page says that the condition holds."""
    statement = {"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "kms:Decrypt", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": {**statement, "Condition": case.condition}}
    expected = "Allow" if case.allowed else "None"
    assert expected == read(policy, caller((ALICE, OWN)), "kms:Decrypt", KEY, case.context)
    assert expected == naive_policy.decision(policy, caller((ALICE, OWN)), "kms:Decrypt", KEY, case.context)
    assert (True if case.allowed else None) is permitted(
        [policy], action="kms:Decrypt", resource=KEY, context=case.context
    )
    assert case.allowed is holds(case.condition, case.context)


@pytest.mark.parametrize("case", POLICY_CASES, ids=lambda case: f"{case.page.split()[-1]} {case.decision}")
def test_policies_decide_as_documented(case):
    """Allow, Deny, what IAM policies of the account allow, or nothing."""
    policy = {"Version": "2012-10-17", "Statement": case.statements}
    assert case.decision == read(policy, caller(case.who), case.action, KEY, case.context)
    assert case.decision == naive_policy.decision(policy, caller(case.who), case.action, KEY, case.context)


# Random policies ------------------------------------------------------------------------------------------------

ROLE, SESSION = f"arn:aws:iam::{OWN}:role/Admin", f"arn:aws:sts::{OWN}:assumed-role/Admin/me"
CALLERS = [
    {"arns": [ALICE], "account": OWN, "service": ""},
    {"arns": [BOB], "account": OTHER, "service": ""},
    {"arns": [ROLE, SESSION], "account": OWN, "service": ""},
    {"arns": [], "account": OWN, "service": ""},
    {"arns": [], "account": "", "service": "rds.amazonaws.com"},
]
TEXTS = ["a", "A", "ab", "a*", "?b", "*", "", "true", "false", "10", "[a]", "${n}", "${s, 'a'}", "${*}",
         ALICE, ROLE, "arn:aws:iam::*:role/x*", f"arn:aws:iam::{OWN}:*", OWN]  # fmt: skip
NUMBERS, DATES = ["7", "10", "10.0", "-1"], ["2026-01-01T00:00:00Z", "2027-01-01", "1767225600"]
RANGES, BYTES = ["10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32"], ["YQ==", "YWI="]
ORDERED = ["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]
# Operators, the values that they compare, and the keys that have such values.
KINDS = [
    (["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike",
      "StringNotLike", "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike", "Bool"], TEXTS, ["s", "aws:PrincipalArn"]),
    ([f"Numeric{name}" for name in ORDERED], NUMBERS, ["n"]),
    ([f"Date{name}" for name in ORDERED], DATES, ["d"]),
    (["IpAddress", "NotIpAddress"], RANGES, ["ip"]),
    (["BinaryEquals"], BYTES, ["b"]),
]  # fmt: skip


def several(values):
    """One value, or a list of some."""
    return st.sampled_from(values) | st.lists(st.sampled_from(values), min_size=1, max_size=3)


@st.composite
def conditions(draw):
    """A Condition of at most three operators, each with a value that it can compare."""
    found = {}
    for _ in range(draw(st.integers(0, 3))):
        names, values, keys = draw(st.sampled_from(KINDS))
        operator, asked = "Null", several(["true", "false", True])
        if draw(st.integers(0, 5)):
            quantifier = draw(st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]))
            operator = quantifier + draw(st.sampled_from(names)) + draw(st.sampled_from(["", "IfExists"]))
            asked = several(values)
        found.setdefault(operator, {})[draw(st.sampled_from(keys))] = draw(asked)
    return found


@st.composite
def statements(draw):
    """A statement with every element, or its negation, or without it."""
    aws = st.lists(
        st.sampled_from([ALICE, BOB, ROLE, SESSION, ROOT, OTHER_ROOT, OWN, OTHER, "*"]), min_size=1, max_size=5
    )
    principal = draw(st.just("*") | st.fixed_dictionaries({"AWS": aws}) | st.just({"Service": "rds.amazonaws.com"}))
    action = draw(several(["kms:*", "*", "kms:*", "kms:Decrypt", "KMS:put*", "kms:De?rypt", "s3:*"]))
    resource = draw(
        several(["*", "*", "*", KEY, "arn:aws:kms:*:*:key/*", "arn:aws:kms:eu-west-1:*", "arn:aws:rds:*", "arn:aws:*"])
    )
    found = {"Effect": draw(st.sampled_from(["Allow", "Deny"]))}
    for element, value in (("Principal", principal), ("Action", action), ("Resource", resource)):
        negation = draw(st.sampled_from(["", "", "", "Not", None]))
        if negation is not None:
            found[negation + element] = value
    if draw(st.booleans()):
        found["Condition"] = draw(conditions())
    return found


CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "s": several(TEXTS) | st.just([]), "AWS:principalarn": several(TEXTS), "n": several([*NUMBERS, "x"]),
        "d": several([*DATES, "x"]), "ip": several(["10.1.2.3", "11.0.0.1", "::1", "x"]), "b": several(BYTES),
    },
)  # fmt: skip


@given(
    policy=st.fixed_dictionaries(
        {"Version": st.just("2012-10-17"), "Statement": st.lists(statements(), min_size=1, max_size=4)}
    ),
    who=st.sampled_from(CALLERS),
    action=st.sampled_from(["kms:Decrypt", "kms:PutKeyPolicy", "kms:DescribeKey"]),
    context=CONTEXTS,
)
def test_reader_and_naive_evaluator_agree(policy, who, action, context):
    """Whatever the policy and the request, both decide the same."""
    expected = naive_policy.decision(policy, who, action, KEY, context)
    assert expected == read(policy, who, action, KEY, context)


@st.composite
def comparisons(draw):
    """One operator with its key and values, and a context that has the key, with one value or several, or has not."""
    names, values, keys = draw(st.sampled_from([*KINDS, KINDS[0], KINDS[0]]))
    quantifier = draw(st.sampled_from(["", "ForAllValues:", "ForAnyValue:"]))
    operator = quantifier + draw(st.sampled_from(names)) + draw(st.sampled_from(["", "", "IfExists"]))
    got = draw(several([*values, "x", f"arn:aws:iam::{OWN}:role/xy:z", ROLE]) | st.just([]) | st.none())
    context = {"n": draw(st.sampled_from(["a", "*", "b"])), "s": draw(st.sampled_from(["a", "*"]))}
    context = {key: value for key, value in context.items() if draw(st.integers(0, 3))}
    return {operator: {keys[0]: draw(several(values))}}, context | ({} if got is None else {keys[0]: got})


@given(comparisons())
@example(({"StringEquals": {"s": "${s, 'a'}"}}, {"s": "${n}"}))  # what a variable stands for is text, not a variable
def test_reader_and_naive_evaluator_agree_on_each_operator(case):
    """Every operator, quantifier and suffix, with the key present, empty or absent."""
    assert naive_policy.condition_is_true(*case) is holds(*case)
