"""Managing the sandbox's keys: creation, policies, aliases, tags, grants, and paging."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from kms_support import (
    ACCOUNT,
    ADMIN,
    INVALID,
    NOT_FOUND,
    OTHER_REGION,
    REGION,
    UNKNOWN,
    UNSUPPORTED,
    VALIDATION,
    connect,
    described,
    external,
    import_material,
    now,
    refusal,
    reset,
    rotate,
    sandbox,
)

MALFORMED, LIMIT, TAG, DENIED = (
    "MalformedPolicyDocumentException", "LimitExceededException", "TagException", "AccessDeniedException",
)  # fmt: skip
ROOT = f"arn:aws:iam::{ACCOUNT}:root"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url:
        yield url


@pytest.fixture
def kms(endpoint: str) -> Any:
    reset(endpoint)
    return connect(endpoint)


# Creating and describing ------------------------------------------------------------------------------


def test_external_key_before_and_after_import(kms: Any, endpoint: str) -> None:
    """DescribeKey shows a key with origin EXTERNAL correctly before the import, after it, and after a deletion."""
    key = external(kms, Description="mine")
    fixed = {
        "AWSAccountId": ACCOUNT, "Arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key['KeyId']}", "KeyId": key["KeyId"],
        "CreationDate": key["CreationDate"], "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "Description": "mine",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "KeyManager": "CUSTOMER", "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyUsage": "ENCRYPT_DECRYPT", "MultiRegion": False, "Origin": "EXTERNAL",
    }  # fmt: skip
    pending = {"KeyState": "PendingImport", "Enabled": False}
    assert fixed | pending == key
    assert fixed | pending == described(kms, key)
    identifier = import_material(kms, key["KeyId"], os.urandom(32))["KeyMaterialId"]
    current = {"CurrentKeyMaterialId": identifier}
    enabled = {"KeyState": "Enabled", "Enabled": True, "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    assert fixed | current | enabled == described(kms, key)
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert fixed | current | pending == described(kms, key)
    assert timedelta(0) <= now(endpoint) - key["CreationDate"] < timedelta(seconds=60)


def test_generated_key(kms: Any) -> None:
    """A key with KMS-generated material is enabled at once, has a current material, and no expiration model."""
    key = kms.create_key()["KeyMetadata"]
    assert ("Enabled", True, "AWS_KMS", 64, False) == (
        key["KeyState"], key["Enabled"], key["Origin"], len(key["CurrentKeyMaterialId"]), "ExpirationModel" in key,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"Origin": "SOMEWHERE"}, VALIDATION),
        ({"Origin": "AWS_CLOUDHSM"}, UNSUPPORTED),
        ({"Origin": "EXTERNAL_KEY_STORE"}, UNSUPPORTED),
        ({"KeySpec": "SYMMETRIC"}, VALIDATION),
        ({"KeySpec": "HMAC_256"}, VALIDATION),
        ({"KeySpec": "RSA_2048"}, VALIDATION),
        ({"KeyUsage": "SIGN_VERIFY"}, VALIDATION),
        ({"KeySpec": "HMAC_256", "KeyUsage": "ENCRYPT_DECRYPT"}, VALIDATION),
        ({"Description": "x" * 8193}, VALIDATION),
        ({"Tags": [{"TagKey": "a", "TagValue": "1"}, {"TagKey": "a", "TagValue": "2"}]}, TAG),
        ({"Tags": [{"TagKey": "aws:a", "TagValue": "1"}]}, TAG),
        ({"Tags": [{"TagKey": "", "TagValue": "1"}]}, VALIDATION),
        ({"Tags": [{"TagKey": "a", "TagValue": "x" * 257}]}, VALIDATION),
    ],
)
def test_rejected_keys(kms: Any, asked: dict[str, Any], code: str) -> None:
    """CreateKey rejects invalid combinations and then creates nothing."""
    assert code == refusal(kms.create_key, **asked)
    assert kms.list_keys()["Keys"] == []


def test_description_can_be_changed(kms: Any) -> None:
    """A description can be changed and emptied."""
    key = external(kms, Description="before")
    for text in ("after", ""):
        kms.update_key_description(KeyId=key["Arn"], Description=text)
        assert text == described(kms, key)["Description"]


def test_aws_managed_key(kms: Any) -> None:
    """An AWS managed key is created on first use of its alias; it can be read but not changed."""
    before = {entry["AliasName"]: entry for entry in kms.list_aliases(Limit=100)["Aliases"]}
    assert "TargetKeyId" not in before["alias/aws/rds"]
    key = kms.describe_key(KeyId="alias/aws/rds")["KeyMetadata"]
    assert ("AWS", "Enabled") == (key["KeyManager"], key["KeyState"])
    assert key["KeyId"] == kms.describe_key(KeyId="alias/aws/rds")["KeyMetadata"]["KeyId"]
    for operation in ("disable_key", "schedule_key_deletion", "enable_key_rotation"):
        assert DENIED == refusal(getattr(kms, operation), KeyId=key["KeyId"])
    assert DENIED == refusal(kms.encrypt, KeyId="alias/aws/rds", Plaintext=b"x")


# Policies ---------------------------------------------------------------------------------------------


def policy(*statements: dict[str, Any], principal: Any = None, **more: Any) -> str:
    """Return a policy: for root by default, and further statements."""
    main = {"Effect": "Allow", "Principal": principal or {"AWS": ROOT}, "Action": "kms:*", "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [main, *statements]})


def about(principal: Any, **more: Any) -> dict[str, Any]:
    """Return one more statement for this principal."""
    return {"Effect": "Allow", "Principal": principal, "Action": "kms:DescribeKey", "Resource": "*", **more}


BAD_POLICIES = {
    "not JSON": "allow all",
    "a list": "[]",
    "no statement": '{"Version": "2012-10-17"}',
    "no statements": '{"Version": "2012-10-17", "Statement": []}',
    "version": '{"Version": "2020-01-01", "Statement": []}',
    "effect": policy(about({"AWS": ROOT}, Effect="Perhaps")),
    "element": policy(about({"AWS": ROOT}, Resources="*")),
    "no principal": policy({"Effect": "Allow", "Action": "kms:*", "Resource": "*"}),
    "unknown role": policy(about({"AWS": f"arn:aws:iam::{ACCOUNT}:role/Nobody"})),
    "unknown user": policy(about({"AWS": [ROOT, f"arn:aws:iam::{ACCOUNT}:user/nobody"]})),
    "service-linked role": policy(
        about({"AWS": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"})
    ),
    "id of a deleted role": policy(about({"AWS": "AROAEXAMPLEEXAMPLEEX"})),
    "not an ARN": policy(about({"AWS": "Admin"})),
    "kind of principal": policy(about({"Human": "me"})),
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD_POLICIES)
def test_malformed_policies(kms: Any, reason: str) -> None:
    """CreateKey and PutKeyPolicy reject an invalid policy and one that names a principal that does not exist."""
    key = external(kms)
    before = kms.get_key_policy(KeyId=key["KeyId"])["Policy"]
    assert MALFORMED == refusal(kms.create_key, Policy=BAD_POLICIES[reason])
    assert MALFORMED == refusal(kms.put_key_policy, KeyId=key["KeyId"], Policy=BAD_POLICIES[reason])
    assert (before, 1) == (kms.get_key_policy(KeyId=key["KeyId"])["Policy"], len(kms.list_keys()["Keys"]))


LOCK_OUTS = {
    "another account": policy(principal={"AWS": "arn:aws:iam::210987654321:root"}),
    "without PutKeyPolicy": policy(Action=["kms:Describe*", "kms:Encrypt"]),
    "no action": json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"AWS": ROOT}, "Resource": "*"}]}),
    "no resource": json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*"}]}),
    "denied": policy(about("*", Effect="Deny", Action="kms:Put*")),
    "only under a condition": policy(Condition={"StringEquals": {"kms:ViaService": "rds.eu-west-2.amazonaws.com"}}),
}


@pytest.mark.parametrize("reason", LOCK_OUTS)
def test_policies_that_lock_the_caller_out(kms: Any, reason: str) -> None:
    """The caller must be able to change the policy later, unless the lockout check is explicitly bypassed."""
    key = external(kms)
    assert MALFORMED == refusal(kms.create_key, Policy=LOCK_OUTS[reason])
    assert MALFORMED == refusal(kms.put_key_policy, KeyId=key["KeyId"], Policy=LOCK_OUTS[reason])
    kms.put_key_policy(KeyId=key["KeyId"], Policy=LOCK_OUTS[reason], BypassPolicyLockoutSafetyCheck=True)
    assert DENIED == refusal(kms.put_key_policy, KeyId=key["KeyId"], Policy=policy())


GOOD_POLICIES = {
    "root": policy(),
    "account": policy(principal={"AWS": ACCOUNT}),
    "the caller's role": policy(principal={"AWS": ADMIN}),
    "everybody": policy(principal="*"),
    "and a service": policy(about({"Service": "rds.amazonaws.com"})),
    "and another account": policy(about({"AWS": "arn:aws:iam::210987654321:root"})),
    "one statement, no list": json.dumps({"Version": "2012-10-17", "Statement": json.loads(policy())["Statement"][0]}),
    "a statement without effect on anything": policy(
        {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:Encrypt"}
    ),
}


@pytest.mark.parametrize("reason", GOOD_POLICIES)
def test_accepted_policies(kms: Any, reason: str) -> None:
    """A policy is returned as it was set, by CreateKey and by PutKeyPolicy."""
    key = kms.create_key(Policy=GOOD_POLICIES[reason])["KeyMetadata"]
    assert GOOD_POLICIES[reason] == kms.get_key_policy(KeyId=key["Arn"], PolicyName="default")["Policy"]
    kms.put_key_policy(KeyId=key["KeyId"], PolicyName="default", Policy=GOOD_POLICIES[reason])
    answer = kms.get_key_policy(KeyId=key["KeyId"])
    assert (GOOD_POLICIES[reason], "default") == (answer["Policy"], answer["PolicyName"])


def test_a_policy_may_name_a_role_once_it_exists(kms: Any, endpoint: str) -> None:
    """The RDS service-linked role can be named only after it was created."""
    arn = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
    assert MALFORMED == refusal(kms.create_key, Policy=policy(about({"AWS": arn})))
    connect(endpoint, "iam").create_service_linked_role(AWSServiceName="rds.amazonaws.com")
    kms.create_key(Policy=policy(about({"AWS": arn})))


def test_a_policy_has_at_most_32_kb(kms: Any) -> None:
    """The quota is 32,768 bytes, though the API's model allows four times as many."""
    largest = policy(Sid="") + " " * (32_768 - len(policy(Sid="")))
    kms.create_key(Policy=largest)
    assert LIMIT == refusal(kms.create_key, Policy=largest + " ")
    assert LIMIT == refusal(kms.put_key_policy, KeyId=external(kms)["KeyId"], Policy=largest + " ")
    assert VALIDATION == refusal(kms.create_key, Policy=" " * 131_073)


