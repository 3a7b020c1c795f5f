"""Key material backups: encrypt to recovery public keys, whole or split into components, record them, and open them.

A backup is RSA-OAEP over the 32 bytes without any container, so that `openssl pkeyutl` alone opens it years from now.
`material_set` names the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import (
    EncryptedKeyMaterialInvalid,
    RecoveryKeyInvalid,
    RecoverySourceInvalid,
)
from runbook_lib.files import utc_stamp
from runbook_lib.material.custody_record import CustodyRecord, Holder
from runbook_lib.material.key_material import (
    LENGTH,
    RSAES_OAEP_SHA_1,
    RSAES_OAEP_SHA_256,
    KeyMaterial,
    fingerprint,
    oaep,
)
from runbook_lib.material.recovery_keys import key_fingerprint
from runbook_lib.material.request import Custody, Source

PREFIX = "KeyMaterial."
PLAINTEXT = "PlaintextKeyMaterial.bin"


@dataclass(frozen=True)
class CustodyCopy:
    """One key material backup: file name, SHA-256 of the recovery public key, algorithm, ciphertext.

    `component_check_value` is set if the file holds one component of split key material.
    """

    name: str
    recovery_key: str
    content: bytes = field(repr=False)
    algorithm: str = RSAES_OAEP_SHA_256
    component_check_value: str = ""

    def as_holder(self, *, training_only: bool) -> Holder:
        """Return the entry for the custody record; no secret."""
        facts: dict[str, Any] = {
            "file": self.name,
            "recovery_key_sha256": self.recovery_key,
            "algorithm": self.algorithm,
            "training_only": training_only,
        }
        if self.component_check_value:
            facts["component_check_value"] = self.component_check_value
        return Holder(**facts)


def label_of(key_arn: str, key_check_value: str, encrypted: bytes) -> str:
    """Return key id and key check value, which make the names of backups unique where those of several keys are kept.

    Without a key check value (a token that computes none), the SHA-256 of EncryptedKeyMaterial.bin takes its place.
    """
    return f"{key_arn.rpartition('/')[2]}.{key_check_value or 'set-' + fingerprint(encrypted)[:8]}"


def copies(
    keys: Sequence[rsa.RSAPublicKey],
    encrypt_to: Callable[[rsa.RSAPublicKey, str], bytes],
    *,
    algorithm: str,
    label: str,
) -> list[CustodyCopy]:
    """Return one backup per recovery key, encrypted by `encrypt_to(key, algorithm)`, here or inside an HSM."""
    made = []
    for key in keys:
        name = key_fingerprint(key)
        file = f"{PREFIX}recovery-{name[:8]}.{label}.bin"
        made.append(CustodyCopy(file, name, encrypt_to(key, algorithm), algorithm))
    return made


def seal(material: KeyMaterial, keys: Sequence[rsa.RSAPublicKey], *, label: str) -> list[CustodyCopy]:
    """Encrypt the material to each recovery public key."""

    def encrypt_to(key: rsa.RSAPublicKey, algorithm: str) -> bytes:
        return key.encrypt(bytes(material), oaep(algorithm))

    return copies(keys, encrypt_to, algorithm=RSAES_OAEP_SHA_256, label=label)


def open_any_copy(content: bytes, private_key: rsa.RSAPrivateKey) -> KeyMaterial:
    """Open a backup, whatever is recorded: OAEP with SHA-256, else with SHA-1, as many HSMs use.

    Raises `EncryptedKeyMaterialInvalid`, `KeyMaterialLength` and `KeyMaterialEncoded`.
    """
    try:
        return open_copy(content, private_key)
    except EncryptedKeyMaterialInvalid:
        return open_copy(content, private_key, algorithm=RSAES_OAEP_SHA_1)


def open_copy(content: bytes, private_key: rsa.RSAPrivateKey, *, algorithm: str = RSAES_OAEP_SHA_256) -> KeyMaterial:
    """Decrypt a backup. Raises `EncryptedKeyMaterialInvalid` if it is for another key or damaged.

    Raises `KeyMaterialLength` and `KeyMaterialEncoded` if the content is not 32 raw bytes.
    """
    padding = oaep(algorithm)
    try:
        opened = bytearray(private_key.decrypt(content, padding))
    except ValueError:
        raise EncryptedKeyMaterialInvalid(
            "this backup is for another recovery key, or damaged; use the key that its file name identifies"
        ) from None
    return KeyMaterial(opened)


def record(
    *,
    custody: Custody,
    source: Source,
    key_check_value: str,
    copies: Sequence[CustodyCopy],
    training: Sequence[str] = (),
    made_at: datetime,
    **facts: Any,
) -> CustodyRecord:
    """Return the custody record of these backups.

    `training` holds the fingerprints of training keys; `facts` are fields that only one kind of custody has.
    """
    return CustodyRecord(
        custody=custody,
        source=source,
        key_check_value=key_check_value,
        made_at=utc_stamp(made_at),
        holders=tuple(copy.as_holder(training_only=copy.recovery_key in training) for copy in copies),
        **facts,
    )


FEWEST, MOST = 2, 9


def split(material: KeyMaterial, number: int) -> list[KeyMaterial]:
    """Split material into `number` components, all of which are needed. Raises `RecoveryKeyInvalid`."""
    if not FEWEST <= number <= MOST:
        raise RecoveryKeyInvalid(
            f"{number} recovery public keys were given; custody 'split' needs {FEWEST} to {MOST}, one per custodian"
        )
    last = bytearray(bytes(material))
    made = []
    for _ in range(number - 1):
        random = os.urandom(LENGTH)
        made.append(KeyMaterial(random))
        for place, byte in enumerate(random):
            last[place] ^= byte
    return [*made, KeyMaterial(last)]


def combine(components: Sequence[KeyMaterial]) -> KeyMaterial:
    """Combine components (XOR), in any order. Only the key check value shows whether all of them were given.

    Raises `RecoverySourceInvalid` for fewer than two components, or for a repeated one.
    """
    if len(components) < FEWEST:
        raise RecoverySourceInvalid(
            f"{len(components)} component is not all of them; provide the component of every custodian"
        )
    if any(one == other for place, one in enumerate(components) for other in components[:place]):
        raise RecoverySourceInvalid("a component was provided twice; provide the component of every custodian once")
    whole = bytearray(LENGTH)
    for component in components:
        for place, byte in enumerate(bytes(component)):
            whole[place] ^= byte
    return KeyMaterial(whole)


def seal_components(material: KeyMaterial, keys: Sequence[rsa.RSAPublicKey], *, label: str) -> list[CustodyCopy]:
    """Split the key material and encrypt one component to each custodian's recovery public key."""
    sealed = []
    for number, (key, component) in enumerate(zip(keys, split(material, len(keys)), strict=True), 1):
        with component:
            content = key.encrypt(bytes(component), oaep(RSAES_OAEP_SHA_256))
            name = key_fingerprint(key)
            file = f"{PREFIX}component-{number}-of-{len(keys)}-{name[:8]}.{label}.bin"
            sealed.append(CustodyCopy(file, name, content, component_check_value=component.key_check_value))
    return sealed
