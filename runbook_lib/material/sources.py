"""Sources of key material: each yields one set, encrypted with the wrapping key, with its backups.

Used by 03 and by `runbook wrap`; no run and no AWS call. `pkcs11` accesses the HSM.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import ArtefactMissing
from runbook_lib.files import read_private
from runbook_lib.material import hand_over, key_material, recovery_copies, recovery_keys
from runbook_lib.material.custody_record import HsmFacts
from runbook_lib.material.custody_txt import custody_readme, name_of
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.material_set import ENCRYPTED, MaterialSet, Wrapping, require_backups
from runbook_lib.material.request import MaterialRequest
from runbook_lib.material.secret_sources import read_pass_phrase


def make_set(
    request: MaterialRequest,
    wrapping: Wrapping,
    *,
    recovery_public_keys: Sequence[bytes],
    now: datetime | None = None,
) -> MaterialSet:
    """Create the requested set; the key material is in memory during this call only.

    `recovery_public_keys` are PEM. Raises what `key_material`, `recovery_copies`, `pkcs11` and `hand_over` raise.
    """
    public_key = key_material.load_wrapping_public_key(wrapping.public_key, wrapping_key_spec=wrapping.key_spec)
    keys = recovery_keys.load_recovery_public_keys(recovery_public_keys)
    copies: list[recovery_copies.CustodyCopy] = []
    facts: dict[str, Any] = {}
    check_value, plaintext = "", b""
    match request.source:
        case "wrapped":
            encrypted = read_public(request.file)
            if hand_over.is_archive(encrypted):
                return hand_over.read_hand_back(encrypted, wrapping)
            key_material.check_encrypted_key_material(encrypted, wrapping_key_spec=wrapping.key_spec)
        case "pkcs11":
            from runbook_lib.material import pkcs11

            with pkcs11.open_key(request.token, create=True, algorithm=wrapping.algorithm) as key:
                check_value, facts = key.key_check_value, {"hsm": HsmFacts(**key.facts)}
                encrypted = key.encrypt_to(public_key, wrapping.algorithm)
                label = recovery_copies.label_of(wrapping.key_arn, check_value, encrypted)
                if keys:
                    copies = recovery_copies.copies(keys, key.encrypt_to, algorithm=key.best_algorithm(), label=label)
        case _:
            with _material(request) as material:
                check_value = material.key_check_value
                encrypted = key_material.encrypt_key_material(
                    material, wrapping_public_key=wrapping.public_key, wrapping_algorithm=wrapping.algorithm
                )
                copies = _backups(request, material, keys, recovery_copies.label_of(wrapping.key_arn, check_value, b""))
                if request.custody == "file":
                    plaintext, facts = bytes(material), {"keep_plaintext_file": request.keep_plaintext_file}
    training = zip(keys, recovery_public_keys, strict=True)
    record = recovery_copies.record(
        custody=request.custody,
        source=request.source,
        key_check_value=check_value,
        copies=copies,
        training=[
            recovery_keys.key_fingerprint(key) for key, pem in training if recovery_keys.is_training_key(key, pem)
        ],
        made_at=now or datetime.now(UTC),
        **facts,
    )
    readme = name_of(recovery_copies.label_of(wrapping.key_arn, check_value, encrypted))
    text = custody_readme(record, key_arn=wrapping.key_arn).encode()
    files = {ENCRYPTED: encrypted, **{copy.name: copy.content for copy in copies}, readme: text}
    require_backups(record, files, advice="give recovery keys whose SHA-256 begin with other digits")
    return MaterialSet(record, wrapping.key_arn, key_material.fingerprint(wrapping.public_key), files, plaintext)


def _backups(
    request: MaterialRequest, material: KeyMaterial, keys: Sequence[rsa.RSAPublicKey], label: str
) -> list[recovery_copies.CustodyCopy]:
    """Return the backups that the custody asks for; with custody `file` and `none` there are none."""
    if request.custody == "split":
        return recovery_copies.seal_components(material, keys, label=label)
    return recovery_copies.seal(material, keys, label=label) if request.custody == "recovery_key" else []


def _material(request: MaterialRequest) -> KeyMaterial:
    """Generate the key material, read it from a file, or open a backup of it."""
    path = Path(request.file).expanduser()
    if request.source == "generate":
        return KeyMaterial.generate()
    if request.source == "file":
        return KeyMaterial.from_file(path, encoding=request.encoding)
    return recovery_copies.open_any_copy(
        read_public(request.file),
        read_private_key(request.recovery_private_key, password_from=request.recovery_password_from),
    )


def read_private_key(path: str, *, password_from: str = "") -> rsa.RSAPrivateKey:
    """Load a recovery private key from its file. Raises `PrivateFileUnsafe`, `PassPhraseMissing`, `RecoveryKeyInvalid`."""
    pem = read_private(Path(path).expanduser())
    try:
        password = read_pass_phrase(password_from, what=f"Password of {path}") if password_from else None
        return recovery_keys.load_recovery_private_key(pem, password=password, name=path)
    finally:
        pem[:] = bytes(len(pem))


def read_recovery_public_keys(paths: Sequence[str]) -> list[bytes]:
    """Return the recovery public keys (PEM) in these files, each of them judged.

    Raises `ArtefactMissing` and `RecoveryKeyInvalid`, which name the file.
    """
    contents = [read_public(path) for path in paths]
    recovery_keys.load_recovery_public_keys(contents, paths)
    return contents


def read_public(path: str) -> bytes:
    """Return the content of a file without secrets, at most 1 MiB of it. Raises `ArtefactMissing`."""
    try:
        descriptor = os.open(Path(path).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(2**20) or b""
    except OSError as error:
        raise ArtefactMissing(
            f"{path!r} cannot be read ({error.strerror}); give the path of an existing file"
        ) from error
