"""A key policy in words: conditions, actions, principals, warnings; and whether it can still be changed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runbook_lib.errors import PolicyInvalid
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.policies import reading
from runbook_lib.steps import create_key, review_policy
from runbook_lib.steps.open_step import OpenStep

OWN, OTHER = "111122223333", "444455556666"
ROOT, OTHER_ROOT = f"arn:aws:iam::{OWN}:root", f"arn:aws:iam::{OTHER}:root"
ROLE, SECOND = f"arn:aws:iam::{OWN}:role/Admin", f"arn:aws:iam::{OWN}:role/Second"
KEY = f"arn:aws:kms:eu-west-2:{OWN}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FOLDER = Path(__file__).parent / "data" / "policies"
ENABLE_IAM = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}


def statement(**elements: Any) -> dict[str, Any]:
    """Return an Allow for a role, with other elements; None takes one out."""
    whole = {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:Decrypt", "Resource": "*", **elements}
    return {name: value for name, value in whole.items() if value is not None}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [ENABLE_IAM, *statements]}


def last_row(**elements: Any) -> dict[str, str]:
    """Return the row of a policy's last statement."""
    return reading.who_may(policy(statement(**elements)), account_id=OWN)[-1]


# Conditions -----------------------------------------------------------------------------------------------------

CONDITIONS = [
    # what an Allow says, what a Deny says
    ({}, "", "always denied"),
    ({"StringEquals": {"aws:PrincipalArn": ROLE}}, f"aws:PrincipalArn is {ROLE}", f"denied if aws:PrincipalArn is {ROLE}"),
    ({"StringNotEquals": {"aws:PrincipalArn": [ROLE, SECOND]}},
     f"aws:PrincipalArn is not one of {ROLE}, {SECOND} (or is absent)",
     f"denied unless aws:PrincipalArn is one of {ROLE}, {SECOND}"),
    ({"StringNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/a*"}},
     "aws:PrincipalArn is not like arn:aws:iam::*:role/a* (or is absent)",
     "denied unless aws:PrincipalArn is like arn:aws:iam::*:role/a*"),
    ({"ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::*:role/a*", ROLE]}},
     f"aws:PrincipalArn is not like one of arn:aws:iam::*:role/a*, {ROLE} (or is absent)",
     f"denied unless aws:PrincipalArn is like one of arn:aws:iam::*:role/a*, {ROLE}"),
    ({"ArnNotEquals": {"aws:PrincipalArn": ROLE}}, f"aws:PrincipalArn is not {ROLE} (or is absent)",
     f"denied unless aws:PrincipalArn is {ROLE}"),
    ({"StringNotEqualsIgnoreCase": {"aws:username": "ann"}}, "aws:username is not equal, ignoring case, to ann (or is absent)",
     "denied unless aws:username is equal, ignoring case, to ann"),
    ({"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.0.2.1"]}},
     "aws:SourceIp is not in one of 10.0.0.0/8, 192.0.2.1 (or is absent)",
     "denied unless aws:SourceIp is in one of 10.0.0.0/8, 192.0.2.1"),
    ({"NumericNotEquals": {"k": 7}}, "k is not 7 (or is absent)", "denied unless k is 7"),
    ({"NumericLessThan": {"k": "7"}}, "k is less than 7", "denied if k is less than 7"),
    ({"DateGreaterThanEquals": {"aws:CurrentTime": "2027-01-01T00:00:00Z"}},
     "aws:CurrentTime is at or after 2027-01-01T00:00:00Z", "denied if aws:CurrentTime is at or after 2027-01-01T00:00:00Z"),
    # IfExists
    ({"StringEqualsIfExists": {"aws:SourceVpce": "vpce-1"}}, "aws:SourceVpce is vpce-1 (or is absent)",
     "denied if aws:SourceVpce is vpce-1 (or is absent)"),
    ({"StringNotEqualsIfExists": {"aws:SourceVpce": "vpce-1"}}, "aws:SourceVpce is not vpce-1 (or is absent)",
     "denied unless aws:SourceVpce is vpce-1"),
    ({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}, "aws:MultiFactorAuthPresent is false (or is absent)",
     "denied if aws:MultiFactorAuthPresent is false (or is absent)"),
    ({"StringEqualsIfExists": {"kms:ViaService": "rds.eu-west-2.amazonaws.com"}},
     "kms:ViaService is rds.eu-west-2.amazonaws.com (or is absent)",
     "denied if kms:ViaService is rds.eu-west-2.amazonaws.com (or is absent)"),
    # Null and Bool
    ({"Null": {"aws:TokenIssueTime": "true"}}, "aws:TokenIssueTime is absent", "denied if aws:TokenIssueTime is absent"),
    ({"Null": {"aws:TokenIssueTime": False}}, "aws:TokenIssueTime is present", "denied if aws:TokenIssueTime is present"),
    ({"Bool": {"kms:GrantIsForAWSResource": "false"}}, "kms:GrantIsForAWSResource is false",
     "denied if kms:GrantIsForAWSResource is false"),
    ({"Bool": {"kms:GrantIsForAWSResource": True}}, "for a resource of an AWS service",
     "denied if kms:GrantIsForAWSResource is true"),
    # Sets
    ({"ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt", "Encrypt"]}},
     "every value of kms:GrantOperations is one of Decrypt, Encrypt (or there is none)",
     "denied if every value of kms:GrantOperations is one of Decrypt, Encrypt (or there is none)"),
    ({"ForAnyValue:StringEquals": {"kms:GrantOperations": "Decrypt"}}, "at least one value of kms:GrantOperations is Decrypt",
     "denied if at least one value of kms:GrantOperations is Decrypt"),
    ({"ForAllValues:StringNotEquals": {"kms:GrantOperations": "Decrypt"}}, "no value of kms:GrantOperations is Decrypt",
     "denied unless at least one value of kms:GrantOperations is Decrypt"),
    ({"ForAnyValue:StringNotLike": {"kms:GrantOperations": "De*"}}, "at least one value of kms:GrantOperations is not like De*",
     "denied unless every value of kms:GrantOperations is like De* (or there is none)"),
    # Several
    ({"StringNotEquals": {"aws:PrincipalArn": ROLE, "aws:PrincipalAccount": OWN}},
     f"aws:PrincipalArn is not {ROLE} (or is absent) and aws:PrincipalAccount is not {OWN} (or is absent)",
     f"denied unless aws:PrincipalArn is {ROLE} or aws:PrincipalAccount is {OWN}"),
    ({"StringNotEquals": {"aws:SourceVpce": "vpce-1"}, "Bool": {"aws:ViaAWSService": "false"}},
     "aws:SourceVpce is not vpce-1 (or is absent) and aws:ViaAWSService is false",
     "denied if aws:ViaAWSService is false, unless aws:SourceVpce is vpce-1"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "allow", "deny"), CONDITIONS)
