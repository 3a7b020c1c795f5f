"""The documented behaviours of imported keys, against the sandbox; and, by hand and on purpose, against AWS.

    RUNBOOK_CONTRACT_ACCOUNT=<your account> RUNBOOK_CONTRACT_REGION=eu-west-2 pytest tests/test_contract_kms.py

runs them with your own credentials, in that account and Region only. It makes about a dozen KMS keys, each of which
is scheduled for deletion (7 days) at the end of its test: some cents at most. Only what AWS documents is here; what
the sandbox chose where the documentation is silent is in docs/sandbox.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from kms_support import (
    DISABLED,
    FOREVER,
    INCORRECT,
    INVALID,
    NOT_FOUND,
    UNSUPPORTED,
    VALIDATION,
    connect,
    import_material,
    refusal,
    sandbox,
    wrap,
    wrapping_set,
)

ACCOUNT, REGION = os.environ.get("RUNBOOK_CONTRACT_ACCOUNT", ""), os.environ.get("RUNBOOK_CONTRACT_REGION", "")
PATIENCE = 60.0 if ACCOUNT else 5.0
MATERIAL = os.urandom(32)


@pytest.fixture(scope="module")
def kms() -> Iterator[Any]:
    """KMS: the sandbox's, or that of the account named in the environment."""
    if not ACCOUNT:
        with sandbox() as url:
            yield connect(url)
        return
    config = Config(
        retries={"mode": "standard", "max_attempts": 10}, parameter_validation=False,
        ignore_configured_endpoint_urls=True,
    )  # fmt: skip
    session = boto3.Session(region_name=REGION or None)
    there = session.client("sts", config=config).get_caller_identity()["Account"]
    if there != ACCOUNT:
        pytest.fail(f"these credentials are of account {there}, not of {ACCOUNT}")
    yield session.client("kms", config=config)


@pytest.fixture
def new_key(kms: Any) -> Iterator[Callable[..., str]]:
    """Make keys of origin EXTERNAL; at the end their deletion is scheduled."""
    made: list[str] = []

    def make(material: bytes | None = None, **more: Any) -> str:
        asked = {"Origin": "EXTERNAL", "Description": "Contract test; may be deleted", **more}
        made.append(kms.create_key(**asked)["KeyMetadata"]["KeyId"])
        eventually(kms, made[-1], "PendingImport" if asked["Origin"] == "EXTERNAL" else "Enabled")
        if material is not None:
            import_material(kms, made[-1], material)
            eventually(kms, made[-1], "Enabled")
        return made[-1]

    yield make
    for key_id in made:
        with contextlib.suppress(kms.exceptions.KMSInvalidStateException):  # it is scheduled already
            kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)


def described(kms: Any, key_id: str) -> Any:
    """Return the key's metadata."""
    return kms.describe_key(KeyId=key_id)["KeyMetadata"]


def eventually(kms: Any, key_id: str, state: str) -> None:
    """Wait until the key is in this state: AWS is eventually consistent."""
    give_up = time.monotonic() + PATIENCE
    found = ""
    while time.monotonic() < give_up:
        with contextlib.suppress(kms.exceptions.NotFoundException):
            found = described(kms, key_id)["KeyState"]
            if found == state:
                return
        time.sleep(0.5)
    pytest.fail(f"{key_id} is {found}, not {state}")


def test_a_new_key_waits_for_material(kms: Any, new_key: Callable[..., str]) -> None:
    """PendingImport, not enabled, and of no use."""
    key_id = new_key()
    shown = described(kms, key_id)
    assert (False, "EXTERNAL", "CUSTOMER") == (shown["Enabled"], shown["Origin"], shown["KeyManager"])
    assert INVALID == refusal(kms.encrypt, KeyId=key_id, Plaintext=b"x")
    assert INVALID == refusal(kms.enable_key, KeyId=key_id)
    assert INVALID == refusal(kms.disable_key, KeyId=key_id)
    assert UNSUPPORTED == refusal(kms.enable_key_rotation, KeyId=key_id)


