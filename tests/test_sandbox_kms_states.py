"""The guide's table of key states, operation by operation; how keys may be named; malformed requests."""

from __future__ import annotations

import functools
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from kms_support import (
    ACCOUNT,
    ADMIN,
    DISABLED,
    FOREVER,
    INVALID,
    NOT_FOUND,
    OTHER_REGION,
    REGION,
    UNKNOWN,
    UNSUPPORTED,
    VALIDATION,
    WRAPPING,
    advance,
    connect,
    described,
    external,
    now,
    refusal,
    reset,
    sandbox,
    wrap,
    wrapping_set,
)

from runbook_lib.aws import sandbox_process

OK = "ok"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": "kms:*",
                "Resource": "*",
            }
        ],
    }
)
# The parameters of each operation besides KeyId.
OPERATIONS: dict[str, dict[str, Any]] = {
    "encrypt": {"Plaintext": b"x"}, "generate_data_key": {"KeySpec": "AES_256"},
    "generate_data_key_without_plaintext": {"KeySpec": "AES_128"},
    "generate_data_key_pair": {"KeyPairSpec": "ECC_NIST_P256"},
    "generate_data_key_pair_without_plaintext": {"KeyPairSpec": "ECC_NIST_P256"},
    "create_grant": {"GranteePrincipal": ADMIN, "Operations": ["Decrypt"]},
    "rotate_key_on_demand": {}, "enable_key": {}, "disable_key": {}, "cancel_key_deletion": {},
    "schedule_key_deletion": {}, "enable_key_rotation": {}, "disable_key_rotation": {},
    "get_parameters_for_import": WRAPPING, "delete_imported_key_material": {},
    "update_key_description": {"Description": "x"},
    "tag_resource": {"Tags": [{"TagKey": "a", "TagValue": "b"}]}, "untag_resource": {"TagKeys": ["a"]},
    "describe_key": {}, "list_grants": {}, "list_aliases": {}, "list_key_policies": {},
    "get_key_policy": {}, "put_key_policy": {"Policy": POLICY}, "list_resource_tags": {},
    "list_key_rotations": {}, "get_key_rotation_status": {}, "get_key_last_usage": {},
}  # fmt: skip
CHANGING = {
    "rotate_key_on_demand",
    "enable_key",
    "disable_key",
    "cancel_key_deletion",
    "schedule_key_deletion",
    "delete_imported_key_material",
}
IN_PLAIN = {"PendingImport": OK, "Enabled": OK, "Disabled": OK, "PendingDeletion": INVALID}
USE = {"PendingImport": INVALID, "Enabled": OK, "Disabled": DISABLED, "PendingDeletion": INVALID}
SWITCH = {"PendingImport": INVALID, "Enabled": OK, "Disabled": OK, "PendingDeletion": INVALID}
TABLE: dict[str, dict[str, str]] = {
    **dict.fromkeys(OPERATIONS, dict.fromkeys(USE, OK)),
    **dict.fromkeys([name for name in OPERATIONS if name.startswith(("encrypt", "generate", "create_grant"))], USE),
    "rotate_key_on_demand": {**USE, "Enabled": INVALID},  # nothing is pending rotation
    "enable_key": SWITCH, "disable_key": SWITCH,
    "cancel_key_deletion": {"PendingImport": INVALID, "Enabled": INVALID, "Disabled": INVALID, "PendingDeletion": OK},
    "enable_key_rotation": dict.fromkeys(USE, UNSUPPORTED),
    "disable_key_rotation": dict.fromkeys(USE, UNSUPPORTED),
    **dict.fromkeys(
        ["schedule_key_deletion", "get_parameters_for_import", "update_key_description", "tag_resource",
         "untag_resource"], IN_PLAIN,
    ),
}  # fmt: skip
# A key with KMS-generated material is never PendingImport, and has nothing to import.
TABLE_OF_GENERATED = {
    **TABLE,
    "rotate_key_on_demand": USE, "enable_key_rotation": USE, "disable_key_rotation": USE,
    **dict.fromkeys(["get_parameters_for_import", "delete_imported_key_material"], dict.fromkeys(USE, UNSUPPORTED)),
}  # fmt: skip


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url:
        reset(url)
        yield url