def test_conditions_are_put_into_words(condition, allow, deny):
    """What an Allow needs, and what a Deny applies to: negations, absent keys and sets say what they mean."""
    assert allow == last_row(Condition=condition)["only if"]
    row = last_row(Effect="Deny", Condition=condition)
    assert (deny, "decrypt with it") == (row["only if"], row["may not"])
    assert "may" not in row


# Actions and principals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Action": "kms:Decrypt"}, "decrypt with it"),
        ({"Action": "kms:Encrypt"}, "encrypt with it"),
        ({"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"]}, "encrypt and decrypt with it"),
        ({"Action": ["kms:Decrypt", "kms:Sign", "kms:GenerateMac"]}, "decrypt with it, Sign, GenerateMac"),
        ({"Action": "kms:PutKeyPolicy"}, "change its key policy"),
        ({"Action": "kms:CancelKeyDeletion"}, "CancelKeyDeletion"),
        ({"Action": None, "NotAction": ["kms:Put*", "kms:Decrypt"]}, "everything except Put*, Decrypt"),
        ({"Principal": {"AWS": ROOT}, "Action": ["kms:*", "kms:PutKeyPolicy"]},
         "whatever IAM policies of this account allow; nothing by itself"),
        ({"Principal": {"AWS": OWN}, "Action": "*"}, "whatever IAM policies of this account allow; nothing by itself"),
        ({"Principal": {"AWS": ROOT}}, "whatever IAM policies of this account allow, of: decrypt with it; nothing by itself"),
        ({"Principal": {"AWS": OTHER}, "Action": "kms:*"},
         "whatever IAM policies of account 444455556666 allow; nothing by itself"),
    ],
)  # fmt: skip
def test_actions_are_put_into_words(elements, words):
    """No more than the statement comprises; an account is what its IAM policies allow."""
    assert words == last_row(**elements)["may"]


