"""Judge what 03 will read, before a key exists: recovery keys, key material files, PKCS#11 modules, origins of PINs.

Reads files and asks the token for its label; writes nothing, calls no AWS, and asks for no PIN or password.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from runbook_lib.errors import ArtefactMissing, InputError, PassPhraseMissing, RunbookError
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.sources import read_public
from runbook_lib.steps.custody_choice import judge_recovery_keys


def require_material(inputs: EncryptKeyMaterialInputs, *, target: str, runs_dir: Path) -> None:
    """Raise `InputError`, with one line per parameter, for what would stop 03."""

    def recovery_keys() -> None:
        if inputs.custody in ("recovery_key", "split"):
            judge_recovery_keys(inputs, target=target, runs_dir=runs_dir)

    problems = []
    readings: tuple[tuple[str, Callable[[], None]], ...] = (
        ("recovery_public_keys", recovery_keys),
        ("key_material_file", lambda: _file(inputs)),
        ("recovery_private_key", lambda: _private_key(inputs)),
        ("pkcs11_module", lambda: _token(inputs)),
        ("recovery_password_from", lambda: _origin(inputs.recovery_password_from)),
        ("pkcs11_pin_from", lambda: _origin(inputs.pkcs11_pin_from if inputs.key_material_source == "pkcs11" else "")),
    )
    for field, read in readings:
        try:
            read()
        except RunbookError as error:
            problems.append((field, str(error)))
    if problems:
        raise InputError(problems)


def _file(inputs: EncryptKeyMaterialInputs) -> None:
    match inputs.key_material_source:
        case "file":
            path = Path(inputs.key_material_file).expanduser()
            KeyMaterial.from_file(path, encoding=inputs.key_material_encoding).wipe()
        case "wrapped" | "recovery":
            read_public(inputs.key_material_file)


def _private_key(inputs: EncryptKeyMaterialInputs) -> None:
    if inputs.key_material_source == "recovery":
        _require_file(inputs.recovery_private_key)


def _token(inputs: EncryptKeyMaterialInputs) -> None:
    if inputs.key_material_source == "pkcs11":
        from runbook_lib.material.pkcs11 import find_token

        find_token(inputs.request().token)


def _origin(origin: str) -> None:
    """Check that the origin of a PIN or password exists; it is not read."""
    kind, _, where = origin.partition(":")
    if kind == "env" and where not in os.environ:
        raise PassPhraseMissing(f"environment variable {where} is not set; set it, or name another origin")
    if kind == "file":
        _require_file(where)


def _require_file(path: str) -> None:
    if not Path(path).expanduser().is_file():
        raise ArtefactMissing(f"{path!r} does not exist; give the path of an existing file")
