"""The openssl command line, the second opinion of several suites."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key  # some suites replace rsa's own

DIGESTS = {"RSAES_OAEP_SHA_256": "sha256", "RSAES_OAEP_SHA_1": "sha1"}


def openssl(*words: str, folder: Path, code: int = 0) -> bytes:
    """Run openssl in `folder`; `code` 1 stands for any failure. Return its standard output."""
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, check=False, timeout=60)
    assert (code == 0) == (done.returncode == 0), done.stderr.decode()
    return done.stdout


def shell(script: str, *, folder: Path, code: int = 0) -> str:
    """Run the lines of a page as a person would paste them."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert code == done.returncode, done.stderr
    return done.stdout


def oaep_options(digest: str) -> list[str]:
    """Return pkeyutl's options for OAEP with one hash for label and MGF1."""
    options = ("rsa_padding_mode:oaep", f"rsa_oaep_md:{digest}", f"rsa_mgf1_md:{digest}")
    return [word for option in options for word in ("-pkeyopt", option)]


def private_key(bits: int, number: int = 0) -> rsa.RSAPrivateKey:
    """Return an RSA key, the same one each time it is asked for."""
    return _private_key(bits, number)


@cache
def _private_key(bits: int, _: int) -> rsa.RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=bits)


def private_pem(key: rsa.RSAPrivateKey, password: bytes = b"") -> bytes:
    """Return the private key as PEM, encrypted if there is a password."""
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return the public half as PEM."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_der(key: rsa.RSAPrivateKey) -> bytes:
    """Return the public half as GetParametersForImport gives it."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def put(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """Write a file of this mode."""
    path.write_bytes(content)
    path.chmod(mode)
    return path
