"""Who keeps the original key material: copies encrypted to recovery public keys, and the record of them.

A copy is RSA-OAEP with SHA-256 over the 32 bytes, nothing around it, so that `openssl pkeyutl` alone opens it
years from now. The run's files are `wrapping`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import EncryptedKeyMaterialInvalid, RecoveryKeyInvalid
from runbook_lib.key_material import RSAES_OAEP_SHA_256, KeyMaterial, fingerprint, oaep
from runbook_lib.run import utc_stamp

SMALLEST = 2048
TRAINING_LABEL = b"TRAINING ONLY: this recovery key was made by the sandbox and protects nothing real\n"


@dataclass(frozen=True)
class CustodyCopy:
    """One recipient's copy: a file name, the recovery key's fingerprint, and the encrypted bytes."""

    name: str
    recovery_key: str
    content: bytes = field(repr=False)


def load_recovery_public_key(pem: bytes) -> rsa.RSAPublicKey:
    """Load a recovery public key: RSA, PEM, 2048 bits or more. Raises `RecoveryKeyInvalid`."""
    if b"PRIVATE KEY" in pem:
        raise RecoveryKeyInvalid(
            "this is a private key; give its public half (openssl rsa -in recovery-private.pem -pubout) and keep the private "
            "one away from here"
        )
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise RecoveryKeyInvalid("this is no public key in PEM form; make one with openssl rsa -pubout") from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST:
        raise RecoveryKeyInvalid(f"a recovery key is an RSA key of {SMALLEST} bits or more; make another")
    return key


def key_fingerprint(key: rsa.RSAPublicKey) -> str:
    """Return the SHA-256 of a public key's DER SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return fingerprint(der)


def seal(material: KeyMaterial, recovery_public_keys: Sequence[bytes]) -> list[CustodyCopy]:
    """Encrypt the material to each recovery public key (PEM). Raises `RecoveryKeyInvalid`."""
    copies = []
    for key in [load_recovery_public_key(pem) for pem in recovery_public_keys]:
        name = key_fingerprint(key)
        copies.append(
            CustodyCopy(
                f"KeyMaterial.recovery-{name[:8]}.bin", name, key.encrypt(bytes(material), oaep(RSAES_OAEP_SHA_256))
            )
        )
    return copies


def open_copy(content: bytes, private_key_pem: bytes, *, password: bytes | None = None) -> KeyMaterial:
    """Open a recovery copy with its private key (PEM).

    Raises `RecoveryKeyInvalid` for a key that cannot be loaded, `EncryptedKeyMaterialInvalid` for another's copy.
    """
    try:
        key = serialization.load_pem_private_key(private_key_pem, password)
    except (ValueError, TypeError):
        raise RecoveryKeyInvalid("this private key cannot be loaded: not PEM, or another password") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise RecoveryKeyInvalid("a recovery key is an RSA key; give the private half of the one that the copy names")
    try:
        return KeyMaterial(key.decrypt(content, oaep(RSAES_OAEP_SHA_256)))
    except ValueError:
        raise EncryptedKeyMaterialInvalid(
            "this copy is not for this recovery key, or damaged; try the key that its name tells"
        ) from None


def open_command(name: str) -> str:
    """Return the openssl command that opens a copy without any software of ours."""
    return (
        f"openssl pkeyutl -decrypt -in {name} -out PlaintextKeyMaterial.bin -inkey recovery-private.pem \\\n"
        "  -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256"
    )


def make_training_recovery_key() -> tuple[bytes, bytes]:
    """Return a recovery key pair (private, public; PEM) that says of itself that it is for training only."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return TRAINING_LABEL + private_pem, TRAINING_LABEL + public_pem


def record(
    *, custody: str, source: str, key_check_value: str, recovery_public_keys: Sequence[bytes], made_at: datetime
) -> dict[str, Any]:
    """Return the custody record: who holds what, since when, under which algorithm; no secret in it."""
    holders = [
        {
            "recovery_key_sha256": key_fingerprint(load_recovery_public_key(pem)),
            "training_only": pem.startswith(TRAINING_LABEL),
        }
        for pem in recovery_public_keys
    ]
    return {
        "custody": custody,
        "source": source,
        "key_check_value": key_check_value,
        "made_at": utc_stamp(made_at),
        "algorithm": RSAES_OAEP_SHA_256 if holders else "",
        "holders": holders,
    }