def test_there_is_one_policy(kms: Any) -> None:
    """A key has only the policy `default`; the initial one allows the account's root everything."""
    key_id = external(kms)["KeyId"]
    assert ["default"] == kms.list_key_policies(KeyId=key_id)["PolicyNames"]
    first = json.loads(kms.get_key_policy(KeyId=key_id)["Policy"])["Statement"]
    assert [({"AWS": ROOT}, "kms:*")] == [(entry["Principal"], entry["Action"]) for entry in first]
    assert NOT_FOUND == refusal(kms.get_key_policy, KeyId=key_id, PolicyName="other")


def test_a_policy_decides(kms: Any) -> None:
    """A Deny in the policy takes effect, as do its conditions."""
    without = {"Effect": "Deny", "Principal": "*", "Action": "kms:GetParametersForImport", "Resource": "*",
               "Condition": {"StringNotEquals": {"kms:WrappingKeySpec": "RSA_4096"}}}  # fmt: skip
    key_id = external(kms, Policy=policy(without))["KeyId"]
    asked = {"KeyId": key_id, "WrappingAlgorithm": "RSAES_OAEP_SHA_256"}
    assert DENIED == refusal(kms.get_parameters_for_import, **asked, WrappingKeySpec="RSA_2048")
    assert 550 == len(kms.get_parameters_for_import(**asked, WrappingKeySpec="RSA_4096")["PublicKey"])


