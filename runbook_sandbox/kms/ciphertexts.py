"""Encrypt and decrypt with a key's materials, in moto's ciphertext layout.

The layout is key id (36 bytes), nonce (12), tag (16), AES-256-GCM ciphertext; the encryption context is the
additional data. A ciphertext can therefore be decrypted outside KMS with the imported bytes, which proves their use.

moto gap: the key id in a ciphertext is not authenticated, so it decrypts under another key with the same bytes; the
contexts {"a": "bc"} and {"ab": "c"} are treated as equal; and rotation makes older ciphertexts undecryptable. Here the
last four bytes of the nonce are a check value over material, key id, context and the eight random bytes before them.
It binds a ciphertext to its key and identifies the key material.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from moto.kms.models import Key
from moto.kms.utils import _serialize_encryption_context

from runbook_sandbox.kms.keys import refresh
from runbook_sandbox.kms.materials import Material

_HEADER = struct.Struct(">36s12s16s")


class Unreadable(Exception):
    """The ciphertext belongs to another key or encryption context, or was changed."""


def _check_value(material: bytes, key_id: str, random: bytes, context: Mapping[str, str]) -> bytes:
    message = json.dumps([key_id, random.hex(), sorted(context.items())]).encode()
    return hmac.digest(material, b"nonce " + message, hashlib.sha256)[:4]


def encrypt(key: Key, plaintext: bytes, context: Mapping[str, str]) -> tuple[bytes, Material]:
    """Encrypt with the current material of an Enabled key. Return the ciphertext and the material."""
    material = refresh(key).current
    if material is None or material.value is None:
        raise Unreadable
    random = os.urandom(8)
    nonce = random + _check_value(material.value, key.id, random, context)
    sealed = AESGCM(material.value).encrypt(nonce, plaintext, _serialize_encryption_context(dict(context)))
    return _HEADER.pack(key.id.encode(), nonce, sealed[-16:]) + sealed[:-16], material


def key_id_of(ciphertext: bytes) -> str:
    """Return the key id in a ciphertext. Raises Unreadable if it has not the sandbox's layout."""
    try:
        named, _, _ = _HEADER.unpack_from(ciphertext)
        return str(named.decode("ascii"))
    except (struct.error, UnicodeDecodeError) as error:
        raise Unreadable from error


def decrypt(key: Key, ciphertext: bytes, context: Mapping[str, str]) -> tuple[bytes, Material]:
    """Decrypt with the key material that encrypted the ciphertext. Raises Unreadable."""
    _, nonce, tag = _HEADER.unpack_from(ciphertext)
    for material in refresh(key).permanent:
        if material.value is None or not hmac.compare_digest(
            _check_value(material.value, key.id, nonce[:8], context), nonce[8:]
        ):
            continue
        try:
            sealed = ciphertext[_HEADER.size :] + tag
            additional = _serialize_encryption_context(dict(context))
            return AESGCM(material.value).decrypt(nonce, sealed, additional), material
        except InvalidTag:
            continue
    raise Unreadable
