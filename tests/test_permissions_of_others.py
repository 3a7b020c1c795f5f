"""What the printed policies allow on somebody else's key whose key policy leaves everything to IAM policies: almost nothing.

Each call is made with exactly a printed policy, against the sandbox's IAM. Its twins show that the calls work: with all
permissions, and on the run's own key. The last tests are about the sandbox: it judges conditions as AWS documents them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kms_support import ACCOUNT, WRAPPING, connect, external, import_material, reset, sandbox, wrapping_set

from runbook_lib.aws import sandbox_process
from runbook_lib.run.steps import all_steps, chain
from runbook_lib.steps import permissions

STEPS = list(all_steps())
CHAIN = [step.name for step in chain()]
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
DELEGATES = {"Sid": "IAM", "Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
MATERIAL = bytes(range(32))
OURS = [{"TagKey": "runbook:run-id", "TagValue": "mine"}, {"TagKey": "runbook:step", "TagValue": "01_create_key"}]
GIVEN = {"master_user_secret_kms_key_id": "alias/password", "allowed_cidr": "10.0.0.0/16", "take_snapshot": True,
         "wrapping_key_spec": "RSA_2048"}  # fmt: skip


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class Caller:
    """The role Admin with one policy, in an account with IAM enforced."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.kms, self.iam, self.ec2 = (connect(endpoint, name) for name in ("kms", "iam", "ec2"))
        self.iam.detach_role_policy(RoleName="Admin", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")

    def may_do(self, policy: dict[str, Any] | str) -> None:
        self.enforce(False)
        text = policy if isinstance(policy, str) else json.dumps(policy)
        self.iam.put_role_policy(RoleName="Admin", PolicyName="printed", PolicyDocument=text)
        self.enforce(True)

    def enforce(self, on: bool) -> None:
        sandbox_process.call(self.endpoint, "/runbook/iam", body={"account": ACCOUNT, "enforce": on}, method="POST")

    def is_allowed(self, call: Callable[[Any, dict[str, Any]], Any], key: dict[str, Any]) -> bool:
        """Return whether a call passes the policies; what it is refused for otherwise does not count."""
        try:
            call(self.kms, key)
        except ClientError as error:
            return error.response["Error"]["Code"] not in ("AccessDeniedException", "UnauthorizedOperation")
        return True


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url:
        yield url


@pytest.fixture
def caller(endpoint: str) -> Caller:
    reset(endpoint)
    return Caller(endpoint)


def another(kms: Any, origin: str) -> dict[str, Any]:
    """Return a key that is in use by others, with a ciphertext of its own."""
    key = external(kms, MATERIAL) if origin == "EXTERNAL" else kms.create_key()["KeyMetadata"]
    key["secret"] = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"theirs")["CiphertextBlob"]
    return dict(key)


FORBIDDEN: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "Encrypt": lambda kms, key: kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x"),
    "Decrypt": lambda kms, key: kms.decrypt(KeyId=key["KeyId"], CiphertextBlob=key["secret"]),
    "Decrypt without KeyId": lambda kms, key: kms.decrypt(CiphertextBlob=key["secret"]),
    "ReEncrypt": lambda kms, key: kms.re_encrypt(CiphertextBlob=key["secret"], DestinationKeyId=key["KeyId"]),
    "GenerateDataKey": lambda kms, key: kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256"),
    "DeleteImportedKeyMaterial": lambda kms, key: kms.delete_imported_key_material(KeyId=key["KeyId"]),
    "ScheduleKeyDeletion": lambda kms, key: kms.schedule_key_deletion(KeyId=key["KeyId"]),
    "DisableKey": lambda kms, key: kms.disable_key(KeyId=key["KeyId"]),
    "PutKeyPolicy": lambda kms, key: kms.put_key_policy(KeyId=key["KeyId"], Policy=document(DELEGATES)),
    "CreateGrant": lambda kms, key: kms.create_grant(
        KeyId=key["KeyId"], GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:role/Admin", Operations=["Decrypt"]
    ),
    "UpdateAlias": lambda kms, key: kms.update_alias(AliasName="alias/theirs", TargetKeyId=key["KeyId"]),
    "DeleteAlias": lambda kms, key: kms.delete_alias(AliasName="alias/theirs"),
    "TagResource": lambda kms, key: kms.tag_resource(KeyId=key["KeyId"], Tags=[{"TagKey": "team", "TagValue": "us"}]),
    "TagResource with the run's": lambda kms, key: kms.tag_resource(
        KeyId=key["KeyId"], Tags=[*OURS, {"TagKey": "team", "TagValue": "us"}]
    ),
    "UntagResource": lambda kms, key: kms.untag_resource(KeyId=key["KeyId"], TagKeys=["runbook:run-id"]),
}
POLICIES = {"00 to 06": CHAIN, **{name: [name] for name in STEPS}, "all together": STEPS}


