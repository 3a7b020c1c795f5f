"""Key material in memory: generate it, read it, encrypt it for KMS, compute its key check value. No AWS call, no run.

Backups are in `recovery_copies`, the files of a set in `material_set`.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import hmac
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Literal, NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from runbook_lib.errors import (
    EncryptedKeyMaterialInvalid,
    KeyMaterialEncoded,
    KeyMaterialLength,
    WrappingKeyInvalid,
)
from runbook_lib.files import read_private

LENGTH = 32
RSAES_OAEP_SHA_256 = "RSAES_OAEP_SHA_256"
RSAES_OAEP_SHA_1 = "RSAES_OAEP_SHA_1"
WRAPPING_ALGORITHMS = (RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1)
REFUSED_WRAPPING_ALGORITHMS = {
    "RSAES_PKCS1_V1_5": "AWS has not supported it since 2023-10-10.",
    "RSA_AES_KEY_WRAP_SHA_256": "it wraps private keys, not the 32 bytes of a symmetric key.",
    "RSA_AES_KEY_WRAP_SHA_1": "it wraps private keys, not the 32 bytes of a symmetric key.",
    "SM2PKE": "it is available in the China Regions only.",
}
WRAPPING_KEY_SPECS = {"RSA_4096": 4096, "RSA_3072": 3072, "RSA_2048": 2048}
Encoding = Literal["binary", "hex", "base64"]
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {RSAES_OAEP_SHA_256: hashes.SHA256, RSAES_OAEP_SHA_1: hashes.SHA1}


class KeyMaterial:
    """256 bits of key material, in memory only; a `with` block overwrites them at its end.

    Overwriting reaches this object's own buffer, and the bytearray that it was created from. It does not reach copies
    that Python or a library made (an argument as `bytes`, a swapped-out page, a core dump), so keep the process short
    and the machine trusted. Reading the bytes afterwards raises `ValueError`, so zeros are never encrypted by mistake.
    """

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, content: bytes | bytearray) -> None:
        """Take exactly 32 bytes; a bytearray is overwritten.

        Raises `KeyMaterialLength`, or `KeyMaterialEncoded` for what looks like text.
        """
        if len(content) != LENGTH:
            _refuse_length(bytes(content))
        self._buffer = bytearray(content)
        self._wiped = False
        if isinstance(content, bytearray):
            content[:] = bytes(LENGTH)

    @classmethod
    def generate(cls) -> KeyMaterial:
        """Return 256 bits from the operating system's random source (`os.urandom`)."""
        return cls(os.urandom(LENGTH))

    @classmethod
    def from_file(cls, path: Path, *, encoding: Encoding = "binary", random: bool = True) -> KeyMaterial:
        """Read key material from a regular file that only its owner may read; symbolic links are not followed.

        `random`: refuse bytes that can be guessed, in any encoding; material that was imported before is read without.
        Raises `PrivateFileUnsafe`, `KeyMaterialLength`, `KeyMaterialEncoded`.
        """
        content = read_private(path)
        decoded = bytearray()
        try:
            decoded = _decoded(content, encoding)
            if random and _can_be_guessed(decoded):
                raise KeyMaterialEncoded(
                    "these 32 bytes are text, repeated or counted, so the key can be guessed; provide 32 bytes of a random "
                    "source, or set key_material_encoding to the file's encoding"
                )
            return cls(decoded)
        finally:
            for buffer in (content, decoded):
                buffer[:] = bytes(len(buffer))

    @property
    def key_check_value(self) -> str:
        """Six hex digits with which two parties can check that they hold the same key material.

        The first three bytes of an AES-CMAC over one zero block, as AWS Payment Cryptography defines it for AES
        keys (docs.aws.amazon.com/payment-cryptography: ImportKey, KeyCheckValue).
        """
        mac = CMAC(AES(bytes(self)))
        mac.update(bytes(16))
        return mac.finalize()[:3].hex()

    def __bytes__(self) -> bytes:
        """A copy of the 32 bytes. Raises `ValueError` after they were overwritten."""
        if self._wiped:
            raise ValueError("this key material was overwritten; generate or open it again")
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite this object's buffer with zeros."""
        self._buffer[:] = bytes(LENGTH)
        self._wiped = True

    def __enter__(self) -> KeyMaterial:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        if self._wiped:
            return "KeyMaterial(overwritten)"
        return f"KeyMaterial(256 bits, key check value {self.key_check_value})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyMaterial) and hmac.compare_digest(self._buffer, other._buffer)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("key material is not copied or pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("key material is not copied or pickled")


def _refuse_length(content: bytes) -> NoReturn:
    """Raise `KeyMaterialLength`, or `KeyMaterialEncoded` if the content looks like hex or base64 text."""
    kind = ""
    if re.fullmatch(rb"[0-9A-Fa-f\s]{64,}", content):
        kind = "hex"
    elif re.fullmatch(rb"[A-Za-z0-9+/=_\s-]{43,}", content):
        kind = "base64"
    if kind:
        raise KeyMaterialEncoded(
            f"this looks like {kind} text ({len(content)} bytes), not 32 raw bytes; set key_material_encoding: {kind}, or decode it"
        )
    newline = "; its last byte is a line feed, which a text tool may have added" if content.endswith(b"\n") else ""
    raise KeyMaterialLength(
        f"key material is exactly 32 bytes (256 bits), this is {len(content)}{newline}; provide the right file"
    )


