"""Open the key material again from what custody kept, in memory: backups, components, an HSM token, a file. No run, no AWS.

How it is imported into KMS again is `steps/recover`.
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
    """What the operator provides to open the key material: paths, and where passwords are; no secret in it.

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
        """Whether any file is named to open the material from."""
        return bool(self.private_keys or self.components or self.material_file)


@contextmanager
def opened(record: CustodyRecord, *, read: Read, sources: RecoverySources) -> Iterator[KeyMaterial]:
    """Open the original that the custody record tells of; it is overwritten at the end.

    `read` returns a custody file by name. Raises `RecoverySourceInvalid`,
    `EncryptedKeyMaterialInvalid`, and `KeyMaterialMismatch` when the key check value is another.
    """
    with _open(record, read, sources) as material:
        require_check_value(record, material.key_check_value)
        yield material


def require_check_value(record: CustodyRecord, key_check_value: str) -> None:
    """Hold a key check value against the recorded one: a hint, not yet the proof. Raises `KeyMaterialMismatch`."""
    recorded = record.key_check_value
    if recorded and key_check_value and recorded != key_check_value:
        raise KeyMaterialMismatch(
            f"this material has key check value {key_check_value}, the key's was recorded as {recorded}; bring the original"
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
        "hsm": "it is in the HSM token",
        "file": f"{recovery_copies.PLAINTEXT} was destroyed or moved",
        "none": "no copy was made here",
    }
    raise RecoverySourceInvalid(
        f"{kept[record.kind]}; bring the original as a file, or have it wrapped where it is (--hand-over)"
    )


def _holder_of(record: CustodyRecord, key: rsa.RSAPrivateKey) -> Holder:
    """Return the line of the record that a private key opens. Raises `RecoverySourceInvalid`."""
    name = recovery_copies.key_fingerprint(key.public_key())
    for holder in record.holders:
        if holder.recovery_key_sha256 == name:
            return holder
    wanted = ", ".join(holder.recovery_key_sha256[:8] for holder in record.holders)
    raise RecoverySourceInvalid(
        f"the private key brought (public half SHA-256 {name[:8]}…) opens no copy of this material; they are for {wanted}"
    )


def _any_copy(record: CustodyRecord, read: Read, keys: list[rsa.RSAPrivateKey]) -> KeyMaterial:
    if not keys:
        wanted = ", ".join(holder.recovery_key_sha256[:8] for holder in record.holders)
        raise RecoverySourceInvalid(
            f"no recovery private key was brought; the copies are for {wanted}: bring one of these"
        )
    holder = _holder_of(record, keys[0])
    return recovery_copies.open_copy(read(holder.file), keys[0], algorithm=holder.algorithm)


def _together(record: CustodyRecord, read: Read, keys: list[rsa.RSAPrivateKey]) -> KeyMaterial:
    """Open each custodian's component and put them together. Raises `RecoverySourceInvalid`."""
    there = {holder.file: key for key in keys for holder in (_holder_of(record, key),)}
    if missing := [holder for holder in record.holders if holder.file not in there]:
        lacking = ", ".join(holder.recovery_key_sha256[:8] for holder in missing)
        raise RecoverySourceInvalid(
            f"{len(missing)} of {len(record.holders)} components are missing; bring the private keys of {lacking} too"
        )
    parts = []
    try:
        for holder in record.holders:
            part = recovery_copies.open_copy(read(holder.file), there[holder.file], algorithm=holder.algorithm)
            parts.append(part)
            if part.key_check_value != holder.component_check_value:
                raise KeyMaterialMismatch(
                    f"{holder.file} has check value {part.key_check_value}, recorded is {holder.component_check_value}; "
                    "bring the file that belongs to this set"
                )
        return recovery_copies.combine(parts)
    finally:
        for part in parts:
            part.wipe()


def check_opens(record: CustodyRecord, *, read: Read, sources: RecoverySources) -> str:
    """Open the key material and wipe it again; return its key check value. Raises what `wrap` raises."""
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
    """Return where the key is: its labels as recorded, module and PIN as provided."""
    token = record.hsm
    assert token is not None  # the record of source pkcs11 has it  # noqa: S101
    return HsmToken(sources.pkcs11_module, token.token_label, token.key_label, sources.pin_from or "prompt")


def wrap(record: CustodyRecord, wrapping: Wrapping, *, read: Read, sources: RecoverySources) -> tuple[bytes, str]:
    """Encrypt the key material for KMS; return that, and its key check value.

    A key in an HSM token is wrapped without leaving it. Raises what `opened` and `pkcs11.open_key` raise.
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
