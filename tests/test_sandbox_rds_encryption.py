"""Encryption of the sandbox's clusters: with which key, on whose behalf, and what is rejected."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from kms_support import ACCOUNT, ADMIN, OTHER_REGION, REGION, advance, external, now, refusal, sandbox
from rds_support import CLUSTER, COMBINATION, NO_KEY, ROOT, Aws, raised_quotas

from runbook_lib.aws import sandbox_process

SERVICE = f"rds.{REGION}.amazonaws.com"


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    """A sandbox for this module."""
    with sandbox() as url, raised_quotas():
        yield Aws(url)


@pytest.fixture
def moved(aws: Aws) -> Iterator[Aws]:
    """The same, with the clock reset afterwards."""
    yield aws
    sandbox_process.call(aws.url, "/runbook/clock", method="POST", body={"reset": True})


def encryption(shown: Any) -> tuple[str, bool, str | None]:
    """Return the three fields that describe encryption."""
    return shown["StorageEncryptionType"], shown["StorageEncrypted"], shown.get("KmsKeyId")


def refused(aws: Aws, **asked: Any) -> str:
    """Return the error code with which CreateDBCluster fails."""
    return refusal(aws("rds").create_db_cluster, DBClusterIdentifier=aws.name(), **{**CLUSTER, **asked})


# ---- encryption type


@pytest.mark.parametrize("asked", [{}, {"StorageEncrypted": False}])
def test_the_default_is_an_aws_owned_key(aws: Aws, asked: dict[str, Any]) -> None:
    """Since 2026-02-18 the default is sse-rds: StorageEncrypted is False and there is no KmsKeyId."""
    assert ("sse-rds", False, None) == encryption(aws.cluster(**asked))


def test_before_18_february_2026_a_cluster_was_not_encrypted(moved: Aws) -> None:
    """With the clock before that day a cluster has type none, and keeps it."""
    before = datetime.fromisoformat("2026-02-17T12:00:00+00:00")
    advance(moved.url, seconds=(before - now(moved.url)).total_seconds())
    old = moved.cluster()
    assert ("none", False, None) == encryption(old)
    advance(moved.url, days=2)
    assert ("none", False, None) == encryption(moved.described(old))
    assert ("sse-rds", False, None) == encryption(moved.cluster())


def test_storage_encrypted_alone_uses_aws_rds(aws: Aws) -> None:
    """StorageEncrypted alone uses the account's AWS managed key."""
    key = aws("kms").describe_key(KeyId="alias/aws/rds")["KeyMetadata"]
    assert ("sse-kms", True, key["Arn"]) == encryption(aws.cluster(StorageEncrypted=True))
    assert "AWS" == key["KeyManager"]


@pytest.mark.parametrize("form", ["id", "arn", "alias", "alias arn"])
@pytest.mark.parametrize("asked", [{"StorageEncrypted": True}, {}])
def test_every_name_of_a_key_is_resolved_to_its_arn(aws: Aws, form: str, asked: dict[str, Any]) -> None:
    """Key id, ARN, alias and alias ARN are all resolved to the key's ARN, for an imported key too."""
    key, alias = external(aws("kms"), os.urandom(32)), "alias/" + aws.name("a")
    aws("kms").create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    names = {"id": key["KeyId"], "arn": key["Arn"], "alias": alias,
             "alias arn": key["Arn"].split(":key/")[0] + ":" + alias}  # fmt: skip
    assert ("sse-kms", True, key["Arn"]) == encryption(aws.cluster(KmsKeyId=names[form], **asked))


def test_a_key_without_encryption_is_rejected(aws: Aws) -> None:
    """KmsKeyId with StorageEncrypted=False is InvalidParameterCombination."""
    assert COMBINATION == refused(aws, StorageEncrypted=False, KmsKeyId=aws.key()["Arn"])


# ---- rejected keys


def _expired(aws: Aws) -> str:
    key = aws.key(Origin="EXTERNAL")
    from kms_support import import_material

    import_material(aws("kms"), key["KeyId"], os.urandom(32), ValidTo=now(aws.url) + timedelta(minutes=5))
    advance(aws.url, minutes=6)
    return str(key["Arn"])


