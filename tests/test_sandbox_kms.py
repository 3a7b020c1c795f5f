"""The sandbox's KMS: imported key material, key states, rotation, ciphertexts. Figures come from the API reference."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runbook_lib.sandbox import process, server

REGION = "eu-west-2"
ACCOUNT = "123456789012"
SHA = {"RSAES_OAEP_SHA_256": hashes.SHA256, "RSAES_OAEP_SHA_1": hashes.SHA1}
FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
UNKNOWN = "12345678-1234-1234-1234-123456789012"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with server.running() as url:
        yield url


@pytest.fixture(autouse=True)
def _empty(endpoint: str) -> None:
    process.call(endpoint, "/moto-api/reset", method="POST", body={})


@pytest.fixture
def client(endpoint: str) -> Callable[..., Any]:
    def make(service: str = "kms", region: str = REGION) -> Any:
        return boto3.client(
            service, region_name=region, endpoint_url=endpoint, aws_access_key_id="fake",
            aws_secret_access_key="fake", config=Config(retries={"max_attempts": 1}, parameter_validation=False),
        )  # fmt: skip

    return make


@pytest.fixture
def kms(client: Callable[..., Any]) -> Any:
    return client()


def advance(endpoint: str, **by: float) -> None:
    seconds = timedelta(**by).total_seconds()
    process.call(endpoint, "/runbook/clock", method="POST", body={"advance_seconds": seconds})


def now(endpoint: str) -> datetime:
    return datetime.fromisoformat(process.call(endpoint, "/runbook/clock")["now"])


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    """Return the error code that a call is refused with; it must be a 4xx."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    answer = refused.value.response
    assert 400 <= answer["ResponseMetadata"]["HTTPStatusCode"] < 500
    return str(answer["Error"]["Code"])


def wrap(public_key: bytes, material: bytes, algorithm: str = "RSAES_OAEP_SHA_256") -> bytes:
    chosen = SHA[algorithm]
    public: Any = serialization.load_der_public_key(public_key)
    return bytes(public.encrypt(material, padding.OAEP(padding.MGF1(chosen()), chosen(), None)))


def wrapping_set(kms: Any, key_id: str, algorithm: str = "RSAES_OAEP_SHA_256", spec: str = "RSA_2048") -> Any:
    return kms.get_parameters_for_import(KeyId=key_id, WrappingAlgorithm=algorithm, WrappingKeySpec=spec)


def import_material(kms: Any, key_id: str, material: bytes, **more: Any) -> Any:
    pair = wrapping_set(kms, key_id)
    arguments = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"} if "ValidTo" not in more else {}
    return kms.import_key_material(
        KeyId=key_id, ImportToken=pair["ImportToken"],
        EncryptedKeyMaterial=wrap(pair["PublicKey"], material), **{**arguments, **more},
    )  # fmt: skip


def external(kms: Any, material: bytes | None = None, **more: Any) -> Any:
    key = kms.create_key(Origin="EXTERNAL", **more)["KeyMetadata"]
    if material is not None:
        import_material(kms, key["KeyId"], material)
    return key


def described(kms: Any, key: Any) -> Any:
    return kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]


def materials(kms: Any, key: Any) -> Any:
    answer = kms.list_key_rotations(KeyId=key["KeyId"], IncludeKeyMaterial="ALL_KEY_MATERIAL")
    return answer["Rotations"]


# The import path --------------------------------------------------------------------------------------


def test_external_key_starts_pending_import(kms: Any) -> None:
    """A key of origin EXTERNAL has no material, is not enabled and shows no expiry."""
    key = described(kms, external(kms))
    assert (key["KeyState"], key["Enabled"], key["Origin"]) == ("PendingImport", False, "EXTERNAL")
    assert not {"ExpirationModel", "ValidTo", "CurrentKeyMaterialId"} & set(key)