@pytest.fixture(scope="module")
def kms(endpoint: str) -> Any:
    return connect(endpoint)


def in_state(kms: Any, state: str, origin: str = "EXTERNAL") -> Any:
    """Return a key with this origin in this state."""
    if origin == "AWS_KMS":
        key = kms.create_key()["KeyMetadata"]
    else:
        key = external(kms, None if state == "PendingImport" else os.urandom(32))
    if state == "Disabled":
        kms.disable_key(KeyId=key["KeyId"])
    if state == "PendingDeletion":
        kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    assert state == described(kms, key)["KeyState"]
    return key


@pytest.fixture(scope="module")
def standing(kms: Any) -> Any:
    """Return keys in every state; no test may change them."""
    return functools.cache(functools.partial(in_state, kms))


@pytest.mark.parametrize("origin", ["EXTERNAL", "AWS_KMS"])
@pytest.mark.parametrize("state", USE)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_key_state_table(kms: Any, standing: Any, state: str, operation: str, origin: str) -> None:
    """Every operation answers in every state as the guide's table of key states says, by id and by ARN."""
    if (state, origin) == ("PendingImport", "AWS_KMS"):
        return
    expected = (TABLE if origin == "EXTERNAL" else TABLE_OF_GENERATED)[operation][state]
    call, parameters = getattr(kms, operation), OPERATIONS[operation]
    for name in ("KeyId", "Arn"):
        if expected == OK:
            key = (in_state if operation in CHANGING else lambda _, *which: standing(*which))(kms, state, origin)
            call(KeyId=key[name], **parameters)
        else:
            key = standing(state, origin)
            assert expected == refusal(call, KeyId=key[name], **parameters)
        if operation not in CHANGING or expected != OK:
            assert state == described(kms, key)["KeyState"]


AFTER = {
    ("enable_key", "Enabled"): "Enabled", ("enable_key", "Disabled"): "Enabled",
    ("disable_key", "Enabled"): "Disabled", ("disable_key", "Disabled"): "Disabled",
    ("schedule_key_deletion", "PendingImport"): "PendingDeletion",
    ("schedule_key_deletion", "Enabled"): "PendingDeletion", ("schedule_key_deletion", "Disabled"): "PendingDeletion",
    ("cancel_key_deletion", "PendingDeletion"): "Disabled",
    ("delete_imported_key_material", "PendingImport"): "PendingImport",
    ("delete_imported_key_material", "Enabled"): "PendingImport",
    ("delete_imported_key_material", "Disabled"): "PendingImport",
    ("delete_imported_key_material", "PendingDeletion"): "PendingDeletion",
}  # fmt: skip


@pytest.mark.parametrize(("operation", "state"), AFTER)
def test_state_after(kms: Any, operation: str, state: str) -> None:
    """An operation that changes a key's state leaves it in the documented one; only there is Enabled true."""
    key = in_state(kms, state)
    getattr(kms, operation)(KeyId=key["KeyId"])
    shown = described(kms, key)
    expected = AFTER[operation, state]
    assert (expected, expected == "Enabled") == (shown["KeyState"], shown["Enabled"])
    assert (expected == "PendingDeletion") == ("DeletionDate" in shown)


@pytest.mark.parametrize(("state", "code"), [("Disabled", OK), ("PendingDeletion", INVALID)])
def test_import_follows_the_state(kms: Any, state: str, code: str) -> None:
    """Material can be imported into a disabled key, and not into one that is pending deletion."""
    key = external(kms, material := os.urandom(32))
    pair = wrapping_set(kms, key["KeyId"])
    if state == "Disabled":
        kms.disable_key(KeyId=key["KeyId"])
    else:
        kms.schedule_key_deletion(KeyId=key["KeyId"])
    blobs = {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": wrap(pair["PublicKey"], material)}
    if code == OK:
        kms.import_key_material(KeyId=key["KeyId"], **blobs, **FOREVER)
    else:
        assert code == refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **FOREVER)