# Aliases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("mine", (VALIDATION,)),
        ("alias/", (VALIDATION,)),
        ("alias/with space", (VALIDATION,)),
        ("alias/ümlaut", (VALIDATION,)),
        ("alias/" + "x" * 251, (VALIDATION,)),
        ("alias/aws/rds", ("NotAuthorizedException",)),
        ("alias/aws/mine", ("NotAuthorizedException",)),
    ],
)
def test_rejected_alias_names(kms: Any, name: str, codes: tuple[str, ...]) -> None:
    """An alias begins with alias/ and has a limited character set; alias/aws/ is reserved."""
    key_id = external(kms)["KeyId"]
    assert refusal(kms.create_alias, AliasName=name, TargetKeyId=key_id) in codes
    assert refusal(kms.update_alias, AliasName=name, TargetKeyId=key_id) in codes
    assert refusal(kms.delete_alias, AliasName=name) in codes


def test_alias_life(kms: Any, endpoint: str) -> None:
    """An alias can be created once, moved, listed with its dates, and deleted; each Region has its own."""
    one, other = external(kms), external(kms)
    kms.create_alias(AliasName="alias/a/b-c_1", TargetKeyId=one["Arn"])
    again = {"AliasName": "alias/a/b-c_1", "TargetKeyId": other["KeyId"]}
    assert refusal(kms.create_alias, **again) == "AlreadyExistsException"
    kms.update_alias(**again)
    assert other["KeyId"] == kms.describe_key(KeyId="alias/a/b-c_1")["KeyMetadata"]["KeyId"]
    assert kms.list_aliases(KeyId=one["KeyId"])["Aliases"] == []
    (entry,) = kms.list_aliases(KeyId=other["Arn"])["Aliases"]
    assert ("alias/a/b-c_1", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/a/b-c_1", other["KeyId"]) == (
        entry["AliasName"], entry["AliasArn"], entry["TargetKeyId"],
    )  # fmt: skip
    assert entry["CreationDate"] <= entry["LastUpdatedDate"]
    elsewhere = connect(endpoint, region=OTHER_REGION)
    assert NOT_FOUND == refusal(elsewhere.describe_key, KeyId="alias/a/b-c_1")
    assert NOT_FOUND == refusal(elsewhere.delete_alias, AliasName="alias/a/b-c_1")
    kms.delete_alias(AliasName="alias/a/b-c_1")
    assert NOT_FOUND == refusal(kms.delete_alias, AliasName="alias/a/b-c_1")
    assert NOT_FOUND == refusal(kms.update_alias, **again)


