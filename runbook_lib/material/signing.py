"""Sign a document so that `openssl dgst -sha256 -verify` checks it: RSA or EC private keys. No AWS, no run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from runbook_lib.errors import SigningKeyInvalid
from runbook_lib.files import read_private
from runbook_lib.material.key_material import fingerprint
from runbook_lib.material.secret_sources import read_pass_phrase

SMALLEST = 2048
CREATE = "openssl genrsa -aes256 -out signing-private.pem 3072"


@dataclass(frozen=True)
class Signature:
    """A detached signature, with the public key that checks it (PEM) and that key's SHA-256 (hex, of its DER form)."""

    content: bytes
    public_key: bytes
    fingerprint: str


def sign(content: bytes, *, private_key: Path, password_from: str = "") -> Signature:
    """Sign `content` with SHA-256: RSA PKCS #1 v1.5, or ECDSA; the defaults of `openssl dgst`.

    `password_from` names where the password of the key is read; empty: the key has none. Raises `SigningKeyInvalid`,
    which never quotes the key, and what `read_private` and `read_pass_phrase` raise.
    """
    key = _load(private_key, password_from)
    signed = (
        key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        if isinstance(key, rsa.RSAPrivateKey)
        else key.sign(content, ec.ECDSA(hashes.SHA256()))
    )
    public, spki = key.public_key(), serialization.PublicFormat.SubjectPublicKeyInfo
    der = public.public_bytes(serialization.Encoding.DER, spki)
    return Signature(signed, public.public_bytes(serialization.Encoding.PEM, spki), fingerprint(der))


def _load(path: Path, password_from: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    password = read_pass_phrase(password_from, what=f"password of {path.name}") if password_from else ""
    content = read_private(path)
    try:
        key = serialization.load_pem_private_key(bytes(content), password.encode() if password else None)
    except TypeError:
        wanted = "is encrypted: give --password-from" if not password else "has no password: leave out --password-from"
        raise SigningKeyInvalid(f"{path} {wanted}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningKeyInvalid(
            f"{path} cannot be loaded: the password is wrong, or it is not a private key in PEM form; give an RSA or EC "
            f"private key, or create one: {CREATE}"
        ) from None
    finally:
        content[:] = bytes(len(content))
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < SMALLEST:
        raise SigningKeyInvalid(
            f"{path} is an RSA key of {key.key_size} bits; give one of at least {SMALLEST} bits, or create one: {CREATE}"
        )
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey").removeprefix("_")
        raise SigningKeyInvalid(
            f"{path} is a key of the kind {kind}, whose signatures openssl dgst does not check; give an RSA or EC private "
            f"key, or create one: {CREATE}"
        )
    return key
