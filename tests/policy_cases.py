"""Cases of AWS's own documentation: a policy, a request, and the decision that the page states.

Each case names its page: `IAM` is the IAM user guide, `KMS` the KMS developer guide, `blog` the AWS security blog.
Account numbers are the ones of the documentation: 111122223333 owns the key, 444455556666 is another account.
"""

from __future__ import annotations

from typing import Any, NamedTuple

OPERATORS = "IAM reference_policies_elements_condition_operators"
SETS = "IAM reference_policies_condition-single-vs-multi-valued-context-keys"
SETS_EXAMPLES = "IAM reference_policies_multi-value-conditions"
SEVERAL = "IAM reference_policies_condition-logic-multiple-context-keys-or-values"
LOGIC = "IAM reference_policies_evaluation-logic"
PRINCIPAL = "IAM reference_policies_elements_principal"
NOT_PRINCIPAL = "IAM reference_policies_elements_notprincipal"
NOT_ACTION = "IAM reference_policies_elements_notaction"
NOT_RESOURCE = "IAM reference_policies_elements_notresource"
ACTION = "IAM reference_policies_elements_action"
RESOURCE = "IAM reference_policies_elements_resource"
CONDITION = "IAM reference_policies_elements_condition"
GLOBAL = "IAM reference_policies_condition-keys"
VARIABLES = "IAM reference_policies_variables"
KEY_POLICY = "KMS key-policy-overview"
DEFAULT = "KMS key-policy-default"
OTHERS = "KMS key-policy-modifying-external-accounts"
CONDITIONS = "KMS conditions-kms"

KEY = "arn:aws:kms:eu-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OWN, OTHER = "111122223333", "444455556666"
ROOT, OTHER_ROOT = f"arn:aws:iam::{OWN}:root", f"arn:aws:iam::{OTHER}:root"
ALICE = f"arn:aws:iam::{OWN}:user/Alice"
BOB = f"arn:aws:iam::{OTHER}:user/Bob"
CAROL = f"arn:aws:iam::{OTHER}:user/Carol"
AUDIT_ROLE = f"arn:aws:iam::{OTHER}:role/cross-account-read-only-role"
AUDIT_SESSION = f"arn:aws:sts::{OTHER}:assumed-role/cross-account-read-only-role/cross-account-audit-app"


class ConditionCase(NamedTuple):
    """A Condition of an Allow for the caller, the request's context, and whether the statement then allows."""

    page: str
    condition: dict[str, Any]
    context: dict[str, Any]
    allowed: bool


class PolicyCase(NamedTuple):
    """A policy's statements, who asks (ARNs, account or service), and the decision."""

    page: str
    statements: list[dict[str, Any]]
    who: tuple[str, ...]
    action: str
    decision: str
    context: dict[str, Any] = {}  # noqa: RUF012 - never changed