@pytest.mark.parametrize("algorithm", SHA)
@pytest.mark.parametrize(("spec", "size"), [("RSA_2048", 294), ("RSA_3072", 422), ("RSA_4096", 550)])
def test_import_with_every_allowed_wrapping(kms: Any, endpoint: str, algorithm: str, spec: str, size: int) -> None:
    """Each wrapping key size and both OAEP algorithms bring the material in and enable the key."""
    key = external(kms)
    pair = wrapping_set(kms, key["KeyId"], algorithm, spec)
    answer = kms.import_key_material(
        KeyId=key["KeyId"], ImportToken=pair["ImportToken"],
        EncryptedKeyMaterial=wrap(pair["PublicKey"], os.urandom(32), algorithm), **FOREVER,
    )  # fmt: skip
    assert (size, True) == (len(pair["PublicKey"]), len(pair["ImportToken"]) <= 6144)
    assert timedelta(hours=24) == pytest.approx(pair["ParametersValidTo"] - now(endpoint), abs=timedelta(seconds=60))
    assert ("Enabled", key["Arn"]) == (described(kms, key)["KeyState"], answer["KeyId"])
    assert answer["KeyMaterialId"] == described(kms, key)["CurrentKeyMaterialId"]


def test_imported_bytes_are_in_use(kms: Any) -> None:
    """A KMS ciphertext opens by hand with the imported bytes."""
    material = os.urandom(32)
    key = external(kms, material)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"data key")["CiphertextBlob"]
    key_id, nonce, tag, body = blob[:36], blob[36:48], blob[48:64], blob[64:]
    assert key["KeyId"] == key_id.decode()
    assert AESGCM(material).decrypt(nonce, body + tag, b"") == b"data key"


def test_other_bytes_do_not_open_a_ciphertext(kms: Any) -> None:
    """The twin: any other bytes do not open it."""
    key = external(kms, os.urandom(32))
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"data key")["CiphertextBlob"]
    with pytest.raises(Exception, match=""):
        AESGCM(os.urandom(32)).decrypt(blob[36:48], blob[64:] + blob[48:64], b"")