def _deleted_material(aws: Aws) -> str:
    key = external(aws("kms"), os.urandom(32))
    aws("kms").delete_imported_key_material(KeyId=key["KeyId"])
    return str(key["Arn"])


KEYS = {
    "no such alias": lambda aws: "alias/there-is-none",
    "no such id": lambda aws: "12345678-1234-1234-1234-123456789012",
    "no name at all": lambda aws: "what?",
    "no key ARN": lambda aws: f"arn:aws:s3:::bucket-{aws.name()}",
    "another Region": lambda aws: aws.key(OTHER_REGION)["Arn"],
    "another account": lambda aws: Aws(aws.url, "999999999999").key()["Arn"],
    "disabled": lambda aws: aws.disabled(),
    "deletion scheduled": lambda aws: aws.pending_deletion(),
    "material never imported": lambda aws: aws.key(Origin="EXTERNAL")["Arn"],
    "material deleted": _deleted_material,
    "material expired": _expired,
    "RSA": lambda aws: aws.key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["Arn"],
    "HMAC": lambda aws: aws.key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["Arn"],
}


@pytest.mark.parametrize("which", KEYS)
def test_unusable_keys_are_rejected(moved: Aws, which: str) -> None:
    """Every unusable key is a KMSKeyNotAccessibleFault, and no cluster is created."""
    before = len(moved("rds").describe_db_clusters()["DBClusters"])
    assert NO_KEY == refused(moved, StorageEncrypted=True, KmsKeyId=KEYS[which](moved))
    assert before == len(moved("rds").describe_db_clusters()["DBClusters"])


@pytest.mark.parametrize("parameter", ["PerformanceInsightsKMSKeyId", "MasterUserSecretKmsKeyId"])
def test_other_keys_are_checked_too(aws: Aws, parameter: str) -> None:
    """The keys for Performance Insights and for the managed secret must be usable, and are shown as ARNs."""
    more = {"EnablePerformanceInsights": True} if parameter.startswith("Perf") else {}
    assert NO_KEY == refused(aws, **more, **{parameter: aws.disabled()})
    key = aws.key()
    made = aws.cluster(**more, **{parameter: key["KeyId"]})
    shown = made["PerformanceInsightsKMSKeyId"] if more else made["MasterUserSecret"]["KmsKeyId"]
    assert key["Arn"] == shown


# ---- on whose behalf


def _policy(*actions: str, **condition: Any) -> str:
    root = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": ["kms:Put*", "kms:Get*", "kms:DescribeKey"],
            "Resource": "*"}  # fmt: skip
    use = {"Effect": "Allow", "Principal": {"AWS": ADMIN}, "Action": list(actions), "Resource": "*"}
    if condition:
        use["Condition"] = condition
    return json.dumps({"Version": "2012-10-17", "Statement": [root, use]})


@pytest.mark.parametrize(
    ("policy", "usable"),
    [
        (_policy("kms:CreateGrant"), True),
        (_policy("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*"), False),
        (_policy("kms:CreateGrant", Bool={"kms:GrantIsForAWSResource": "true"}), True),
        (_policy("kms:CreateGrant", Bool={"kms:GrantIsForAWSResource": "false"}), False),
        (_policy("kms:CreateGrant", StringEquals={"kms:ViaService": SERVICE, "kms:CallerAccount": ACCOUNT}), True),
        (_policy("kms:CreateGrant", StringEquals={"kms:ViaService": "rds.eu-west-1.amazonaws.com"}), False),
        (_policy("kms:CreateGrant", StringEquals={"kms:CallerAccount": "999999999999"}), False),
    ],
)
def test_the_caller_needs_create_grant(aws: Aws, policy: str, usable: bool) -> None:
    """RDS acts on the caller's behalf: without kms:CreateGrant through RDS no cluster can use the key."""
    key = aws.key(Policy=policy)
    if usable:
        assert key["Arn"] == aws.cluster(StorageEncrypted=True, KmsKeyId=key["Arn"])["KmsKeyId"]
    else:
        assert NO_KEY == refused(aws, StorageEncrypted=True, KmsKeyId=key["Arn"])


