"""Open key material from the recovery sources, in memory: backups, components, an HSM token or a file. No AWS call.

`steps/recover` imports it into KMS again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import ArtefactMissing, EncryptedKeyMaterialInvalid, RecoverySourceInvalid, RunbookError
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.custody_record import CustodyRecord, Holder
from runbook_lib.material.key_material import Encoding, KeyMaterial
from runbook_lib.material.material_set import Wrapping
from runbook_lib.material.recovery_keys import key_fingerprint
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

    `read` returns a backup by file name. The record says where to look first; it is not authenticated, so what it says
    never stops key material that opens. Raises `RecoverySourceInvalid` and `EncryptedKeyMaterialInvalid`.
    """
    with _open(record, read, sources) as material:
        yield material


def differs(record: CustodyRecord, key_check_value: str) -> str:
    """Return, as a clause, that a key check value is not the recorded one; "" if it is, or if either is unknown.

    The record is a hint. The proof is the import: KMS accepts only the key material that the key had.
    """
    recorded = record.key_check_value
    if not recorded or not key_check_value or recorded == key_check_value:
        return ""
    return f"key check value {key_check_value}, recorded is {recorded}"


def _open(record: CustodyRecord, read: Read, sources: RecoverySources) -> KeyMaterial:
    if sources.material_file:
        return _from_file(sources.material_file, sources)
    if sources.components:
        return recovery_copies.combine([_from_file(path, sources) for path in sources.components])
    if record.kind in ("recovery_key", "split") or record.holders:
        return _together(record, read, sources) if record.kind == "split" else _any_copy(record, read, sources)
    kept = {
        "hsm": "the key material is in the HSM token",
        "file": f"{recovery_copies.PLAINTEXT} was destroyed or moved",
        "none": "this run has no key material backup",
    }
    raise RecoverySourceInvalid(
        f"{kept[record.kind]}; provide the key material as a file, or have it wrapped where it is kept (--hand-over)"
    )


def _from_file(path: str, sources: RecoverySources) -> KeyMaterial:
    """Read key material that was imported before: also such as would be refused today."""
    return KeyMaterial.from_file(Path(path).expanduser(), encoding=sources.encoding, random=False)


def _open_with(record: CustodyRecord, read: Read, key: rsa.RSAPrivateKey) -> Iterator[tuple[Holder, KeyMaterial]]:
    """Yield each backup that a private key opens, the recorded one first. Raises `RecoverySourceInvalid` if there is none."""
    name, opens, problem = key_fingerprint(key.public_key()), False, None
    for holder in sorted(record.holders, key=lambda holder: holder.recovery_key_sha256 != name):
        try:
            material = recovery_copies.open_any_copy(read(holder.file), key)
        except (EncryptedKeyMaterialInvalid, ArtefactMissing) as error:
            problem = problem or (error if holder.recovery_key_sha256 == name else None)
            continue
        opens = True
        yield holder, material
    if problem and not opens:
        raise problem
    if not opens:
        raise RecoverySourceInvalid(
            f"the private key provided (SHA-256 of its public key {name[:8]}…) opens no backup of this key material; provide one "
            f"of {_wanted(record.holders)}"
        )


def _wanted(holders: Iterable[Holder]) -> str:
    return ", ".join(holder.recovery_key_sha256[:8] for holder in holders)


def _any_copy(record: CustodyRecord, read: Read, sources: RecoverySources) -> KeyMaterial:
    """Open any backup with any of the private keys, each of which is tried. Raises what the first one that fails raises."""
    problems: list[RunbookError] = []
    for path in sources.private_keys:
        try:
            key = read_private_key(path, password_from=sources.password_from)
            return next(material for _, material in _open_with(record, read, key))
        except RunbookError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        reasons = "; ".join(str(problem) for problem in problems)
        raise RecoverySourceInvalid(f"none of the {len(problems)} private keys opens a backup: {reasons}")
    raise RecoverySourceInvalid(
        "no recovery private key was provided; provide one whose public key has a SHA-256 that begins with one of: "
        f"{_wanted(record.holders)}"
    )


def _together(record: CustodyRecord, read: Read, sources: RecoverySources) -> KeyMaterial:
    """Open each custodian's component and combine them. Raises `RecoverySourceInvalid`."""
    parts: dict[str, KeyMaterial] = {}
    try:
        for path in sources.private_keys:
            key = read_private_key(path, password_from=sources.password_from)
            parts.update((holder.file, part) for holder, part in _open_with(record, read, key))
        if missing := [holder for holder in record.holders if holder.file not in parts]:
            raise RecoverySourceInvalid(
                f"{len(missing)} of {len(record.holders)} components are missing; provide the private keys of "
                f"{_wanted(missing)} too"
            )
        return recovery_copies.combine(list(parts.values()))
    finally:
        for part in parts.values():
            part.wipe()


def check_opens(record: CustodyRecord, *, read: Read, sources: RecoverySources) -> str:
    """Open the key material, then overwrite it; return its key check value. Raises what `wrap` raises."""
    if _in_token(record, sources):
        from runbook_lib.material import pkcs11

        with pkcs11.open_key(_token(record, sources), create=False) as key:
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
            return key.encrypt_to(public_key, wrapping.algorithm), key.key_check_value
    with opened(record, read=read, sources=sources) as material:
        encrypted = key_material.encrypt_key_material(
            material, wrapping_public_key=wrapping.public_key, wrapping_algorithm=wrapping.algorithm
        )
        return encrypted, material.key_check_value