@pytest.mark.parametrize("algorithm", ["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"])
@pytest.mark.parametrize(("spec", "size"), [("RSA_2048", 294), ("RSA_3072", 422), ("RSA_4096", 550)])
def test_material_is_imported(kms: Any, new_key: Callable[..., str], algorithm: str, spec: str, size: int) -> None:
    """Each wrapping key and algorithm: Enabled, the expiration model asked for, an id of 64 digits."""
    key_id = new_key()
    pair = wrapping_set(kms, key_id, algorithm, spec)
    assert size == len(pair["PublicKey"])
    assert timedelta(hours=23) < pair["ParametersValidTo"] - datetime.now(UTC) <= timedelta(hours=24, minutes=1)
    answer = kms.import_key_material(
        KeyId=key_id, ImportToken=pair["ImportToken"],
        EncryptedKeyMaterial=wrap(pair["PublicKey"], MATERIAL, algorithm), **FOREVER,
    )  # fmt: skip
    eventually(kms, key_id, "Enabled")
    assert (64, "KEY_MATERIAL_DOES_NOT_EXPIRE") == (
        len(answer["KeyMaterialId"]), described(kms, key_id)["ExpirationModel"],
    )  # fmt: skip


def test_material_goes_and_comes_back(kms: Any, new_key: Callable[..., str]) -> None:
    """Without its material the key decrypts nothing; the same bytes bring it back, other bytes are refused."""
    key_id = new_key(MATERIAL)
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"kept")["CiphertextBlob"]
    kms.delete_imported_key_material(KeyId=key_id)
    eventually(kms, key_id, "PendingImport")
    assert INVALID == refusal(kms.decrypt, CiphertextBlob=blob)
    assert INCORRECT == refusal(lambda: import_material(kms, key_id, os.urandom(32)))
    import_material(kms, key_id, MATERIAL)
    eventually(kms, key_id, "Enabled")
    assert b"kept" == kms.decrypt(CiphertextBlob=blob)["Plaintext"]


def test_a_ciphertext_belongs_to_its_key(kms: Any, new_key: Callable[..., str]) -> None:
    """The same bytes in another key do not open it."""
    one, two = new_key(MATERIAL), new_key(MATERIAL)
    blob = kms.encrypt(KeyId=one, Plaintext=b"x")["CiphertextBlob"]
    assert "IncorrectKeyException" == refusal(kms.decrypt, CiphertextBlob=blob, KeyId=two)


def test_pairs_are_not_mixed(kms: Any, new_key: Callable[..., str]) -> None:
    """The token of another key, a token that is none, and material for another set's wrapping key."""
    one, two = new_key(), new_key()
    first, second, other = wrapping_set(kms, one), wrapping_set(kms, one), wrapping_set(kms, two)

    def refused(token: bytes, public_key: bytes) -> str:
        return refusal(
            kms.import_key_material, KeyId=one, ImportToken=token,
            EncryptedKeyMaterial=wrap(public_key, MATERIAL), **FOREVER,
        )  # fmt: skip

    assert "InvalidImportTokenException" == refused(other["ImportToken"], other["PublicKey"])
    assert "InvalidImportTokenException" == refused(b"no token", first["PublicKey"])
    assert "InvalidCiphertextException" == refused(first["ImportToken"], second["PublicKey"])


def test_material_has_32_bytes(kms: Any, new_key: Callable[..., str]) -> None:
    """A symmetric key takes 256 bits and nothing else."""
    key_id = new_key()
    for length in (16, 31, 33):
        assert INCORRECT == refusal(lambda length=length: import_material(kms, key_id, os.urandom(length)))


