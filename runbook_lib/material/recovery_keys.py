"""Recovery keys: load and judge RSA key pairs whose private key `openssl pkeyutl` uses to open a backup; training pairs.

A public key is judged before anything is encrypted to it: what openssl cannot decrypt with would be found out years
later. `recovery_copies` encrypts to these keys.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Collection, Sequence
from math import gcd, isqrt, lcm, prod
from typing import Any, NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import RecoveryKeyInvalid
from runbook_lib.material.key_material import fingerprint

SMALLEST, LARGEST = 2048, 16384  # openssl refuses a larger modulus (OPENSSL_RSA_MAX_MODULUS_BITS)
TRAINING_LABEL = b"TRAINING ONLY: this recovery key was made by the sandbox and protects nothing real\n"
TRAINING_EXPONENT = 65539
CREATE = (
    "openssl genrsa -aes256 -out recovery-private.pem 4096; openssl rsa -in recovery-private.pem -pubout -out "
    "recovery-public.pem"
)
# SP 800-89, 5.3.3: a modulus has no prime factor below 752.
_SMALL_PRIMES = prod(n for n in range(3, 752) if all(n % divisor for divisor in range(2, isqrt(n) + 1)))
_RSA_PSS = bytes.fromhex("06092a864886f70d01010a")  # 1.2.840.113549.1.1.10, as DER
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.S)
_CIPHERS = {
    "1.2.840.113549.1.5.10": "PBE-SHA1-DES",
    "1.2.392.200011.61.1.1.1.2": "CAMELLIA-128-CBC",
    "1.2.392.200011.61.1.1.1.3": "CAMELLIA-192-CBC",
    "1.2.392.200011.61.1.1.1.4": "CAMELLIA-256-CBC",
    "1.2.410.200046.1.1.2": "ARIA-128-CBC",
    "1.2.410.200046.1.1.7": "ARIA-192-CBC",
    "1.2.410.200046.1.1.12": "ARIA-256-CBC",
    "1.2.410.200004.1.4": "SEED-CBC",
}
_OUT_OF_USE = ("DES-CBC", "SEED", "IDEA", "BF", "CAST5", "RC2", "RC4", "PBE")


# Public keys ------------------------------------------------------------------------------------------------------


def load_recovery_public_key(content: bytes, *, name: str = "recovery-public.pem") -> rsa.RSAPublicKey:
    """Load a recovery public key: one RSA key in PEM form, whose private key opens a backup with `openssl pkeyutl`.

    `name` is the file's, for errors. 2048 to 16384 bits; the exponent is odd, from 65537 (NIST SP 800-56B, 6.2) and of
    at most 64 bits (openssl). Raises `RecoveryKeyInvalid` with the command that converts another format.
    """
    labels = re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", content)
    if any(label.endswith(b"PRIVATE KEY") for label in labels) or content.startswith(b"PuTTY-User-Key-File"):
        _refuse_private(name)
    if len(labels) > 1:
        raise RecoveryKeyInvalid(
            f"{name!r} has {len(labels)} keys or certificates; give each recovery public key a file of its own"
        )
    block = _BLOCK.search(content)
    if block is None or block[1] not in (b"PUBLIC KEY", b"RSA PUBLIC KEY"):
        _refuse_format(content, block[1].decode() if block else "", name)
    try:
        key = serialization.load_pem_public_key(block[0])
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RecoveryKeyInvalid(
            f"{name!r} is not a valid public key in PEM form: damaged, or of an unknown kind; create one: {CREATE}"
        ) from error
    if _is_pss(block[0]):
        raise RecoveryKeyInvalid(f"{name!r} is an RSA-PSS key, which signs only; create an RSA key: {CREATE}")
    if not isinstance(key, rsa.RSAPublicKey):
        kind = type(key).__name__.removesuffix("PublicKey")
        raise RecoveryKeyInvalid(
            f"{name!r} is a key of the kind {kind}, which cannot decrypt with RSA-OAEP; create one: {CREATE}"
        )
    _check_numbers(key.public_numbers(), name)
    return key


def _is_pss(pem: bytes) -> bool:
    """Return whether the key's algorithm is RSASSA-PSS: cryptography loads it as RSA, openssl does not decrypt with it."""
    try:
        return _RSA_PSS in base64.b64decode(re.sub(rb"-----[A-Z ]+-----", b"", pem))[:40]
    except ValueError:
        return False