@pytest.mark.parametrize("origin", ["EXTERNAL", "AWS_KMS"])
@pytest.mark.parametrize(
    ("state", "code"), [("PendingImport", INVALID), ("Disabled", DISABLED), ("PendingDeletion", INVALID)]
)
def test_decrypt_and_re_encrypt_follow_the_state(kms: Any, origin: str, state: str, code: str) -> None:
    """Operations that find the key inside a ciphertext respect its state too, at source and destination."""
    key, other = in_state(kms, "Enabled", origin), kms.create_key()["KeyMetadata"]
    mine = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    theirs = kms.encrypt(KeyId=other["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    change = {
        "PendingImport": "delete_imported_key_material", "Disabled": "disable_key",
        "PendingDeletion": "schedule_key_deletion",
    }[state]  # fmt: skip
    if (origin, state) == ("AWS_KMS", "PendingImport"):
        return
    getattr(kms, change)(KeyId=key["KeyId"])
    assert code == refusal(kms.decrypt, CiphertextBlob=mine)
    assert code == refusal(kms.decrypt, CiphertextBlob=mine, KeyId=key["Arn"])
    assert code == refusal(kms.re_encrypt, CiphertextBlob=mine, DestinationKeyId=other["KeyId"])
    assert code == refusal(kms.re_encrypt, CiphertextBlob=theirs, DestinationKeyId=key["Arn"])


@pytest.mark.parametrize("state", USE)
def test_aliases_and_grants_follow_the_state(kms: Any, state: str) -> None:
    """No alias can be created for a key that is pending deletion; existing ones can be deleted or moved away."""
    key, other = external(kms, os.urandom(32)), kms.create_key()["KeyMetadata"]
    grant = kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=ADMIN, Operations=["Decrypt"])["GrantId"]
    second = kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=ADMIN, Operations=["Encrypt"])["GrantId"]
    old, new, away = (f"alias/{kind}-{state}" for kind in ("old", "new", "away"))
    kms.create_alias(AliasName=old, TargetKeyId=key["KeyId"])
    kms.create_alias(AliasName=away, TargetKeyId=key["KeyId"])
    change = {
        "PendingImport": "delete_imported_key_material", "Enabled": "enable_key", "Disabled": "disable_key",
        "PendingDeletion": "schedule_key_deletion",
    }[state]  # fmt: skip
    getattr(kms, change)(KeyId=key["KeyId"])
    assert state == described(kms, key)["KeyState"]
    if state == "PendingDeletion":
        assert INVALID == refusal(kms.create_alias, AliasName=new, TargetKeyId=key["KeyId"])
        assert INVALID == refusal(kms.update_alias, AliasName=old, TargetKeyId=key["Arn"])
    else:
        kms.create_alias(AliasName=new, TargetKeyId=key["Arn"])
        kms.update_alias(AliasName=old, TargetKeyId=key["KeyId"])
    kms.update_alias(AliasName=away, TargetKeyId=other["KeyId"])
    kms.delete_alias(AliasName=old)
    kms.revoke_grant(KeyId=key["KeyId"], GrantId=grant)
    kms.retire_grant(KeyId=key["Arn"], GrantId=second)
    assert kms.list_grants(KeyId=key["KeyId"])["Grants"] == []


# Deletion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [0, 6, 31, 366])
def test_waiting_period_limits(kms: Any, standing: Any, days: int) -> None:
    """The waiting period is 7 to 30 days."""
    key_id = standing("Enabled")["KeyId"]
    assert VALIDATION == refusal(kms.schedule_key_deletion, KeyId=key_id, PendingWindowInDays=days)