@pytest.mark.parametrize("algorithm", ["RSAES_PKCS1_V1_5", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256", "X"])
def test_wrapping_algorithms_that_symmetric_keys_do_not_take(kms: Any, algorithm: str) -> None:
    """Hybrid wrapping and PKCS #1 v1.5 are refused for symmetric keys."""
    key = external(kms)
    assert (
        refusal(
            kms.get_parameters_for_import, KeyId=key["KeyId"], WrappingAlgorithm=algorithm, WrappingKeySpec="RSA_2048"
        )
        == "ValidationException"
    )


def test_import_calls_need_origin_external(kms: Any) -> None:
    """A key whose material KMS made takes none of the three import calls."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    blobs = {"ImportToken": b"x", "EncryptedKeyMaterial": b"x"}
    unsupported = "UnsupportedOperationException"
    wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    assert unsupported == refusal(kms.get_parameters_for_import, KeyId=key_id, **wrapping)
    assert unsupported == refusal(kms.import_key_material, KeyId=key_id, **blobs, **FOREVER)
    assert unsupported == refusal(kms.delete_imported_key_material, KeyId=key_id)


@pytest.mark.parametrize(
    ("spec", "usage"),
    [("HMAC_256", "GENERATE_VERIFY_MAC"), ("RSA_2048", "SIGN_VERIFY"), ("ECC_NIST_P256", "SIGN_VERIFY")],
)
def test_import_into_other_kinds_of_key_is_refused(kms: Any, spec: str, usage: str) -> None:
    """Importing into HMAC, RSA and ECC keys is out of scope, and said so."""
    key = external(kms, KeySpec=spec, KeyUsage=usage)
    with pytest.raises(ClientError, match="symmetric key material only") as refused:
        wrapping_set(kms, key["KeyId"])
    assert refused.value.response["Error"]["Code"] == "UnsupportedOperationException"


def test_several_sets_are_good_side_by_side(kms: Any) -> None:
    """An older set still works after a newer one was fetched, each with its own public key only."""
    key = external(kms)
    older, newer = wrapping_set(kms, key["KeyId"]), wrapping_set(kms, key["KeyId"])
    material = os.urandom(32)
    mixed = {"ImportToken": older["ImportToken"], "EncryptedKeyMaterial": wrap(newer["PublicKey"], material)}
    assert refusal(kms.import_key_material, KeyId=key["KeyId"], **mixed, **FOREVER) == "InvalidCiphertextException"
    for pair in (older, newer):
        good = {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": wrap(pair["PublicKey"], material)}
        assert key["Arn"] == kms.import_key_material(KeyId=key["KeyId"], **good, **FOREVER)["KeyId"]


def test_token_runs_out_after_24_hours(kms: Any, endpoint: str) -> None:
    """A token works until 24 hours are over, and not a second longer."""
    key = external(kms)
    pair, material = wrapping_set(kms, key["KeyId"]), os.urandom(32)
    good = {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": wrap(pair["PublicKey"], material)}
    advance(endpoint, hours=23, minutes=59)
    kms.import_key_material(KeyId=key["KeyId"], **good, **FOREVER)
    advance(endpoint, minutes=2)
    assert refusal(kms.import_key_material, KeyId=key["KeyId"], **good, **FOREVER) == "ExpiredImportTokenException"


def test_token_of_another_key(kms: Any) -> None:
    """A token works for the key that it was made for only."""
    one, other = external(kms), external(kms)
    pair = wrapping_set(kms, one["KeyId"])
    strange = {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": wrap(pair["PublicKey"], os.urandom(32))}
    assert refusal(kms.import_key_material, KeyId=other["KeyId"], **strange, **FOREVER) == "InvalidImportTokenException"


@pytest.mark.parametrize("token", [b"x", b"\0" * 12, os.urandom(2000)])
def test_garbage_token(kms: Any, token: bytes) -> None:
    """A token that KMS did not make is an invalid token, whatever its length."""
    key = external(kms)
    encrypted = wrap(wrapping_set(kms, key["KeyId"])["PublicKey"], os.urandom(32))
    assert (
        refusal(
            kms.import_key_material, KeyId=key["KeyId"], ImportToken=token, EncryptedKeyMaterial=encrypted, **FOREVER
        )
        == "InvalidImportTokenException"
    )


@pytest.mark.parametrize("damage", ["truncated", "other hash", "base64", "random", "flipped"])
def test_material_that_does_not_open(kms: Any, damage: str) -> None:
    """Encrypted material that the wrapping key cannot open is an invalid ciphertext."""
    import base64

    key, material = external(kms), os.urandom(32)
    pair = wrapping_set(kms, key["KeyId"])
    good = wrap(pair["PublicKey"], material)
    bad = {
        "truncated": good[:-1],
        "other hash": wrap(pair["PublicKey"], material, "RSAES_OAEP_SHA_1"),
        "base64": base64.b64encode(good),
        "random": os.urandom(256),
        "flipped": good[:-1] + bytes([good[-1] ^ 1]),
    }[damage]
    assert (
        refusal(
            kms.import_key_material,
            KeyId=key["KeyId"],
            ImportToken=pair["ImportToken"],
            EncryptedKeyMaterial=bad,
            **FOREVER,
        )
        == "InvalidCiphertextException"
    )
    assert described(kms, key)["KeyState"] == "PendingImport"


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_material_of_the_wrong_length(kms: Any, length: int) -> None:
    """Symmetric material has 32 bytes, no more and no less."""
    key = external(kms)
    assert refusal(lambda: import_material(kms, key["KeyId"], os.urandom(length))) == "IncorrectKeyMaterialException"


@pytest.mark.parametrize(
    ("expiry", "days"),
    [
        ({}, None),
        ({"ExpirationModel": "KEY_MATERIAL_EXPIRES"}, None),
        ({"ExpirationModel": "KEY_MATERIAL_EXPIRES"}, -1),
        ({}, -1),
        ({}, 366),
        ({"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}, 1),
        ({"ExpirationModel": "SOMETIMES"}, None),
    ],
)
def test_expiry_that_is_refused(kms: Any, expiry: dict[str, str], days: int | None) -> None:
    """ValidTo is needed exactly when the material expires, in the future, within 365 days; expiring is the default."""
    key, more = external(kms), dict[str, Any](expiry)
    if days is not None:
        more["ValidTo"] = datetime.now(UTC) + timedelta(days=days)
    pair = wrapping_set(kms, key["KeyId"])
    good = {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": wrap(pair["PublicKey"], os.urandom(32))}
    assert refusal(kms.import_key_material, KeyId=key["KeyId"], **good, **more) == "ValidationException"


def test_material_expires_and_comes_back(kms: Any, endpoint: str) -> None:
    """On its date the material is gone and the key pending import; the same bytes restore old ciphertexts."""
    key, material = external(kms), os.urandom(32)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    import_material(kms, key["KeyId"], material, ValidTo=ends)
    shown = described(kms, key)
    assert ("KEY_MATERIAL_EXPIRES", ends) == (shown["ExpirationModel"], shown["ValidTo"])
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    advance(endpoint, days=30, seconds=5)
    assert described(kms, key)["KeyState"] == "PendingImport"
    assert materials(kms, key)[0]["ImportState"] == "PENDING_IMPORT"
    assert refusal(kms.decrypt, CiphertextBlob=blob) == "KMSInvalidStateException"
    assert refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32))) == "IncorrectKeyMaterialException"
    import_material(kms, key["KeyId"], material)
    assert described(kms, key)["ExpirationModel"] == "KEY_MATERIAL_DOES_NOT_EXPIRE"
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"old"


def test_delete_material_and_reimport(kms: Any) -> None:
    """Deleting the material ends use at once; only the same bytes bring it back; deleting again changes nothing."""
    material = os.urandom(32)
    key = external(kms, material)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    gone = kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert (key["Arn"], materials(kms, key)[0]["KeyMaterialId"]) == (gone["KeyId"], gone["KeyMaterialId"])
    assert (described(kms, key)["KeyState"], described(kms, key)["Enabled"]) == ("PendingImport", False)
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32))) == "IncorrectKeyMaterialException"
    import_material(kms, key["KeyId"], material)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"old"


def test_delete_when_nothing_was_imported(kms: Any) -> None:
    """There is nothing to delete in a key that never had material."""
    assert refusal(kms.delete_imported_key_material, KeyId=external(kms)["KeyId"]) == "KMSInvalidStateException"


def test_same_bytes_in_another_key_do_not_decrypt(kms: Any) -> None:
    """A ciphertext is bound to its key, even when another key has the same bytes and its name is written in."""
    material = os.urandom(32)
    one, other = external(kms, material), external(kms, material)
    blob = kms.encrypt(KeyId=one["KeyId"], Plaintext=b"secret")["CiphertextBlob"]
    assert refusal(kms.decrypt, CiphertextBlob=blob, KeyId=other["KeyId"]) == "IncorrectKeyException"
    renamed = other["KeyId"].encode() + blob[36:]
    assert refusal(kms.decrypt, CiphertextBlob=renamed) == "InvalidCiphertextException"
    assert kms.decrypt(CiphertextBlob=blob, KeyId=one["Arn"])["Plaintext"] == b"secret"


# Several materials ------------------------------------------------------------------------------------


def test_rotation_of_imported_material(kms: Any) -> None:
    """New material waits for the rotation, then encrypts; the old one goes on decrypting what it encrypted."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    new = import_material(kms, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL", KeyMaterialDescription="safe 2")
    assert [entry["KeyMaterialState"] for entry in materials(kms, key)] == ["CURRENT", "PENDING_ROTATION"]
    assert key["KeyId"] == kms.rotate_key_on_demand(KeyId=key["KeyId"])["KeyId"]
    assert [entry["KeyMaterialState"] for entry in materials(kms, key)] == ["NON_CURRENT", "CURRENT"]
    rotations = kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]
    assert [("ON_DEMAND", new["KeyMaterialId"], "safe 2")] == [
        (entry["RotationType"], entry["KeyMaterialId"], entry["KeyMaterialDescription"]) for entry in rotations
    ]
    assert new["KeyMaterialId"] == described(kms, key)["CurrentKeyMaterialId"]
    newer = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"new")["CiphertextBlob"]
    assert AESGCM(second).decrypt(newer[36:48], newer[64:] + newer[48:64], b"") == b"new"
    opened = kms.decrypt(CiphertextBlob=blob)
    assert (b"old", materials(kms, key)[0]["KeyMaterialId"]) == (opened["Plaintext"], opened["KeyMaterialId"])


