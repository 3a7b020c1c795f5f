"""The sandbox's import path: wrapping keys, tokens, material, its expiry, deletion, rotation. After the API reference."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kms_support import (
    FOREVER,
    INCORRECT,
    INVALID,
    NOT_FOUND,
    OTHER_REGION,
    SHA,
    UNSUPPORTED,
    VALIDATION,
    WRAPPING,
    advance,
    connect,
    described,
    external,
    import_material,
    materials,
    now,
    refusal,
    reset,
    sandbox,
    wrap,
    wrapping_set,
)

BAD_TOKEN, BAD_CIPHERTEXT = "InvalidImportTokenException", "InvalidCiphertextException"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url:
        yield url


@pytest.fixture
def kms(endpoint: str) -> Any:
    reset(endpoint)
    return connect(endpoint)


def good(pair: Any, material: bytes) -> dict[str, bytes]:
    """Return the two blobs of ImportKeyMaterial."""
    return {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": wrap(pair["PublicKey"], material)}


# Wrapping keys and tokens -----------------------------------------------------------------------------


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
    assert (size, True, key["Arn"]) == (len(pair["PublicKey"]), len(pair["ImportToken"]) <= 6144, pair["KeyId"])
    assert timedelta(hours=24) == pytest.approx(pair["ParametersValidTo"] - now(endpoint), abs=timedelta(seconds=60))
    assert ("Enabled", key["Arn"]) == (described(kms, key)["KeyState"], answer["KeyId"])
    assert answer["KeyMaterialId"] == described(kms, key)["CurrentKeyMaterialId"]


def test_imported_bytes_are_in_use(kms: Any) -> None:
    """A KMS ciphertext opens by hand with the imported bytes, and its twin with other bytes does not."""
    material = os.urandom(32)
    key = external(kms, material)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"data key")["CiphertextBlob"]
    key_id, nonce, tag, body = blob[:36], blob[36:48], blob[48:64], blob[64:]
    assert key["KeyId"] == key_id.decode()
    assert AESGCM(material).decrypt(nonce, body + tag, b"") == b"data key"
    with pytest.raises(InvalidTag):
        AESGCM(os.urandom(32)).decrypt(nonce, body + tag, b"")


@pytest.mark.parametrize("algorithm", ["RSAES_PKCS1_V1_5", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256", "X"])
def test_wrapping_algorithms_that_symmetric_keys_do_not_take(kms: Any, algorithm: str) -> None:
    """Hybrid wrapping and PKCS #1 v1.5 are refused for symmetric keys."""
    wrapping = {"WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"}
    assert VALIDATION == refusal(kms.get_parameters_for_import, KeyId=external(kms)["KeyId"], **wrapping)


@pytest.mark.parametrize(("spec", "code"), [("RSA_1024", VALIDATION), ("SM2", UNSUPPORTED)])
def test_wrapping_keys_that_are_not_offered(kms: Any, spec: str, code: str) -> None:
    """There is no 1024-bit wrapping key, and SM2 is for China Regions."""
    wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": spec}
    assert code == refusal(kms.get_parameters_for_import, KeyId=external(kms)["KeyId"], **wrapping)