def test_alias_targets(kms: Any) -> None:
    """An alias points to an existing key, not to an alias, and moves only between keys of the same kind."""
    key = external(kms)
    kms.create_alias(AliasName="alias/one", TargetKeyId=key["KeyId"])
    assert NOT_FOUND == refusal(kms.create_alias, AliasName="alias/two", TargetKeyId=UNKNOWN)
    assert VALIDATION == refusal(kms.create_alias, AliasName="alias/two", TargetKeyId="alias/one")
    signing = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    assert VALIDATION == refusal(kms.update_alias, AliasName="alias/one", TargetKeyId=signing)


def test_a_key_has_at_most_50_aliases(kms: Any) -> None:
    """The 51st alias of a key is rejected, also when it is moved to the key."""
    full, other = external(kms)["KeyId"], external(kms)["KeyId"]
    for n in range(50):
        kms.create_alias(AliasName=f"alias/{n}", TargetKeyId=full)
    assert LIMIT == refusal(kms.create_alias, AliasName="alias/50", TargetKeyId=full)
    kms.create_alias(AliasName="alias/50", TargetKeyId=other)
    assert LIMIT == refusal(kms.update_alias, AliasName="alias/50", TargetKeyId=full)
    kms.update_alias(AliasName="alias/1", TargetKeyId=full)