def test_every_permanent_material_must_be_there(kms: Any) -> None:
    """One missing material, even one that decrypts only, makes the whole key pending import."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first)
    import_material(kms, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL")
    kms.rotate_key_on_demand(KeyId=key["KeyId"])
    old = materials(kms, key)[0]["KeyMaterialId"]
    kms.delete_imported_key_material(KeyId=key["KeyId"], KeyMaterialId=old)
    assert described(kms, key)["KeyState"] == "PendingImport"
    import_material(kms, key["KeyId"], first, ImportType="EXISTING_KEY_MATERIAL", KeyMaterialId=old)
    assert described(kms, key)["KeyState"] == "Enabled"


def test_material_pending_rotation_can_go(kms: Any) -> None:
    """Deleting material that waits for rotation leaves the key as it is; then there is nothing to rotate to."""
    key = external(kms, os.urandom(32))
    new = import_material(kms, key["KeyId"], os.urandom(32), ImportType="NEW_KEY_MATERIAL")["KeyMaterialId"]
    assert (
        refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32), ImportType="NEW_KEY_MATERIAL"))
        == "KMSInvalidStateException"
    )
    kms.delete_imported_key_material(KeyId=key["KeyId"], KeyMaterialId=new)
    assert described(kms, key)["KeyState"] == "Enabled"
    assert refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"]) == "KMSInvalidStateException"


def test_import_type_and_material_id_rules(kms: Any) -> None:
    """NEW takes no known bytes, EXISTING no unknown ones, and a KeyMaterialId must be that of the bytes."""
    material = os.urandom(32)
    key = external(kms, material)
    known = described(kms, key)["CurrentKeyMaterialId"]
    key_id, incorrect = key["KeyId"], "IncorrectKeyMaterialException"
    assert incorrect == refusal(lambda: import_material(kms, key_id, material, ImportType="NEW_KEY_MATERIAL"))
    assert incorrect == refusal(
        lambda: import_material(kms, key_id, os.urandom(32), ImportType="EXISTING_KEY_MATERIAL")
    )
    assert incorrect == refusal(lambda: import_material(kms, key_id, os.urandom(32), KeyMaterialId=known))
    assert incorrect == refusal(lambda: import_material(kms, key_id, material, KeyMaterialId="0" * 64))
    both = {"ImportType": "NEW_KEY_MATERIAL", "KeyMaterialId": known}
    assert refusal(lambda: import_material(kms, key_id, os.urandom(32), **both)) == "ValidationException"
    assert refusal(lambda: import_material(kms, key_id, material, KeyMaterialId="XYZ")) == "ValidationException"
    assert known == import_material(kms, key_id, material, KeyMaterialId=known)["KeyMaterialId"]


def test_description_is_kept_when_it_is_omitted(kms: Any) -> None:
    """A reimport without a description keeps the one from the last import."""
    key, material = external(kms), os.urandom(32)
    import_material(kms, key["KeyId"], material, KeyMaterialDescription="vault: shelf 3")
    import_material(kms, key["KeyId"], material)
    assert materials(kms, key)[0]["KeyMaterialDescription"] == "vault: shelf 3"
    assert (
        refusal(lambda: import_material(kms, key["KeyId"], material, KeyMaterialDescription="emoji \u2603"))
        == "ValidationException"
    )


def test_at_most_25_rotations(kms: Any) -> None:
    """A key can be rotated on demand 25 times."""
    key = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"first")["CiphertextBlob"]
    for _ in range(25):
        kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"]) == "LimitExceededException"
    assert len(materials(kms, key)) == 26
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"first"


def test_valid_to_is_the_earliest(kms: Any) -> None:
    """DescribeKey shows the date on which the first of the permanent materials expires."""
    key = external(kms)
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=soon)
    late = soon + timedelta(days=100)
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=late, ImportType="NEW_KEY_MATERIAL")
    kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert soon == described(kms, key)["ValidTo"]


# Key states -------------------------------------------------------------------------------------------

WRAPPING = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
CONTEXTLESS: dict[str, dict[str, Any]] = {
    "encrypt": {"Plaintext": b"x"}, "generate_data_key": {"KeySpec": "AES_256"},
    "generate_data_key_without_plaintext": {"KeySpec": "AES_128"},
    "generate_data_key_pair": {"KeyPairSpec": "ECC_NIST_P256"},
    "generate_data_key_pair_without_plaintext": {"KeyPairSpec": "ECC_NIST_P256"},
    "create_grant": {"GranteePrincipal": f"arn:aws:iam::{ACCOUNT}:role/Admin", "Operations": ["Decrypt"]},
    "rotate_key_on_demand": {}, "enable_key": {}, "disable_key": {}, "cancel_key_deletion": {},
    "schedule_key_deletion": {}, "enable_key_rotation": {}, "disable_key_rotation": {},
    "get_parameters_for_import": WRAPPING, "update_key_description": {"Description": "x"},
    "tag_resource": {"Tags": [{"TagKey": "a", "TagValue": "b"}]}, "untag_resource": {"TagKeys": ["a"]},
    "describe_key": {}, "list_grants": {}, "list_aliases": {}, "list_key_policies": {},
    "get_key_policy": {}, "list_resource_tags": {}, "list_key_rotations": {}, "get_key_rotation_status": {},
    "get_key_last_usage": {},
}  # fmt: skip
OK, INVALID, DISABLED, UNSUPPORTED = (
    "ok",
    "KMSInvalidStateException",
    "DisabledException",
    "UnsupportedOperationException",
)
USE = {"PendingImport": INVALID, "Enabled": OK, "Disabled": DISABLED, "PendingDeletion": INVALID}
READ = dict.fromkeys(USE, OK)
TABLE = {
    **dict.fromkeys(CONTEXTLESS, READ),
    **dict.fromkeys([name for name in CONTEXTLESS if name.startswith(("encrypt", "generate", "create_grant"))], USE),
    "rotate_key_on_demand": {**USE, "Enabled": INVALID},  # nothing is pending rotation
    "enable_key": {"PendingImport": INVALID, "Enabled": OK, "Disabled": OK, "PendingDeletion": INVALID},
    "disable_key": {"PendingImport": INVALID, "Enabled": OK, "Disabled": OK, "PendingDeletion": INVALID},
    "cancel_key_deletion": {"PendingImport": INVALID, "Enabled": INVALID, "Disabled": INVALID, "PendingDeletion": OK},
    "enable_key_rotation": dict.fromkeys(USE, UNSUPPORTED),
    "disable_key_rotation": dict.fromkeys(USE, UNSUPPORTED),
    **dict.fromkeys(
        ["schedule_key_deletion", "get_parameters_for_import", "update_key_description", "tag_resource", "untag_resource"],
        {"PendingImport": OK, "Enabled": OK, "Disabled": OK, "PendingDeletion": INVALID},
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", USE)
@pytest.mark.parametrize("operation", CONTEXTLESS)
def test_key_state_table(kms: Any, state: str, operation: str) -> None:
    """Every operation answers in every state as the guide's table of key states says, by id and by ARN."""
    for name in ("KeyId", "Arn"):
        key = external(kms, None if state == "PendingImport" else os.urandom(32))
        if state == "Disabled":
            kms.disable_key(KeyId=key["KeyId"])
        if state == "PendingDeletion":
            kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
        assert state == described(kms, key)["KeyState"]
        call, expected = getattr(kms, operation), TABLE[operation][state]
        if expected == OK:
            call(KeyId=key[name], **CONTEXTLESS[operation])
        else:
            assert expected == refusal(call, KeyId=key[name], **CONTEXTLESS[operation])


