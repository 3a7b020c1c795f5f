"""Key policies: the documents that are built, and the reading of who may do what."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import cast

import pytest

from runbook_lib.aws.session import Session
from runbook_lib.errors import InputError, PolicyInvalid
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.policies import key_policy as policy_builder
from runbook_lib.policies import reading
from runbook_lib.steps import permissions, review_policy
from runbook_lib.steps.open_step import OpenStep

ACCOUNT = "123456789012"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/KeyAdmin"
USER = f"arn:aws:iam::{ACCOUNT}:role/db/Operator"
RDS = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
THROUGH_RDS = {
    "kms:ViaService": "rds.eu-west-2.amazonaws.com",
    "kms:CallerAccount": ACCOUNT,
    "kms:GrantIsForAWSResource": "true",
}


def build(**changed):
    given = {
        "account_id": ACCOUNT,
        "region": "eu-west-2",
        "dns_suffix": "amazonaws.com",
        "key_administrators": [ADMIN],
        "allow_key_deletion": True,
        "key_users": [USER],
        "rds_service_linked_role": True,
        **changed,
    }
    return policy_builder.key_policy(**given)


def with_statement(**statement):
    document = copy.deepcopy(build())
    document["Statement"].append({"Sid": "Extra", "Effect": "Allow", "Resource": "*", **statement})
    return document


# What is built ----------------------------------------------------------------------------------------------


def test_the_key_policy_is_this_document():
    """The whole of it, literally: the account's root, administrators, users through RDS, the post's role."""
    assert {
        "Version": "2012-10-17",
        "Id": "aurora-byok",
        "Statement": [
            {
                "Sid": "EnableIamPolicies",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Sid": "KeyAdministrators",
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam::123456789012:role/KeyAdmin"]},
                "Action": [
                    "kms:DescribeKey",
                    "kms:GetKeyPolicy",
                    "kms:ListKeyPolicies",
                    "kms:PutKeyPolicy",
                    "kms:ListGrants",
                    "kms:RevokeGrant",
                    "kms:ListResourceTags",
                    "kms:TagResource",
                    "kms:UntagResource",
                    "kms:UpdateKeyDescription",
                    "kms:CreateAlias",
                    "kms:UpdateAlias",
                    "kms:DeleteAlias",
                    "kms:EnableKey",
                    "kms:DisableKey",
                    "kms:GetParametersForImport",
                    "kms:ImportKeyMaterial",
                    "kms:DeleteImportedKeyMaterial",
                    "kms:RotateKeyOnDemand",
                    "kms:ListKeyRotations",
                    "kms:GetKeyRotationStatus",
                    "kms:GetKeyLastUsage",
                    "kms:ScheduleKeyDeletion",
                    "kms:CancelKeyDeletion",
                ],
                "Resource": "*",
            },
            {
                "Sid": "KeyUsersLookAtTheKey",
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam::123456789012:role/db/Operator"]},
                "Action": ["kms:DescribeKey", "kms:ListGrants"],
                "Resource": "*",
            },
            {
                "Sid": "KeyUsersCreateGrantsThroughRds",
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam::123456789012:role/db/Operator"]},
                "Action": "kms:CreateGrant",
                "Resource": "*",
                "Condition": {
                    "StringEquals": {
                        "kms:ViaService": "rds.eu-west-2.amazonaws.com",
                        "kms:CallerAccount": "123456789012",
                    },
                    "Bool": {"kms:GrantIsForAWSResource": "true"},
                },
            },
            {
                "Sid": "RdsServiceRoleUsesTheKey",
                "Effect": "Allow",
                "Principal": {
                    "AWS": "arn:aws:iam::123456789012:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
                },
                "Action": [
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncrypt*",
                    "kms:GenerateDataKey*",
                    "kms:DescribeKey",
                ],
                "Resource": "*",
            },
            {
                "Sid": "RdsServiceRoleManagesGrants",
                "Effect": "Allow",
                "Principal": {
                    "AWS": "arn:aws:iam::123456789012:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
                },
                "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
                "Resource": "*",
                "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
            },
        ],
    } == build()


def test_the_switches_leave_out_exactly_their_part():
    """Without deletion two actions go, without the service-linked role two statements."""
    kept = build(allow_key_deletion=False)["Statement"][1]["Action"]
    assert {"kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"} == set(build()["Statement"][1]["Action"]) - set(kept)
    assert build()["Statement"][:4] == build(rds_service_linked_role=False)["Statement"]


PARTITIONS = [
    ("aws", "eu-west-2", "rds.eu-west-2.amazonaws.com"),
    ("aws-cn", "cn-north-1", "rds.cn-north-1.amazonaws.com.cn"),
    ("aws-us-gov", "us-gov-west-1", "rds.us-gov-west-1.amazonaws.com"),
    ("aws-eusc", "eusc-de-east-1", "rds.eusc-de-east-1.amazonaws.eu"),
    ("aws-iso", "us-iso-east-1", "rds.us-iso-east-1.c2s.ic.gov"),
    ("aws-iso-b", "us-isob-east-1", "rds.us-isob-east-1.sc2s.sgov.gov"),
]


@pytest.mark.parametrize(("partition", "region", "via"), PARTITIONS)
def test_the_key_policy_follows_the_partition(partition, region, via, monkeypatch):
    """01's policy names the account in the partition of the Region, and RDS by that partition's DNS suffix.

    KMS compares kms:ViaService with `rds.<region>.<DNS suffix>`; with another suffix the statement never applies.
    """
    user = f"arn:{partition}:iam::{ACCOUNT}:user/Ann"
    session = Session(target="aws", region=region)
    monkeypatch.setattr(session, "identity", lambda: {"Account": ACCOUNT, "Arn": user, "UserId": "x"})
    step = SimpleNamespace(session=session, require_read=lambda _: None)
    document = review_policy.build(cast(OpenStep, step), CreateKeyInputs.check({}))
    assert f"arn:{partition}:iam::{ACCOUNT}:root" == document["Statement"][0]["Principal"]["AWS"]
    assert via == document["Statement"][3]["Condition"]["StringEquals"]["kms:ViaService"]


@pytest.mark.parametrize(("partition", "region", "via"), PARTITIONS)
def test_the_printed_policies_follow_the_partition(partition, region, via):
    """`runbook permissions` prints the same service name, in the key policy and in the policy of 05."""
    asked = {"region": region, "key_administrators": ["role/Admin"], "key_users": ["role/Admin"]}
    known = permissions.values(asked, account_id=ACCOUNT, partition=partition)
    key_policy = permissions.key_policy(known)
    assert via == key_policy["Statement"][3]["Condition"]["StringEquals"]["kms:ViaService"]
    conditions = [row.get("Condition", {}) for row in permissions.policy(["05_create_cluster"], known)["Statement"]]
    asked = {"kms:KeyOrigin": "EXTERNAL", "kms:ViaService": via}
    assert {"StringEquals": asked, "Bool": {"kms:GrantIsForAWSResource": "true"}} in conditions


def test_an_unknown_partition_is_refused():
    """No suffix is guessed: the error names the partition and those that the SDK knows."""
    with pytest.raises(
        InputError, match="'aws-moon' is not a partition that this SDK knows; choose one of aws, aws-cn"
    ):
        permissions.values({}, partition="aws-moon")


@pytest.mark.parametrize(
    ("text", "arn"),
    [
        ("role/Admin", "arn:aws:iam::123456789012:role/Admin"),
        ("user/path/Ann", "arn:aws:iam::123456789012:user/path/Ann"),
        ("arn:aws:iam::999999999999:role/X", "arn:aws:iam::999999999999:role/X"),
    ],
)
def test_principals_may_be_written_short(text, arn):
    """role/Name and user/Name are of the run's account; an ARN stays as it is."""
    assert arn == policy_builder.principal_arn(text, account_id=ACCOUNT)


