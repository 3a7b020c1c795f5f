"""The openssl commands that do what this package does: encrypt key material, decrypt a backup, combine components, check."""

from __future__ import annotations

from runbook_lib.material.key_material import (
    RSAES_OAEP_SHA_1,
    RSAES_OAEP_SHA_256,
    check_wrapping_algorithm,
)
from runbook_lib.material.recovery_copies import PLAINTEXT


def openssl_digest(wrapping_algorithm: str) -> str:
    """Return openssl's name for the hash of a wrapping algorithm. Raises `WrappingKeyInvalid`."""
    check_wrapping_algorithm(wrapping_algorithm)
    return {RSAES_OAEP_SHA_256: "sha256", RSAES_OAEP_SHA_1: "sha1"}[wrapping_algorithm]


def openssl_commands(*, wrapping_algorithm: str) -> str:
    """Return the openssl commands (1.1.1 or newer) that generate key material and encrypt it as `encrypt_key_material` does."""
    digest = openssl_digest(wrapping_algorithm)
    return (
        "openssl rand -out PlaintextKeyMaterial.bin 32\n"
        "openssl pkeyutl -encrypt -in PlaintextKeyMaterial.bin -out EncryptedKeyMaterial.bin \\\n"
        "  -inkey WrappingPublicKey.bin -keyform DER -pubin -pkeyopt rsa_padding_mode:oaep \\\n"
        f"  -pkeyopt rsa_oaep_md:{digest} -pkeyopt rsa_mgf1_md:{digest}"
    )


def post_openssl_commands() -> str:
    """Return the openssl commands of the AWS post: rsautl, which is deprecated and does OAEP with SHA-1 only."""
    return (
        "openssl rand -out PlaintextKeyMaterial.bin 32\n"
        "openssl rsautl -encrypt -in PlaintextKeyMaterial.bin -oaep \\\n"
        "  -inkey WrappingPublicKey.bin -keyform DER -pubin -out EncryptedKeyMaterial.bin"
    )


def open_command(name: str, *, algorithm: str = RSAES_OAEP_SHA_256, out: str = PLAINTEXT) -> str:
    """Return the openssl command that decrypts a backup without the runbook."""
    digest = openssl_digest(algorithm)
    return (
        f"openssl pkeyutl -decrypt -in {name} -out {out} -inkey recovery-private.pem \\\n"
        f"  -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:{digest} -pkeyopt rsa_mgf1_md:{digest}"
    )


CHECK = (
    f"hexkey=$(od -An -v -tx1 {PLAINTEXT} | tr -d ' \\n')\n"
    "head -c 16 /dev/zero | openssl mac -cipher AES-256-CBC -macopt hexkey:$hexkey CMAC | cut -c 1-6"
)

WHICH = (
    "A file opens with the private key whose public key has that SHA-256. To print it:\n\n"
    "openssl pkey -in recovery-private.pem -pubout -outform DER | openssl dgst -sha256"
)