def test_decrypt_and_re_encrypt_follow_the_state(kms: Any) -> None:
    """What names its key inside a ciphertext obeys the key's state too, for source and destination."""
    key, other = external(kms, os.urandom(32)), kms.create_key()["KeyMetadata"]
    mine = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    theirs = kms.encrypt(KeyId=other["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=key["KeyId"])
    assert refusal(kms.decrypt, CiphertextBlob=mine) == DISABLED
    assert refusal(kms.re_encrypt, CiphertextBlob=mine, DestinationKeyId=other["KeyId"]) == DISABLED
    assert refusal(kms.re_encrypt, CiphertextBlob=theirs, DestinationKeyId=key["KeyId"]) == DISABLED
    kms.enable_key(KeyId=key["KeyId"])
    answer = kms.re_encrypt(CiphertextBlob=theirs, DestinationKeyId=key["Arn"])
    assert (other["Arn"], key["Arn"]) == (answer["SourceKeyId"], answer["KeyId"])
    assert kms.decrypt(CiphertextBlob=answer["CiphertextBlob"])["Plaintext"] == b"x"


@pytest.mark.parametrize("days", [0, 6, 31, 366])
def test_waiting_period_limits(kms: Any, days: int) -> None:
    """A key waits for its deletion 7 to 30 days."""
    key = external(kms)
    assert refusal(kms.schedule_key_deletion, KeyId=key["KeyId"], PendingWindowInDays=days) == "ValidationException"


def test_deletion_is_scheduled_cancelled_and_done(kms: Any, endpoint: str) -> None:
    """A scheduled key can be had back, disabled, until its date; after that it is gone, and its aliases too."""
    key = external(kms, os.urandom(32))
    kms.create_alias(AliasName="alias/doomed", TargetKeyId=key["KeyId"])
    answer = kms.schedule_key_deletion(KeyId=key["Arn"], PendingWindowInDays=7)
    assert (key["Arn"], "PendingDeletion", 7) == (
        answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"],
    )  # fmt: skip
    assert answer["DeletionDate"] == described(kms, key)["DeletionDate"]
    assert key["Arn"] == kms.cancel_key_deletion(KeyId=key["KeyId"])["KeyId"]
    assert (described(kms, key)["KeyState"], "DeletionDate" in described(kms, key)) == ("Disabled", False)
    assert answer["DeletionDate"] - now(endpoint) < timedelta(days=7)
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    advance(endpoint, days=31)
    assert refusal(kms.describe_key, KeyId=key["KeyId"]) == "NotFoundException"
    assert refusal(kms.describe_key, KeyId="alias/doomed") == "NotFoundException"
    assert key["KeyId"] not in [entry["KeyId"] for entry in kms.list_keys()["Keys"]]


def test_import_into_a_disabled_key(kms: Any) -> None:
    """Importing is allowed while disabled and does not enable; deleting the material makes it pending import."""
    material = os.urandom(32)
    key = external(kms, material)
    kms.disable_key(KeyId=key["KeyId"])
    import_material(kms, key["KeyId"], material)
    assert described(kms, key)["KeyState"] == "Disabled"
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert described(kms, key)["KeyState"] == "PendingImport"


def test_delete_material_while_pending_deletion(kms: Any) -> None:
    """Deleting the material of a key that waits for its deletion leaves its state as it is."""
    key = external(kms, os.urandom(32))
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert described(kms, key)["KeyState"] == "PendingDeletion"


def test_automatic_rotation_of_keys_that_kms_made(kms: Any, endpoint: str) -> None:
    """A key with automatic rotation gets new material when its period is over; imported keys never do."""
    key = kms.create_key()["KeyMetadata"]
    kms.enable_key_rotation(KeyId=key["KeyId"], RotationPeriodInDays=90)
    status = kms.get_key_rotation_status(KeyId=key["KeyId"])
    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 90)
    advance(endpoint, days=91)
    assert [entry["RotationType"] for entry in kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]] == ["AUTOMATIC"]
    assert kms.get_key_rotation_status(KeyId=external(kms)["KeyId"])["KeyRotationEnabled"] is False