@pytest.mark.parametrize("origin", ["EXTERNAL", "AWS_KMS"])
@pytest.mark.parametrize("run_id", ["", "mine"])
@pytest.mark.parametrize("steps", POLICIES.values(), ids=POLICIES)
def test_no_policy_reaches_the_key_of_somebody_else(caller: Caller, steps: list[str], run_id: str, origin: str) -> None:
    """Nothing that uses, changes, passes on or deletes it is allowed, also after it was given all tags that may be set."""
    theirs, own = another(caller.kms, origin), external(caller.kms, MATERIAL, Tags=OURS)
    caller.kms.create_alias(AliasName="alias/theirs", TargetKeyId=theirs["KeyId"])
    arn = own["Arn"] if run_id else ""
    known = permissions.values(GIVEN, run_id=run_id, account_id=ACCOUNT, key_arn=arn)
    policy = permissions.policy(steps, known)
    caller.may_do(
        policy if policy["Statement"] else document({"Effect": "Deny", "Action": "none:None", "Resource": "*"})
    )
    if caller.is_allowed(lambda kms, key: kms.tag_resource(KeyId=key["KeyId"], Tags=OURS), theirs):
        assert not run_id
        assert "01_create_key" in steps
    assert [] == [name for name, call in FORBIDDEN.items() if caller.is_allowed(call, theirs)]


def test_the_calls_that_are_forbidden_work_with_all_permissions(caller: Caller) -> None:
    """The twin: an administrator may make each of them on the very same keys."""
    for name, call in FORBIDDEN.items():
        theirs = another(caller.kms, "EXTERNAL")
        caller.kms.create_alias(AliasName="alias/theirs", TargetKeyId=theirs["KeyId"])
        caller.may_do(document({"Effect": "Allow", "Action": "*", "Resource": "*"}))
        assert caller.is_allowed(call, theirs), name
        caller.enforce(False)
        reset(caller.endpoint)
        caller = Caller(caller.endpoint)


@pytest.mark.parametrize(("step", "names"), [
    ("80_recovery_drill", ["Encrypt", "Decrypt", "DeleteImportedKeyMaterial"]), ("90_clean_up", ["ScheduleKeyDeletion"]),
])  # fmt: skip
def test_the_key_of_the_run_is_reached_by_the_steps_that_need_it(caller: Caller, step: str, names: list[str]) -> None:
    """The twin: on its own key each of these steps may do exactly its part of the forbidden calls."""
    own = another(caller.kms, "EXTERNAL")
    known = permissions.values(GIVEN, run_id="mine", account_id=ACCOUNT, key_arn=own["Arn"])
    caller.may_do(permissions.policy([step], known))
    without = {name: call for name, call in FORBIDDEN.items() if name != "Decrypt without KeyId"}
    assert names == [name for name, call in without.items() if caller.is_allowed(call, own)]


def test_what_remains_is_printed_with_the_policy(caller: Caller) -> None:
    """Each line is true of the policy: the call works on a key of origin EXTERNAL, and on no other where it says so."""
    steps, known = CHAIN, permissions.values({}, account_id=ACCOUNT)
    assert [
        "set the tags of a run on other keys (kms:TagResource); let no policy depend on these tags of a key",
        "point alias/aurora-byok at another key of origin EXTERNAL, while no key has this alias",
        "read the metadata, key policy and tags of other keys",
        "import into another key of origin EXTERNAL the material that it had before, or its first",
        "create a DB cluster under another key of origin EXTERNAL",
        "read the policies, grants and rotations of other keys",
    ] == permissions.remaining(steps, known)
    waiting, other = external(caller.kms), another(caller.kms, "AWS_KMS")
    caller.may_do(permissions.policy(steps, permissions.values(GIVEN, account_id=ACCOUNT)))

    def parameters(kms: Any, key: Any) -> Any:
        return kms.get_parameters_for_import(KeyId=key["KeyId"], **WRAPPING)

    def alias(kms: Any, key: Any) -> Any:
        return kms.create_alias(AliasName="alias/aurora-byok", TargetKeyId=key["KeyId"])

    assert not caller.is_allowed(parameters, other)
    assert not caller.is_allowed(alias, other)
    assert caller.is_allowed(alias, waiting)
    import_material(caller.kms, waiting["KeyId"], MATERIAL)