_SNS = {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:eu-west-2:123456789012:topic"}}
_FINANCE = "arn:aws:someservice:*:111122223333:finance/*"
_STORE = "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt"
_ANA = "arn:aws:iam::222222222222:user/Ana"
_TAGS = {"StringEquals": {"aws:PrincipalTag/department": ["finance", "hr", "legal"],
                          "aws:PrincipalTag/role": ["audit", "security"]},
         "ArnLike": {"aws:PrincipalArn": [_ANA, "arn:aws:iam::222222222222:user/Mary"]}}  # fmt: skip
_BRIEF = {"StringEquals": {"aws:PrincipalTag/department": ["finance", "hr", "legal"]},
          "StringNotEquals": {"aws:PrincipalTag/role": ["audit", "security"]}}  # fmt: skip
_MAIL = ["PostDateTime", "Message", "Tags"]

CONDITION_CASES = [
    # Strings
    ConditionCase(OPERATORS, {"StringEquals": {"aws:PrincipalTag/job-category": "iamuser-admin"}},
                  {"aws:PrincipalTag/job-category": "iamuser-admin"}, True),
    ConditionCase(OPERATORS, {"StringEquals": {"aws:PrincipalTag/job-category": "iamuser-admin"}}, {}, False),
    ConditionCase(OPERATORS, {"StringEquals": {"k": "Exact"}}, {"k": "exact"}, False),
    ConditionCase(OPERATORS, {"StringEquals": {"k": "a*"}}, {"k": "abc"}, False),
    ConditionCase(OPERATORS, {"StringNotEquals": {"k": "a"}}, {"k": "b"}, True),
    ConditionCase(OPERATORS, {"StringNotEquals": {"k": "a"}}, {"k": "a"}, False),
    ConditionCase(OPERATORS, {"StringNotEquals": {"k": "a"}}, {}, True),
    ConditionCase(OPERATORS, {"StringEqualsIgnoreCase": {"k": "ABC"}}, {"k": "abc"}, True),
    ConditionCase(OPERATORS, {"StringNotEqualsIgnoreCase": {"k": "ABC"}}, {"k": "abc"}, False),
    ConditionCase(OPERATORS, {"StringLike": {"s3:prefix": ["", "home/", "home/Bob/*"]}}, {"s3:prefix": "home/Bob/x"}, True),
    ConditionCase(OPERATORS, {"StringLike": {"s3:prefix": ["", "home/", "home/Bob/*"]}}, {"s3:prefix": "home/Ann/x"}, False),
    ConditionCase(OPERATORS, {"StringLike": {"k": "abc"}}, {"k": "abcd"}, False),
    ConditionCase(OPERATORS, {"StringLike": {"k": "a?c"}}, {"k": "abc"}, True),
    ConditionCase(OPERATORS, {"StringNotLike": {"k": "a*"}}, {"k": "abc"}, False),
    ConditionCase(OPERATORS, {"StringNotLike": {"k": "a*"}}, {}, True),
    # Numbers, dates, truth values
    ConditionCase(OPERATORS, {"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": 10}, True),
    ConditionCase(OPERATORS, {"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": 11}, False),
    ConditionCase(OPERATORS, {"NumericLessThanEquals": {"s3:max-keys": "10"}}, {}, False),
    ConditionCase(OPERATORS, {"NumericNotEquals": {"k": "10"}}, {"k": "10"}, False),
    ConditionCase(OPERATORS, {"NumericNotEquals": {"k": "10"}}, {}, True),
    ConditionCase(OPERATORS, {"NumericLessThan": {"k": "10"}}, {"k": "9"}, True),
    ConditionCase(OPERATORS, {"DateGreaterThan": {"aws:TokenIssueTime": "2020-01-01T00:00:01Z"}},
                  {"aws:TokenIssueTime": "2020-06-01T00:00:00Z"}, True),
    ConditionCase(OPERATORS, {"DateGreaterThan": {"aws:TokenIssueTime": "2020-01-01T00:00:01Z"}},
                  {"aws:TokenIssueTime": "2019-06-01T00:00:00Z"}, False),
    ConditionCase(OPERATORS, {"DateGreaterThan": {"aws:TokenIssueTime": "2020-01-01T00:00:01Z"}}, {}, False),
    ConditionCase(OPERATORS, {"DateLessThan": {"aws:EpochTime": "1577836801"}},
                  {"aws:EpochTime": "2019-12-31T23:59:59Z"}, True),
    ConditionCase(OPERATORS, {"DateNotEquals": {"k": "2020-01-01T00:00:00Z"}}, {}, True),
    ConditionCase(OPERATORS, {"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": "false"}, True),
    ConditionCase(OPERATORS, {"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": True}, False),
    ConditionCase(OPERATORS, {"Bool": {"aws:MultiFactorAuthPresent": "false"}}, {}, False),
    ConditionCase(GLOBAL, {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}, {}, True),
    ConditionCase(GLOBAL, {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
                  {"aws:MultiFactorAuthPresent": "true"}, False),
    ConditionCase(OPERATORS, {"BinaryEquals": {"key": "QmluYXJ5VmFsdWVJbkJhc2U2NA=="}},
                  {"key": "QmluYXJ5VmFsdWVJbkJhc2U2NA=="}, True),
    ConditionCase(OPERATORS, {"BinaryEquals": {"key": "QmluYXJ5VmFsdWVJbkJhc2U2NA=="}}, {"key": "QmluYXJ5"}, False),
    # Addresses
    ConditionCase(OPERATORS, {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, {"aws:SourceIp": "203.0.113.255"}, True),
    ConditionCase(OPERATORS, {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, {"aws:SourceIp": "203.0.114.0"}, False),
    ConditionCase(OPERATORS, {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, {}, False),
    ConditionCase(OPERATORS, {"IpAddress": {"aws:SourceIp": "203.0.113.7"}}, {"aws:SourceIp": "203.0.113.8"}, False),
    ConditionCase(OPERATORS, {"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "2001:DB8:1234:5678::/64"]}},
                  {"aws:SourceIp": "2001:db8:1234:5678::1"}, True),
    ConditionCase(OPERATORS, {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, {"aws:SourceIp": "203.0.113.9"}, False),
    ConditionCase(OPERATORS, {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, {}, True),
    # ARNs
    ConditionCase(OPERATORS, _SNS, {"aws:SourceArn": "arn:aws:sns:eu-west-2:123456789012:topic"}, True),
    ConditionCase(OPERATORS, _SNS, {}, False),
    ConditionCase(OPERATORS, {"StringLike": {"aws:SourceArn": _FINANCE}}, {"aws:SourceArn": _STORE}, True),
    ConditionCase(OPERATORS, {"ArnLike": {"aws:SourceArn": _FINANCE}}, {"aws:SourceArn": _STORE}, False),
    ConditionCase(OPERATORS, {"ArnEquals": {"aws:SourceArn": _FINANCE}},
                  {"aws:SourceArn": "arn:aws:someservice:us-east-2:111122223333:finance/document.txt"}, True),
    ConditionCase(OPERATORS, {"ArnNotEquals": {"aws:PrincipalArn": f"arn:aws:iam::{OWN}:role/x*"}},
                  {"aws:PrincipalArn": f"arn:aws:iam::{OWN}:role/xyz"}, False),
    ConditionCase(OPERATORS, {"ArnNotLike": {"aws:SourceArn": _FINANCE}}, {}, True),
    # IfExists and Null
    ConditionCase(OPERATORS, {"StringLike": {"ec2:InstanceType": ["t1.*", "t2.*", "m3.*"]}}, {}, False),
    ConditionCase(OPERATORS, {"StringLikeIfExists": {"ec2:InstanceType": ["t1.*", "t2.*", "m3.*"]}}, {}, True),
    ConditionCase(OPERATORS, {"StringLikeIfExists": {"ec2:InstanceType": ["t1.*", "t2.*", "m3.*"]}},
                  {"ec2:InstanceType": "t2.micro"}, True),
    ConditionCase(OPERATORS, {"StringLikeIfExists": {"ec2:InstanceType": ["t1.*", "t2.*", "m3.*"]}},
                  {"ec2:InstanceType": "c5.large"}, False),
    ConditionCase(OPERATORS, {"StringNotEqualsIfExists": {"aws:RequestTag/a": "b"}}, {}, True),
    ConditionCase(OPERATORS, {"Null": {"aws:TokenIssueTime": "true"}}, {}, True),
    ConditionCase(OPERATORS, {"Null": {"aws:TokenIssueTime": "true"}}, {"aws:TokenIssueTime": "2020-01-01T00:00:00Z"}, False),
    ConditionCase(OPERATORS, {"Null": {"aws:TokenIssueTime": "false"}}, {"aws:TokenIssueTime": "2020-01-01T00:00:00Z"}, True),
    ConditionCase(OPERATORS, {"Null": {"aws:TokenIssueTime": "false"}}, {}, False),
    # Sets
    ConditionCase(SETS_EXAMPLES, {"ForAllValues:StringLike": {"dynamodb:requestedAttributes": _MAIL}},
                  {"dynamodb:requestedAttributes": ["PostDateTime", "Message"]}, True),
    ConditionCase(SETS_EXAMPLES, {"ForAllValues:StringLike": {"dynamodb:requestedAttributes": _MAIL}},
                  {"dynamodb:requestedAttributes": ["PostDateTime", "UserName"]}, False),
    ConditionCase(SETS_EXAMPLES, {"ForAnyValue:StringLike": {"dynamodb:requestedAttributes": ["ID", "PostDateTime"]}},
                  {"dynamodb:requestedAttributes": ["UserName", "Message", "PostDateTime"]}, True),
    ConditionCase(SETS_EXAMPLES, {"ForAnyValue:StringLike": {"dynamodb:requestedAttributes": ["ID", "PostDateTime"]}},
                  {"dynamodb:requestedAttributes": ["UserName"]}, False),
    ConditionCase(SETS_EXAMPLES, {"ForAllValues:StringLike": {"k": "a"}}, {"k": ""}, True),
    ConditionCase(SETS_EXAMPLES, {"ForAnyValue:StringLike": {"k": "a"}}, {"k": ""}, False),
    ConditionCase(SETS, {"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {}, True),
    ConditionCase(SETS, {"ForAnyValue:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {}, False),
    ConditionCase(SETS, {"ForAllValues:StringNotEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": ["c", "a"]}, False),
    ConditionCase(SETS, {"ForAllValues:StringNotEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": ["c", "d"]}, True),
    ConditionCase(SETS, {"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": ["c", "a"]}, True),
    ConditionCase(SETS, {"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": ["a", "b"]}, False),
    ConditionCase(SETS, {"ForAnyValue:StringNotEquals": {"aws:TagKeys": "a"}}, {}, False),
    ConditionCase(SETS, {"ForAllValues:StringEquals": {"aws:TagKeys": "a"}, "Null": {"aws:TagKeys": "false"}}, {}, False),
    # Several keys and values
    ConditionCase(SEVERAL, _TAGS, {"aws:PrincipalTag/department": "hr", "aws:PrincipalTag/role": "audit",
                                   "aws:PrincipalArn": _ANA}, True),
    ConditionCase(SEVERAL, _TAGS, {"aws:PrincipalTag/department": "hr", "aws:PrincipalTag/role": "audit",
                                   "aws:PrincipalArn": "arn:aws:iam::222222222222:user/Nikki"}, False),
    ConditionCase(SEVERAL, _TAGS, {"aws:PrincipalTag/department": "hr", "aws:PrincipalArn": _ANA}, False),
    ConditionCase(SEVERAL, _BRIEF, {"aws:PrincipalTag/department": "legal", "aws:PrincipalTag/role": "dev"}, True),
    ConditionCase(SEVERAL, _BRIEF, {"aws:PrincipalTag/department": "legal", "aws:PrincipalTag/role": "security"}, False),
    ConditionCase(SEVERAL, _BRIEF, {"aws:PrincipalTag/department": "legal"}, True),
    ConditionCase(CONDITION, {"StringEquals": {"AWS:SourceIP": "x"}}, {"aws:sourceip": "x"}, True),
    # Policy variables
    ConditionCase(VARIABLES, {"StringLike": {"s3:prefix": "home/${aws:username}/*"}},
                  {"s3:prefix": "home/Bob/x", "aws:username": "Bob"}, True),
    ConditionCase(VARIABLES, {"StringLike": {"s3:prefix": "home/${aws:username}/*"}},
                  {"s3:prefix": "home/Ann/x", "aws:username": "Bob"}, False),
    ConditionCase(VARIABLES, {"StringLike": {"s3:prefix": "home/${aws:username}/*"}}, {"s3:prefix": "home//x"}, False),
    ConditionCase(VARIABLES, {"StringLike": {"s3:prefix": "home/${aws:username}"}},
                  {"s3:prefix": "home/Bob", "aws:username": "B*"}, False),
    ConditionCase(VARIABLES, {"StringEquals": {"k": "${aws:PrincipalTag/team, 'company-wide'}"}}, {"k": "company-wide"}, True),
    ConditionCase(VARIABLES, {"StringEquals": {"k": "${aws:PrincipalTag/team, 'company-wide'}"}},
                  {"k": "company-wide", "aws:PrincipalTag/team": "yellow"}, False),
    ConditionCase(VARIABLES, {"StringLike": {"k": "a${*}c"}}, {"k": "abc"}, False),
    ConditionCase(VARIABLES, {"StringLike": {"k": "a${*}c${?}${$}"}}, {"k": "a*c?$"}, True),
    ConditionCase(VARIABLES, {"StringNotEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
                  {"aws:PrincipalAccount": OWN, "aws:ResourceAccount": OWN}, False),
    # Key policies
    ConditionCase(CONDITIONS, {"StringEquals": {"kms:ViaService": "ec2.us-west-2.amazonaws.com"}}, {}, False),
    ConditionCase(CONDITIONS, {"StringEquals": {"kms:EncryptionContext:AppName": "ExampleApp"}},
                  {"kms:EncryptionContext:AppName": "ExampleApp", "kms:EncryptionContextKeys": ["AppName"]}, True),
    ConditionCase(CONDITIONS, {"StringLike": {"kms:EncryptionContext:AppName": "ExampleApp*"}},
                  {"kms:EncryptionContext:AppName": "exampleapp-1"}, False),
    ConditionCase(CONDITIONS, {"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "Decrypt"]}},
                  {"kms:GrantOperations": ["Decrypt", "CreateGrant"]}, False),
    ConditionCase(CONDITIONS, {"Bool": {"kms:GrantIsForAWSResource": True}}, {"kms:GrantIsForAWSResource": True}, True),
    ConditionCase(CONDITIONS, {"NumericGreaterThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "21"}},
                  {"kms:ScheduleKeyDeletionPendingWindowInDays": 7}, False),
]  # fmt: skip


def _allow(principal: Any, action: Any = "kms:*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*", **more}


def _deny(principal: Any, action: Any = "kms:*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Principal": principal, "Action": action, "Resource": "*", **more}


def _without(statement: dict[str, Any], element: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key != element} | more


_OPEN = _allow("*")
_SYMMETRIC = {"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}}
_NOT_BOB = _without(_deny("*"), "Principal", NotPrincipal={"AWS": [BOB, OTHER_ROOT]})
_NOT_BOB_ALONE = _without(_deny("*"), "Principal", NotPrincipal={"AWS": [BOB]})
_NOT_AUDIT = _without(_deny("*"), "Principal", NotPrincipal={"AWS": [AUDIT_SESSION, AUDIT_ROLE, OTHER_ROOT]})
_NOT_AUDIT_ROLE = _without(_deny("*"), "Principal", NotPrincipal={"AWS": [AUDIT_ROLE, OTHER_ROOT]})
_UNLESS_ORG = _deny("*", Condition={"StringNotEquals": {"aws:PrincipalOrgID": "o-xxxxxxxxxx"}})

POLICY_CASES = [
    PolicyCase(LOGIC, [_allow({"AWS": BOB})], (ALICE, OWN), "kms:Decrypt", "None"),
    PolicyCase(LOGIC, [_allow({"AWS": ALICE})], (ALICE, OWN), "kms:Decrypt", "Allow"),
    PolicyCase(LOGIC, [_allow({"AWS": ALICE}), _deny({"AWS": ALICE}, "kms:Decrypt")], (ALICE, OWN), "kms:Decrypt", "Deny"),
    PolicyCase(LOGIC, [_deny({"AWS": ALICE}, "kms:Decrypt"), _allow({"AWS": ALICE})], (ALICE, OWN), "kms:Encrypt", "Allow"),
    PolicyCase(LOGIC, [_allow({"AWS": ROOT}), _deny({"AWS": ALICE})], (ALICE, OWN), "kms:Decrypt", "Deny"),
    # Principals
    PolicyCase(PRINCIPAL, [_allow({"AWS": ROOT})], (ALICE, OWN), "kms:Decrypt", "Account"),
    PolicyCase(PRINCIPAL, [_allow({"AWS": OWN})], (ALICE, OWN), "kms:Decrypt", "Account"),
    PolicyCase(PRINCIPAL, [_allow({"AWS": OTHER})], (ALICE, OWN), "kms:Decrypt", "None"),
    PolicyCase(PRINCIPAL, [_allow("*"), _deny({"AWS": OTHER_ROOT})], (BOB, OTHER), "kms:Decrypt", "Deny"),
    PolicyCase(PRINCIPAL, [_allow({"AWS": "*"})], (BOB, OTHER), "kms:Decrypt", "Allow"),
    PolicyCase(PRINCIPAL, [_allow("*")], (BOB, OTHER), "kms:Decrypt", "Allow"),
    PolicyCase(PRINCIPAL, [_allow({"AWS": AUDIT_ROLE})], (AUDIT_SESSION, AUDIT_ROLE, OTHER), "kms:Decrypt", "Allow"),
    PolicyCase(PRINCIPAL, [_allow({"AWS": AUDIT_SESSION})], (AUDIT_SESSION, AUDIT_ROLE, OTHER), "kms:Decrypt", "Allow"),
    PolicyCase(PRINCIPAL, [_allow({"AWS": AUDIT_SESSION + "-2"})], (AUDIT_SESSION, AUDIT_ROLE, OTHER), "kms:Decrypt", "None"),
    PolicyCase(PRINCIPAL, [_allow({"AWS": f"arn:aws:iam::{OWN}:user/*"})], (ALICE, OWN), "kms:Decrypt", "None"),
    PolicyCase(PRINCIPAL, [_allow({"Service": "rds.amazonaws.com"})], ("rds.amazonaws.com",), "kms:Decrypt", "Allow"),
    PolicyCase(PRINCIPAL, [_allow({"Service": "logs.amazonaws.com"})], ("rds.amazonaws.com",), "kms:Decrypt", "None"),
    PolicyCase(PRINCIPAL, [_allow({"Service": "rds.amazonaws.com"})], (ALICE, OWN), "kms:Decrypt", "None"),
    # NotPrincipal
    PolicyCase(NOT_PRINCIPAL, [_OPEN, _NOT_BOB], (BOB, OTHER), "kms:Decrypt", "Allow"),
    PolicyCase(NOT_PRINCIPAL, [_OPEN, _NOT_BOB], (CAROL, OTHER), "kms:Decrypt", "Deny"),
    PolicyCase(NOT_PRINCIPAL, [_OPEN, _NOT_BOB], (ALICE, OWN), "kms:Decrypt", "Deny"),
    PolicyCase(NOT_PRINCIPAL, [_NOT_BOB], (BOB, OTHER), "kms:Decrypt", "None"),
    PolicyCase(NOT_PRINCIPAL, [_OPEN, _NOT_BOB_ALONE], (BOB, OTHER), "kms:Decrypt", "Deny"),
    PolicyCase(NOT_PRINCIPAL, [_OPEN, _NOT_AUDIT], (AUDIT_SESSION, AUDIT_ROLE, OTHER), "kms:Decrypt", "Allow"),
    PolicyCase(NOT_PRINCIPAL, [_OPEN, _NOT_AUDIT], (AUDIT_SESSION + "-2", AUDIT_ROLE, OTHER), "kms:Decrypt", "Deny"),
    PolicyCase(NOT_PRINCIPAL, [_OPEN, _NOT_AUDIT_ROLE], (AUDIT_SESSION, AUDIT_ROLE, OTHER), "kms:Decrypt", "Deny"),
    # Actions
    PolicyCase(ACTION, [_allow({"AWS": ALICE}, "KMS:decrypt")], (ALICE, OWN), "kms:Decrypt", "Allow"),
    PolicyCase(ACTION, [_allow({"AWS": ALICE}, "kms:*Grant*")], (ALICE, OWN), "kms:ListGrants", "Allow"),
    PolicyCase(ACTION, [_allow({"AWS": ALICE}, "*")], (ALICE, OWN), "kms:ListGrants", "Allow"),
    PolicyCase(NOT_ACTION, [_without(_allow({"AWS": ALICE}), "Action", NotAction="kms:Put*")],
               (ALICE, OWN), "kms:Decrypt", "Allow"),
    PolicyCase(NOT_ACTION, [_without(_allow({"AWS": ALICE}), "Action", NotAction="kms:Put*")],
               (ALICE, OWN), "kms:PutKeyPolicy", "None"),
    PolicyCase(NOT_ACTION, [_OPEN, _without(_deny("*", Condition={"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}),
                                            "Action", NotAction=["kms:Describe*"])], (ALICE, OWN), "kms:Decrypt", "Deny"),
    PolicyCase(NOT_ACTION, [_OPEN, _without(_deny("*", Condition={"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}),
                                            "Action", NotAction=["kms:Describe*"])], (ALICE, OWN), "kms:DescribeKey", "Allow"),
    # Resources
    PolicyCase(KEY_POLICY, [_without(_allow({"AWS": ALICE}), "Resource")], (ALICE, OWN), "kms:Decrypt", "None"),
    PolicyCase(KEY_POLICY, [_OPEN, _without(_deny("*"), "Resource")], (ALICE, OWN), "kms:Decrypt", "Allow"),
    PolicyCase(RESOURCE, [_allow({"AWS": ALICE}, Resource=KEY)], (ALICE, OWN), "kms:Decrypt", "Allow"),
    PolicyCase(RESOURCE, [_allow({"AWS": ALICE}, Resource="arn:aws:kms:*:111122223333:key/*")],
               (ALICE, OWN), "kms:Decrypt", "Allow"),
    PolicyCase(RESOURCE, [_allow({"AWS": ALICE}, Resource="arn:aws:rds:eu-west-2:111122223333:db:dev-*")],
               (ALICE, OWN), "kms:Decrypt", "None"),
    PolicyCase(RESOURCE, [_allow({"AWS": ALICE}, Resource="arn:aws:dynamodb:*")], (ALICE, OWN), "kms:Decrypt", "None"),
    PolicyCase(NOT_RESOURCE, [_OPEN, _without(_deny("*"), "Resource", NotResource=["arn:aws:s3:::HRBucket/*"])],
               (ALICE, OWN), "kms:Decrypt", "Deny"),
    PolicyCase(NOT_RESOURCE, [_OPEN, _without(_deny("*"), "Resource", NotResource=[KEY])], (ALICE, OWN), "kms:Decrypt", "Allow"),
    # Key policies
    PolicyCase(DEFAULT, [_allow({"AWS": ROOT})], (OWN,), "kms:PutKeyPolicy", "Account"),
    PolicyCase(KEY_POLICY, [_allow({"AWS": ALICE}, "kms:DescribeKey", Condition=_SYMMETRIC)],
               (ALICE, OWN), "kms:DescribeKey", "Allow", {"kms:KeySpec": "SYMMETRIC_DEFAULT"}),
    PolicyCase(KEY_POLICY, [_allow({"AWS": ALICE}, "kms:DescribeKey", Condition=_SYMMETRIC)],
               (ALICE, OWN), "kms:DescribeKey", "None", {"kms:KeySpec": "RSA_2048"}),
    PolicyCase(OTHERS, [_allow({"AWS": ROOT}), _allow({"AWS": OTHER_ROOT}, ["kms:Encrypt", "kms:Decrypt"])],
               (BOB, OTHER), "kms:Decrypt", "Account"),
    PolicyCase(OTHERS, [_allow({"AWS": ROOT}), _allow({"AWS": OTHER_ROOT}, ["kms:Encrypt", "kms:Decrypt"])],
               (BOB, OTHER), "kms:PutKeyPolicy", "None"),
    PolicyCase(CONDITIONS, [_OPEN, _deny("*", Condition={"StringNotEquals": {"kms:CallerAccount": OWN}})],
               (BOB, OTHER), "kms:Decrypt", "Deny", {"kms:CallerAccount": OTHER}),
    PolicyCase(CONDITIONS, [_OPEN, _deny("*", Condition={"StringNotEquals": {"kms:CallerAccount": OWN}})],
               (ALICE, OWN), "kms:Decrypt", "Allow", {"kms:CallerAccount": OWN}),
    PolicyCase(GLOBAL, [_OPEN, _UNLESS_ORG], (BOB, OTHER), "kms:Decrypt", "Deny", {"aws:PrincipalOrgID": "o-yyyyyyyyyy"}),
    PolicyCase(GLOBAL, [_OPEN, _UNLESS_ORG], (BOB, OTHER), "kms:Decrypt", "Deny"),
    PolicyCase(GLOBAL, [_OPEN, _UNLESS_ORG], (BOB, OTHER), "kms:Decrypt", "Allow", {"aws:PrincipalOrgID": "o-xxxxxxxxxx"}),
]  # fmt: skip