# Using a key ------------------------------------------------------------------------------------------


def test_context_is_part_of_a_ciphertext(kms: Any) -> None:
    """Another encryption context does not decrypt, not even one that reads the same when strung together."""
    key = external(kms, os.urandom(32))
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x", EncryptionContext={"a": "bc"})["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext={"a": "bc"})["Plaintext"] == b"x"
    for other in ({}, {"ab": "c"}, {"a": "b"}, {"A": "bc"}):
        assert refusal(kms.decrypt, CiphertextBlob=blob, EncryptionContext=other) == "InvalidCiphertextException"


@pytest.mark.parametrize("blob", [b"x", b"\xff" * 200, os.urandom(300), UNKNOWN.encode()])
def test_garbage_ciphertext(kms: Any, blob: bytes) -> None:
    """What is no ciphertext is an invalid one."""
    assert refusal(kms.decrypt, CiphertextBlob=blob) == "InvalidCiphertextException"


def test_ciphertext_of_a_key_that_is_not_here(kms: Any, client: Callable[..., Any]) -> None:
    """A ciphertext from another Region cannot be decrypted here."""
    there = client(region="eu-west-1")
    key = there.create_key()["KeyMetadata"]
    blob = there.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert refusal(kms.decrypt, CiphertextBlob=blob) == "AccessDeniedException"