def test_nothing_remains_on_other_keys_once_the_run_has_its_own() -> None:
    """With the key's ARN no statement names more than this key, and nothing of a key remains."""
    known = permissions.values(
        {}, run_id="mine", account_id=ACCOUNT, key_arn=f"arn:aws:kms:eu-west-2:{ACCOUNT}:key/own"
    )
    assert [] == permissions.remaining(CHAIN, known)
    assert ["delete another run's cluster aurora-byok or practice-shop-byok, its instances and subnet group, if there is one of "
            "that name with the tag runbook:run-id mine"] == permissions.remaining(["90_clean_up"], known)  # fmt: skip


SETS_TAGS = {"kms:TagResource", "rds:AddTagsToResource", "ec2:CreateTags", "secretsmanager:TagResource"}


@pytest.mark.parametrize("steps", POLICIES.values(), ids=POLICIES)
def test_no_statement_depends_on_a_tag_that_its_holder_can_set(steps: list[str]) -> None:
    """A condition on aws:ResourceTag stands only where this policy sets the service's tags while it creates, or never."""
    statements = permissions.policy(steps, permissions.values(GIVEN, account_id=ACCOUNT))["Statement"]
    settable = {
        action.partition(":")[0]
        for one in statements for action in set(one["Action"]) & SETS_TAGS
        if "ec2:CreateAction" not in json.dumps(one.get("Condition", {}))
    }  # fmt: skip
    depending = {
        action.partition(":")[0]
        for one in statements if "aws:ResourceTag" in json.dumps(one.get("Condition", {})) for action in one["Action"]
    }  # fmt: skip
    alone = steps is not STEPS  # all in one policy: 90 then depends, beside the names, on tags of RDS that 05 may set
    assert (set() if alone else {"rds"}) == settable & depending


# The sandbox's judgement ------------------------------------------------------------------------------------------------


def allow(*actions: str, condition: dict[str, Any] | None = None, resource: Any = "*") -> str:
    return document({"Effect": "Allow", "Action": list(actions), "Resource": resource, "Condition": condition or {}})


def test_tags_and_aliases_of_a_key_are_conditions_of_iam_policies_only(caller: Caller) -> None:
    """A key policy that depends on them never allows; the same condition in an IAM policy does."""
    condition = {"StringEquals": {"aws:ResourceTag/team": "a"}}
    aliases = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/ours"}}
    key = external(caller.kms, MATERIAL, Tags=[{"TagKey": "team", "TagValue": "a"}])
    caller.kms.create_alias(AliasName="alias/ours", TargetKeyId=key["KeyId"])
    for given in (condition, aliases):
        caller.may_do(allow("kms:Encrypt", condition=given))
        assert caller.is_allowed(FORBIDDEN["Encrypt"], key)
        caller.may_do(allow("kms:PutKeyPolicy"))
        direct = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/Admin"}, "Action": "kms:Encrypt",
                  "Resource": "*", "Condition": given}  # fmt: skip
        caller.kms.put_key_policy(KeyId=key["KeyId"], Policy=document(DELEGATES, direct))
        assert not caller.is_allowed(FORBIDDEN["Encrypt"], key)


def test_an_alias_that_is_not_the_keys_does_not_match(caller: Caller) -> None:
    """The twin: kms:ResourceAliases are those of the key itself, however the request names it."""
    key = external(caller.kms, MATERIAL)
    caller.kms.create_alias(AliasName="alias/ours", TargetKeyId=key["KeyId"])
    caller.may_do(allow("kms:Encrypt", condition={"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/other"}}))
    assert not caller.is_allowed(FORBIDDEN["Encrypt"], key)
    caller.may_do(allow("kms:Encrypt", condition={"StringEquals": {"kms:RequestAlias": "alias/ours"}}))
    assert not caller.is_allowed(FORBIDDEN["Encrypt"], key)
    assert caller.kms.encrypt(KeyId="alias/ours", Plaintext=b"x")["CiphertextBlob"]


def test_decrypt_is_authorized_on_the_key_of_the_ciphertext(caller: Caller) -> None:
    """A policy for one key decrypts its ciphertexts without KeyId, and no other key's."""
    own, theirs = another(caller.kms, "EXTERNAL"), another(caller.kms, "AWS_KMS")
    caller.may_do(allow("kms:Decrypt", resource=own["Arn"]))
    assert b"theirs" == caller.kms.decrypt(CiphertextBlob=own["secret"])["Plaintext"]
    assert not caller.is_allowed(FORBIDDEN["Decrypt without KeyId"], theirs)


