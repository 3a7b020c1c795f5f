"""Getting the original back from what custody kept, in memory: recovery copies, components, a token, a file. No run, no AWS.

How it goes into KMS again is `recovery`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import ComponentsIncomplete, MaterialNotProved, RecoveryCopyUnknown
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.key_material import Encoding, KeyMaterial
from runbook_lib.material.material_set import Wrapping
from runbook_lib.material.request import HsmToken
from runbook_lib.material.sources import read_private_key

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Brought:
    """What somebody brings to get the original back: paths, and where passwords are; no secret in it."""

    private_keys: tuple[str, ...] = ()
    password_from: str = ""
    components: tuple[str, ...] = ()
    material_file: str = ""
    encoding: Encoding = "binary"


@contextmanager
def opened(record: Mapping[str, Any], *, read: Read, brought: Brought) -> Iterator[KeyMaterial]:
    """Open the original that the custody record tells of; it is overwritten at the end.

    `read` returns a custody file by name. Raises `RecoveryCopyUnknown`, `ComponentsIncomplete`,
    `EncryptedKeyMaterialInvalid`, and `MaterialNotProved` when the key check value is another.
    """
    with _open(record, read, brought) as material:
        recognise(record, material.key_check_value)
        yield material


def recognise(record: Mapping[str, Any], key_check_value: str) -> None:
    """Hold a key check value against the recorded one: a hint, not yet the proof. Raises `MaterialNotProved`."""
    recorded = record["key_check_value"]
    if recorded and key_check_value and recorded != key_check_value:
        raise MaterialNotProved(
            f"this material has key check value {key_check_value}, the key's was recorded as {recorded}; bring the original"
        )


def _open(record: Mapping[str, Any], read: Read, brought: Brought) -> KeyMaterial:
    if brought.material_file:
        return KeyMaterial.from_file(Path(brought.material_file).expanduser(), encoding=brought.encoding)
    if brought.components:
        paths = [Path(path).expanduser() for path in brought.components]
        return recovery_copies.combine([KeyMaterial.from_file(path, encoding=brought.encoding) for path in paths])
    if record["custody"] in ("recovery_key", "split") or record["holders"]:
        keys = [read_private_key(path, password_from=brought.password_from) for path in brought.private_keys]
        return _together(record, read, keys) if record["custody"] == "split" else _any_copy(record, read, keys)
    kept = {
        "hsm": "it is in the HSM token",
        "file": f"{recovery_copies.PLAINTEXT} was destroyed or moved",
        "none": "no copy was made here",
    }
    raise RecoveryCopyUnknown(
        f"{kept[record['custody']]}; bring the original as a file, or have it wrapped where it is (--hand-over)"
    )


def _holder_of(record: Mapping[str, Any], key: rsa.RSAPrivateKey) -> Mapping[str, Any]:
    """Return the line of the record that a private key opens. Raises `RecoveryCopyUnknown`."""
    name = recovery_copies.key_fingerprint(key.public_key())
    for holder in record["holders"]:
        if holder["recovery_key_sha256"] == name:
            return dict(holder)
    wanted = ", ".join(holder["recovery_key_sha256"][:8] for holder in record["holders"])
    raise RecoveryCopyUnknown(
        f"the private key brought (public half SHA-256 {name[:8]}…) opens no copy of this material; they are for {wanted}"
    )


def _any_copy(record: Mapping[str, Any], read: Read, keys: list[rsa.RSAPrivateKey]) -> KeyMaterial:
    if not keys:
        wanted = ", ".join(holder["recovery_key_sha256"][:8] for holder in record["holders"])
        raise RecoveryCopyUnknown(
            f"no recovery private key was brought; the copies are for {wanted}: bring one of these"
        )
    holder = _holder_of(record, keys[0])
    return recovery_copies.open_copy(read(holder["file"]), keys[0], algorithm=holder["algorithm"])


def _together(record: Mapping[str, Any], read: Read, keys: list[rsa.RSAPrivateKey]) -> KeyMaterial:
    """Open each custodian's component and put them together. Raises `ComponentsIncomplete`."""
    there = {holder["file"]: key for key in keys for holder in (_holder_of(record, key),)}
    if missing := [holder for holder in record["holders"] if holder["file"] not in there]:
        lacking = ", ".join(holder["recovery_key_sha256"][:8] for holder in missing)
        raise ComponentsIncomplete(
            f"{len(missing)} of {len(record['holders'])} components are missing; bring the private keys of {lacking} too"
        )
    parts = []
    try:
        for holder in record["holders"]:
            part = recovery_copies.open_copy(read(holder["file"]), there[holder["file"]], algorithm=holder["algorithm"])
            parts.append(part)
            if part.key_check_value != holder["component_check_value"]:
                raise MaterialNotProved(
                    f"{holder['file']} has check value {part.key_check_value}, recorded is {holder['component_check_value']}; "
                    "bring the file that belongs to this set"
                )
        return recovery_copies.combine(parts)
    finally:
        for part in parts:
            part.wipe()


def rehearse(record: Mapping[str, Any], *, read: Read, brought: Brought, made_with: Mapping[str, Any]) -> str:
    """Open the original and let it go again; return its key check value. Raises what `wrap_original` raises."""
    if _in_token(record, brought, made_with):
        from runbook_lib.material import pkcs11

        with pkcs11.open_key(_token(record, made_with), create=False) as key:
            recognise(record, key.key_check_value)
            return key.key_check_value
    with opened(record, read=read, brought=brought) as material:
        return material.key_check_value


def _in_token(record: Mapping[str, Any], brought: Brought, made_with: Mapping[str, Any]) -> bool:
    in_files = brought.private_keys or brought.components or brought.material_file
    return record["source"] == "pkcs11" and bool(made_with.get("pkcs11_module")) and not in_files


def _token(record: Mapping[str, Any], made_with: Mapping[str, Any]) -> HsmToken:
    """Return where the key is: its labels as recorded, module and PIN as given."""
    return HsmToken(
        made_with["pkcs11_module"],
        record["hsm"]["token_label"],
        record["hsm"]["key_label"],
        made_with.get("pkcs11_pin_from") or "prompt",
    )


def wrap_original(
    record: Mapping[str, Any], wrapping: Wrapping, *, read: Read, brought: Brought, made_with: Mapping[str, Any]
) -> tuple[bytes, str]:
    """Encrypt the original for KMS; return that, and its key check value.

    `made_with` are the inputs that the material was made with: they name the HSM token, where the key is wrapped
    without leaving it. Raises what `opened` and `hsm.open_key` raise.
    """
    if _in_token(record, brought, made_with):
        from runbook_lib.material import pkcs11

        public_key = key_material.load_wrapping_public_key(wrapping.public_key, wrapping_key_spec=wrapping.key_spec)
        with pkcs11.open_key(_token(record, made_with), create=False) as key:
            recognise(record, key.key_check_value)
            return key.encrypt_to(public_key, wrapping.algorithm), key.key_check_value
    with opened(record, read=read, brought=brought) as material:
        encrypted = key_material.encrypt_key_material(
            material, wrapping_public_key=wrapping.public_key, wrapping_algorithm=wrapping.algorithm
        )
        return encrypted, material.key_check_value
