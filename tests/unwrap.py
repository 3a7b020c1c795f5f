"""Open wrapped key material with the private half of a wrapping key: what KMS does, and no step of the runbook."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import EncryptedKeyMaterialInvalid
from runbook_lib.material.key_material import KeyMaterial, oaep


def decrypt_key_material(encrypted: bytes, *, private_key: rsa.RSAPrivateKey, wrapping_algorithm: str) -> KeyMaterial:
    """Open what `encrypt_key_material` made; raise `EncryptedKeyMaterialInvalid` when it does not open."""
    padding = oaep(wrapping_algorithm)
    try:
        content = private_key.decrypt(encrypted, padding)
    except ValueError:
        raise EncryptedKeyMaterialInvalid(
            "it does not open with this key: another wrapping key, another hash or MGF1 hash, or a damaged file"
        ) from None
    return KeyMaterial(content)