def test_a_deny_for_an_account_denies_to_all_of_it():
    """The words for an Allow, IAM policies, are not said of a Deny."""
    row = last_row(Effect="Deny", Principal={"AWS": ROOT}, Action="kms:*")
    assert {"who": ROOT, "may not": "everything", "only if": "always denied"} == row


def test_not_principal_names_everybody_else():
    """One row for the statement; a NotPrincipal without the account is warned of."""
    row = last_row(Effect="Deny", Principal=None, NotPrincipal={"AWS": [ROLE, ROOT]}, Action="kms:*")
    assert {"who": f"everyone except {ROLE}, {ROOT}", "may not": "everything", "only if": "always denied"} == row
    row = last_row(Effect="Deny", Principal=None, NotPrincipal={"AWS": ROLE}, Action="kms:*")
    assert (
        "NotPrincipal does not list account 111122223333 itself, so AWS may deny all of it: add its root"
        == row["warning"]
    )


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        (
            {"Resource": "arn:aws:rds:eu-west-2:111122223333:db:*"},
            "its Resource arn:aws:rds:eu-west-2:111122223333:db:* cannot be",
        ),
        (
            {"Resource": ["arn:aws:dynamodb:*", "arn:aws:s3:::b/*"]},
            "its Resource arn:aws:dynamodb:*, arn:aws:s3:::b/* cannot be",
        ),
        ({"Resource": "arn:aws:kms:eu-west-2:111122223333:alias/aurora"}, "alias/aurora cannot be this key"),
        ({"Resource": f"arn:aws:kms:eu-west-1:{OWN}:key/*"}, "cannot be this key"),
        ({"Resource": KEY[:-1] + "c"}, "cannot be this key"),
        ({"Resource": None, "NotResource": "*"}, "its NotResource * excludes this key"),
        ({"Resource": None}, "has no Resource, so it has no effect"),
        ({"Action": None}, "has no Action, so it has no effect"),
        ({"Action": ["s3:*", "rds:*"]}, "its Action names no action of KMS (s3:*, rds:*)"),
    ],
)
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_a_statement_without_effect_is_said_to_have_none(elements, reason, effect):
    """In the table, as a warning, and as a refusal: neither an Allow nor a Deny counts."""
    document = policy(statement(Effect=effect, **elements))
    row = reading.who_may(document, account_id=OWN, key_arn=KEY)[-1]
    said = row["may" if effect == "Allow" else "may not"]
    assert said.startswith("nothing: the statement has no")
    assert "no effect" in said
    assert reason in said
    assert [f"statement 2: {row['warning']}"] == reading.warnings(document, account_id=OWN, key_arn=KEY)
    with pytest.raises(PolicyInvalid, match="statement 2 has no"):
        reading.validate(document, key_arn=KEY)


