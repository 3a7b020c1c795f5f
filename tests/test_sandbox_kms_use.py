"""Using keys: ciphertexts, encryption context, data keys, ReEncrypt, automatic rotation, other key types."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from kms_support import (
    ADMIN,
    OTHER_REGION,
    UNKNOWN,
    UNSUPPORTED,
    VALIDATION,
    advance,
    connect,
    described,
    external,
    materials,
    refusal,
    reset,
    sandbox,
)

BAD_CIPHERTEXT, WRONG_KEY, WRONG_USE = "InvalidCiphertextException", "IncorrectKeyException", "InvalidKeyUsageException"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url:
        yield url


@pytest.fixture
def kms(endpoint: str) -> Any:
    reset(endpoint)
    return connect(endpoint)


# Ciphertexts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["EXTERNAL", "AWS_KMS"])
def test_encrypt_and_decrypt(kms: Any, origin: str) -> None:
    """Responses name key, algorithm and material; Decrypt finds the key itself, or checks the one that is given."""
    key = external(kms, os.urandom(32)) if origin == "EXTERNAL" else kms.create_key()["KeyMetadata"]
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")
    assert (key["Arn"], "SYMMETRIC_DEFAULT") == (sealed["KeyId"], sealed["EncryptionAlgorithm"])
    for name in ({}, {"KeyId": key["KeyId"]}, {"KeyId": key["Arn"]}):
        opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], **name)
        assert (b"x", key["Arn"], "SYMMETRIC_DEFAULT", described(kms, key)["CurrentKeyMaterialId"]) == (
            opened["Plaintext"], opened["KeyId"], opened["EncryptionAlgorithm"], opened["KeyMaterialId"],
        )  # fmt: skip


def test_same_bytes_in_another_key_do_not_decrypt(kms: Any) -> None:
    """A ciphertext is bound to its key, even if another key has the same bytes and its id is written into it."""
    material = os.urandom(32)
    one, other = external(kms, material), external(kms, material)
    blob = kms.encrypt(KeyId=one["KeyId"], Plaintext=b"secret")["CiphertextBlob"]
    assert WRONG_KEY == refusal(kms.decrypt, CiphertextBlob=blob, KeyId=other["KeyId"])
    renamed = other["KeyId"].encode() + blob[36:]
    assert BAD_CIPHERTEXT == refusal(kms.decrypt, CiphertextBlob=renamed)
    assert kms.decrypt(CiphertextBlob=blob, KeyId=one["Arn"])["Plaintext"] == b"secret"
    assert materials(kms, one)[0]["KeyMaterialId"] != materials(kms, other)[0]["KeyMaterialId"]


def test_context_is_part_of_a_ciphertext(kms: Any) -> None:
    """A different encryption context does not decrypt, not even one with the same concatenation."""
    key = external(kms, os.urandom(32))
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x", EncryptionContext={"a": "bc", "d": "e"})["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext={"d": "e", "a": "bc"})["Plaintext"] == b"x"
    for other in ({}, {"a": "bc"}, {"ab": "c", "d": "e"}, {"a": "b", "d": "e"}, {"A": "bc", "d": "e"}):
        assert BAD_CIPHERTEXT == refusal(kms.decrypt, CiphertextBlob=blob, EncryptionContext=other)


@pytest.mark.parametrize("blob", [b"x", b"\xff" * 200, os.urandom(300), UNKNOWN.encode(), b"a" * 64])
@pytest.mark.parametrize("operation", ["decrypt", "re_encrypt"])
def test_malformed_ciphertext(kms: Any, operation: str, blob: bytes) -> None:
    """Bytes that are not a ciphertext are an InvalidCiphertextException."""
    more = {"DestinationKeyId": kms.create_key()["KeyMetadata"]["KeyId"]} if operation == "re_encrypt" else {}
    assert BAD_CIPHERTEXT == refusal(getattr(kms, operation), CiphertextBlob=blob, **more)


@pytest.mark.parametrize("at", [36, 50, -1])
def test_changed_ciphertext(kms: Any, at: int) -> None:
    """A ciphertext with one flipped bit in nonce, tag or body does not decrypt, nor does a truncated one."""
    key = external(kms, os.urandom(32))
    blob = bytearray(kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"])
    blob[at] ^= 1
    assert BAD_CIPHERTEXT == refusal(kms.decrypt, CiphertextBlob=bytes(blob))
    assert BAD_CIPHERTEXT == refusal(kms.decrypt, CiphertextBlob=bytes(blob[:-1]))


def test_ciphertext_from_another_region(kms: Any, endpoint: str) -> None:
    """A ciphertext from another Region cannot be decrypted."""
    there = connect(endpoint, region=OTHER_REGION)
    key = there.create_key()["KeyMetadata"]
    blob = there.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert refusal(kms.decrypt, CiphertextBlob=blob) == "AccessDeniedException"


@pytest.mark.parametrize(("size", "code"), [(0, VALIDATION), (4097, VALIDATION), (1, None), (4096, None)])
def test_plaintext_has_1_to_4096_bytes(kms: Any, size: int, code: str | None) -> None:
    """Encrypt accepts up to 4096 bytes."""
    key_id = external(kms, os.urandom(32))["KeyId"]
    if code:
        assert code == refusal(kms.encrypt, KeyId=key_id, Plaintext=b"x" * size)
    else:
        blob = kms.encrypt(KeyId=key_id, Plaintext=b"x" * size)["CiphertextBlob"]
        assert b"x" * size == kms.decrypt(CiphertextBlob=blob)["Plaintext"]


def test_re_encrypt(kms: Any) -> None:
    """ReEncrypt moves a ciphertext to another key and context, names both keys, and can check the source."""
    key, other = external(kms, os.urandom(32)), kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x", EncryptionContext={"a": "1"})["CiphertextBlob"]
    contexts = {"SourceEncryptionContext": {"a": "1"}, "DestinationEncryptionContext": {"b": "2"}}
    moved = kms.re_encrypt(CiphertextBlob=blob, SourceKeyId=key["Arn"], DestinationKeyId=other["KeyId"], **contexts)
    assert (key["Arn"], other["Arn"]) == (moved["SourceKeyId"], moved["KeyId"])
    assert [described(kms, one)["CurrentKeyMaterialId"] for one in (key, other)] == [
        moved["SourceKeyMaterialId"], moved["DestinationKeyMaterialId"],
    ]  # fmt: skip
    assert kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"b": "2"})["Plaintext"] == b"x"
    assert BAD_CIPHERTEXT == refusal(kms.decrypt, CiphertextBlob=moved["CiphertextBlob"])
    assert BAD_CIPHERTEXT == refusal(kms.re_encrypt, CiphertextBlob=blob, DestinationKeyId=other["KeyId"])
    wrong = {"SourceKeyId": other["KeyId"], "DestinationKeyId": other["KeyId"], **contexts}
    assert WRONG_KEY == refusal(kms.re_encrypt, CiphertextBlob=blob, **wrong)
    unknown = {"CiphertextBlob": blob, "DestinationKeyId": UNKNOWN}
    assert refusal(kms.re_encrypt, **unknown) == "NotFoundException"


# Data keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "length"), [({"KeySpec": "AES_128"}, 16), ({"KeySpec": "AES_256"}, 32), ({"NumberOfBytes": 64}, 64)]
)
def test_data_keys(kms: Any, asked: dict[str, Any], length: int) -> None:
    """A data key's plaintext and ciphertext match, in the requested length; the former can be left out."""
    key = external(kms, os.urandom(32))
    made = kms.generate_data_key(KeyId=key["KeyId"], EncryptionContext={"a": "b"}, **asked)
    assert (length, key["Arn"]) == (len(made["Plaintext"]), made["KeyId"])
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "b"})
    assert made["Plaintext"] == opened["Plaintext"]
    assert BAD_CIPHERTEXT == refusal(kms.decrypt, CiphertextBlob=made["CiphertextBlob"])
    blind = kms.generate_data_key_without_plaintext(KeyId=key["KeyId"], **asked)
    assert "Plaintext" not in blind
    assert length == len(kms.decrypt(CiphertextBlob=blind["CiphertextBlob"])["Plaintext"])


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"KeySpec": "AES_256", "NumberOfBytes": 32},
        {"NumberOfBytes": 0},
        {"NumberOfBytes": 1025},
        {"KeySpec": "AES_192"},
    ],
)
@pytest.mark.parametrize("operation", ["generate_data_key", "generate_data_key_without_plaintext"])
def test_data_keys_need_one_length(kms: Any, operation: str, asked: dict[str, Any]) -> None:
    """Exactly one of KeySpec and NumberOfBytes gives the length, 1 to 1024."""
    assert VALIDATION == refusal(getattr(kms, operation), KeyId=external(kms, os.urandom(32))["KeyId"], **asked)