@pytest.mark.parametrize(
    ("asked", "days"), [({}, 30), ({"PendingWindowInDays": 7}, 7), ({"PendingWindowInDays": 30}, 30)]
)
def test_waiting_period(kms: Any, endpoint: str, asked: dict[str, int], days: int) -> None:
    """The response and DescribeKey show the same date, so many days from now; 30 by default."""
    key = external(kms)
    answer = kms.schedule_key_deletion(KeyId=key["Arn"], **asked)
    assert (key["Arn"], "PendingDeletion", days) == (
        answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"],
    )  # fmt: skip
    assert answer["DeletionDate"] == described(kms, key)["DeletionDate"]
    distance = answer["DeletionDate"] - now(endpoint)
    assert timedelta(days=days) == pytest.approx(distance, abs=timedelta(seconds=60))


@pytest.fixture
def movable(endpoint: str) -> Iterator[str]:
    """Reset the clock after the test."""
    yield endpoint
    sandbox_process.call(endpoint, "/runbook/clock", method="POST", body={"reset": True})


def test_deletion_can_be_canceled_until_its_date(movable: str) -> None:
    """Deletion can be canceled until its date, leaving the key disabled; then key and aliases are deleted."""
    endpoint, kms = movable, connect(movable, account="200000000001")
    key = external(kms, os.urandom(32))
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    kms.create_alias(AliasName="alias/doomed", TargetKeyId=key["KeyId"])
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    advance(endpoint, days=6, hours=23)
    assert key["Arn"] == kms.cancel_key_deletion(KeyId=key["KeyId"])["KeyId"]
    kms.enable_key(KeyId=key["KeyId"])
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    advance(endpoint, days=7, seconds=5)
    assert NOT_FOUND == refusal(kms.describe_key, KeyId=key["KeyId"])
    assert NOT_FOUND == refusal(kms.describe_key, KeyId="alias/doomed")
    assert NOT_FOUND == refusal(kms.cancel_key_deletion, KeyId=key["KeyId"])
    assert refusal(kms.decrypt, CiphertextBlob=blob) == "AccessDeniedException"
    assert kms.list_keys()["Keys"] == []


def test_primary_key_waits_for_its_replicas(movable: str) -> None:
    """A multi-Region primary key's waiting period begins when its last replica is deleted."""
    endpoint, account = movable, "200000000002"
    kms, there = (connect(endpoint, region=region, account=account) for region in (REGION, OTHER_REGION))
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]
    kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion=OTHER_REGION)
    answer = kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=10)
    assert ("PendingReplicaDeletion", False) == (answer["KeyState"], "DeletionDate" in answer)
    shown = described(kms, key)
    assert (10, False) == (shown["PendingDeletionWindowInDays"], "DeletionDate" in shown)
    assert INVALID == refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")
    there.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    advance(endpoint, days=8)
    shown = described(kms, key)
    assert ("PendingDeletion", []) == (shown["KeyState"], shown["MultiRegionConfiguration"]["ReplicaKeys"])
    advance(endpoint, days=8)
    assert described(kms, key)["KeyState"] == "PendingDeletion"
    advance(endpoint, days=2)
    assert NOT_FOUND == refusal(kms.describe_key, KeyId=key["KeyId"])