def test_what_is_built_is_valid_for_any_choice():
    """Nothing that the parameters allow leads to a policy that we would refuse."""
    for deletion in (True, False):
        for role in (True, False):
            reading.validate(build(allow_key_deletion=deletion, rds_service_linked_role=role))


# Who may do what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "action", "context", "expected"),
    [
        (ADMIN, "kms:ImportKeyMaterial", {}, True),
        (ADMIN, "kms:PutKeyPolicy", {}, True),
        (ADMIN, "kms:ScheduleKeyDeletion", {}, True),
        (ADMIN, "kms:Decrypt", {}, False),
        (ADMIN, "kms:Encrypt", {}, False),
        (ADMIN, "kms:GenerateDataKey", {}, False),
        (ADMIN, "kms:ReEncryptFrom", {}, False),
        (ADMIN, "kms:CreateGrant", THROUGH_RDS, False),
        (USER, "kms:DescribeKey", {}, True),
        (USER, "kms:CreateGrant", THROUGH_RDS, True),
        (USER, "kms:CreateGrant", {}, False),
        (USER, "kms:CreateGrant", {**THROUGH_RDS, "kms:ViaService": "ec2.eu-west-2.amazonaws.com"}, False),
        (USER, "kms:CreateGrant", {**THROUGH_RDS, "kms:ViaService": "rds.eu-west-1.amazonaws.com"}, False),
        (USER, "kms:CreateGrant", {**THROUGH_RDS, "kms:CallerAccount": "999999999999"}, False),
        (USER, "kms:CreateGrant", {**THROUGH_RDS, "kms:GrantIsForAWSResource": "false"}, False),
        (USER, "kms:Decrypt", THROUGH_RDS, False),
        (USER, "kms:PutKeyPolicy", {}, False),
        (USER, "kms:ImportKeyMaterial", {}, False),
        (USER, "kms:DeleteImportedKeyMaterial", {}, False),
        (USER, "kms:ScheduleKeyDeletion", {}, False),
        (RDS, "kms:GenerateDataKeyWithoutPlaintext", {}, True),
        (RDS, "kms:CreateGrant", {"kms:GrantIsForAWSResource": "true"}, True),
        (RDS, "kms:CreateGrant", {}, False),
        (RDS, "kms:PutKeyPolicy", {}, False),
        (f"arn:aws:iam::{ACCOUNT}:role/Other", "kms:DescribeKey", {}, False),
    ],
)
def test_administrators_cannot_use_and_users_cannot_administer(principal, action, context, expected):
    """The table of powers, read back from the document itself."""
    assert expected is reading.allows(build(), principal=principal, action=action, context=context)