def test_reencrypt_needs_both_halves_each_on_its_key(caller: Caller) -> None:
    """kms:ReEncryptFrom on the source and kms:ReEncryptTo on the destination; kms:ReEncrypt is no action."""
    source, target = another(caller.kms, "EXTERNAL"), another(caller.kms, "AWS_KMS")
    halves = [{"Effect": "Allow", "Action": "kms:ReEncryptFrom", "Resource": source["Arn"]},
              {"Effect": "Allow", "Action": "kms:ReEncryptTo", "Resource": target["Arn"]}]  # fmt: skip

    def call(kms: Any, key: Any) -> Any:
        return kms.re_encrypt(CiphertextBlob=source["secret"], DestinationKeyId=target["KeyId"])

    for statements in (halves[:1], halves[1:], [{"Effect": "Allow", "Action": "kms:ReEncrypt", "Resource": "*"}]):
        caller.may_do(document(*statements))
        assert not caller.is_allowed(call, target)
    caller.may_do(document(*halves))
    assert target["Arn"] == call(caller.kms, target)["KeyId"]


def test_moving_an_alias_needs_the_alias_and_both_keys(caller: Caller) -> None:
    """kms:UpdateAlias is authorized on the alias, on the key that has it and on the key that gets it."""
    had, gets = external(caller.kms, MATERIAL), external(caller.kms, MATERIAL)
    caller.kms.create_alias(AliasName="alias/x", TargetKeyId=had["KeyId"])
    needed = [f"arn:aws:kms:eu-west-2:{ACCOUNT}:alias/x", had["Arn"], gets["Arn"]]

    def call(kms: Any, key: Any) -> Any:
        return kms.update_alias(AliasName="alias/x", TargetKeyId=gets["KeyId"])

    for missing in needed:
        caller.may_do(allow("kms:UpdateAlias", resource=[one for one in needed if one != missing]))
        assert not caller.is_allowed(call, gets), missing
    caller.may_do(allow("kms:UpdateAlias", resource=needed))
    assert caller.is_allowed(call, gets)


def test_a_grant_of_a_service_is_only_for_grants(caller: Caller) -> None:
    """kms:GrantIsForAWSResource is true for no direct call, and absent from everything but grants."""
    key = external(caller.kms, MATERIAL)
    caller.may_do(allow("kms:*", condition={"Bool": {"kms:GrantIsForAWSResource": "true"}}))
    assert [] == [name for name in ("Encrypt", "CreateGrant") if caller.is_allowed(FORBIDDEN[name], key)]


def test_tags_of_an_existing_security_group_cannot_be_set_with_the_permission_to_tag_new_ones(caller: Caller) -> None:
    """ec2:CreateAction is a condition key of the create only; the tag that 05 depends on cannot be moved."""
    vpc = caller.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = caller.ec2.create_security_group(GroupName="theirs", Description="theirs", VpcId=vpc)["GroupId"]
    caller.may_do(permissions.policy(CHAIN, permissions.values(GIVEN, account_id=ACCOUNT)))
    tag = [{"Key": "runbook:run-id", "Value": "mine"}]
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        caller.ec2.create_tags(Resources=[group], Tags=tag)
    made = caller.ec2.create_security_group(
        GroupName="ours",
        Description="ours",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tag}],
    )
    rule: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "CidrIp": "10.0.0.0/16"}
    caller.ec2.authorize_security_group_ingress(GroupId=made["GroupId"], **rule)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        caller.ec2.authorize_security_group_ingress(GroupId=group, **rule)


def test_an_import_that_expires_is_judged_by_its_time(caller: Caller) -> None:
    """kms:ValidTo is compared as a date, as the request sends it."""
    key = external(caller.kms)
    pair = wrapping_set(caller.kms, key["KeyId"])

    def call(kms: Any, key: Any) -> Any:
        return kms.import_key_material(
            KeyId=key["KeyId"], ImportToken=pair["ImportToken"], EncryptedKeyMaterial=b"x" * 256, ValidTo=1_900_000_000
        )

    caller.may_do(allow("kms:ImportKeyMaterial", condition={"DateLessThan": {"kms:ValidTo": "2029-01-01T00:00:00Z"}}))
    assert not caller.is_allowed(call, key)
    caller.may_do(allow("kms:ImportKeyMaterial", condition={"DateLessThan": {"kms:ValidTo": "2031-01-01T00:00:00Z"}}))
    assert caller.is_allowed(call, key)
