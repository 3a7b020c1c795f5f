"""One set of files with one fingerprint: the encrypted key material, its backups, and custody.json that names them all.

custody.json holds the SHA-256 of each file and is written last, so that an incomplete or mixed set is detected.
`sources` creates a set, step 03 writes it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runbook_lib.errors import ArtefactsMismatch
from runbook_lib.files import destroy, holds, keep_aside, write_private
from runbook_lib.material import key_material
from runbook_lib.material.custody_record import CustodyRecord
from runbook_lib.material.recovery_copies import FEWEST, PLAINTEXT, PREFIX

FORMAT = 1
ENCRYPTED = "EncryptedKeyMaterial.bin"
CUSTODY = "custody.json"


@dataclass(frozen=True)
class Wrapping:
    """The wrapping public key (DER) with its algorithm and key spec, and the ARN of the KMS key it belongs to."""

    public_key: bytes
    algorithm: str
    key_spec: str
    key_arn: str


@dataclass(frozen=True)
class MaterialSet:
    """All files for one key material. `files` are public; `plaintext` is empty except with custody `file`."""

    record: CustodyRecord
    key_arn: str
    wrapping_public_key_sha256: str
    files: Mapping[str, bytes] = field(repr=False)
    plaintext: bytes = field(default=b"", repr=False)
    brought: bytes = field(default=b"", repr=False)

    @property
    def manifest(self) -> bytes:
        """custody.json: `format`, `key_arn`, the custody record, the wrapping key's SHA-256 and that of each file.

        Of a hand-back archive, the very bytes that were `brought`: its fingerprint is the one that both sides compare.
        """
        if self.brought:
            return self.brought
        content = {
            "format": FORMAT,
            "key_arn": self.key_arn,
            "custody": self.record.to_json(),
            "wrapping_public_key_sha256": self.wrapping_public_key_sha256,
            "files": {name: key_material.fingerprint(content) for name, content in sorted(self.files.items())},
        }
        return (json.dumps(content, indent=1) + "\n").encode()

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
    """Write the set and replace the files `instead_of`: these are deleted first, custody.json is written last.

    `instead_of` names files that the caller has proved to be its own. `made_in_clear` is the identity of the plaintext
    file among them; `wrote_in_clear` receives the identity of the new one. Any other file whose name the set needs is
    renamed to `<name>.kept-N`; nothing else in `folder` is changed. Every file is read back and compared. Raises
    `FileNotWritable`, and `ArtefactsMismatch` when a file is not what was written.
    """
    remove_set(folder, instead_of, made_in_clear=made_in_clear)
    for name in (CUSTODY, *material_set.files):
        keep_aside(folder / name)
    if material_set.plaintext:
        # Not through a temporary file, which would remain if the process is killed.
        wrote_in_clear(write_private(folder / PLAINTEXT, material_set.plaintext))
    for name, content in material_set.files.items():
        write(name, content)
    write(CUSTODY, material_set.manifest)
    for name, content in (*material_set.files.items(), (CUSTODY, material_set.manifest)):
        if not holds(folder / name, key_material.fingerprint(content)):
            raise ArtefactsMismatch(
                f"{folder / name} is not what was written to it; check the disk, then run the cell or command again"
            )


def remove_set(folder: Path, names: Collection[str], *, made_in_clear: Sequence[int]) -> None:
    """Delete these files of a set, custody.json first; the plaintext file is overwritten if its identity matches."""
    if PLAINTEXT in names:
        destroy(folder / PLAINTEXT, made=made_in_clear)
    for name in sorted(set(names) - {PLAINTEXT}, key=lambda name: name != CUSTODY):
        (folder / name).unlink(missing_ok=True)


def unexpected_files(folder: Path, known: Collection[str]) -> list[str]:
    """Return the names of key material files, in clear or encrypted, that are not among the `known` ones."""
    found = [path.name for path in folder.glob(f"{PREFIX}*.bin")]
    found += [PLAINTEXT] if os.path.lexists(folder / PLAINTEXT) else []
    return sorted(set(found) - set(known))


def belongs(name: str) -> bool:
    """Return whether a set may hold a public file of this name; the names of earlier versions, too."""
    part = r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
    return name == ENCRYPTED or bool(re.fullmatch(rf"CUSTODY(\.{part})?\.txt|{PREFIX}{part}\.bin", name))


def require_backups(record: CustodyRecord, names: Collection[str], *, advice: str) -> None:
    """Raise `ArtefactsMismatch`, ending with `advice`, unless each holder has one backup among `names`, and every backup a holder.

    Names that differ in case only count as one: on some file systems they are.
    """
    held = [holder.file for holder in record.holders]
    backups = [name for name in names if name.startswith(PREFIX)]
    if len({name.casefold() for name in names}) < len(names) or len(set(held)) < len(held):
        raise ArtefactsMismatch(f"two files of the set have the same name, so one would replace the other; {advice}")
    if odd := sorted(set(held) ^ set(backups)):
        raise ArtefactsMismatch(
            f"{len(held)} holders, {len(backups)} backups: they differ in {', '.join(odd)}; {advice}"
        )
    fewest = {"recovery_key": 1, "split": FEWEST}.get(record.kind, 0)
    if len(held) < fewest:
        raise ArtefactsMismatch(
            f"custody {record.kind!r} has {len(held)} backups, at least {fewest} are needed; {advice}"
        )


KEY_ARN = r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,128}$"
SHA_256 = r"^[0-9a-f]{64}$"


class Manifest(BaseModel):
    """The content of custody.json: KMS key, wrapping key, custody record, and the SHA-256 of each file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    format: int = Field(ge=1)
    key_arn: str = Field(pattern=KEY_ARN)
    custody: CustodyRecord
    wrapping_public_key_sha256: str = Field(pattern=SHA_256)
    files: dict[str, Annotated[str, Field(pattern=SHA_256)]]


def parse_manifest(content: bytes, *, advice: str) -> Manifest:
    """Parse custody.json. Raises `ArtefactsMismatch`, ending with `advice`, if it is damaged or of a newer format."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        raise ArtefactsMismatch(f"{CUSTODY} is damaged; {advice}") from None
    if manifest.format > FORMAT:
        raise ArtefactsMismatch(
            f"{CUSTODY} has format {manifest.format}, this version supports {FORMAT}; update aurora-byok-runbook"
        )
    return manifest


def read_set(read: Callable[[str], bytes], *, fingerprint: str, advice: str) -> Manifest:
    """Return the content of custody.json after comparing every file of the set with it.

    Raises `ArtefactsMismatch`, ending with `advice`, if a file does not belong to the set with this fingerprint, and
    what `read` raises if one is missing.
    """
    content = read(CUSTODY)
    if key_material.fingerprint(content) != fingerprint:
        raise ArtefactsMismatch(f"{CUSTODY} is not the file that 03 wrote; {advice}")
    manifest = parse_manifest(content, advice=advice)
    require_backups(manifest.custody, manifest.files, advice=advice)
    for name, digest in manifest.files.items():
        if key_material.fingerprint(read(name)) != digest:
            value = manifest.custody.key_check_value
            raise ArtefactsMismatch(f"{name} does not belong to the material with key check value {value!r}; {advice}")
    return manifest