def test_an_explicit_deny_wins():
    """Whatever else allows it."""
    document = with_statement(Effect="Deny", Principal={"AWS": ADMIN}, Action="kms:Put*")
    assert not reading.allows(document, principal=ADMIN, action="kms:PutKeyPolicy")
    assert reading.allows(document, principal=ADMIN, action="kms:DescribeKey")


def test_a_statement_without_an_effect_allows_nothing():
    """Neither in a key policy nor in one of a caller's own."""
    document = build()
    for statement in document["Statement"]:
        del statement["Effect"]
    assert not reading.allows(document, principal=ADMIN, action="kms:PutKeyPolicy")
    assert None is reading.permitted([document], action="kms:PutKeyPolicy", resource="*")


@pytest.mark.parametrize(
    ("action", "resource", "context", "expected"),
    [
        ("kms:ImportKeyMaterial", "arn:aws:kms:eu-west-2:123456789012:key/a", {"kms:ExpirationModel": "X"}, True),
        ("kms:importkeymaterial", "arn:aws:kms:eu-west-2:123456789012:key/a", {"kms:ExpirationModel": "X"}, True),
        ("kms:ImportKeyMaterial", "arn:aws:kms:eu-west-1:123456789012:key/a", {"kms:ExpirationModel": "X"}, None),
        ("kms:ImportKeyMaterial", "arn:aws:kms:eu-west-2:123456789012:key/a", {"kms:ExpirationModel": "Y"}, None),
        ("kms:ImportKeyMaterial", "arn:aws:kms:eu-west-2:123456789012:key/a", {}, None),
        ("kms:DescribeKey", "arn:aws:kms:eu-west-2:123456789012:key/a", {"kms:ExpirationModel": "X"}, None),
        ("kms:Decrypt", "*", {}, False),
    ],
)
def test_a_callers_own_policies_are_read_with_resource_and_condition(action, resource, context, expected):
    """Allowed where action, resource and condition fit; silent where one does not; a deny wins."""
    documents = [
        {"Statement": {"Effect": "Allow", "Action": "kms:Import*", "Resource": "arn:aws:kms:eu-west-2:123456789012:key/*",
                       "Condition": {"StringEquals": {"kms:ExpirationModel": "X"}}}},
        {"Statement": [{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}]},
        {"Statement": [{"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}]},
    ]  # fmt: skip
    assert expected is reading.permitted(documents, action=action, resource=resource, context=context)


@pytest.mark.parametrize(
    ("operator", "value", "found", "expected"),
    [
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "a", "b", False),
        ("StringEquals", "a", None, False),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", "a", "a", False),
        ("StringLike", "rds.*", "rds.eu-west-2", True),
        ("StringLike", "rds.*", "ec2.eu-west-2", False),
        ("ArnLike", "arn:aws:iam::*:role/x", "arn:aws:iam::1:role/x", True),
        ("Bool", "true", "True", True),
        ("Bool", "true", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("Null", "true", None, True),
        ("Null", "false", None, False),
        ("StringNotLike", "rds.*", "rds.eu-west-2", False),
        ("NumericLessThanEquals", "365", 365, True),
        ("NumericLessThanEquals", "365", "366", False),
        ("NumericNotEquals", "7", 7, False),
        ("DateLessThan", "2027-01-01T00:00:00Z", "2026-12-31T23:59:59+00:00", True),
        ("DateLessThan", "2027-01-01T00:00:00Z", "2027-01-01T00:00:01+00:00", False),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", ["a", "b"], ["a"], True),
        ("ForAllValues:StringEquals", ["a", "b"], None, True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["a", "c"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], None, False),
        ("StringNotEquals", ["a", "b"], "b", False),
    ],
)
def test_conditions_are_read_as_iam_reads_them(operator, value, found, expected):
    """Operator by operator; an absent key holds only for a negated one."""
    document = with_statement(Principal={"AWS": USER}, Action="kms:Sign", Condition={operator: {"k": value}})
    context = {} if found is None else {"k": found}
    assert expected is reading.allows(document, principal=USER, action="kms:Sign", context=context)


@pytest.mark.parametrize(
    "condition",
    [
        {"DateLessThan": {"k": "x"}},
        {"NumericEquals": {"k": "many"}},
        {"IpAddress": {"k": "10.0.0.0/99"}},
        {"BinaryEquals": {"k": "?"}},
        {"ForEach:StringEquals": {"k": "x"}},
        {"StringEquals": "x"},
        {"NullIfExists": {"k": "true"}},
        {"ForAnyValue:Null": {"k": "true"}},
        {"NumericNotLessThan": {"k": "7"}},
        {"NotStringEquals": {"k": "7"}},
    ],
)
@pytest.mark.parametrize("context", [{}, {"k": "2027-01-01"}])
def test_a_condition_that_iam_does_not_have_is_refused(condition, context):
    """It never answers from a policy that it has not understood, whether the request has the key or not."""
    document = with_statement(Principal={"AWS": USER}, Action="kms:Sign", Condition=condition)
    for read in (
        lambda: reading.allows(document, principal=USER, action="kms:Sign", context=context),
        lambda: reading.validate(document),
        lambda: reading.who_may(document),
    ):
        with pytest.raises(PolicyInvalid, match="review the policy manually"):
            read()


def test_an_element_and_its_negation_exclude_each_other():
    """A statement with both is not a statement of IAM."""
    with pytest.raises(PolicyInvalid, match="both Action and NotAction; keep one of them"):
        reading.who_may(with_statement(Principal={"AWS": USER}, Action="kms:Sign", NotAction="kms:Decrypt"))


def test_the_table_says_who_may_do_what_in_words():
    """One row per statement and principal."""
    rows = [tuple(row.values()) for row in reading.who_may(build())]
    admin = "administer it, import its material, schedule its deletion"
    condition = (
        "through rds.eu-west-2.amazonaws.com, called from account 123456789012, for a resource of an AWS service"
    )
    assert [
        (ROOT, "whatever IAM policies of this account allow; nothing by itself", ""),
        (ADMIN, admin, ""),
        (USER, "DescribeKey, ListGrants", ""),
        (USER, "create grants on it", condition),
        (RDS, "encrypt and decrypt with it", ""),
        (RDS, "create grants on it", "for a resource of an AWS service"),
    ] == rows


def test_the_words_for_the_root_are_not_said_of_others():
    """kms:* in the hand of a role is every power, not none."""
    rows = reading.who_may(with_statement(Principal={"AWS": USER}, Action="kms:*"))
    said = rows[-1]["may"]
    assert "encrypt and decrypt with it" in said
    assert "administer it" in said


# What is refused, and what is warned of ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ({"Principal": {"AWS": USER}}, "Extra has no Action, so it has no effect"),
        ({"Principal": {"AWS": USER}, "Action": "kms:Sign", "Resource": ""}, "Extra has no Resource"),
        ({"Action": "kms:Sign"}, "Extra has no Principal"),
        ({"Principal": "*", "Action": "kms:Decrypt"}, "Extra allows everyone"),
        ({"Principal": {"AWS": "*"}, "Action": "kms:Decrypt"}, "Extra allows everyone"),
        ({"NotPrincipal": {"AWS": USER}, "Action": "kms:Decrypt"}, "Extra has NotPrincipal, which matches everything"),
        ({"Effect": "Deny", "Principal": "*", "Action": "kms:*"}, "no principal could change it"),
        ({"Effect": "Deny", "Principal": "*", "Action": "kms:Put*"}, "no principal could change it"),
    ],
)
def test_a_policy_that_would_not_do_what_it_says_is_refused(statement, words):
    """What KMS accepts in silence to no effect, what locks everybody out, and what allows everyone."""
    with pytest.raises(PolicyInvalid, match=words):
        reading.validate(with_statement(**statement))


def test_a_policy_without_the_root_and_administrators_locks_out():
    """Lock-out is seen before KMS is asked; a condition on the only way in counts as none."""
    document = build()
    document["Statement"] = document["Statement"][2:]
    with pytest.raises(PolicyInvalid, match="no principal could change it"):
        reading.validate(document)
    document = build()
    for statement in document["Statement"][:2]:
        statement["Condition"] = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    with pytest.raises(PolicyInvalid, match="no principal could change it"):
        reading.validate(document)


def test_the_quota_is_checked_here():
    """32 KB, which KMS does not raise."""
    many = [f"arn:aws:iam::{ACCOUNT}:role/{'x' * 60}-{number}" for number in range(400)]
    with pytest.raises(PolicyInvalid, match="KMS accepts 32768: name fewer principals"):
        reading.validate(build(key_users=many))


def test_same_sees_through_the_order_and_the_form_of_lists():
    """As KMS gives a policy back, it may be written otherwise; a changed power is never the same."""
    document = build(key_users=[USER, ADMIN])
    other = json.loads(json.dumps(document))
    other["Statement"].reverse()
    other["Statement"][-2]["Principal"]["AWS"] = ADMIN
    other["Statement"][-3]["Principal"]["AWS"].reverse()
    assert reading.same(document, other)
    other["Statement"][-2]["Action"].append("kms:Decrypt")
    assert not reading.same(document, other)


def test_variables_are_filled_in_resources():
    """A caller's own policies may name resources by policy variables; without the key nothing matches."""
    document = {"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:eu-west-2:*:alias/${aws:username}"}}  # fmt: skip
    alias = f"arn:aws:kms:eu-west-2:{ACCOUNT}:alias/ann"
    for context, expected in (({"aws:username": "ann"}, True), ({"aws:username": "*"}, None), ({}, None)):
        assert expected is reading.permitted([document], action="kms:CreateAlias", resource=alias, context=context)
    with pytest.raises(PolicyInvalid, match="is plain text in this policy; set Version to 2012-10-17"):
        reading.permitted([{**document, "Version": "2008-10-17"}], action="kms:CreateAlias", resource=alias)