# Tags -------------------------------------------------------------------------------------------------


def tags(kms: Any, key_id: str) -> dict[str, str]:
    """Return a key's tags."""
    return {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=key_id)["Tags"]}


def test_tags(kms: Any) -> None:
    """Tags are set at creation, overwritten by name, and removed; removing a missing one is no error."""
    key = external(kms, Tags=[{"TagKey": "a", "TagValue": "1"}])
    assert {"a": "1"} == tags(kms, key["KeyId"])
    kms.tag_resource(KeyId=key["Arn"], Tags=[{"TagKey": "a", "TagValue": "2"}, {"TagKey": "b", "TagValue": ""}])
    assert {"a": "2", "b": ""} == tags(kms, key["Arn"])
    kms.untag_resource(KeyId=key["Arn"], TagKeys=["a", "c"])
    assert {"b": ""} == tags(kms, key["KeyId"])


def test_rejected_tags(kms: Any) -> None:
    """Reserved, duplicate and overlong tags are rejected, and the 51st."""
    key_id = external(kms)["KeyId"]
    many = [{"TagKey": str(n), "TagValue": "x"} for n in range(51)]
    for bad, code in (
        ([{"TagKey": "aws:a", "TagValue": "1"}], TAG), ([many[0], many[0]], TAG), (many, LIMIT),
        ([{"TagKey": "x" * 129, "TagValue": "1"}], VALIDATION), ([{"TagKey": "a"}], VALIDATION),
    ):  # fmt: skip
        assert code == refusal(kms.tag_resource, KeyId=key_id, Tags=bad)
    assert tags(kms, key_id) == {}


# Grants -----------------------------------------------------------------------------------------------


def grant(kms: Any, key_id: str, **more: Any) -> Any:
    """Create a grant that lets Admin decrypt, or as `more` says."""
    return kms.create_grant(KeyId=key_id, **{"GranteePrincipal": ADMIN, "Operations": ["Decrypt"], **more})


def test_grant_fields(kms: Any, endpoint: str) -> None:
    """ListGrants shows everything that was given, the issuing account and the date."""
    key = external(kms, os.urandom(32))
    constraints = {"EncryptionContextSubset": {"aws:rds:dbc-id": "cluster-X"}}
    made = grant(
        kms, key["Arn"], Operations=["Decrypt", "GenerateDataKey"], Constraints=constraints, Name="mine",
        RetiringPrincipal=ROOT,
    )  # fmt: skip
    (shown,) = kms.list_grants(KeyId=key["KeyId"])["Grants"]
    assert timedelta(0) <= now(endpoint) - shown.pop("CreationDate") < timedelta(seconds=60)
    assert shown == {
        "KeyId": key["Arn"], "GrantId": made["GrantId"], "GranteePrincipal": ADMIN, "RetiringPrincipal": ROOT,
        "IssuingAccount": ROOT, "Operations": ["Decrypt", "GenerateDataKey"], "Constraints": constraints,
        "Name": "mine",
    }  # fmt: skip
    assert (64, True) == (len(made["GrantId"]), bool(made["GrantToken"]))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"GranteePrincipal": "Admin"}, "InvalidArnException"),
        ({"GranteePrincipal": None}, VALIDATION),
        ({"RetiringPrincipal": "Admin"}, "InvalidArnException"),
        ({"Operations": ["DoAnything"]}, VALIDATION),
        ({"Operations": []}, VALIDATION),
        ({"Operations": ["Sign"]}, VALIDATION),
        ({"Name": "no spaces"}, VALIDATION),
        ({"Constraints": {"EncryptionContextSubset": {"a": "b"}, "EncryptionContextEquals": {"a": "b"}}}, VALIDATION),
    ],
)
def test_rejected_grants(kms: Any, given: dict[str, Any], code: str) -> None:
    """A grant takes the ARN of a principal, and only operations that its key supports."""
    asked = {"GranteePrincipal": ADMIN, "Operations": ["Decrypt"], **given}
    key_id = external(kms, os.urandom(32))["KeyId"]
    asked = {name: value for name, value in asked.items() if value is not None}
    assert code == refusal(kms.create_grant, KeyId=key_id, **asked)