def _check_numbers(numbers: rsa.RSAPublicNumbers, name: str) -> None:
    bits, e = numbers.n.bit_length(), numbers.e
    if not SMALLEST <= bits <= LARGEST:
        raise RecoveryKeyInvalid(
            f"{name!r} is an RSA key of {bits} bits; a recovery key is an RSA key of at least {SMALLEST} bits, at most "
            f"{LARGEST}; create one: {CREATE}"
        )
    if e % 2 == 0 or not 65537 <= e < 2**64:
        raise RecoveryKeyInvalid(
            f"{name!r} has the public exponent {e if e < 2**64 else 'of ' + str(e.bit_length()) + ' bits'}; it must be odd, "
            f"at least 65537 and of at most 64 bits; create another key: {CREATE}"
        )
    if numbers.n % 2 == 0 or gcd(numbers.n, _SMALL_PRIMES) > 1 or isqrt(numbers.n) ** 2 == numbers.n:
        raise RecoveryKeyInvalid(
            f"{name!r} is damaged: its modulus is not the product of two large primes; export the public key again: "
            "openssl rsa -in recovery-private.pem -pubout -out recovery-public.pem"
        )


def _refuse_private(name: str) -> NoReturn:
    raise RecoveryKeyInvalid(
        f"{name!r} is a private key; give its public key (openssl rsa -in recovery-private.pem "
        "-pubout -out recovery-public.pem) and keep the private key off this machine"
    )


def _refuse_format(content: bytes, label: str, name: str) -> NoReturn:
    """Raise `RecoveryKeyInvalid` with the command that makes a PEM public key of this content."""
    file = shlex.quote(name)
    kind, command = {
        "CERTIFICATE": ("a certificate", f"openssl x509 -in {file} -noout -pubkey"),
        "TRUSTED CERTIFICATE": ("a certificate", f"openssl x509 -in {file} -noout -pubkey"),
        "X509 CERTIFICATE": ("a certificate", f"openssl x509 -in {file} -noout -pubkey"),
        "CERTIFICATE REQUEST": ("a certificate request", f"openssl req -in {file} -noout -pubkey"),
        "NEW CERTIFICATE REQUEST": ("a certificate request", f"openssl req -in {file} -noout -pubkey"),
    }.get(label, _other_format(content, name))
    if not kind:
        raise RecoveryKeyInvalid(
            f"{name!r} is not a valid public key in PEM form; export it with openssl rsa -pubout, or create one: {CREATE}"
        )
    raise RecoveryKeyInvalid(
        f"{name!r} is not a valid public key in PEM form but {kind}; convert it: {command} > recovery-public.pem"
    )


def _other_format(content: bytes, name: str) -> tuple[str, str]:
    """Return what the content is and the command that converts it, or two empty texts."""
    file = shlex.quote(name)
    if content.startswith(b"ssh-rsa "):
        return "an OpenSSH key", f"ssh-keygen -e -m PKCS8 -f {file}"
    if content.startswith(b"---- BEGIN SSH2"):
        return "an SSH2 key", f"ssh-keygen -i -f {file} > key.pub; ssh-keygen -e -m PKCS8 -f key.pub"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text", f"iconv -f UTF-16 -t ASCII {file}"
    if not content.startswith(b"\x30"):
        return "", ""
    readers: list[tuple[Any, str, str]] = [
        (serialization.load_der_public_key, "DER", f"openssl rsa -pubin -inform DER -in {file}"),
        (
            x509.load_der_x509_certificate,
            "a certificate in DER form",
            f"openssl x509 -inform DER -in {file} -noout -pubkey",
        ),
        (x509.load_der_x509_csr, "a certificate request", f"openssl req -inform DER -in {file} -noout -pubkey"),
    ]
    for read, kind, command in readers:
        try:
            read(content)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return kind, command
    try:
        serialization.load_der_private_key(content, None)
    except TypeError:  # encrypted
        _refuse_private(name)
    except (ValueError, UnsupportedAlgorithm):
        return "", ""
    _refuse_private(name)


def load_recovery_public_keys(contents: Sequence[bytes], names: Sequence[str] = ()) -> list[rsa.RSAPublicKey]:
    """Load several recovery public keys (PEM). Raises `RecoveryKeyInvalid`, also if two have the same modulus."""
    named = list(names) or [f"recovery public key {number}" for number in range(1, len(contents) + 1)]
    keys = [load_recovery_public_key(content, name=name) for content, name in zip(contents, named, strict=True)]
    moduli = [key.public_numbers().n for key in keys]
    for key, modulus in zip(keys, moduli, strict=True):
        if moduli.count(modulus) > 1:
            where = " and ".join(repr(name) for name, other in zip(named, moduli, strict=True) if other == modulus)
            raise RecoveryKeyInvalid(
                f"the recovery key {key_fingerprint(key)[:8]} was given {moduli.count(modulus)} times ({where}); give each "
                "holder's own key once"
            )
    return keys


