"""One set of files with one fingerprint: the encrypted material, who keeps the original, and custody.json that names them all.

custody.json holds the SHA-256 of each file and is written last, so that a set that was cut off, or mixed from two,
is recognised. Where the material comes from is `sources`; which step writes the set is `wrapping`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from runbook_lib.errors import ArtefactsMismatch
from runbook_lib.files import destroy, keep_aside, write_private
from runbook_lib.material import key_material
from runbook_lib.material.custody_txt import NAME as README
from runbook_lib.material.recovery_copies import PLAINTEXT, PREFIX
from runbook_lib.material.request import Custody

FORMAT = 1
ENCRYPTED = "EncryptedKeyMaterial.bin"
CUSTODY = "custody.json"
_AGAIN = "run notebooks/03_encrypt_key_material.ipynb again"


@dataclass(frozen=True)
class Wrapping:
    """What the material is encrypted with, and for which KMS key."""

    public_key: bytes
    algorithm: str
    key_spec: str
    key_arn: str


@dataclass(frozen=True)
class MaterialSet:
    """What belongs to one and the same material. `files` are public; `plaintext` is there for custody `file` only."""

    record: Mapping[str, Any]
    key_arn: str
    wrapping_public_key_sha256: str
    files: Mapping[str, bytes] = field(repr=False)
    plaintext: bytes = field(default=b"", repr=False)

    @property
    def manifest(self) -> bytes:
        """custody.json: `format`, `key_arn`, the custody record, the wrapping key's SHA-256 and that of each file."""
        told = {
            "format": FORMAT,
            "key_arn": self.key_arn,
            "custody": dict(self.record),
            "wrapping_public_key_sha256": self.wrapping_public_key_sha256,
            "files": {name: key_material.fingerprint(content) for name, content in sorted(self.files.items())},
        }
        return (json.dumps(told, indent=1) + "\n").encode()

    @property
    def fingerprint(self) -> str:
        """The one fingerprint of the set: the SHA-256 of custody.json, which names all others."""
        return key_material.fingerprint(self.manifest)


def write_set(
    material_set: MaterialSet,
    *,
    folder: Path,
    write: Callable[[str, bytes], Any],
    instead_of: Collection[str] = (),
    made_in_clear: Sequence[int] = (),
    wrote_in_clear: Callable[[list[int]], Any] = lambda _: None,
) -> None:
    """Put the set in place of the files `instead_of`: those go first, custody.json is written last.

    `instead_of` are names whose files the caller has proved to be its own; `made_in_clear` is the identity of
    the one in clear among them, and `wrote_in_clear` is told that of the new one. Another file whose name the set needs
    is renamed to `<name>.kept-N`; nothing else in `folder` is touched.
    """
    remove_set(folder, instead_of, made_in_clear=made_in_clear)
    for name in (CUSTODY, *material_set.files):
        keep_aside(folder / name)
    if material_set.plaintext:
        # Not through a temporary file, which a kill could leave.
        wrote_in_clear(write_private(folder / PLAINTEXT, material_set.plaintext))
    for name, content in material_set.files.items():
        write(name, content)
    write(CUSTODY, material_set.manifest)


def remove_set(folder: Path, names: Collection[str], *, made_in_clear: Sequence[int]) -> None:
    """Remove these files of a set, custody.json first; material in clear is overwritten, if it is the file that was made."""
    if PLAINTEXT in names:
        destroy(folder / PLAINTEXT, made=made_in_clear)
    for name in sorted(set(names) - {PLAINTEXT}, key=lambda name: name != CUSTODY):
        (folder / name).unlink(missing_ok=True)


def strangers(folder: Path, known: Collection[str]) -> list[str]:
    """Return the names of files that hold material, in clear or in copies, and are not among the `known` ones."""
    found = [path.name for path in folder.glob(f"{PREFIX}*.bin")]
    found += [PLAINTEXT] if os.path.lexists(folder / PLAINTEXT) else []
    return sorted(set(found) - set(known))


def belongs(name: str) -> bool:
    """Say whether a set may hold a public file of this name."""
    return name in (ENCRYPTED, README) or bool(re.fullmatch(rf"{PREFIX}[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.bin", name))


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Return custody.json as a dict; raise `ArtefactsMismatch` when it is none of ours."""
    told: Any
    try:
        told = json.loads(content)
    except ValueError:
        told = None
    shape = {"format": int, "key_arn": str, "custody": dict, "wrapping_public_key_sha256": str, "files": dict}
    if not _has(told, shape) or not _is_record(told["custody"]):
        raise ArtefactsMismatch(f"{CUSTODY} is damaged; {_AGAIN}")
    if told["format"] > FORMAT:
        raise ArtefactsMismatch(f"{CUSTODY} has format {told['format']}, this version knows {FORMAT}; update")
    return dict(told)


def _has(told: Any, shape: Mapping[str, type]) -> bool:
    return isinstance(told, dict) and all(isinstance(told.get(name), kind) for name, kind in shape.items())


def _is_record(told: dict[str, Any]) -> bool:
    """Say whether this has the shape of a custody record."""
    shape = {"custody": str, "source": str, "key_check_value": str, "made_at": str, "holders": list}
    holder = {"file": str, "recovery_key_sha256": str, "algorithm": str, "training_only": bool}
    return (
        _has(told, shape)
        and told["custody"] in get_args(Custody)
        and re.fullmatch(r"([0-9a-f]{6})?", told["key_check_value"]) is not None
        and all(_has(one, holder) for one in told["holders"])
        and (told["source"] != "pkcs11" or _has(told.get("hsm"), {"token_label": str, "key_label": str}))
    )


def read_set(read: Callable[[str], bytes], *, fingerprint: str) -> dict[str, Any]:
    """Return custody.json after holding every file of the set against it.

    Raises `ArtefactsMismatch` when a file is not of the set with this fingerprint, and what `read` raises when one
    is gone.
    """
    content = read(CUSTODY)
    if key_material.fingerprint(content) != fingerprint:
        raise ArtefactsMismatch(f"{CUSTODY} is not the one that 03 left; {_AGAIN}")
    told = parse_manifest(content)
    for name, digest in told["files"].items():
        if key_material.fingerprint(read(name)) != digest:
            raise ArtefactsMismatch(
                f"{name} does not belong to the material with key check value "
                f"{told['custody'].get('key_check_value', '')!r}; {_AGAIN}"
            )
    return told