def test_import_calls_need_origin_external(kms: Any) -> None:
    """A key whose material KMS made takes none of the three import calls."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    blobs = {"ImportToken": b"x", "EncryptedKeyMaterial": b"x"}
    assert UNSUPPORTED == refusal(kms.get_parameters_for_import, KeyId=key_id, **WRAPPING)
    assert UNSUPPORTED == refusal(kms.import_key_material, KeyId=key_id, **blobs, **FOREVER)
    assert UNSUPPORTED == refusal(kms.delete_imported_key_material, KeyId=key_id)


@pytest.mark.parametrize(
    ("spec", "usage"),
    [("HMAC_256", "GENERATE_VERIFY_MAC"), ("RSA_2048", "SIGN_VERIFY"), ("ECC_NIST_P256", "SIGN_VERIFY")],
)
def test_import_into_other_kinds_of_key_is_refused(kms: Any, spec: str, usage: str) -> None:
    """Importing into HMAC, RSA and ECC keys is out of scope, and said so."""
    key = external(kms, KeySpec=spec, KeyUsage=usage)
    assert described(kms, key)["KeyState"] == "PendingImport"
    with pytest.raises(ClientError, match="symmetric key material only") as refused:
        wrapping_set(kms, key["KeyId"])
    assert UNSUPPORTED == refused.value.response["Error"]["Code"]


def test_several_sets_are_good_side_by_side(kms: Any) -> None:
    """An older set still works after a newer one was fetched, each with its own public key only."""
    key, material = external(kms), os.urandom(32)
    older, newer = wrapping_set(kms, key["KeyId"]), wrapping_set(kms, key["KeyId"])
    mixed = {"ImportToken": older["ImportToken"], "EncryptedKeyMaterial": wrap(newer["PublicKey"], material)}
    assert BAD_CIPHERTEXT == refusal(kms.import_key_material, KeyId=key["KeyId"], **mixed, **FOREVER)
    for pair in (older, newer):
        answer = kms.import_key_material(KeyId=key["KeyId"], **good(pair, material), **FOREVER)
        assert key["Arn"] == answer["KeyId"]


def test_token_runs_out_after_24_hours(kms: Any, endpoint: str) -> None:
    """A token works until 24 hours are over, and not a minute longer."""
    key = external(kms)
    blobs = good(wrapping_set(kms, key["KeyId"]), os.urandom(32))
    advance(endpoint, hours=23, minutes=59)
    kms.import_key_material(KeyId=key["KeyId"], **blobs, **FOREVER)
    advance(endpoint, minutes=2)
    assert refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **FOREVER) == "ExpiredImportTokenException"


def test_token_of_another_key(kms: Any) -> None:
    """A token works for the key that it was made for only."""
    one, other = external(kms), external(kms)
    blobs = good(wrapping_set(kms, one["KeyId"]), os.urandom(32))
    assert BAD_TOKEN == refusal(kms.import_key_material, KeyId=other["KeyId"], **blobs, **FOREVER)
    kms.import_key_material(KeyId=one["KeyId"], **blobs, **FOREVER)


@pytest.mark.parametrize("damage", ["one byte", "zeros", "random", "text", "truncated", "flipped", "public key"])
def test_garbage_token(kms: Any, damage: str) -> None:
    """A token that KMS did not make for this key is an invalid token, whatever is wrong with it."""
    key = external(kms)
    pair = wrapping_set(kms, key["KeyId"])
    token = pair["ImportToken"]
    bad = {
        "one byte": b"x", "zeros": b"\0" * 12, "random": os.urandom(2000), "text": base64.b64encode(token),
        "truncated": token[:-1], "flipped": token[:40] + bytes([token[40] ^ 1]) + token[41:],
        "public key": pair["PublicKey"],
    }[damage]  # fmt: skip
    blobs = {"ImportToken": bad, "EncryptedKeyMaterial": wrap(pair["PublicKey"], os.urandom(32))}
    assert BAD_TOKEN == refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **FOREVER)


@pytest.mark.parametrize("name", ["ImportToken", "EncryptedKeyMaterial"])
@pytest.mark.parametrize("size", [0, 6145])
def test_blobs_have_1_to_6144_bytes(kms: Any, name: str, size: int) -> None:
    """Empty blobs and blobs over 6144 bytes are refused before anything looks at them."""
    blobs = {"ImportToken": b"x", "EncryptedKeyMaterial": b"x", name: b"x" * size}
    assert VALIDATION == refusal(kms.import_key_material, KeyId=external(kms)["KeyId"], **blobs, **FOREVER)


# The material -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "other hash", "base64", "random", "flipped", "plaintext"])
def test_material_that_does_not_open(kms: Any, damage: str) -> None:
    """Encrypted material that the wrapping key cannot open is an invalid ciphertext, and changes nothing."""
    key, material = external(kms), os.urandom(32)
    pair = wrapping_set(kms, key["KeyId"])
    right = wrap(pair["PublicKey"], material)
    bad = {
        "truncated": right[:-1], "other hash": wrap(pair["PublicKey"], material, "RSAES_OAEP_SHA_1"),
        "base64": base64.b64encode(right), "random": os.urandom(256),
        "flipped": right[:-1] + bytes([right[-1] ^ 1]), "plaintext": material,
    }[damage]  # fmt: skip
    blobs = {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": bad}
    assert BAD_CIPHERTEXT == refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **FOREVER)
    assert described(kms, key)["KeyState"] == "PendingImport"


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_material_of_the_wrong_length(kms: Any, length: int) -> None:
    """Symmetric material has 32 bytes, no more and no less."""
    assert INCORRECT == refusal(lambda: import_material(kms, external(kms)["KeyId"], os.urandom(length)))


EXPIRES, NEVER = {"ExpirationModel": "KEY_MATERIAL_EXPIRES"}, FOREVER


@pytest.mark.parametrize(
    ("expiry", "days"),
    [
        ({}, None), (EXPIRES, None), (EXPIRES, -1), (EXPIRES, 0), ({}, -1), ({}, 365.01), (EXPIRES, 366),
        (NEVER, 1), ({"ExpirationModel": "SOMETIMES"}, None), ({"ExpirationModel": "SOMETIMES"}, 1),
    ],
)  # fmt: skip
def test_expiry_that_is_refused(kms: Any, expiry: dict[str, str], days: float | None) -> None:
    """ValidTo is needed exactly when the material expires, in the future, within 365 days; expiring is the default."""
    key, more = external(kms), dict[str, Any](expiry)
    if days is not None:
        more["ValidTo"] = datetime.now(UTC) + timedelta(days=days)
    blobs = good(wrapping_set(kms, key["KeyId"]), os.urandom(32))
    assert VALIDATION == refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **more)
    assert described(kms, key)["KeyState"] == "PendingImport"


@pytest.mark.parametrize("days", [0.001, 30, 365])
def test_expiry_that_is_taken(kms: Any, days: float) -> None:
    """Any future date until exactly 365 days from now will do, and is shown."""
    key = external(kms)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=ends)
    shown = described(kms, key)
    assert ("Enabled", "KEY_MATERIAL_EXPIRES", ends) == (
        shown["KeyState"], shown["ExpirationModel"], shown["ValidTo"],
    )  # fmt: skip


def test_expiry_is_counted_by_the_movable_clock(kms: Any, endpoint: str) -> None:
    """365 days are counted from the sandbox's present, not the machine's."""
    key = external(kms)
    advance(endpoint, days=400)
    past, ends = datetime.now(UTC) + timedelta(days=300), datetime.now(UTC) + timedelta(days=500)
    assert VALIDATION == refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32), ValidTo=past))
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=ends)


def test_material_expires_and_comes_back(kms: Any, endpoint: str) -> None:
    """On its date the material is gone and the key pending import; the same bytes restore old ciphertexts."""
    key, material = external(kms), os.urandom(32)
    import_material(kms, key["KeyId"], material, ValidTo=datetime.now(UTC) + timedelta(days=30))
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    advance(endpoint, days=29, hours=23)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"old"
    advance(endpoint, hours=1, seconds=5)
    shown = described(kms, key)
    assert ("PendingImport", False) == (shown["KeyState"], shown["Enabled"])
    assert not {"ExpirationModel", "ValidTo"} & set(shown)
    assert materials(kms, key)[0]["ImportState"] == "PENDING_IMPORT"
    assert INVALID == refusal(kms.decrypt, CiphertextBlob=blob)
    assert INCORRECT == refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32)))
    import_material(kms, key["KeyId"], material)
    assert described(kms, key)["ExpirationModel"] == "KEY_MATERIAL_DOES_NOT_EXPIRE"
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"old"


def test_reimport_changes_the_expiry(kms: Any, endpoint: str) -> None:
    """An expiry cannot be edited; a reimport of the same bytes, without deleting first, gives another."""
    key, material = external(kms), os.urandom(32)
    import_material(kms, key["KeyId"], material, ValidTo=datetime.now(UTC) + timedelta(days=1))
    import_material(kms, key["KeyId"], material, ValidTo=datetime.now(UTC) + timedelta(days=10))
    advance(endpoint, days=2)
    assert described(kms, key)["KeyState"] == "Enabled"
    import_material(kms, key["KeyId"], material)
    assert "ValidTo" not in described(kms, key)


def test_delete_material_and_reimport(kms: Any) -> None:
    """Deleting the material ends use at once; only the same bytes bring it back; deleting again changes nothing."""
    material = os.urandom(32)
    key = external(kms, material)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    gone = kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert (key["Arn"], materials(kms, key)[0]["KeyMaterialId"]) == (gone["KeyId"], gone["KeyMaterialId"])
    shown = described(kms, key)
    assert ("PendingImport", False, False) == (shown["KeyState"], shown["Enabled"], "ExpirationModel" in shown)
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert INVALID == refusal(kms.decrypt, CiphertextBlob=blob)
    assert INCORRECT == refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32)))
    import_material(kms, key["KeyId"], material)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"old"


def test_delete_when_nothing_was_imported(kms: Any) -> None:
    """In state PendingImport the call has no effect, as the guide's table says; an unknown material is not found."""
    key = external(kms)
    assert key["Arn"] == kms.delete_imported_key_material(KeyId=key["KeyId"])["KeyId"]
    assert described(kms, key)["KeyState"] == "PendingImport"
    assert NOT_FOUND == refusal(kms.delete_imported_key_material, KeyId=key["KeyId"], KeyMaterialId="0" * 64)


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


