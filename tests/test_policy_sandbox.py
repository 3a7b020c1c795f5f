"""The sandbox's answers to key policies: what CreateKey and PutKeyPolicy refuse, and what a policy then allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kms_support import connect, refusal, reset, sandbox

ACCOUNT = "111122223333"
ROOT, ADMIN = f"arn:aws:iam::{ACCOUNT}:root", f"arn:aws:iam::{ACCOUNT}:role/Admin"
MALFORMED, DENIED = "MalformedPolicyDocumentException", "AccessDeniedException"
FOLDER = Path(__file__).parent / "data" / "policies"
ENABLE_IAM = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
DENY_ALL = {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url:
        yield url


@pytest.fixture
def kms(endpoint: str) -> Any:
    """A client of the account that the examples name, with the roles that they name."""
    reset(endpoint)
    iam = connect(endpoint, "iam", account=ACCOUNT)
    for name in ("tenant-a", "reader"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    return connect(endpoint, account=ACCOUNT)


def text(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def session(endpoint: str) -> str:
    """Return the ARN of the caller's session."""
    return str(connect(endpoint, "sts", account=ACCOUNT).get_caller_identity()["Arn"])


# Per example: the answer to CreateKey, and to Decrypt's sister Encrypt by the role Admin with that policy.
EXAMPLES = {
    "rds_callers_and_another_account": ("", ""),
    "deny_all_but_three": ("", ""),
    "service_with_a_resource_of_rds": ("", DENIED),
    "deny_other_accounts": ("", ""),
    "another_accounts_root": ("", ""),
    "deny_decrypt_unless_like": ("", ""),
    "two_roots": ("", ""),
    "resource_of_dynamodb": (MALFORMED, ""),
}


def answer(call: Any, **parameters: Any) -> str:
    """Return the error code of a call, "" if it succeeds."""
    try:
        call(**parameters)
    except call.__self__.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_answered(kms: Any, name: str) -> None:
    """CreateKey and PutKeyPolicy accept all but the one without effect, and Encrypt follows the policy."""
    policy = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    created, encrypted = EXAMPLES[name]
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    assert (created, created) == (
        answer(kms.create_key, Policy=policy), answer(kms.put_key_policy, KeyId=key_id, Policy=policy),
    )  # fmt: skip
    if not created:
        assert encrypted == answer(kms.encrypt, KeyId=key_id, Plaintext=b"x")


def test_a_denied_decrypt_is_denied_unless_the_role_is_like_one_of_two(kms: Any) -> None:
    """The role Admin may encrypt and not decrypt."""
    policy = json.loads((FOLDER / "deny_decrypt_unless_like.json").read_text(encoding="utf-8"))
    key_id = kms.create_key(Policy=json.dumps(policy))["KeyMetadata"]["KeyId"]
    ciphertext = kms.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    assert DENIED == refusal(kms.decrypt, CiphertextBlob=ciphertext)
    policy["Statement"][1]["Condition"]["StringNotLike"]["aws:PrincipalArn"][0] = f"arn:aws:iam::{ACCOUNT}:role/Ad*"
    kms.put_key_policy(KeyId=key_id, Policy=json.dumps(policy))
    assert b"x" == kms.decrypt(CiphertextBlob=ciphertext)["Plaintext"]


