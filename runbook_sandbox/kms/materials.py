"""Imported key material: the wrapping key and its sealed token, unwrapping, and one material's life.

Key material, wrapping keys and tokens always come from the operating system's random source, whatever the seed.
Where AWS keeps the private wrapping key, the sandbox seals it into the token itself (AES-GCM under a key of this
process, within AWS's 6144 bytes): it needs no store, and "any set that has not run out works" and "the token of
another key does not" follow by themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runbook_sandbox.instruments import clock
from runbook_sandbox.kms import wrapping_keys

LENGTH = 32
VALID_FOR = timedelta(hours=24)
OAEP_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "RSAES_OAEP_SHA_256": hashes.SHA256,
    "RSAES_OAEP_SHA_1": hashes.SHA1,
}
_sealing_key = os.urandom(32)


class TokenInvalid(Exception):
    """The token was not made by this sandbox for this key."""


class TokenExpired(Exception):
    """The token is older than 24 hours."""


class CiphertextInvalid(Exception):
    """The encrypted material does not open with the token's wrapping key and algorithm."""


def material_id(key_id: str, value: bytes) -> str:
    """Return a stable id of 64 hexadecimal digits for these bytes in this key.

    AWS derives it from both too, by a formula that it does not publish. A multi-Region key's replicas share it.
    """
    return hmac.digest(value, b"KeyMaterialId " + key_id.encode(), hashlib.sha256).hex()


@dataclass
class Material:
    """One key material of one key; `value` is None once it is deleted or has expired."""

    id: str
    value: bytes | None
    state: str = "CURRENT"
    description: str = ""
    expiration_model: str | None = None
    valid_to: datetime | None = None
    imported: datetime | None = None
    rotation_date: datetime | None = None
    rotation_type: str | None = None

    @classmethod
    def generated(cls, key_id: str, value: bytes, state: str = "CURRENT") -> Material:
        """Return a material that KMS itself made."""
        return cls(id=material_id(key_id, value), value=value, state=state)

    def __repr__(self) -> str:
        return f"Material(id={self.id!r}, state={self.state!r}, present={self.value is not None})"

    def expire(self) -> bool:
        """Drop the bytes if their time has come; say whether that happened now."""
        if self.value is None or self.valid_to is None or clock.now() < self.valid_to:
            return False
        self.value = None
        return True


@dataclass(frozen=True)
class WrappingSet:
    """What GetParametersForImport hands out."""

    public_key: bytes
    token: bytes
    valid_to: datetime


def new_wrapping_set(key_arn: str, algorithm: str, spec: str) -> WrappingSet:
    """Generate a wrapping key for one KMS key and seal its private half into a token."""
    private = wrapping_keys.take(spec)
    valid_to = clock.now() + VALID_FOR
    secret = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    header = json.dumps([key_arn, algorithm, valid_to.timestamp()]).encode()
    nonce = os.urandom(12)
    sealed = AESGCM(_sealing_key).encrypt(nonce, len(header).to_bytes(2) + header + secret, None)
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return WrappingSet(public_key=public, token=nonce + sealed, valid_to=valid_to)


def unwrap(key_arn: str, token: bytes, encrypted: bytes) -> bytes:
    """Return the material that was encrypted for `token`'s wrapping key.

    Raises TokenInvalid, TokenExpired or CiphertextInvalid. The length is the caller's to check.
    """
    try:
        opened = AESGCM(_sealing_key).decrypt(token[:12], token[12:], None)
    except (InvalidTag, ValueError) as error:
        raise TokenInvalid from error
    end = 2 + int.from_bytes(opened[:2])
    made_for, algorithm, valid_to = json.loads(opened[2:end])
    if made_for != key_arn:
        raise TokenInvalid
    if clock.now().timestamp() >= valid_to:
        raise TokenExpired
    # Our own seal vouches for the key: checking its primes again would take longer than all the rest.
    private = serialization.load_der_private_key(opened[end:], password=None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise TokenInvalid
    chosen = OAEP_HASHES[algorithm]
    try:
        return private.decrypt(encrypted, padding.OAEP(mgf=padding.MGF1(chosen()), algorithm=chosen(), label=None))
    except ValueError as error:
        raise CiphertextInvalid from error