@pytest.mark.parametrize(
    "elements",
    [
        {"Resource": KEY},
        {"Resource": ["arn:aws:dynamodb:*", "*"]},
        {"Resource": "arn:aws:kms:*:111122223333:key/*"},
        {"Resource": "arn:aws:*"},
        {"Resource": None, "NotResource": "arn:aws:s3:::b/*"},
    ],
)
def test_a_resource_that_is_the_key_has_effect(elements):
    """`*` and the key's own ARN, also with wildcards, and before the key exists."""
    document = policy(statement(**elements))
    for key in (KEY, f"arn:aws:kms:eu-west-2:{OWN}:key/*"):
        assert "decrypt with it" == reading.who_may(document, account_id=OWN, key_arn=key)[-1]["may"]
        reading.validate(document, account_id=OWN, key_arn=key)


# Warnings -------------------------------------------------------------------------------------------------------

EVERYBODY = "everyone, in every AWS account: name principals, or add a condition on the caller's account"


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({}, None),
        ({"Principal": {"AWS": OTHER}},
         "account 444455556666 is another account: whatever IAM policies of account 444455556666 allow; "
         "remove it unless its administrators may decide who uses the key"),
        ({"Principal": {"AWS": f"arn:aws:iam::{OTHER}:role/x"}},
         "arn:aws:iam::444455556666:role/x belongs to another account, 444455556666 (decrypt with it); "
         "remove it unless that is intended"),
        ({"Effect": "Deny", "Principal": {"AWS": OTHER}}, None),
        ({"Principal": "*"}, EVERYBODY),
        ({"Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, EVERYBODY),
        ({"Principal": "*", "Condition": {"StringNotEquals": {"kms:CallerAccount": OTHER}}}, EVERYBODY),
        ({"Principal": "*", "Condition": {"StringEquals": {"kms:ViaService": "rds.eu-west-2.amazonaws.com"}}}, EVERYBODY),
        ({"Principal": "*", "Condition": {"Null": {"aws:PrincipalOrgID": "false"}}}, EVERYBODY),
        ({"Principal": "*", "Condition": {"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}}, EVERYBODY),
        ({"Principal": "*", "Condition": {"ForAllValues:StringLike": {"aws:PrincipalOrgPaths": "o-1/*"}}}, EVERYBODY),
        ({"Principal": "*", "Condition": {"StringLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/Admin"}}}, EVERYBODY),
        ({"Principal": "*", "Condition": {"StringEquals": {"kms:CallerAccount": OWN}}}, None),
        ({"Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}, None),
        ({"Principal": "*", "Condition": {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{OWN}:role/*"}}}, None),
        ({"Principal": "*", "Condition": {"StringEquals": {"kms:CallerAccount": [OWN, OTHER]}}},
         "everyone in another account, 444455556666 (decrypt with it); remove it unless that is intended"),
    ],
)  # fmt: skip
def test_what_deserves_a_look_is_warned_of(elements, words):
    """Other accounts, and everybody under a condition that does not restrict who calls."""
    assert words == last_row(**elements).get("warning")
    assert ([] if words is None else [f"statement 2: {words}"]) == reading.warnings(
        policy(statement(**elements)), account_id=OWN
    )


# Lock-out -------------------------------------------------------------------------------------------------------

DENY_ALL = {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}


@pytest.mark.parametrize(
    "denied",
    [
        {**DENY_ALL, "Condition": {"StringNotEquals": {"aws:PrincipalArn": [SECOND]}}},
        {**DENY_ALL, "Condition": {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{OWN}:role/a*"}}},
        {**DENY_ALL, "Condition": {"StringNotEquals": {"aws:PrincipalAccount": OWN}}},
        {**DENY_ALL, "Condition": {"StringNotEquals": {"kms:CallerAccount": [OWN, OTHER]}}},
        {**DENY_ALL, "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}},
        {**DENY_ALL, "Condition": {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}},
        {**DENY_ALL, "Condition": {"StringEquals": {"kms:ViaService": "rds.eu-west-2.amazonaws.com"}}},
        {**DENY_ALL, "Action": "kms:Decrypt"},
        {**DENY_ALL, "Principal": {"AWS": SECOND}},
        {**DENY_ALL, "Principal": {"AWS": OTHER}},
        {"Effect": "Deny", "NotPrincipal": {"AWS": [ROLE, ROOT]}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "NotAction": ["kms:Put*", "kms:Get*"], "Resource": "*"},
    ],
)
def test_a_deny_that_leaves_somebody_is_no_lock_out(denied):
    """A conditional Deny, one with an exception, and one for others."""
    reading.validate(policy(denied), account_id=OWN)
    reading.validate(policy(denied))


@pytest.mark.parametrize(
    "denied",
    [
        DENY_ALL,
        {**DENY_ALL, "Principal": {"AWS": ROOT}},
        {**DENY_ALL, "Principal": {"AWS": OWN}},
        {**DENY_ALL, "Condition": {"StringEquals": {"aws:PrincipalAccount": OWN}}},
        {**DENY_ALL, "Condition": {"StringNotEquals": {"aws:PrincipalAccount": OTHER}}},
        {**DENY_ALL, "Condition": {"StringNotEquals": {"kms:ViaService": "rds.eu-west-2.amazonaws.com"}}},
        {**DENY_ALL, "Condition": {"Null": {"kms:ViaService": "true"}}},
        {**DENY_ALL, "Condition": {"Null": {"aws:PrincipalArn": "false"}}},
        {**DENY_ALL, "Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:*"}}},
        {"Effect": "Deny", "NotPrincipal": {"AWS": OTHER_ROOT}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "NotAction": "kms:Decrypt", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "NotResource": "arn:aws:s3:::b"},
    ],
)
def test_a_deny_for_everybody_in_the_account_is_a_lock_out(denied):
    """However it is written."""
    with pytest.raises(PolicyInvalid, match="no principal could change it"):
        reading.validate(policy(denied), account_id=OWN)


def test_another_account_cannot_change_the_policy():
    """PutKeyPolicy has no cross-account use, and a service does not call it."""
    for principal in ({"AWS": OTHER_ROOT}, {"AWS": f"arn:aws:iam::{OTHER}:role/x"}, {"Service": "rds.amazonaws.com"}):
        document = {"Statement": {"Effect": "Allow", "Principal": principal, "Action": "kms:*", "Resource": "*"}}
        with pytest.raises(PolicyInvalid, match="no principal could change it"):
            reading.validate(document, account_id=OWN)


# Whole policies -------------------------------------------------------------------------------------------------

IAM_POLICIES = "whatever IAM policies of this account allow; nothing by itself"
FOREIGN = (
    "account 444455556666 is another account: whatever IAM policies of account 444455556666 allow; "
    "remove it unless its administrators may decide who uses the key"
)
OF_RDS = (
    "the statement has no effect: its Resource arn:aws:rds:eu-west-2:111122223333:db:dev-* cannot be this key; "
    'write Resource "*"'
)
OF_DYNAMODB = 'the statement has no effect: its Resource arn:aws:dynamodb:* cannot be this key; write Resource "*"'
USE = "encrypt and decrypt with it"
# Per file: the rows, the warnings, and what validate says ("" for valid).
EXAMPLES: dict[str, tuple[list[tuple[str, ...]], list[str], str]] = {
    "rds_callers_and_another_account": (
        [
            ("*", f"{USE}, create grants on it", "through rds.eu-west-2.amazonaws.com, called from account 111122223333"),
            (ROOT, IAM_POLICIES, ""),
            (OTHER_ROOT, f"whatever IAM policies of account {OTHER} allow, of: {USE}, create grants on it; nothing by itself",
             "", FOREIGN),
        ],
        [f"S3Allow: {FOREIGN}"],
        "",
    ),
    "deny_all_but_three": (
        [
            (ROOT, IAM_POLICIES, ""),
            (f"arn:aws:iam::{OWN}:role/tenant-a", USE, ""),
            ("*", "everything", f"denied unless aws:PrincipalArn is one of {ROOT}, {ROLE}, arn:aws:iam::{OWN}:role/tenant-a"),
        ],
        [],
        "",
    ),
    "service_with_a_resource_of_rds": (
        [(ROLE, "administer it, schedule its deletion, create grants on it", ""),
         ("rds.amazonaws.com", f"nothing: {OF_RDS}", "", OF_RDS)],
        [f"S2Allow: {OF_RDS}"],
        "S2Allow has no effect: its Resource arn:aws:rds",
    ),
    "deny_other_accounts": (
        [
            (ROOT, IAM_POLICIES, ""),
            ("*", "everything", "denied unless aws:PrincipalAccount is 111122223333"),
            ("logs.amazonaws.com", USE, ""),
            ("rds.amazonaws.com", USE, ""),
        ],
        [],
        "",
    ),
    "another_accounts_root": (
        [(ROOT, IAM_POLICIES, ""),
         (OTHER_ROOT, "whatever IAM policies of account 444455556666 allow; nothing by itself", "", FOREIGN)],
        [f"S2Allow: {FOREIGN}"],
        "",
    ),
    "deny_decrypt_unless_like": (
        [
            (ROOT, IAM_POLICIES, ""),
            ("*", "decrypt with it", f"denied unless aws:PrincipalArn is like one of arn:aws:iam::{OWN}:role/reader*, "
                                     f"arn:aws:iam::{OWN}:role/writer*"),
        ],
        [],
        "",
    ),
    "two_roots": (
        [(ROOT, IAM_POLICIES, ""),
         (OTHER_ROOT, "whatever IAM policies of account 444455556666 allow; nothing by itself", "", FOREIGN)],
        [f"S1Allow: {FOREIGN}"],
        "",
    ),
    "resource_of_dynamodb": (
        [(ROOT, f"nothing: {OF_DYNAMODB}", "", OF_DYNAMODB)],
        [f"S1Allow: {OF_DYNAMODB}"],
        "S1Allow has no effect: .* no principal could change it",
    ),
}  # fmt: skip


def test_every_example_is_read():
    """Each file of the folder has its row here."""
    assert set(EXAMPLES) == {path.stem for path in FOLDER.glob("*.json")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_read_and_judged(name):
    """Policies as people have them: in words, with warnings, and valid or not; with the account given or found."""
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    rows, warnings, problem = EXAMPLES[name]
    for account in (OWN, ""):
        assert rows == [tuple(row.values()) for row in reading.who_may(document, account_id=account)]
        assert warnings == reading.warnings(document, account_id=account)
        if problem:
            with pytest.raises(PolicyInvalid, match=problem):
                reading.validate(document, account_id=account)
        else:
            reading.validate(document, account_id=account)


def test_the_table_of_the_notebook_shows_deny_and_warnings():
    """A column for what is denied, one for warnings, and each cell under its own heading."""
    document = policy(statement(Effect="Deny"), statement(Principal={"AWS": OTHER}))
    assert [
        ["who", "may", "may not", "condition", "warning"],
        [ROOT, IAM_POLICIES, "", "", ""],
        [ROLE, "", "decrypt with it", "always denied", ""],
        [
            OTHER,
            f"whatever IAM policies of account {OTHER} allow, of: decrypt with it; nothing by itself",
            "",
            "",
            FOREIGN,
        ],
    ] == [list(review_policy.who_may(document).columns), *map(list, review_policy.who_may(document).rows)]


def test_the_plan_of_the_key_shows_the_warnings():
    """A headless run sees no table: its plan says which other account the policy lets in."""
    step = SimpleNamespace(session=SimpleNamespace(account_id=OWN), tags=dict)
    asked = CreateKeyInputs.check({})
    document = policy(statement(Principal={"AWS": f"arn:aws:iam::{OTHER}:role/x"}))
    detail = create_key._key(cast(OpenStep, step), asked, "", document).detail
    assert "ends in PendingImport; statement 2: arn:aws:iam::444455556666:role/x belongs to another account" in detail
    assert create_key._key(cast(OpenStep, step), asked, "", policy()).detail.endswith("ends in PendingImport")