# Several materials ------------------------------------------------------------------------------------


def test_rotation_of_imported_material(kms: Any) -> None:
    """New material waits for the rotation, then encrypts; the old one goes on decrypting what it encrypted."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    new = import_material(kms, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL", KeyMaterialDescription="safe 2")
    assert ["CURRENT", "PENDING_ROTATION"] == [entry["KeyMaterialState"] for entry in materials(kms, key)]
    assert new["KeyMaterialId"] != described(kms, key)["CurrentKeyMaterialId"]
    assert kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"] == []
    assert key["KeyId"] == kms.rotate_key_on_demand(KeyId=key["KeyId"])["KeyId"]
    assert ["NON_CURRENT", "CURRENT"] == [entry["KeyMaterialState"] for entry in materials(kms, key)]
    rotations = kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]
    assert [("ON_DEMAND", new["KeyMaterialId"], "safe 2", "IMPORTED")] == [
        (entry["RotationType"], entry["KeyMaterialId"], entry["KeyMaterialDescription"], entry["ImportState"])
        for entry in rotations
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
    old, new = (entry["KeyMaterialId"] for entry in materials(kms, key))
    assert old == kms.delete_imported_key_material(KeyId=key["KeyId"], KeyMaterialId=old)["KeyMaterialId"]
    assert new == kms.delete_imported_key_material(KeyId=key["KeyId"])["KeyMaterialId"]
    import_material(kms, key["KeyId"], second, KeyMaterialId=new)
    assert described(kms, key)["KeyState"] == "PendingImport"
    assert INVALID == refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")
    import_material(kms, key["KeyId"], first, ImportType="EXISTING_KEY_MATERIAL", KeyMaterialId=old)
    assert described(kms, key)["KeyState"] == "Enabled"


def test_material_pending_rotation_can_go(kms: Any, endpoint: str) -> None:
    """Material that waits for rotation is the only one, and goes without harm: deleted, or expired."""
    key = external(kms, os.urandom(32))
    fresh = {"ImportType": "NEW_KEY_MATERIAL"}
    new = import_material(kms, key["KeyId"], os.urandom(32), **fresh)["KeyMaterialId"]
    assert INVALID == refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32), **fresh))
    kms.delete_imported_key_material(KeyId=key["KeyId"], KeyMaterialId=new)
    assert ("Enabled", 1) == (described(kms, key)["KeyState"], len(materials(kms, key)))
    assert INVALID == refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"])
    import_material(kms, key["KeyId"], os.urandom(32), **fresh, ValidTo=datetime.now(UTC) + timedelta(days=1))
    advance(endpoint, days=2)
    assert ("Enabled", 1) == (described(kms, key)["KeyState"], len(materials(kms, key)))


def test_import_type_and_material_id_rules(kms: Any) -> None:
    """NEW takes no known bytes, EXISTING no unknown ones, and a KeyMaterialId must be that of the bytes."""
    material = os.urandom(32)
    key_id = external(kms, material)["KeyId"]
    known = kms.describe_key(KeyId=key_id)["KeyMetadata"]["CurrentKeyMaterialId"]
    other: list[tuple[str, bytes, dict[str, str]]] = [
        (INCORRECT, material, {"ImportType": "NEW_KEY_MATERIAL"}),
        (INCORRECT, os.urandom(32), {"ImportType": "EXISTING_KEY_MATERIAL"}),
        (INCORRECT, os.urandom(32), {"KeyMaterialId": known}),
        (INCORRECT, material, {"KeyMaterialId": "0" * 64}),
        (VALIDATION, os.urandom(32), {"ImportType": "NEW_KEY_MATERIAL", "KeyMaterialId": known}),
        (VALIDATION, material, {"KeyMaterialId": "XYZ"}),
        (VALIDATION, material, {"ImportType": "OLD_KEY_MATERIAL"}),
    ]
    for code, value, more in other:
        assert code == refusal(import_material, kms=kms, key_id=key_id, material=value, **more), more
    assert known == import_material(kms, key_id, material, KeyMaterialId=known)["KeyMaterialId"]
    fresh = external(kms)["KeyId"]
    existing = {"ImportType": "EXISTING_KEY_MATERIAL"}
    assert INCORRECT == refusal(import_material, kms=kms, key_id=fresh, material=material, **existing)


def test_description_is_kept_when_it_is_omitted(kms: Any) -> None:
    """A reimport without a description keeps the one from the last import; its characters are limited."""
    key, material = external(kms), os.urandom(32)
    import_material(kms, key["KeyId"], material, KeyMaterialDescription="vault: shelf 3")
    import_material(kms, key["KeyId"], material)
    assert materials(kms, key)[0]["KeyMaterialDescription"] == "vault: shelf 3"
    for text in ("snow \u2603", "semi;colon", "x" * 257):
        bad = {"KeyMaterialDescription": text}
        assert VALIDATION == refusal(import_material, kms=kms, key_id=key["KeyId"], material=material, **bad)


def test_at_most_25_rotations(kms: Any) -> None:
    """A key can be rotated on demand 25 times, and what the first material encrypted stays readable."""
    key = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"first")["CiphertextBlob"]
    for _ in range(25):
        kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"]) == "LimitExceededException"
    assert (25, 26) == (len(kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]), len(materials(kms, key)))
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
    assert [soon, late] == [entry["ValidTo"] for entry in materials(kms, key)]


# Multi-Region keys ------------------------------------------------------------------------------------


def test_multi_region_key(kms: Any, endpoint: str) -> None:
    """A multi-Region key has an id of AWS's form and works; a replica imports the primary's material first."""
    material = os.urandom(32)
    key = external(kms, material, MultiRegion=True)
    assert ("mrk-", 36) == (key["KeyId"][:4], len(key["KeyId"]))
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    replica = kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion=OTHER_REGION)["ReplicaKeyMetadata"]
    assert ("REPLICA", key["KeyId"]) == (replica["MultiRegionConfiguration"]["MultiRegionKeyType"], replica["KeyId"])
    there = connect(endpoint, region=OTHER_REGION)
    assert described(there, key)["KeyState"] == "PendingImport"
    assert INCORRECT == refusal(lambda: import_material(there, key["KeyId"], os.urandom(32)))
    import_material(there, key["KeyId"], material)
    assert there.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_multi_region_rotation_needs_every_replica(kms: Any, endpoint: str) -> None:
    """New material goes into the primary, then into each replica; only then can the primary rotate, and all do."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first, MultiRegion=True)
    kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion=OTHER_REGION)
    there = connect(endpoint, region=OTHER_REGION)
    import_material(there, key["KeyId"], first)
    fresh = {"ImportType": "NEW_KEY_MATERIAL"}
    assert UNSUPPORTED == refusal(import_material, kms=there, key_id=key["KeyId"], material=second, **fresh)
    new = import_material(kms, key["KeyId"], second, **fresh)["KeyMaterialId"]
    assert materials(kms, key)[1]["KeyMaterialState"] == "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
    assert INVALID == refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"])
    import_material(there, key["KeyId"], second, ImportType="EXISTING_KEY_MATERIAL")
    assert ["PENDING_ROTATION"] * 2 == [materials(one, key)[1]["KeyMaterialState"] for one in (kms, there)]
    there.delete_imported_key_material(KeyId=key["KeyId"], KeyMaterialId=new)
    assert materials(kms, key)[1]["KeyMaterialState"] == "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
    import_material(there, key["KeyId"], second)
    kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert [new, new] == [described(one, key)["CurrentKeyMaterialId"] for one in (kms, there)]


def test_deleting_pending_material_of_a_primary_deletes_its_replicas_copies(kms: Any, endpoint: str) -> None:
    """What waits for rotation goes from the whole set; no key changes its state."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first, MultiRegion=True)
    kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion=OTHER_REGION)
    there = connect(endpoint, region=OTHER_REGION)
    import_material(there, key["KeyId"], first)
    new = import_material(kms, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL")["KeyMaterialId"]
    import_material(there, key["KeyId"], second, ImportType="EXISTING_KEY_MATERIAL")
    kms.delete_imported_key_material(KeyId=key["KeyId"], KeyMaterialId=new)
    for one in (kms, there):
        assert ("Enabled", 1) == (described(one, key)["KeyState"], len(materials(one, key)))