def test_a_named_grant_is_idempotent(kms: Any) -> None:
    """Repeating a named request returns the same grant; without a name, or with other contents, a new one."""
    key_id = external(kms, os.urandom(32))["KeyId"]
    assert grant(kms, key_id, Name="a")["GrantId"] == grant(kms, key_id, Name="a")["GrantId"]
    made = {
        grant(kms, key_id, Name="a", Operations=["Encrypt"])["GrantId"],
        *(grant(kms, key_id)["GrantId"] for _ in "12"),
    }
    assert (3, 4) == (len(made), len(kms.list_grants(KeyId=key_id)["Grants"]))


def test_grants_are_found_revoked_and_retired(kms: Any) -> None:
    """A grant is found by id, grantee or retiring principal; it is revoked by id or retired by token, once."""
    key_id = external(kms, os.urandom(32))["KeyId"]
    first, second = grant(kms, key_id, RetiringPrincipal=ROOT), grant(kms, key_id, GranteePrincipal=ROOT)
    by_id = kms.list_grants(KeyId=key_id, GrantId=first["GrantId"])["Grants"]
    by_grantee = kms.list_grants(KeyId=key_id, GranteePrincipal=ROOT)["Grants"]
    retirable = kms.list_retirable_grants(RetiringPrincipal=ROOT)["Grants"]
    assert [first["GrantId"], second["GrantId"], first["GrantId"]] == [
        entry["GrantId"] for entry in (*by_id, *by_grantee, *retirable)
    ]
    kms.revoke_grant(KeyId=key_id, GrantId=second["GrantId"])
    assert NOT_FOUND == refusal(kms.revoke_grant, KeyId=key_id, GrantId=second["GrantId"])
    assert refusal(kms.list_grants, KeyId=key_id, GrantId=second["GrantId"]) == "InvalidGrantIdException"
    kms.retire_grant(GrantToken=first["GrantToken"])
    assert refusal(kms.retire_grant, GrantToken=first["GrantToken"]) == "InvalidGrantTokenException"
    assert VALIDATION == refusal(kms.retire_grant)
    assert NOT_FOUND == refusal(kms.retire_grant, KeyId=key_id, GrantId="0" * 64)


def test_grant_tokens(kms: Any) -> None:
    """A request may carry a grant's token; an invalid token is rejected."""
    key_id = external(kms, os.urandom(32))["KeyId"]
    token = grant(kms, key_id, Operations=["Encrypt"])["GrantToken"]
    kms.encrypt(KeyId=key_id, Plaintext=b"x", GrantTokens=[token])
    for garbage in ("garbage", "AAAA", token[:-4], token[4:]):
        code = refusal(kms.encrypt, KeyId=key_id, Plaintext=b"x", GrantTokens=[garbage])
        assert code == "InvalidGrantTokenException"