def test_data_keys(kms: Any) -> None:
    """A data key's two halves belong together, in the length asked for."""
    key = external(kms, os.urandom(32))
    for asked, length in (({"KeySpec": "AES_128"}, 16), ({"KeySpec": "AES_256"}, 32), ({"NumberOfBytes": 64}, 64)):
        made = kms.generate_data_key(KeyId=key["KeyId"], **asked)
        assert (length, made["Plaintext"]) == (
            len(made["Plaintext"]), kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"],
        )  # fmt: skip
    assert refusal(kms.generate_data_key, KeyId=key["KeyId"]) == "ValidationException"
    both = {"KeySpec": "AES_256", "NumberOfBytes": 32}
    assert refusal(kms.generate_data_key, KeyId=key["KeyId"], **both) == "ValidationException"


def test_last_usage(kms: Any) -> None:
    """GetKeyLastUsage is empty until the first cryptographic operation, then names the last."""
    key = external(kms, os.urandom(32))
    assert "KeyLastUsage" not in kms.get_key_last_usage(KeyId=key["KeyId"])
    kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")
    kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256")
    assert kms.get_key_last_usage(KeyId=key["KeyId"])["KeyLastUsage"]["Operation"] == "GenerateDataKey"


def test_multi_region_key(kms: Any, client: Callable[..., Any]) -> None:
    """A multi-Region key has an id of AWS's form and works; a replica imports the primary's material first."""
    material = os.urandom(32)
    key = external(kms, material, MultiRegion=True)
    assert (key["KeyId"][:4], len(key["KeyId"])) == ("mrk-", 36)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion="eu-west-1")
    there = client(region="eu-west-1")
    assert described(there, key)["KeyState"] == "PendingImport"
    assert refusal(lambda: import_material(there, key["KeyId"], os.urandom(32))) == "IncorrectKeyMaterialException"
    import_material(there, key["KeyId"], material)
    assert there.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_multi_region_rotation_needs_every_replica(kms: Any, client: Callable[..., Any]) -> None:
    """New material goes into the primary, then into each replica; only then can the primary rotate, and all do."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first, MultiRegion=True)
    kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion="eu-west-1")
    there = client(region="eu-west-1")
    import_material(there, key["KeyId"], first)
    assert (
        refusal(lambda: import_material(there, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL"))
        == "UnsupportedOperationException"
    )
    import_material(kms, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL")
    assert materials(kms, key)[1]["KeyMaterialState"] == "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
    assert refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"]) == INVALID
    import_material(there, key["KeyId"], second, ImportType="EXISTING_KEY_MATERIAL")
    assert materials(kms, key)[1]["KeyMaterialState"] == "PENDING_ROTATION"
    kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert described(kms, key)["CurrentKeyMaterialId"] == described(there, key)["CurrentKeyMaterialId"]


# Names and garbage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nonsense", "NotFoundException"),
        (UNKNOWN, "NotFoundException"),
        ("alias/unknown", "NotFoundException"),
        (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{UNKNOWN}", "NotFoundException"),
        (f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{UNKNOWN}", "NotFoundException"),
        ("arn:aws:kms:nonsense", "InvalidArnException"),
        ("arn:aws:s3:::bucket", "InvalidArnException"),
        ("", "ValidationException"),
        ("x" * 2049, "ValidationException"),
    ],
)
@pytest.mark.parametrize("operation", CONTEXTLESS)
def test_key_that_is_not_there(kms: Any, operation: str, name: str, code: str) -> None:
    """Every operation refuses an unknown, malformed or foreign key name with the documented code."""
    assert code == refusal(getattr(kms, operation), KeyId=name, **CONTEXTLESS[operation])


ALIAS_TAKEN = [name for name in CONTEXTLESS if name.startswith(("encrypt", "generate", "describe_key"))]


@pytest.mark.parametrize("operation", CONTEXTLESS)
def test_aliases_are_taken_where_aws_takes_them(kms: Any, operation: str) -> None:
    """Cryptographic operations and DescribeKey take an alias name or ARN; all others take neither."""
    key = external(kms, os.urandom(32))
    kms.create_alias(AliasName="alias/mine", TargetKeyId=key["KeyId"])
    call, arn = getattr(kms, operation), key["Arn"].replace(f"key/{key['KeyId']}", "alias/mine")
    if operation in ALIAS_TAKEN:
        call(KeyId="alias/mine", **CONTEXTLESS[operation])
        call(KeyId=arn, **CONTEXTLESS[operation])
    else:
        assert refusal(call, KeyId="alias/mine", **CONTEXTLESS[operation]) == "NotFoundException"
        assert refusal(call, KeyId=arn, **CONTEXTLESS[operation]) == "InvalidArnException"


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{", b'"x"', b"null", b'{"KeyId": 1}', b'{"KeyId": {}}', b"\xff\xfe"])
@pytest.mark.parametrize("operation", ["CreateKey", "Encrypt", "ImportKeyMaterial", "CreateGrant", "Nonsense", "Find"])
def test_garbage_is_never_a_500(endpoint: str, operation: str, garbage: bytes) -> None:
    """Whatever the body, the answer is a JSON error below 500, or a success."""
    import urllib.error
    import urllib.request

    scope = f"AWS4-HMAC-SHA256 Credential=fake/20260101/{REGION}/kms/aws4_request, SignedHeaders=host, Signature=x"
    request = urllib.request.Request(
        endpoint, data=garbage, method="POST",
        headers={"Authorization": scope, "X-Amz-Target": f"TrentService.{operation}"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
    except urllib.error.HTTPError as error:
        assert error.code == 400
        assert "__type" in json.load(error)
