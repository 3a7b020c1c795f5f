"""Encrypt and decrypt under a key's materials, in moto's own ciphertext layout.

The layout is key id (36 bytes), nonce (12), tag (16), AES-256-GCM ciphertext; the encryption context is the
additional data. So a ciphertext can be opened by hand with the imported bytes, which proves that they are in use.

moto gap: a ciphertext names its key in clear and nothing holds it to that, so with the same bytes in two keys it
opens under the other one; the contexts {"a": "bc"} and {"ab": "c"} are one to it; and after a rotation older
ciphertexts are lost. Here the last four bytes of the nonce are a check value over material, key id, context and
the first eight, random ones: it binds a ciphertext to its key and tells which of a key's materials made it.
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
    """The ciphertext was not made under this key, or not with this encryption context, or was changed."""


def _check_value(material: bytes, key_id: str, random: bytes, context: Mapping[str, str]) -> bytes:
    message = json.dumps([key_id, random.hex(), sorted(context.items())]).encode()
    return hmac.digest(material, b"nonce " + message, hashlib.sha256)[:4]


def encrypt(key: Key, plaintext: bytes, context: Mapping[str, str]) -> tuple[bytes, Material]:
    """Encrypt under the current material; the key must be Enabled. Returns the ciphertext and the material."""
    material = refresh(key).current
    if material is None or material.value is None:
        raise Unreadable
    random = os.urandom(8)
    nonce = random + _check_value(material.value, key.id, random, context)
    sealed = AESGCM(material.value).encrypt(nonce, plaintext, _serialize_encryption_context(dict(context)))
    return _HEADER.pack(key.id.encode(), nonce, sealed[-16:]) + sealed[:-16], material


def key_id_of(ciphertext: bytes) -> str:
    """Return the key id that a ciphertext names. Raises Unreadable when it is not one of ours."""
    try:
        named, _, _ = _HEADER.unpack_from(ciphertext)
        return str(named.decode("ascii"))
    except (struct.error, UnicodeDecodeError) as error:
        raise Unreadable from error


def decrypt(key: Key, ciphertext: bytes, context: Mapping[str, str]) -> tuple[bytes, Material]:
    """Decrypt under whichever of the key's materials made the ciphertext. Raises Unreadable."""
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