def test_expiry_has_rules(kms: Any, new_key: Callable[..., str]) -> None:
    """ValidTo in the future, within 365 days, and only for material that expires; it is shown."""
    key_id, now = new_key(), datetime.now(UTC)
    for wrong in ({"ValidTo": now - timedelta(hours=1)}, {"ValidTo": now + timedelta(days=366)},
                  {"ValidTo": now + timedelta(days=1), **FOREVER}, {"ExpirationModel": "KEY_MATERIAL_EXPIRES"}):  # fmt: skip
        assert VALIDATION == refusal(lambda wrong=wrong: import_material(kms, key_id, MATERIAL, **wrong))
    ends = (now + timedelta(days=1)).replace(microsecond=0)
    import_material(kms, key_id, MATERIAL, ValidTo=ends, ExpirationModel="KEY_MATERIAL_EXPIRES")
    eventually(kms, key_id, "Enabled")
    shown = described(kms, key_id)
    assert ("KEY_MATERIAL_EXPIRES", ends) == (shown["ExpirationModel"], shown["ValidTo"])


def test_imported_material_is_rotated_on_demand(kms: Any, new_key: Callable[..., str]) -> None:
    """New material waits, becomes current, and what the old one encrypted is still opened."""
    key_id, new = new_key(MATERIAL), os.urandom(32)
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"old")["CiphertextBlob"]
    import_material(kms, key_id, new, ImportType="NEW_KEY_MATERIAL", KeyMaterialDescription="second")

    def states() -> list[str]:
        answer = kms.list_key_rotations(KeyId=key_id, IncludeKeyMaterial="ALL_KEY_MATERIAL")
        return sorted(entry["KeyMaterialState"] for entry in answer["Rotations"])

    assert ["CURRENT", "PENDING_ROTATION"] == states()
    kms.rotate_key_on_demand(KeyId=key_id)
    give_up = time.monotonic() + PATIENCE
    while states() != ["CURRENT", "NON_CURRENT"] and time.monotonic() < give_up:
        time.sleep(0.5)
    assert ["CURRENT", "NON_CURRENT"] == states()
    assert b"old" == kms.decrypt(CiphertextBlob=blob)["Plaintext"]


def test_states_refuse_what_they_do_not_allow(kms: Any, new_key: Callable[..., str]) -> None:
    """Disabled, then to be deleted, then saved again: Disabled until it is enabled."""
    key_id = new_key(MATERIAL)
    kms.disable_key(KeyId=key_id)
    eventually(kms, key_id, "Disabled")
    assert DISABLED == refusal(kms.encrypt, KeyId=key_id, Plaintext=b"x")
    assert INVALID == refusal(kms.cancel_key_deletion, KeyId=key_id)
    kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    eventually(kms, key_id, "PendingDeletion")
    for call, more in ((kms.encrypt, {"Plaintext": b"x"}), (kms.enable_key, {}), (kms.schedule_key_deletion, {})):
        assert INVALID == refusal(call, KeyId=key_id, **more)
    assert INVALID == refusal(lambda: wrapping_set(kms, key_id))
    kms.cancel_key_deletion(KeyId=key_id)
    eventually(kms, key_id, "Disabled")
    kms.enable_key(KeyId=key_id)
    eventually(kms, key_id, "Enabled")


def test_import_is_for_keys_of_origin_external(kms: Any, new_key: Callable[..., str]) -> None:
    """A key that KMS made takes no material; a key that is not there has none; an alias is not taken."""
    assert UNSUPPORTED == refusal(lambda: wrapping_set(kms, new_key(Origin="AWS_KMS")))
    assert NOT_FOUND == refusal(lambda: wrapping_set(kms, "12345678-1234-1234-1234-123456789012"))
    with pytest.raises(ClientError):
        wrapping_set(kms, "alias/aws/rds")


def test_policies_name_principals_that_exist(kms: Any, new_key: Callable[..., str]) -> None:
    """A role that does not exist, and a policy that would lock the caller out, are refused."""
    key_id = new_key()
    root = described(kms, key_id)["Arn"].split(":")[4]
    for principals in ([f"arn:aws:iam::{root}:root", f"arn:aws:iam::{root}:role/there-is-no-such-role"],
                       ["arn:aws:iam::999999999999:root"]):  # fmt: skip
        entry = {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": "kms:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [entry]})
        assert "MalformedPolicyDocumentException" == refusal(
            kms.put_key_policy, KeyId=key_id, PolicyName="default", Policy=policy
        )