def test_data_key_pairs(kms: Any) -> None:
    """A pair's private key is the plaintext of its ciphertext, and its public key verifies its signatures."""
    key = external(kms, os.urandom(32))
    made = kms.generate_data_key_pair(KeyId=key["KeyId"], KeyPairSpec="ECC_NIST_P256")
    assert made["PrivateKeyPlaintext"] == kms.decrypt(CiphertextBlob=made["PrivateKeyCiphertextBlob"])["Plaintext"]
    private: Any = serialization.load_der_private_key(made["PrivateKeyPlaintext"], None)
    public: Any = serialization.load_der_public_key(made["PublicKey"])
    signature = private.sign(b"x", ec.ECDSA(SHA256()))
    public.verify(signature, b"x", ec.ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(signature, b"y", ec.ECDSA(SHA256()))
    blind = kms.generate_data_key_pair_without_plaintext(KeyId=key["KeyId"], KeyPairSpec="RSA_2048")
    assert ("RSA_2048", False) == (blind["KeyPairSpec"], "PrivateKeyPlaintext" in blind)
    assert VALIDATION == refusal(kms.generate_data_key_pair, KeyId=key["KeyId"], KeyPairSpec="RSA_1024")


def test_random_bytes(kms: Any) -> None:
    """GenerateRandom returns 1 to 1024 bytes."""
    assert [1, 1024] == [len(kms.generate_random(NumberOfBytes=n)["Plaintext"]) for n in (1, 1024)]
    for asked in ({}, {"NumberOfBytes": 0}, {"NumberOfBytes": 1025}):
        assert VALIDATION == refusal(kms.generate_random, **asked)


def test_dry_run(kms: Any) -> None:
    """A dry run reports that the request would have succeeded and does nothing; else it fails as usual."""
    key = external(kms, os.urandom(32))
    would = "DryRunOperationException"
    assert would == refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x", DryRun=True)
    grant = {"KeyId": key["KeyId"], "GranteePrincipal": ADMIN, "Operations": ["Decrypt"]}
    assert would == refusal(kms.create_grant, **grant, DryRun=True)
    assert (kms.list_grants(KeyId=key["KeyId"])["Grants"], {}) == ([], last_usage(kms, key))
    kms.disable_key(KeyId=key["KeyId"])
    assert refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x", DryRun=True) == "DisabledException"


# When a key was last used -----------------------------------------------------------------------------


def last_usage(kms: Any, key: Any) -> Any:
    """Return the response of GetKeyLastUsage."""
    return kms.get_key_last_usage(KeyId=key["KeyId"])["KeyLastUsage"]


def test_last_usage(kms: Any, endpoint: str) -> None:
    """It is empty until the first success, then names the last operation and its CloudTrail event."""
    key = external(kms, os.urandom(32))
    answer = kms.get_key_last_usage(KeyId=key["KeyId"])
    assert ({}, answer["KeyCreationDate"]) == (answer["KeyLastUsage"], answer["TrackingStartDate"])
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert last_usage(kms, key)["Operation"] == "Encrypt"
    kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256")
    assert last_usage(kms, key)["Operation"] == "GenerateDataKey"
    kms.disable_key(KeyId=key["KeyId"])
    refusal(kms.decrypt, CiphertextBlob=blob)
    used = last_usage(kms, key)
    assert used["Operation"] == "GenerateDataKey"
    by_id = [{"AttributeKey": "EventId", "AttributeValue": used["CloudTrailEventId"]}]
    events = connect(endpoint, "cloudtrail").lookup_events(LookupAttributes=by_id)["Events"]
    assert ["GenerateDataKey"] == [event["EventName"] for event in events]


def test_re_encrypt_is_a_use_of_both_keys(kms: Any) -> None:
    """ReEncrypt is recorded for its source and its destination."""
    one, other = (kms.create_key()["KeyMetadata"] for _ in range(2))
    blob = kms.encrypt(KeyId=one["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    kms.re_encrypt(CiphertextBlob=blob, DestinationKeyId=other["KeyId"])
    assert ["ReEncrypt", "ReEncrypt"] == [last_usage(kms, key)["Operation"] for key in (one, other)]


# Automatic rotation -----------------------------------------------------------------------------------


def test_automatic_rotation(kms: Any, endpoint: str) -> None:
    """A KMS-generated key gets new material when its period ends, and still decrypts older ciphertexts."""
    key = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    kms.enable_key_rotation(KeyId=key["KeyId"], RotationPeriodInDays=90)
    status = kms.get_key_rotation_status(KeyId=key["KeyId"])
    assert (True, 90) == (status["KeyRotationEnabled"], status["RotationPeriodInDays"])
    advance(endpoint, days=91)
    rotations = kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]
    assert ["AUTOMATIC"] == [entry["RotationType"] for entry in rotations]
    assert "ImportState" not in rotations[0]
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    kms.disable_key_rotation(KeyId=key["KeyId"])
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is False


@pytest.mark.parametrize(("days", "code"), [(89, VALIDATION), (2561, VALIDATION), (90, None), (2560, None)])
def test_rotation_period_limits(kms: Any, days: int, code: str | None) -> None:
    """The period of automatic rotation is 90 to 2560 days."""
    asked = {"KeyId": kms.create_key()["KeyMetadata"]["KeyId"], "RotationPeriodInDays": days}
    if code:
        assert code == refusal(kms.enable_key_rotation, **asked)
    else:
        kms.enable_key_rotation(**asked)


def test_rotation_waits_while_the_key_is_disabled(kms: Any, endpoint: str) -> None:
    """A disabled key is not rotated; once enabled, it is rotated at once."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.enable_key_rotation(KeyId=key_id)
    kms.disable_key(KeyId=key_id)
    advance(endpoint, days=366)
    assert kms.list_key_rotations(KeyId=key_id)["Rotations"] == []
    kms.enable_key(KeyId=key_id)
    assert len(kms.list_key_rotations(KeyId=key_id)["Rotations"]) == 1


def test_rotation_status_of_other_keys(kms: Any) -> None:
    """Imported keys never rotate automatically, AWS managed keys always do, asymmetric keys have no status."""
    managed = kms.describe_key(KeyId="alias/aws/rds")["KeyMetadata"]["KeyId"]
    status = {name: kms.get_key_rotation_status(KeyId=name) for name in (external(kms)["KeyId"], managed)}
    assert [False, True] == [answer["KeyRotationEnabled"] for answer in status.values()]
    signing = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    for operation in ("get_key_rotation_status", "enable_key_rotation", "rotate_key_on_demand", "list_key_rotations"):
        assert UNSUPPORTED == refusal(getattr(kms, operation), KeyId=signing)


# Other key types --------------------------------------------------------------------------------------


def test_mac_keys(kms: Any) -> None:
    """An HMAC key generates and verifies MACs, and nothing else."""
    key = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
    assert ["HMAC_SHA_256"] == key["MacAlgorithms"]
    asked = {"KeyId": key["KeyId"], "MacAlgorithm": "HMAC_SHA_256"}
    mac = kms.generate_mac(**asked, Message=b"x")["Mac"]
    assert kms.verify_mac(**asked, Message=b"x", Mac=mac)["MacValid"] is True
    assert refusal(kms.verify_mac, **asked, Message=b"y", Mac=mac) == "KMSInvalidMacException"
    assert WRONG_USE == refusal(kms.generate_mac, **{**asked, "MacAlgorithm": "HMAC_SHA_512"}, Message=b"x")
    assert WRONG_USE == refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")
    assert WRONG_KEY == refusal(kms.decrypt, KeyId=key["KeyId"], CiphertextBlob=b"x" * 100)


def test_signing_keys(kms: Any) -> None:
    """A signing key signs, verifies and returns its public key, and nothing else."""
    key_id = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    asked = {"KeyId": key_id, "SigningAlgorithm": "ECDSA_SHA_256", "Message": b"x"}
    signature = kms.sign(**asked)["Signature"]
    assert kms.verify(**asked, Signature=signature)["SignatureValid"] is True
    wrong = {**asked, "Message": b"y", "Signature": signature}
    assert refusal(kms.verify, **wrong) == "KMSInvalidSignatureException"
    public: Any = serialization.load_der_public_key(kms.get_public_key(KeyId=key_id)["PublicKey"])
    public.verify(signature, b"x", ec.ECDSA(SHA256()))
    assert WRONG_USE == refusal(kms.encrypt, KeyId=key_id, Plaintext=b"x")
    assert WRONG_USE == refusal(kms.generate_data_key, KeyId=key_id, KeySpec="AES_256")


def test_rsa_encryption_keys(kms: Any) -> None:
    """An RSA key requires a named algorithm, and limits the plaintext to the algorithm's maximum."""
    key_id = kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
    oaep = {"KeyId": key_id, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    blob = kms.encrypt(**oaep, Plaintext=b"x" * 190)["CiphertextBlob"]
    assert b"x" * 190 == kms.decrypt(**oaep, CiphertextBlob=blob)["Plaintext"]
    assert VALIDATION == refusal(kms.encrypt, **oaep, Plaintext=b"x" * 191)
    assert WRONG_USE == refusal(kms.encrypt, KeyId=key_id, Plaintext=b"x")
    assert BAD_CIPHERTEXT == refusal(kms.decrypt, **oaep, CiphertextBlob=blob[:-1])
    symmetric = external(kms, os.urandom(32))["KeyId"]
    assert WRONG_USE == refusal(kms.encrypt, **{**oaep, "KeyId": symmetric}, Plaintext=b"x")
    assert UNSUPPORTED == refusal(kms.get_public_key, KeyId=symmetric)