def test_a_deny_of_describe_key_rejects_the_cluster(aws: Aws) -> None:
    """An explicit Deny of kms:DescribeKey overrides every Allow."""
    key = aws.key()
    document = json.loads(aws("kms").get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"])
    document["Statement"].append(
        {"Effect": "Deny", "Principal": {"AWS": ADMIN}, "Action": "kms:DescribeKey", "Resource": "*"}
    )
    aws("kms").put_key_policy(KeyId=key["KeyId"], PolicyName="default", Policy=json.dumps(document))
    assert NO_KEY == refused(aws, StorageEncrypted=True, KmsKeyId=key["Arn"])


@pytest.mark.parametrize(
    ("actions", "code"),
    [(("rds:*",), NO_KEY), (("rds:*", "kms:DescribeKey"), NO_KEY), (("rds:*", "kms:CreateGrant"), NO_KEY),
     (("kms:*",), "AccessDenied"), (("rds:*", "kms:CreateGrant", "kms:DescribeKey"), None)],
)  # fmt: skip
def test_with_iam_enforced_the_callers_policies_decide(aws: Aws, actions: tuple[str, ...], code: str | None) -> None:
    """With IAM enforced, the caller needs kms:CreateGrant and kms:DescribeKey besides rds:CreateDBCluster."""
    iam, name, key = aws("iam"), aws.name("user"), aws.key()
    entry = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    iam.create_user(UserName=name)
    iam.put_user_policy(
        UserName=name, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [entry]})
    )
    made = iam.create_access_key(UserName=name)["AccessKey"]
    rds = boto3.client(
        "rds", region_name=REGION, endpoint_url=aws.url, aws_access_key_id=made["AccessKeyId"],
        aws_secret_access_key=made["SecretAccessKey"],
    )  # fmt: skip
    asked = {"DBClusterIdentifier": aws.name(), "StorageEncrypted": True, "KmsKeyId": key["Arn"], **CLUSTER}
    aws.subnets()
    _enforce(aws, "0")
    try:
        if code is None:
            assert key["Arn"] == rds.create_db_cluster(**asked)["DBCluster"]["KmsKeyId"]
        else:
            assert code == refusal(rds.create_db_cluster, **asked)
    finally:
        _enforce(aws, "inf")