LOCK_OUTS = {
    "denied unless another role": text(ENABLE_IAM, {**DENY_ALL, "Condition": {"StringNotEquals": {
        "aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/reader"}}}),
    "denied unless through RDS": text(ENABLE_IAM, {**DENY_ALL, "Condition": {"StringNotEquals": {
        "kms:ViaService": "rds.eu-west-2.amazonaws.com"}}}),
    "denied to the account": text(ENABLE_IAM, {**DENY_ALL, "Principal": {"AWS": ROOT}}),
    "denied to the role": text(ENABLE_IAM, {**DENY_ALL, "Principal": {"AWS": ADMIN}}),
    "denied to all but another": text(ENABLE_IAM, {
        "Effect": "Deny", "NotPrincipal": {"AWS": [f"arn:aws:iam::{ACCOUNT}:role/reader", ROOT]},
        "Action": "kms:*", "Resource": "*"}),
    "denied to all but the role, without its session": text(ENABLE_IAM, {
        "Effect": "Deny", "NotPrincipal": {"AWS": [ADMIN, ROOT]}, "Action": "kms:*", "Resource": "*"}),
    "all but decrypt denied": text(ENABLE_IAM, {
        "Effect": "Deny", "Principal": "*", "NotAction": "kms:Decrypt", "Resource": "*"}),
    "another role only": text({**ENABLE_IAM, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/reader"}}),
    "a resource that is another key": text({
        **ENABLE_IAM, "Resource": f"arn:aws:kms:eu-west-2:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"}),
    "a resource in another Region": text({**ENABLE_IAM, "Resource": f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/*"}),
    "allowed with MFA only": text({**ENABLE_IAM, "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}),
}  # fmt: skip


@pytest.mark.parametrize("reason", LOCK_OUTS)
def test_the_caller_must_be_able_to_change_the_policy_later(kms: Any, reason: str) -> None:
    """CreateKey and PutKeyPolicy refuse a lock-out of the caller, unless the check is bypassed; then it locks out."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    assert MALFORMED == refusal(kms.create_key, Policy=LOCK_OUTS[reason])
    assert MALFORMED == refusal(kms.put_key_policy, KeyId=key_id, Policy=LOCK_OUTS[reason])
    kms.put_key_policy(KeyId=key_id, Policy=LOCK_OUTS[reason], BypassPolicyLockoutSafetyCheck=True)
    assert DENIED == refusal(kms.put_key_policy, KeyId=key_id, Policy=text(ENABLE_IAM))


def test_policies_that_leave_the_caller_in_are_accepted(kms: Any, endpoint: str) -> None:
    """A Deny that excepts the caller, by condition or NotPrincipal, is no lock-out; the key's own ARN is the key."""
    key = kms.create_key()["KeyMetadata"]
    names = [session(endpoint), ADMIN, ROOT]
    for policy in (
        text(
            ENABLE_IAM,
            {**DENY_ALL, "Condition": {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/*"}}},
        ),
        text(ENABLE_IAM, {**DENY_ALL, "Condition": {"StringNotEqualsIfExists": {"aws:PrincipalAccount": ACCOUNT}}}),
        text(ENABLE_IAM, {**DENY_ALL, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}),
        text(ENABLE_IAM, {**DENY_ALL, "Condition": {"Null": {"kms:ViaService": "false"}}}),
        text(ENABLE_IAM, {"Effect": "Deny", "NotPrincipal": {"AWS": names}, "Action": "kms:*", "Resource": "*"}),
        text({"Effect": "Allow", "Principal": {"AWS": ADMIN}, "NotAction": "kms:Decrypt", "Resource": "*"}),
        text({**ENABLE_IAM, "Resource": key["Arn"]}),
        text({**ENABLE_IAM, "Condition": {"StringLike": {"kms:KeySpec": "SYMM*"}}}),
    ):
        kms.put_key_policy(KeyId=key["KeyId"], Policy=policy)
        assert json.loads(policy) == json.loads(kms.get_key_policy(KeyId=key["KeyId"])["Policy"])
    for multi_region in (True, False):
        kms.create_key(
            Policy=text({**ENABLE_IAM, "Resource": f"arn:aws:kms:*:{ACCOUNT}:key/*"}), MultiRegion=multi_region
        )


MALFORMED_STATEMENTS = {
    "operator": {**ENABLE_IAM, "Condition": {"StringIs": {"aws:PrincipalArn": ADMIN}}},
    "date": {**ENABLE_IAM, "Condition": {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}},
    "condition without keys": {**ENABLE_IAM, "Condition": {"StringEquals": "x"}},
    "NotPrincipal that allows": {"Effect": "Allow", "NotPrincipal": {"AWS": ADMIN}, "Action": "kms:*", "Resource": "*"},
    "Action and NotAction": {**ENABLE_IAM, "NotAction": "kms:Decrypt"},
    "Resource and NotResource": {**ENABLE_IAM, "NotResource": "*"},
    "wildcard in a principal": {**ENABLE_IAM, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/*"}},
}


@pytest.mark.parametrize("reason", MALFORMED_STATEMENTS)
def test_statements_that_iam_does_not_have_are_malformed(kms: Any, reason: str) -> None:
    """Unknown operators, values that cannot be compared, and elements that exclude each other."""
    assert MALFORMED == refusal(kms.create_key, Policy=text(ENABLE_IAM, MALFORMED_STATEMENTS[reason]))