def _can_be_guessed(content: bytearray) -> bool:
    """Return whether 32 bytes are printable text, few different bytes, a repeated half, or count up or down.

    Of random bytes, one set in more than 2**40 is such.
    """
    if len(content) != LENGTH:
        return False
    steps = {(after - before) % 256 for before, after in pairwise(content)}
    is_text = bool(re.fullmatch(rb"[\x20-\x7e\s]*", content))
    return is_text or len(set(content)) < 12 or content[:16] == content[16:] or len(steps) == 1


def _decoded(content: bytearray, encoding: Encoding) -> bytearray:
    if encoding == "binary":
        return bytearray(content)
    text = b"".join(content.removeprefix(codecs.BOM_UTF8).split())
    if encoding == "base64":  # with the alphabet of URLs, and unpadded, too
        text = text.translate(bytes.maketrans(b"-_", b"+/"))
        text += b"=" * (-len(text) % 4)
    try:
        return bytearray(
            bytes.fromhex(text.decode("ascii")) if encoding == "hex" else base64.b64decode(text, validate=True)
        )
    except (ValueError, binascii.Error):
        # from None: the cause would quote the content
        raise KeyMaterialEncoded(
            f"the file is not {encoding}; set key_material_encoding to the file's encoding"
        ) from None


def check_wrapping_algorithm(wrapping_algorithm: str) -> None:
    """Raise `WrappingKeyInvalid`, with the reason, for an algorithm that cannot wrap a symmetric key's material."""
    if wrapping_algorithm not in WRAPPING_ALGORITHMS:
        reason = REFUSED_WRAPPING_ALGORITHMS.get(wrapping_algorithm, "it is unknown.")
        raise WrappingKeyInvalid(f"{wrapping_algorithm!r} is refused: {reason} Use {RSAES_OAEP_SHA_256}.")


def oaep(wrapping_algorithm: str) -> padding.OAEP:
    """Return the OAEP padding of a wrapping algorithm: the same hash for the label and for MGF1, as KMS expects.

    Source: KMS developer guide, importing-keys-get-public-key-and-token. Raises `WrappingKeyInvalid`.
    """
    check_wrapping_algorithm(wrapping_algorithm)
    algorithm = _HASHES[wrapping_algorithm]
    return padding.OAEP(mgf=padding.MGF1(algorithm()), algorithm=algorithm(), label=None)


def encrypt_key_material(material: KeyMaterial, *, wrapping_public_key: bytes, wrapping_algorithm: str) -> bytes:
    """Encrypt key material with the wrapping key (DER) of GetParametersForImport.

    Returns 256, 384 or 512 bytes, the length of the wrapping key. Raises `WrappingKeyInvalid`.
    """
    public_key = load_wrapping_public_key(wrapping_public_key)
    return public_key.encrypt(bytes(material), oaep(wrapping_algorithm))


def load_wrapping_public_key(der: bytes, *, wrapping_key_spec: str | None = None) -> rsa.RSAPublicKey:
    """Load a wrapping key: an RSA public key, DER SubjectPublicKeyInfo. Raises `WrappingKeyInvalid`."""
    if der.lstrip().startswith(b"-----BEGIN"):
        raise WrappingKeyInvalid("the wrapping key is PEM text; KMS returns DER; use WrappingPublicKey.bin unchanged")
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, TypeError) as error:
        raise WrappingKeyInvalid(
            "this is not a valid public key in DER form; use WrappingPublicKey.bin unchanged"
        ) from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in WRAPPING_KEY_SPECS.values():
        raise WrappingKeyInvalid(
            "the wrapping key is not an RSA key of 2048, 3072 or 4096 bits; run step 02 again to download a new "
            "wrapping public key and import token"
        )
    if wrapping_key_spec and key.key_size != WRAPPING_KEY_SPECS[wrapping_key_spec]:
        raise WrappingKeyInvalid(
            f"the wrapping key has {key.key_size} bits, {wrapping_key_spec} was requested; run step 02 again to "
            "download a new wrapping public key and import token"
        )
    return key


def check_encrypted_key_material(content: bytes, *, wrapping_key_spec: str) -> None:
    """Check the size of the ciphertext, the only property that can be checked without the private key.

    Raises `KeyMaterialEncoded` for base64 text in place of bytes, else `EncryptedKeyMaterialInvalid`.
    """
    expected = WRAPPING_KEY_SPECS[wrapping_key_spec] // 8
    if len(content) == expected:
        return
    digits = b"".join(content.split())
    if re.fullmatch(rb"[0-9A-Fa-f]+", digits) and len(digits) == 2 * expected:
        raise KeyMaterialEncoded("EncryptedKeyMaterial.bin is hex text, KMS accepts bytes only; decode it: xxd -r -p")
    if re.fullmatch(rb"[A-Za-z0-9+/=_-]{300,}", digits):
        lines = "" if b"\n" in content.strip() else " -A"
        url = "tr -- -_ +/ | " if re.search(rb"[-_]", digits) else ""
        raise KeyMaterialEncoded(
            f"EncryptedKeyMaterial.bin is base64 text, KMS accepts bytes only; decode it: {url}openssl base64 -d{lines}"
        )
    raise EncryptedKeyMaterialInvalid(
        f"EncryptedKeyMaterial.bin has {len(content)} bytes, {wrapping_key_spec} yields {expected}; wrap the key material "
        "again, or copy the file again: it may be truncated"
    )


def fingerprint(content: bytes) -> str:
    """Return the SHA-256 of public content as 64 hex digits, to tell files and keys apart."""
    return hashlib.sha256(content).hexdigest()
