"""Key material import by the API reference: wrapping keys, tokens, material, expiry, deletion, rotation."""

from __future__ import annotations

import base64
import json
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
    rotate,
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
    """Each wrapping key size and both OAEP algorithms import the material and enable the key."""
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
    """A KMS ciphertext can be decrypted locally with the imported bytes, and with no others."""
    material = os.urandom(32)
    key = external(kms, material)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"data key")["CiphertextBlob"]
    key_id, nonce, tag, body = blob[:36], blob[36:48], blob[48:64], blob[64:]
    assert key["KeyId"] == key_id.decode()
    assert AESGCM(material).decrypt(nonce, body + tag, b"") == b"data key"
    with pytest.raises(InvalidTag):
        AESGCM(os.urandom(32)).decrypt(nonce, body + tag, b"")


@pytest.mark.parametrize("algorithm", ["RSAES_PKCS1_V1_5", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256", "X"])
def test_rejected_wrapping_algorithms(kms: Any, algorithm: str) -> None:
    """Hybrid wrapping and PKCS #1 v1.5 are rejected for symmetric keys."""
    wrapping = {"WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"}
    assert VALIDATION == refusal(kms.get_parameters_for_import, KeyId=external(kms)["KeyId"], **wrapping)


@pytest.mark.parametrize(("spec", "code"), [("RSA_1024", VALIDATION), ("SM2", UNSUPPORTED)])
def test_rejected_wrapping_key_specs(kms: Any, spec: str, code: str) -> None:
    """There is no 1024-bit wrapping key, and SM2 is only for China Regions."""
    wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": spec}
    assert code == refusal(kms.get_parameters_for_import, KeyId=external(kms)["KeyId"], **wrapping)


def test_import_calls_need_origin_external(kms: Any) -> None:
    """All three import operations reject a key with KMS-generated material."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    blobs = {"ImportToken": b"x", "EncryptedKeyMaterial": b"x"}
    assert UNSUPPORTED == refusal(kms.get_parameters_for_import, KeyId=key_id, **WRAPPING)
    assert UNSUPPORTED == refusal(kms.import_key_material, KeyId=key_id, **blobs, **FOREVER)
    assert UNSUPPORTED == refusal(kms.delete_imported_key_material, KeyId=key_id)


@pytest.mark.parametrize(
    ("spec", "usage"),
    [("HMAC_256", "GENERATE_VERIFY_MAC"), ("RSA_2048", "SIGN_VERIFY"), ("ECC_NIST_P256", "SIGN_VERIFY")],
)
def test_import_into_other_key_types_is_rejected(kms: Any, spec: str, usage: str) -> None:
    """Import into HMAC, RSA and ECC keys is rejected as not supported by the sandbox."""
    key = external(kms, KeySpec=spec, KeyUsage=usage)
    assert described(kms, key)["KeyState"] == "PendingImport"
    with pytest.raises(ClientError, match="only for symmetric key material") as refused:
        wrapping_set(kms, key["KeyId"])
    assert UNSUPPORTED == refused.value.response["Error"]["Code"]


def test_several_wrapping_sets_are_valid(kms: Any) -> None:
    """An older wrapping set still works after a newer one was fetched; each token only with its own public key."""
    key, material = external(kms), os.urandom(32)
    older, newer = wrapping_set(kms, key["KeyId"]), wrapping_set(kms, key["KeyId"])
    mixed = {"ImportToken": older["ImportToken"], "EncryptedKeyMaterial": wrap(newer["PublicKey"], material)}
    assert BAD_CIPHERTEXT == refusal(kms.import_key_material, KeyId=key["KeyId"], **mixed, **FOREVER)
    for pair in (older, newer):
        answer = kms.import_key_material(KeyId=key["KeyId"], **good(pair, material), **FOREVER)
        assert key["Arn"] == answer["KeyId"]


def test_token_expires_after_24_hours(kms: Any, endpoint: str) -> None:
    """A token works for 24 hours and no longer."""
    key = external(kms)
    blobs = good(wrapping_set(kms, key["KeyId"]), os.urandom(32))
    advance(endpoint, hours=23, minutes=59)
    kms.import_key_material(KeyId=key["KeyId"], **blobs, **FOREVER)
    advance(endpoint, minutes=2)
    assert refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **FOREVER) == "ExpiredImportTokenException"


def test_token_of_another_key(kms: Any) -> None:
    """A token works only for the key that it was issued for."""
    one, other = external(kms), external(kms)
    blobs = good(wrapping_set(kms, one["KeyId"]), os.urandom(32))
    assert BAD_TOKEN == refusal(kms.import_key_material, KeyId=other["KeyId"], **blobs, **FOREVER)
    kms.import_key_material(KeyId=one["KeyId"], **blobs, **FOREVER)


@pytest.mark.parametrize("damage", ["one byte", "zeros", "random", "text", "truncated", "flipped", "public key"])
def test_invalid_token(kms: Any, damage: str) -> None:
    """Every token that KMS did not issue for this key is an invalid token, whatever is wrong with it."""
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
    """Empty blobs and blobs over 6144 bytes are rejected before they are decrypted."""
    blobs = {"ImportToken": b"x", "EncryptedKeyMaterial": b"x", name: b"x" * size}
    assert VALIDATION == refusal(kms.import_key_material, KeyId=external(kms)["KeyId"], **blobs, **FOREVER)


# Key material -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "other hash", "base64", "random", "flipped", "plaintext"])
def test_material_that_cannot_be_decrypted(kms: Any, damage: str) -> None:
    """Key material that the wrapping key cannot decrypt is an invalid ciphertext and changes nothing."""
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
    """Symmetric key material must have exactly 32 bytes."""
    assert INCORRECT == refusal(lambda: import_material(kms, external(kms)["KeyId"], os.urandom(length)))


EXPIRES, NEVER = {"ExpirationModel": "KEY_MATERIAL_EXPIRES"}, FOREVER


@pytest.mark.parametrize(
    ("expiry", "days"),
    [
        ({}, None), (EXPIRES, None), (EXPIRES, -1), (EXPIRES, 0), ({}, -1), ({}, 365.01), (EXPIRES, 366),
        (NEVER, 1), ({"ExpirationModel": "SOMETIMES"}, None), ({"ExpirationModel": "SOMETIMES"}, 1),
    ],
)  # fmt: skip
def test_rejected_expiry(kms: Any, expiry: dict[str, str], days: float | None) -> None:
    """ValidTo is required exactly when the material expires (the default): in the future and within 365 days."""
    key, more = external(kms), dict[str, Any](expiry)
    if days is not None:
        more["ValidTo"] = datetime.now(UTC) + timedelta(days=days)
    blobs = good(wrapping_set(kms, key["KeyId"]), os.urandom(32))
    assert VALIDATION == refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **more)
    assert described(kms, key)["KeyState"] == "PendingImport"


@pytest.mark.parametrize("days", [0.001, 30, 365])
def test_accepted_expiry(kms: Any, days: float) -> None:
    """Any future date up to exactly 365 days from now is accepted and shown."""
    key = external(kms)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=ends)
    shown = described(kms, key)
    assert ("Enabled", "KEY_MATERIAL_EXPIRES", ends) == (
        shown["KeyState"], shown["ExpirationModel"], shown["ValidTo"],
    )  # fmt: skip


def test_expiry_uses_the_sandboxs_clock(kms: Any, endpoint: str) -> None:
    """The 365 days count from the sandbox's time, not the machine's."""
    key = external(kms)
    advance(endpoint, days=400)
    past, ends = datetime.now(UTC) + timedelta(days=300), datetime.now(UTC) + timedelta(days=500)
    assert VALIDATION == refusal(lambda: import_material(kms, key["KeyId"], os.urandom(32), ValidTo=past))
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=ends)


def test_material_expires_and_can_be_reimported(kms: Any, endpoint: str) -> None:
    """At ValidTo the key becomes PendingImport; reimporting the same bytes makes old ciphertexts readable."""
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
    """An expiry cannot be edited; reimporting the same bytes, without deletion first, sets another."""
    key, material = external(kms), os.urandom(32)
    import_material(kms, key["KeyId"], material, ValidTo=datetime.now(UTC) + timedelta(days=1))
    import_material(kms, key["KeyId"], material, ValidTo=datetime.now(UTC) + timedelta(days=10))
    advance(endpoint, days=2)
    assert described(kms, key)["KeyState"] == "Enabled"
    import_material(kms, key["KeyId"], material)
    assert "ValidTo" not in described(kms, key)


def test_delete_material_and_reimport(kms: Any) -> None:
    """Deleting the material stops use at once; only the same bytes restore it; deleting again changes nothing."""
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
    """In state PendingImport the deletion has no effect (table of key states); an unknown material is not found."""
    key = external(kms)
    assert key["Arn"] == kms.delete_imported_key_material(KeyId=key["KeyId"])["KeyId"]
    assert described(kms, key)["KeyState"] == "PendingImport"
    assert NOT_FOUND == refusal(kms.delete_imported_key_material, KeyId=key["KeyId"], KeyMaterialId="0" * 64)


def test_import_into_a_disabled_key(kms: Any) -> None:
    """Import into a disabled key is allowed and does not enable it; deleting the material makes it PendingImport."""
    material = os.urandom(32)
    key = external(kms, material)
    kms.disable_key(KeyId=key["KeyId"])
    import_material(kms, key["KeyId"], material)
    assert described(kms, key)["KeyState"] == "Disabled"
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert described(kms, key)["KeyState"] == "PendingImport"


def test_delete_material_while_pending_deletion(kms: Any) -> None:
    """Deleting the material of a key that is pending deletion does not change its state."""
    key = external(kms, os.urandom(32))
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert described(kms, key)["KeyState"] == "PendingDeletion"


# Several key materials --------------------------------------------------------------------------------


def test_rotation_of_imported_material(kms: Any) -> None:
    """New material encrypts only after the rotation; the previous material still decrypts its ciphertexts."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first)
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    new = import_material(kms, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL", KeyMaterialDescription="safe 2")
    assert ["CURRENT", "PENDING_ROTATION"] == [entry["KeyMaterialState"] for entry in materials(kms, key)]
    assert new["KeyMaterialId"] != described(kms, key)["CurrentKeyMaterialId"]
    assert kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"] == []
    assert key["Arn"] == rotate(kms, key["KeyId"])["KeyId"]
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


def test_a_rotation_on_demand_is_carried_out_in_the_background(kms: Any, endpoint: str) -> None:
    """The key shows when it started until it is done; then the RotateKey event names both materials."""
    key = external(kms, os.urandom(32))
    old = described(kms, key)["CurrentKeyMaterialId"]
    new = import_material(kms, key["KeyId"], os.urandom(32), ImportType="NEW_KEY_MATERIAL")["KeyMaterialId"]
    kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["OnDemandRotationStartDate"] <= datetime.now(UTC)
    assert old == described(kms, key)["CurrentKeyMaterialId"]
    assert "ConflictException" == refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"])
    events = connect(endpoint, "cloudtrail").lookup_events
    asked = {"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "RotateKey"}]}

    def details() -> list[dict[str, Any]]:
        shown = [json.loads(event["CloudTrailEvent"]) for event in events(**asked)["Events"]]
        return [one["serviceEventDetails"] for one in shown if one["resources"][0]["ARN"] == key["Arn"]]

    assert [] == details()
    advance(endpoint, minutes=2)
    assert new == described(kms, key)["CurrentKeyMaterialId"]
    assert "OnDemandRotationStartDate" not in kms.get_key_rotation_status(KeyId=key["KeyId"])
    (found,) = details()
    assert ("ON_DEMAND", "EXTERNAL", old, new) == tuple(
        found[name] for name in ("rotationType", "keyOrigin", "previousKeyMaterialId", "currentKeyMaterialId")
    )


def test_every_permanent_material_is_required(kms: Any) -> None:
    """One missing material, even a non-current one, makes the whole key PendingImport."""
    first, second = os.urandom(32), os.urandom(32)
    key = external(kms, first)
    import_material(kms, key["KeyId"], second, ImportType="NEW_KEY_MATERIAL")
    rotate(kms, key["KeyId"])
    old, new = (entry["KeyMaterialId"] for entry in materials(kms, key))
    assert old == kms.delete_imported_key_material(KeyId=key["KeyId"], KeyMaterialId=old)["KeyMaterialId"]
    assert new == kms.delete_imported_key_material(KeyId=key["KeyId"])["KeyMaterialId"]
    import_material(kms, key["KeyId"], second, KeyMaterialId=new)
    assert described(kms, key)["KeyState"] == "PendingImport"
    assert INVALID == refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")
    import_material(kms, key["KeyId"], first, ImportType="EXISTING_KEY_MATERIAL", KeyMaterialId=old)
    assert described(kms, key)["KeyState"] == "Enabled"


def test_material_pending_rotation_can_be_deleted(kms: Any, endpoint: str) -> None:
    """Only one material can be pending rotation; it can be deleted or expire without effect on the key."""
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
    """NEW_KEY_MATERIAL rejects known bytes, EXISTING_KEY_MATERIAL unknown ones; KeyMaterialId must match."""
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
    """A reimport without a description keeps the previous one; its characters are limited."""
    key, material = external(kms), os.urandom(32)
    import_material(kms, key["KeyId"], material, KeyMaterialDescription="vault: shelf 3")
    import_material(kms, key["KeyId"], material)
    assert materials(kms, key)[0]["KeyMaterialDescription"] == "vault: shelf 3"
    for text in ("snow \u2603", "semi;colon", "x" * 257):
        bad = {"KeyMaterialDescription": text}
        assert VALIDATION == refusal(import_material, kms=kms, key_id=key["KeyId"], material=material, **bad)


def test_at_most_25_rotations(kms: Any) -> None:
    """A key can be rotated on demand 25 times, and ciphertexts of the first material stay decryptable."""
    key = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"first")["CiphertextBlob"]
    for _ in range(25):
        rotate(kms, key["KeyId"])
    assert refusal(kms.rotate_key_on_demand, KeyId=key["KeyId"]) == "LimitExceededException"
    assert (25, 26) == (len(kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]), len(materials(kms, key)))
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"first"


def test_valid_to_is_the_earliest(kms: Any) -> None:
    """DescribeKey shows the earliest expiry of the permanent materials."""
    key = external(kms)
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=soon)
    late = soon + timedelta(days=100)
    import_material(kms, key["KeyId"], os.urandom(32), ValidTo=late, ImportType="NEW_KEY_MATERIAL")
    rotate(kms, key["KeyId"])
    assert soon == described(kms, key)["ValidTo"]
    assert [soon, late] == [entry["ValidTo"] for entry in materials(kms, key)]


# Multi-Region keys ------------------------------------------------------------------------------------


def test_multi_region_key(kms: Any, endpoint: str) -> None:
    """A multi-Region key has an id in AWS's format and works; a replica first imports the primary's material."""
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
    """New material is imported into the primary, then each replica; only then can the primary rotate all."""
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
    rotate(kms, key["KeyId"])
    assert [new, new] == [described(one, key)["CurrentKeyMaterialId"] for one in (kms, there)]


def test_deleting_pending_material_of_a_primary_deletes_its_replicas_copies(kms: Any, endpoint: str) -> None:
    """Deleting material that is pending rotation removes it from the whole set; no key changes its state."""
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
