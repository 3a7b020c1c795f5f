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

from cryptography.hazmat.primitives import serialization
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
from runbook_lib.material.request import Custody, Source

SMALLEST = 2048
PREFIX = "KeyMaterial."
PLAINTEXT = "PlaintextKeyMaterial.bin"
TRAINING_LABEL = b"TRAINING ONLY: this recovery key was made by the sandbox and protects nothing real\n"


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


def load_recovery_public_key(pem: bytes) -> rsa.RSAPublicKey:
    """Load a recovery public key: RSA, PEM, 2048 bits or more. Raises `RecoveryKeyInvalid`."""
    if b"PRIVATE KEY" in pem:
        raise RecoveryKeyInvalid(
            "this is a private key; give its public key (openssl rsa -in recovery-private.pem -pubout) and keep the private "
            "key off this machine"
        )
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise RecoveryKeyInvalid(
            "this is not a valid public key in PEM form; create one with openssl rsa -pubout"
        ) from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST:
        raise RecoveryKeyInvalid(
            f"this is not an RSA key of at least {SMALLEST} bits; create one with openssl genrsa -aes256 4096"
        )
    return key


def load_recovery_public_keys(pems: Sequence[bytes]) -> list[rsa.RSAPublicKey]:
    """Load several recovery public keys (PEM). Raises `RecoveryKeyInvalid`, also if two are the same."""
    keys = [load_recovery_public_key(pem) for pem in pems]
    names = [key_fingerprint(key) for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise RecoveryKeyInvalid(
                f"the recovery key {name[:8]} was given {names.count(name)} times; give each holder's own key once"
            )
    return keys


def key_fingerprint(key: rsa.RSAPublicKey) -> str:
    """Return the SHA-256 (hex) of a public key's DER SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return fingerprint(der)


def copies(
    keys: Sequence[rsa.RSAPublicKey], encrypt_to: Callable[[rsa.RSAPublicKey, str], bytes], *, algorithm: str
) -> list[CustodyCopy]:
    """Return one backup per recovery key, encrypted by `encrypt_to(key, algorithm)`, here or inside an HSM."""
    made = []
    for key in keys:
        name = key_fingerprint(key)
        made.append(CustodyCopy(f"{PREFIX}recovery-{name[:8]}.bin", name, encrypt_to(key, algorithm), algorithm))
    return made


def seal(material: KeyMaterial, recovery_public_keys: Sequence[bytes]) -> list[CustodyCopy]:
    """Encrypt the material to each recovery public key (PEM). Raises `RecoveryKeyInvalid`."""
    keys = load_recovery_public_keys(recovery_public_keys)
    return copies(keys, lambda key, name: key.encrypt(bytes(material), oaep(name)), algorithm=RSAES_OAEP_SHA_256)


def load_recovery_private_key(pem: bytes | bytearray, *, password: str | None = None) -> rsa.RSAPrivateKey:
    """Load a recovery private key (PEM). Raises `RecoveryKeyInvalid`."""
    try:
        key = serialization.load_pem_private_key(bytes(pem), password.encode() if password else None)
    except TypeError:
        wanted = (
            "it is encrypted: set recovery_password_from (--password-from)"
            if not password
            else "it has no password: leave recovery_password_from (--password-from) empty"
        )
        raise RecoveryKeyInvalid(f"this private key cannot be loaded; {wanted}") from None
    except ValueError:
        raise RecoveryKeyInvalid(
            "this private key cannot be loaded: the password is wrong, or it is not a private key in PEM form; "
            "provide the right one"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise RecoveryKeyInvalid(
            "this is not an RSA key; give the recovery private key that the name of the backup identifies"
        )
    return key


def open_any_copy(content: bytes, private_key: rsa.RSAPrivateKey) -> KeyMaterial:
    """Open a backup whose algorithm is not recorded: OAEP with SHA-256, else with SHA-1, as many HSMs use.

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


def make_training_recovery_key() -> tuple[bytes, bytes]:
    """Return a recovery key pair (private, public; PEM) that is labelled as for training only."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return TRAINING_LABEL + private_pem, TRAINING_LABEL + public_pem


def training_public_key(private_pem: bytes) -> bytes:
    """Return the public key (PEM) of a training pair whose file was deleted."""
    public = load_recovery_private_key(private_pem).public_key()
    return TRAINING_LABEL + public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


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


def seal_components(material: KeyMaterial, keys: Sequence[rsa.RSAPublicKey]) -> list[CustodyCopy]:
    """Split the key material and encrypt one component to each custodian's recovery public key."""
    sealed = []
    for number, (key, component) in enumerate(zip(keys, split(material, len(keys)), strict=True), 1):
        with component:
            content = key.encrypt(bytes(component), oaep(RSAES_OAEP_SHA_256))
            name = key_fingerprint(key)
            file = f"{PREFIX}component-{number}-of-{len(keys)}-{name[:8]}.bin"
            sealed.append(CustodyCopy(file, name, content, component_check_value=component.key_check_value))
    return sealed