# Names and malformed requests -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nonsense", NOT_FOUND),
        (UNKNOWN, NOT_FOUND),
        ("mrk-" + "0" * 32, NOT_FOUND),
        ("alias/unknown", NOT_FOUND),
        (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{UNKNOWN}", NOT_FOUND),
        (f"arn:aws:kms:{OTHER_REGION}:{ACCOUNT}:key/{UNKNOWN}", NOT_FOUND),
        ("arn:aws:kms:nonsense", "InvalidArnException"),
        ("arn:aws:s3:::bucket", "InvalidArnException"),
        ("", VALIDATION),
        ("x" * 2049, VALIDATION),
    ],
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_unknown_keys(kms: Any, operation: str, name: str, code: str) -> None:
    """Every operation rejects an unknown, malformed or foreign key name with the documented code."""
    assert code == refusal(getattr(kms, operation), KeyId=name, **OPERATIONS[operation])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_key_id_is_required(kms: Any, operation: str) -> None:
    """Every operation requires a key id, except ListAliases, which then lists all aliases."""
    if operation == "list_aliases":
        assert kms.list_aliases()["Aliases"]
    else:
        assert VALIDATION == refusal(getattr(kms, operation), **OPERATIONS[operation])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_aliases_are_accepted_where_aws_accepts_them(kms: Any, operation: str) -> None:
    """Cryptographic operations and DescribeKey accept an alias name or ARN; all others reject both."""
    key, name = external(kms, os.urandom(32)), f"alias/{operation}"
    kms.create_alias(AliasName=name, TargetKeyId=key["KeyId"])
    call, arn = getattr(kms, operation), f"arn:aws:kms:{REGION}:{ACCOUNT}:{name}"
    if operation.startswith(("encrypt", "generate", "describe_key")):
        call(KeyId=name, **OPERATIONS[operation])
        call(KeyId=arn, **OPERATIONS[operation])
        elsewhere = arn.replace(REGION, OTHER_REGION)
        assert NOT_FOUND == refusal(call, KeyId=elsewhere, **OPERATIONS[operation])
    else:
        assert NOT_FOUND == refusal(call, KeyId=name, **OPERATIONS[operation])
        assert refusal(call, KeyId=arn, **OPERATIONS[operation]) == "InvalidArnException"


def test_a_key_of_another_region_or_account(kms: Any, standing: Any, endpoint: str) -> None:
    """A key exists in one Region and account; another account finds it by ARN, subject to its policy."""
    key = standing("Enabled")
    assert NOT_FOUND == refusal(connect(endpoint, region=OTHER_REGION).describe_key, KeyId=key["KeyId"])
    stranger = connect(endpoint, account="200000000009")
    assert NOT_FOUND == refusal(stranger.describe_key, KeyId=key["KeyId"])
    assert refusal(stranger.describe_key, KeyId=key["Arn"]) == "AccessDeniedException"
    assert refusal(stranger.encrypt, KeyId=key["Arn"], Plaintext=b"x") == "AccessDeniedException"
    assert refusal(stranger.disable_key, KeyId=key["Arn"]) == "AccessDeniedException"


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{", b'"x"', b"null", b'{"KeyId": 1}', b'{"KeyId": {}}', b"\xff\xfe"])
@pytest.mark.parametrize(
    "operation",
    ["CreateKey", "Encrypt", "ImportKeyMaterial", "CreateGrant", "ReEncrypt", "Nonsense", "Find", "_get_param"],
)
def test_malformed_requests_are_never_a_500(endpoint: str, operation: str, garbage: bytes) -> None:
    """For any body, the response is a success or a JSON error below 500."""
    scope = f"AWS4-HMAC-SHA256 Credential=fake/20260101/{REGION}/kms/aws4_request, SignedHeaders=host, Signature=x"
    request = urllib.request.Request(  # noqa: S310 - the sandbox
        endpoint, data=garbage, method="POST",
        headers={"Authorization": scope, "X-Amz-Target": f"TrentService.{operation}"},
    )  # fmt: skip
    try:
        answer: Any = urllib.request.urlopen(request)  # noqa: S310
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        assert answer.status == 200 or (answer.status, True) == (400, "__type" in json.load(answer))


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("create_custom_key_store", {"CustomKeyStoreName": "x"}),
        ("derive_shared_secret", {"KeyAgreementAlgorithm": "ECDH", "PublicKey": b"x"}),
        ("update_primary_region", {"PrimaryRegion": OTHER_REGION}),
    ],
)
def test_missing_operations_are_an_error(kms: Any, standing: Any, operation: str, given: dict[str, Any]) -> None:
    """An operation that neither moto nor the sandbox has is rejected in KMS's own format."""
    named = {} if "CustomKeyStoreName" in given else {"KeyId": standing("Enabled")["KeyId"]}
    assert refusal(getattr(kms, operation), **named, **given) == "UnknownOperationException"