def key_fingerprint(key: rsa.RSAPublicKey) -> str:
    """Return the SHA-256 (hex) of a public key's DER SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return fingerprint(der)


# Training keys ----------------------------------------------------------------------------------------------------


def make_training_recovery_key() -> tuple[bytes, bytes]:
    """Return a recovery key pair (private, public; PEM) for training only, labelled as such.

    Its public exponent, 65539, is the mark that stays in the key, also in another format and without the label.
    """
    while True:
        made = rsa.generate_private_key(public_exponent=65537, key_size=3072).private_numbers()
        order = lcm(made.p - 1, made.q - 1)
        if gcd(TRAINING_EXPONENT, order) == 1:
            break
    d = pow(TRAINING_EXPONENT, -1, order)
    public = rsa.RSAPublicNumbers(TRAINING_EXPONENT, made.p * made.q)
    key = rsa.RSAPrivateNumbers(made.p, made.q, d, d % (made.p - 1), d % (made.q - 1), made.iqmp, public).private_key()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return TRAINING_LABEL + private_pem, TRAINING_LABEL + _public_pem(key.public_key())


def training_public_key(private_pem: bytes) -> bytes:
    """Return the public key (PEM) of a training pair whose file was deleted."""
    return TRAINING_LABEL + _public_pem(load_recovery_private_key(private_pem).public_key())


def _public_pem(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def is_training_key(key: rsa.RSAPublicKey, content: bytes, *, known: Collection[str] = ()) -> bool:
    """Return whether this is a training key: by its exponent, its label, or the fingerprints of `known` training keys."""
    marked = key.public_numbers().e == TRAINING_EXPONENT
    return marked or b"TRAINING ONLY" in content or key_fingerprint(key) in known


def refuse_training_keys(contents: Sequence[bytes], names: Sequence[str], *, known: Collection[str] = ()) -> None:
    """Raise `RecoveryKeyInvalid` for a training key among these recovery public keys: anybody may have its private key."""
    for key, content, name in zip(load_recovery_public_keys(contents, names), contents, names, strict=True):
        if is_training_key(key, content, known=known):
            raise RecoveryKeyInvalid(
                f"{name!r} is a training key of the sandbox and protects nothing real; create a key pair where it will be "
                f"kept: {CREATE}"
            )


# Private keys -----------------------------------------------------------------------------------------------------


def load_recovery_private_key(
    content: bytes | bytearray, *, password: str | None = None, name: str = "this private key"
) -> rsa.RSAPrivateKey:
    """Load a recovery private key (PEM). Raises `RecoveryKeyInvalid`, which never quotes content or password."""
    labels = re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", content)
    if sum(label.endswith(b"PRIVATE KEY") for label in labels) > 1:
        raise RecoveryKeyInvalid(f"{name} has several private keys; give each a file of its own")
    if b"OPENSSH PRIVATE KEY" in labels:
        raise RecoveryKeyInvalid(f"{name} is an OpenSSH key; convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY")
    if labels and not any(label.endswith(b"PRIVATE KEY") for label in labels):
        raise RecoveryKeyInvalid(f"{name} has no private key but: {labels[0].decode().lower()}; give the private key")
    try:
        key = serialization.load_pem_private_key(bytes(content), password.encode() if password else None)
    except TypeError:
        wanted = (
            "it is encrypted: set recovery_password_from (--password-from)"
            if not password
            else "it has no password: leave recovery_password_from (--password-from) empty"
        )
        raise RecoveryKeyInvalid(f"{name} cannot be loaded; {wanted}") from None
    except (ValueError, UnsupportedAlgorithm, MemoryError) as error:
        raise RecoveryKeyInvalid(_why_not_loaded(bytes(content), str(error), name)) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise RecoveryKeyInvalid(
            f"{name}: this is not an RSA key; give the recovery private key that the name of the backup identifies"
        )
    return key


def _why_not_loaded(content: bytes, reason: str, name: str) -> str:
    """Return the error for a private key that cannot be loaded: a cipher that is not supported here, or another password."""
    header = re.search(rb"DEK-Info: ([A-Za-z0-9-]+)", content)
    oid = re.search(r"algorithm: ([0-9.]+)", reason)
    cipher = (
        header[1].decode() if header and "unknown cipher" in reason else _CIPHERS.get(oid[1], oid[1]) if oid else ""
    )
    if cipher:
        legacy = " -provider default -provider legacy" if cipher.startswith(_OUT_OF_USE) else ""
        return (
            f"{name} is encrypted with {cipher}, which is not supported here; convert it: openssl pkey -in {shlex.quote(name)} "
            f"-aes256 -out recovery-private-aes256.pem{legacy}"
        )
    if content[:1] == b"\x30":
        return f"{name} is in DER form; convert it: openssl pkey -inform DER -in {shlex.quote(name)} -aes256 -out private.pem"
    return (
        f"{name} cannot be loaded: the password is wrong, or it is not a private key in PEM form; provide the right one"
    )
