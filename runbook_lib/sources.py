"""Where key material comes from: each source yields one set, encrypted with the wrapping key, with custody of the original.

Used by 03 and by `runbook wrap`; knows neither a run nor AWS. The HSM itself is `hsm`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib import components, custody, hand_over, key_material
from runbook_lib.custody_readme import NAME as README
from runbook_lib.custody_readme import custody_readme
from runbook_lib.errors import ArtefactMissing
from runbook_lib.inputs import EncryptKeyMaterialInputs
from runbook_lib.key_material import KeyMaterial
from runbook_lib.material_set import ENCRYPTED, MaterialSet, Wrapping
from runbook_lib.pass_phrases import read_pass_phrase
from runbook_lib.private_files import read_private


def make_set(
    inputs: EncryptKeyMaterialInputs,
    wrapping: Wrapping,
    *,
    recovery_public_keys: Sequence[bytes],
    now: datetime | None = None,
) -> MaterialSet:
    """Make the set that `inputs` ask for; the material is in memory for as long as this takes.

    `recovery_public_keys` are PEM. Raises what `key_material`, `custody`, `components`, `hsm` and `hand_over` raise.
    """
    public_key = key_material.load_wrapping_public_key(wrapping.public_key, wrapping_key_spec=wrapping.key_spec)
    keys = custody.load_recovery_public_keys(recovery_public_keys)
    copies: list[custody.CustodyCopy] = []
    facts: dict[str, Any] = {}
    check_value, plaintext = "", b""
    match inputs.key_material_source:
        case "wrapped":
            encrypted = read_public(inputs.key_material_file)
            if hand_over.is_archive(encrypted):
                return hand_over.read_hand_back(encrypted, wrapping)
            key_material.check_encrypted_key_material(encrypted, wrapping_key_spec=wrapping.key_spec)
        case "pkcs11":
            from runbook_lib import hsm

            with hsm.open_key(inputs, create=True) as key:
                check_value, facts = key.key_check_value, {"hsm": key.facts}
                encrypted = key.encrypt_to(public_key, wrapping.algorithm)
                if keys:
                    copies = custody.copies(keys, key.encrypt_to, algorithm=key.best_algorithm())
        case _:
            with _material(inputs) as material:
                check_value = material.key_check_value
                encrypted = key_material.encrypt_key_material(
                    material, wrapping_public_key=wrapping.public_key, wrapping_algorithm=wrapping.algorithm
                )
                if inputs.custody == "split":
                    copies = components.seal_components(material, keys)
                elif inputs.custody == "recovery_key":
                    copies = custody.seal(material, recovery_public_keys)
                elif inputs.custody == "file":
                    plaintext, facts = bytes(material), {"keep_plaintext_file": inputs.keep_plaintext_file}
    training = [pem.startswith(custody.TRAINING_LABEL) for pem in recovery_public_keys]
    record = custody.record(
        custody=inputs.custody,
        source=inputs.key_material_source,
        key_check_value=check_value,
        copies=copies,
        training=[custody.key_fingerprint(key) for key, only in zip(keys, training, strict=True) if only],
        made_at=now or datetime.now(UTC),
        **facts,
    )
    readme = custody_readme(record, key_arn=wrapping.key_arn).encode()
    files = {ENCRYPTED: encrypted, **{copy.name: copy.content for copy in copies}, README: readme}
    return MaterialSet(record, wrapping.key_arn, key_material.fingerprint(wrapping.public_key), files, plaintext)


def _material(inputs: EncryptKeyMaterialInputs) -> KeyMaterial:
    """Make the material, or read it, or open a custody copy of it."""
    path = Path(inputs.key_material_file).expanduser()
    if inputs.key_material_source == "generate":
        return KeyMaterial.generate()
    if inputs.key_material_source == "file":
        return KeyMaterial.from_file(path, encoding=inputs.key_material_encoding)
    return custody.open_any_copy(
        read_public(inputs.key_material_file),
        read_private_key(inputs.recovery_private_key, password_from=inputs.recovery_password_from),
    )


def read_private_key(path: str, *, password_from: str = "") -> rsa.RSAPrivateKey:
    """Load a recovery private key from its file. Raises `KeyMaterialFileUnsafe`, `PassPhraseMissing`, `RecoveryKeyInvalid`."""
    pem = read_private(Path(path).expanduser())
    try:
        password = read_pass_phrase(password_from, what=f"Password of {path}") if password_from else None
        return custody.load_recovery_private_key(pem, password=password)
    finally:
        pem[:] = bytes(len(pem))


def read_public(path: str) -> bytes:
    """Return the content of a file that holds nothing secret, a megabyte at most. Raises `ArtefactMissing`."""
    try:
        descriptor = os.open(Path(path).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(2**20) or b""
    except OSError as error:
        raise ArtefactMissing(f"{path!r} cannot be read ({error.strerror}); give the path of a file") from error