def _enforce(aws: Aws, after: str) -> None:
    """Enforce IAM after so many requests."""
    request = urllib.request.Request(  # noqa: S310
        aws.url + "/moto-api/reset-auth", data=after.encode(), headers={"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()  # noqa: S310


def test_rds_holds_one_grant_for_each_cluster(aws: Aws) -> None:
    """Each grant is for RDS, names its cluster in the encryption context, and is retired with the cluster."""
    key = aws.key()
    one, two = (aws.cluster(StorageEncrypted=True, KmsKeyId=key["Arn"]) for _ in range(2))
    grants = aws("kms").list_grants(KeyId=key["KeyId"])["Grants"]
    assert {one["DbClusterResourceId"], two["DbClusterResourceId"]} == {
        grant["Constraints"]["EncryptionContextSubset"]["aws:rds:dbc-id"] for grant in grants
    }
    assert {SERVICE} == {grant["GranteePrincipal"] for grant in grants}
    assert {"Decrypt", "GenerateDataKey", "CreateGrant", "RetireGrant", "DescribeKey"} <= set(grants[0]["Operations"])
    aws("rds").delete_db_cluster(DBClusterIdentifier=one["DBClusterIdentifier"], SkipFinalSnapshot=True)
    aws("rds").describe_db_clusters()
    left = aws("kms").list_grants(KeyId=key["KeyId"])["Grants"]
    assert [two["DbClusterResourceId"]] == [
        grant["Constraints"]["EncryptionContextSubset"]["aws:rds:dbc-id"] for grant in left
    ]


def test_no_grant_without_a_customer_managed_key(aws: Aws) -> None:
    """An sse-rds cluster creates no grant on the account's keys."""
    key = aws.key()
    aws.cluster()
    assert [] == aws("kms").list_grants(KeyId=key["KeyId"])["Grants"]


def test_cloudtrail_shows_the_grant_for_the_cluster(aws: Aws) -> None:
    """CloudTrail shows CreateGrant by RDS with aws:rds:dbc-id, and CreateDBCluster without the password."""
    key = aws.key()
    made = aws.cluster(StorageEncrypted=True, KmsKeyId=key["Arn"])
    asked = [{"AttributeKey": "ResourceName", "AttributeValue": key["Arn"]}]
    events = aws("cloudtrail").lookup_events(LookupAttributes=asked)["Events"]
    grant = next(json.loads(one["CloudTrailEvent"]) for one in events if one["EventName"] == "CreateGrant")
    assert "rds.amazonaws.com" == grant["userIdentity"]["invokedBy"]
    assert ADMIN == grant["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"]
    assert {"aws:rds:dbc-id": made["DbClusterResourceId"]} == (
        grant["requestParameters"]["constraints"]["encryptionContextSubset"]
    )
    asked = [{"AttributeKey": "ResourceName", "AttributeValue": made["DBClusterIdentifier"]}]
    names = [one["EventName"] for one in aws("cloudtrail").lookup_events(LookupAttributes=asked)["Events"]]
    assert "CreateDBCluster" in names


# ---- instances


def test_instances_are_encrypted_as_their_cluster(aws: Aws) -> None:
    """Every instance shows the cluster's three encryption fields, and has an id of its own."""
    cluster = aws.encrypted()
    made = [aws.instance(cluster) for _ in range(2)]
    assert [encryption(cluster)] * 2 == [encryption(one) for one in aws.members(cluster)]
    assert 2 == len({one["DbiResourceId"] for one in made})
    assert all(one["DbiResourceId"].startswith("db-") for one in made)
    assert ("sse-rds", False, None) == encryption(aws.instance(aws.cluster()))


@pytest.mark.parametrize("asked", [{"KmsKeyId": "the cluster's"}, {"StorageEncrypted": False}])
def test_members_take_no_encryption_of_their_own(aws: Aws, asked: dict[str, Any]) -> None:
    """Encryption is the cluster's: a key or a different value on a member is InvalidParameterCombination."""
    cluster = aws.encrypted()
    given = {name: cluster["KmsKeyId"] if name == "KmsKeyId" else value for name, value in asked.items()}
    assert COMBINATION == refusal(lambda: aws.instance(cluster, **given))


def test_members_need_the_clusters_key(aws: Aws) -> None:
    """Creating an instance requires the cluster's key."""
    cluster = aws.encrypted()
    aws("kms").disable_key(KeyId=cluster["KmsKeyId"])
    assert refusal(lambda: aws.instance(cluster)) in (NO_KEY, "InvalidDBClusterStateFault")


def test_instances_of_other_engines_resolve_keys_too(aws: Aws) -> None:
    """A MySQL instance resolves its key as a cluster does, and rejects an unusable one."""
    key = aws.key()
    given = {"Engine": "mysql", "DBInstanceClass": "db.t4g.medium", "AllocatedStorage": 20,
             "MasterUsername": "chief", "MasterUserPassword": "correct-horse"}  # fmt: skip
    create = aws("rds").create_db_instance
    made = create(DBInstanceIdentifier=aws.name("i"), KmsKeyId=key["KeyId"], **given)["DBInstance"]
    assert (True, key["Arn"]) == (made["StorageEncrypted"], made["KmsKeyId"])
    assert NO_KEY == refusal(create, DBInstanceIdentifier=aws.name("i"), KmsKeyId=aws.disabled(), **given)
    assert COMBINATION == refusal(
        create, DBInstanceIdentifier=aws.name("i"), **{**given, "EngineVersion": "5.6.41", "Engine": "mysql"}
    )