def test_grants_need_material(kms: Any) -> None:
    """No grant can be created while the key is PendingImport; existing ones remain."""
    key = external(kms, os.urandom(32))
    grant(kms, key["KeyId"])
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert INVALID == refusal(grant, kms=kms, key_id=key["KeyId"])
    assert len(kms.list_grants(KeyId=key["KeyId"])["Grants"]) == 1


def test_a_grant_allows_use_of_the_key(kms: Any, endpoint: str) -> None:
    """A principal that the policy does not name can use the key under a grant, only for the granted operations."""
    key = external(kms, os.urandom(32))
    guest = connect(endpoint, account="200000000042")
    assert DENIED == refusal(guest.encrypt, KeyId=key["Arn"], Plaintext=b"x")
    grant(kms, key["KeyId"], GranteePrincipal="arn:aws:iam::200000000042:role/Admin", Operations=["Encrypt"])
    blob = guest.encrypt(KeyId=key["Arn"], Plaintext=b"x")["CiphertextBlob"]
    assert DENIED == refusal(guest.describe_key, KeyId=key["Arn"])
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


# Paging -----------------------------------------------------------------------------------------------


def listings(kms: Any) -> dict[str, tuple[dict[str, Any], str, int]]:
    """Create five of everything; return per operation its parameters, the response's list, and the largest Limit."""
    keys = [external(kms, os.urandom(32))["KeyId"] for _ in range(5)]
    key_id = keys[0]
    for n in range(5):
        kms.create_alias(AliasName=f"alias/{n}", TargetKeyId=key_id)
        kms.tag_resource(KeyId=key_id, Tags=[{"TagKey": str(n), "TagValue": "x"}])
        grant(kms, key_id, RetiringPrincipal=ROOT)
    for _ in range(4):
        import_material(kms, key_id, os.urandom(32), ImportType="NEW_KEY_MATERIAL")
        rotate(kms, key_id)
    everything = {"KeyId": key_id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}
    return {
        "list_keys": ({}, "Keys", 1000), "list_aliases": ({"KeyId": key_id}, "Aliases", 100),
        "list_grants": ({"KeyId": key_id}, "Grants", 100), "list_resource_tags": ({"KeyId": key_id}, "Tags", 50),
        "list_retirable_grants": ({"RetiringPrincipal": ROOT}, "Grants", 100),
        "list_key_rotations": (everything, "Rotations", 1000),
    }  # fmt: skip


def test_lists_are_paged(kms: Any) -> None:
    """Each list operation respects Limit and Marker: every item once, in the order of the whole list."""
    for operation, (asked, name, largest) in listings(kms).items():
        call = getattr(kms, operation)
        whole, found, marker = call(**asked), [], {}
        assert (5, False) == (len(whole[name]), whole["Truncated"]), operation
        for size in (2, 2, 1):
            page = call(**asked, Limit=2, **marker)
            assert (size, size == 2) == (len(page[name]), page["Truncated"]), operation
            found += page[name]
            marker = {"Marker": page.get("NextMarker")}
        assert whole[name] == found, operation
        assert VALIDATION == refusal(call, **asked, Limit=0), operation
        assert VALIDATION == refusal(call, **asked, Limit=largest + 1), operation
        for garbage in ("garbage", "AAAA", "e30="):
            assert refusal(call, **asked, Marker=garbage) == "InvalidMarkerException", operation


def test_every_key_has_one_policy_name_to_list(kms: Any) -> None:
    """ListKeyPolicies returns one name on one page."""
    answer = kms.list_key_policies(KeyId=external(kms)["KeyId"], Limit=1)
    assert (["default"], False) == (answer["PolicyNames"], answer["Truncated"])


def test_paginators_of_boto3_work(kms: Any) -> None:
    """boto3's paginators return everything."""
    made = {external(kms)["KeyId"] for _ in range(5)}
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
    assert made == {key["KeyId"] for page in pages for key in page["Keys"]}
