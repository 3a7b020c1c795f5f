"""Open key material from the recovery sources, in memory: backups, components, an HSM token or a file. No AWS call.

`steps/recover` imports it into KMS again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import KeyMaterialMismatch, RecoverySourceInvalid
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.custody_record import CustodyRecord, Holder
from runbook_lib.material.key_material import Encoding, KeyMaterial
from runbook_lib.material.material_set import Wrapping
from runbook_lib.material.request import HsmToken
from runbook_lib.material.sources import read_private_key

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class RecoverySources:
    """What the operator provides to open the key material: paths, and where to read passwords; no secret.

    With `pkcs11_module` and no file, the key is used inside the token that the custody record names.
    """

    private_keys: tuple[str, ...] = ()
    password_from: str = ""
    components: tuple[str, ...] = ()
    material_file: str = ""
    encoding: Encoding = "binary"
    pkcs11_module: str = ""
    pin_from: str = "prompt"

    @property
    def has_files(self) -> bool:
        """Whether a private key, component or key material file is named."""
        return bool(self.private_keys or self.components or self.material_file)


@contextmanager
def opened(record: CustodyRecord, *, read: Read, sources: RecoverySources) -> Iterator[KeyMaterial]:
    """Open the key material of a custody record; it is overwritten at the end of the `with` block.

    `read` returns a backup by file name. Raises `RecoverySourceInvalid`, `EncryptedKeyMaterialInvalid`, and
    `KeyMaterialMismatch` if the key check value differs from the recorded one.
    """
    with _open(record, read, sources) as material:
        require_check_value(record, material.key_check_value)
        yield material


def require_check_value(record: CustodyRecord, key_check_value: str) -> None:
    """Compare a key check value with the recorded one, as a first check. Raises `KeyMaterialMismatch`.

    The proof is the import: KMS accepts only the key material that the key had.
    """
    recorded = record.key_check_value
    if recorded and key_check_value and recorded != key_check_value:
        raise KeyMaterialMismatch(
            f"this key material has key check value {key_check_value}, recorded is {recorded}; provide the key material that was "
            "imported"
        )


def _open(record: CustodyRecord, read: Read, sources: RecoverySources) -> KeyMaterial:
    if sources.material_file:
        return KeyMaterial.from_file(Path(sources.material_file).expanduser(), encoding=sources.encoding)
    if sources.components:
        paths = [Path(path).expanduser() for path in sources.components]
        return recovery_copies.combine([KeyMaterial.from_file(path, encoding=sources.encoding) for path in paths])
    if record.kind in ("recovery_key", "split") or record.holders:
        keys = [read_private_key(path, password_from=sources.password_from) for path in sources.private_keys]
        return _together(record, read, keys) if record.kind == "split" else _any_copy(record, read, keys)
    kept = {
        "hsm": "the key material is in the HSM token",
        "file": f"{recovery_copies.PLAINTEXT} was destroyed or moved",
        "none": "this run has no key material backup",
    }
    raise RecoverySourceInvalid(
        f"{kept[record.kind]}; provide the key material as a file, or have it wrapped where it is kept (--hand-over)"
    )


def _holder_of(record: CustodyRecord, key: rsa.RSAPrivateKey) -> Holder:
    """Return the backup that a private key opens. Raises `RecoverySourceInvalid`."""
    name = recovery_copies.key_fingerprint(key.public_key())
    for holder in record.holders:
        if holder.recovery_key_sha256 == name:
            return holder
    wanted = ", ".join(holder.recovery_key_sha256[:8] for holder in record.holders)
    raise RecoverySourceInvalid(
        f"the private key provided (SHA-256 of its public key {name[:8]}…) opens no backup of this key material; provide one of "
        f"{wanted}"
    )


def _any_copy(record: CustodyRecord, read: Read, keys: list[rsa.RSAPrivateKey]) -> KeyMaterial:
    if not keys:
        wanted = ", ".join(holder.recovery_key_sha256[:8] for holder in record.holders)
        raise RecoverySourceInvalid(
            f"no recovery private key was provided; provide one whose public key has a SHA-256 that begins with one of: {wanted}"
        )
    holder = _holder_of(record, keys[0])
    return recovery_copies.open_copy(read(holder.file), keys[0], algorithm=holder.algorithm)


def _together(record: CustodyRecord, read: Read, keys: list[rsa.RSAPrivateKey]) -> KeyMaterial:
    """Open each custodian's component and combine them. Raises `RecoverySourceInvalid` and `KeyMaterialMismatch`."""
    there = {holder.file: key for key in keys for holder in (_holder_of(record, key),)}
    if missing := [holder for holder in record.holders if holder.file not in there]:
        lacking = ", ".join(holder.recovery_key_sha256[:8] for holder in missing)
        raise RecoverySourceInvalid(
            f"{len(missing)} of {len(record.holders)} components are missing; provide the private keys of {lacking} too"
        )
    parts = []
    try:
        for holder in record.holders:
            part = recovery_copies.open_copy(read(holder.file), there[holder.file], algorithm=holder.algorithm)
            parts.append(part)
            if part.key_check_value != holder.component_check_value:
                raise KeyMaterialMismatch(
                    f"{holder.file} has check value {part.key_check_value}, recorded is {holder.component_check_value}; "
                    "provide the file that belongs to this set"
                )
        return recovery_copies.combine(parts)
    finally:
        for part in parts:
            part.wipe()


def check_opens(record: CustodyRecord, *, read: Read, sources: RecoverySources) -> str:
    """Open the key material, then overwrite it; return its key check value. Raises what `wrap` raises."""
    if _in_token(record, sources):
        from runbook_lib.material import pkcs11

        with pkcs11.open_key(_token(record, sources), create=False) as key:
            require_check_value(record, key.key_check_value)
            return key.key_check_value
    with opened(record, read=read, sources=sources) as material:
        return material.key_check_value


def _in_token(record: CustodyRecord, sources: RecoverySources) -> bool:
    return record.source == "pkcs11" and bool(sources.pkcs11_module) and not sources.has_files


def _token(record: CustodyRecord, sources: RecoverySources) -> HsmToken:
    """Return the location of the key: labels as recorded, module and PIN source as provided."""
    token = record.hsm
    assert token is not None  # always set with source pkcs11  # noqa: S101
    return HsmToken(sources.pkcs11_module, token.token_label, token.key_label, sources.pin_from or "prompt")


def wrap(record: CustodyRecord, wrapping: Wrapping, *, read: Read, sources: RecoverySources) -> tuple[bytes, str]:
    """Encrypt the key material with the wrapping key; return EncryptedKeyMaterial.bin and the key check value.

    A key in an HSM token is wrapped inside the token. Raises what `opened`, `pkcs11.open_key` and
    `HsmKey.encrypt_to` raise.
    """
    if _in_token(record, sources):
        from runbook_lib.material import pkcs11

        public_key = key_material.load_wrapping_public_key(wrapping.public_key, wrapping_key_spec=wrapping.key_spec)
        with pkcs11.open_key(_token(record, sources), create=False) as key:
            require_check_value(record, key.key_check_value)
            return key.encrypt_to(public_key, wrapping.algorithm), key.key_check_value
    with opened(record, read=read, sources=sources) as material:
        encrypted = key_material.encrypt_key_material(
            material, wrapping_public_key=wrapping.public_key, wrapping_algorithm=wrapping.algorithm
        )
        return encrypted, material.key_check_value
