"""The sandbox replays what AWS was seen to answer, to the letter."""

from __future__ import annotations

import os
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kms_support import OTHER_REGION, WRAPPING, connect, described, external, import_material, wrap, wrapping_set
from recorded_answers import ERRORS, Recorded


class Situations:
    """What was requested of AWS when it gave these answers: one method for each, named like its row."""

    def __init__(self, endpoint: str) -> None:
        self.kms, self.elsewhere = connect(endpoint), connect(endpoint, region=OTHER_REGION)
        self.names: dict[str, str] = {}

    def key(self, **given: Any) -> str:
        """Create the key of the request."""
        made = self.kms.create_key(**given)["KeyMetadata"]
        self.names |= {"arn": made["Arn"], "elsewhere": made["Arn"].replace("eu-west-2", OTHER_REGION)}
        return str(made["KeyId"])

    def imported(self) -> str:
        key = self.key(Origin="EXTERNAL")
        import_material(self.kms, key, os.urandom(32))
        return key

    def encrypt_before_the_import(self) -> None:
        self.kms.encrypt(KeyId=self.key(Origin="EXTERNAL"), Plaintext=b"x")

    def encrypt_after_the_deletion(self) -> None:
        key = self.imported()
        self.kms.delete_imported_key_material(KeyId=key)
        self.kms.encrypt(KeyId=key, Plaintext=b"x")

    def rotate_before_the_import(self) -> None:
        self.kms.rotate_key_on_demand(KeyId=self.key(Origin="EXTERNAL"))

    def import_without_validto(self) -> None:
        key = self.key(Origin="EXTERNAL")
        pair = wrapping_set(self.kms, key)
        self.kms.import_key_material(
            KeyId=key, ImportToken=pair["ImportToken"], EncryptedKeyMaterial=wrap(pair["PublicKey"], os.urandom(32))
        )

    def import_while_one_is_pending(self) -> None:
        key = self.imported()
        pending, new = os.urandom(32), os.urandom(32)
        asked = {"ImportType": "NEW_KEY_MATERIAL"}
        for name, value in (("new", new), ("pending", pending)):  # a deleted pending material can be replaced
            self.names[name] = import_material(self.kms, key, value, **asked)["KeyMaterialId"]
            if name == "new":
                self.kms.delete_imported_key_material(KeyId=key, KeyMaterialId=self.names[name])
        import_material(self.kms, key, new, **asked)

    def rotate_with_nothing_pending(self) -> None:
        self.kms.rotate_key_on_demand(KeyId=self.imported())

    def rotate_too_often(self) -> None:
        key = self.key()
        for _ in range(26):
            self.kms.rotate_key_on_demand(KeyId=key)
            while "OnDemandRotationStartDate" in self.kms.get_key_rotation_status(KeyId=key):
                pass  # in the sandbox a rotation takes a few looks

    def rotate_a_disabled_key(self) -> None:
        key = self.key()
        self.kms.disable_key(KeyId=key)
        self.kms.rotate_key_on_demand(KeyId=key)

    def parameters_for_import_of_a_key_of_kms(self) -> None:
        self.kms.get_parameters_for_import(KeyId=self.key(), **WRAPPING)

    def replicate_a_replica(self) -> None:
        key = self.key(MultiRegion=True)
        self.kms.replicate_key(KeyId=key, ReplicaRegion=OTHER_REGION)
        self.elsewhere.replicate_key(KeyId=key, ReplicaRegion="us-east-1")

    def describe_a_key_by_its_id_in_another_region(self) -> None:
        self.elsewhere.describe_key(KeyId=self.key())

    def describe_a_key_by_its_arn_in_another_region(self) -> None:
        self.key()
        self.elsewhere.describe_key(KeyId=self.names["arn"])

    def describe_what_is_no_key_id(self) -> None:
        self.kms.describe_key(KeyId="fake-key-id")

    def alias_without_prefix(self) -> None:
        self.kms.create_alias(AliasName="aurora", TargetKeyId=self.key())

    def decrypt_without_the_encryption_context(self) -> None:
        made = self.kms.encrypt(KeyId=self.key(), Plaintext=b"x", EncryptionContext={"a": "b"})
        self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"])

    def decrypt_with_a_key_that_signs(self) -> None:
        made = self.kms.encrypt(KeyId=self.key(), Plaintext=b"x")
        signs = self.key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"], KeyId=signs)

    def encrypt_with_a_key_that_signs(self) -> None:
        self.kms.encrypt(KeyId=self.key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY"), Plaintext=b"x")

    def encrypt_too_much(self) -> None:
        self.kms.encrypt(KeyId=self.key(), Plaintext=b"x" * 4097)

    def random_bytes_of_no_number(self) -> None:
        self.kms.generate_random()

    def too_many_random_bytes(self) -> None:
        self.kms.generate_random(NumberOfBytes=1025)

    def hmac_key_without_usage(self) -> None:
        self.key(KeySpec="HMAC_256")


@pytest.mark.parametrize("recorded", ERRORS, ids=[one.situation.replace(" ", "-") for one in ERRORS])
def test_a_refusal_has_the_recorded_code_and_text(served: str, recorded: Recorded) -> None:
    """Both, and an HTTP status of 400."""
    situations = Situations(served)
    with pytest.raises(ClientError) as caught:
        getattr(situations, recorded.situation.lower().replace(" ", "_"))()
    said = caught.value.response
    assert (recorded.code, recorded.message.format(**situations.names), 400) == (
        said["Error"]["Code"], said["Error"]["Message"], said["ResponseMetadata"]["HTTPStatusCode"],
    )  # fmt: skip


def test_rotate_key_on_demand_returns_the_arn(served: str) -> None:
    """Recorded on 2025-11-06; the request may name the key by its id."""
    kms = connect(served)
    made = kms.create_key()["KeyMetadata"]
    assert made["Arn"] == kms.rotate_key_on_demand(KeyId=made["KeyId"])["KeyId"]


def test_a_key_is_described_as_recorded_from_creation_to_deletion(served: str) -> None:
    """Recorded on 2024-01-24; the id of the current material, on 2025-11-10: it stays when the material is deleted."""
    kms = connect(served)
    key = external(kms)
    fields = ("KeyState", "Enabled", "Origin", "ExpirationModel", "MultiRegion")
    before = described(kms, key)
    assert ("PendingImport", False, "EXTERNAL", None, False) == tuple(before.get(name) for name in fields)
    assert "CurrentKeyMaterialId" not in before
    made = import_material(kms, key["KeyId"], os.urandom(32))
    after = described(kms, key)
    assert ("Enabled", True, "EXTERNAL", "KEY_MATERIAL_DOES_NOT_EXPIRE", False) == tuple(
        after.get(name) for name in fields
    )
    kms.delete_imported_key_material(KeyId=key["KeyId"])
    gone = described(kms, key)
    assert ("PendingImport", False, "EXTERNAL", None, False) == tuple(gone.get(name) for name in fields)
    assert made["KeyMaterialId"] == after["CurrentKeyMaterialId"] == gone["CurrentKeyMaterialId"]


def test_new_material_waits_for_the_rotation(served: str) -> None:
    """Recorded on 2025-11-09: until then the current material stays what it was."""
    kms = connect(served)
    key = external(kms, os.urandom(32))
    current = described(kms, key)["CurrentKeyMaterialId"]
    made = import_material(kms, key["KeyId"], os.urandom(32), ImportType="NEW_KEY_MATERIAL")
    assert current == described(kms, key)["CurrentKeyMaterialId"] != made["KeyMaterialId"]


def test_a_replica_is_creating_in_the_answer(served: str) -> None:
    """Recorded on 2025-11-10; no material is shown yet."""
    kms = connect(served)
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]
    made = kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion=OTHER_REGION)["ReplicaKeyMetadata"]
    assert ("Creating", False, "REPLICA") == (
        made["KeyState"],
        made["Enabled"],
        made["MultiRegionConfiguration"]["MultiRegionKeyType"],
    )
    assert "CurrentKeyMaterialId" not in made


def test_deleting_material_that_was_never_imported_succeeds(served: str) -> None:
    """Not recorded: the guide's table of key states allows DeleteImportedKeyMaterial in PendingImport."""
    kms = connect(served)
    key = external(kms)
    answer = kms.delete_imported_key_material(KeyId=key["KeyId"])
    assert key["Arn"] == answer["KeyId"]
    assert "PendingImport" == described(kms, key)["KeyState"]
