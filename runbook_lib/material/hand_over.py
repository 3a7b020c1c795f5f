"""Offline wrapping: the bundle that 02 hands over to a machine without network, and the hand-back archive. Pure bytes.

The bundle holds public data only: the wrapping key, its purpose and its expiry; never the import token. The hand-back
archive holds one set of `material_set`.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from runbook_lib.errors import ArtefactsMismatch, HandOverInvalid, ImportTokenExpired
from runbook_lib.files import zip_files
from runbook_lib.material import key_material, openssl_commands
from runbook_lib.material.material_set import (
    CUSTODY,
    ENCRYPTED,
    KEY_ARN,
    SHA_256,
    MaterialSet,
    Wrapping,
    belongs,
    parse_manifest,
    require_backups,
)

FORMAT = 1
BUNDLE, HAND_BACK = "hand-over.zip", "hand-back.zip"
PUBLIC_KEY, FACTS, README = "WrappingPublicKey.bin", "hand-over.json", "README.txt"
_LIMIT = 2**20


class Facts(BaseModel):
    """The content of hand-over.json."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    format: int = Field(ge=1)
    key_arn: str = Field(pattern=KEY_ARN)
    wrapping_key_spec: Literal["RSA_4096", "RSA_3072", "RSA_2048"]
    wrapping_algorithm: str = Field(pattern=r"^[A-Z0-9_]{1,40}$")
    wrapping_public_key_sha256: str = Field(pattern=SHA_256)
    valid_to: AwareDatetime


@dataclass(frozen=True)
class Bundle:
    """The content of a hand-over bundle: the wrapping key with its facts, and when its import token expires (UTC)."""

    wrapping: Wrapping
    valid_to: datetime


def is_archive(content: bytes) -> bool:
    """Return whether this is a zip, such as a hand-back archive, and not a bare EncryptedKeyMaterial.bin."""
    return content.startswith(b"PK\x03\x04")


def make_bundle(wrapping: Wrapping, *, valid_to: datetime) -> bytes:
    """Return the hand-over bundle (zip) for the wrapping key; it does not contain the import token."""
    facts = {
        "format": FORMAT,
        "key_arn": wrapping.key_arn,
        "wrapping_key_spec": wrapping.key_spec,
        "wrapping_algorithm": wrapping.algorithm,
        "wrapping_public_key_sha256": key_material.fingerprint(wrapping.public_key),
        "valid_to": valid_to.isoformat(timespec="seconds"),
    }
    return zip_files(
        {
            PUBLIC_KEY: wrapping.public_key,
            FACTS: (json.dumps(facts, indent=1) + "\n").encode(),
            README: _readme(facts).encode(),
        }
    )


def read_bundle(content: bytes, *, now: datetime) -> Bundle:
    """Return the content of a bundle (zip), after checking that its files belong together.

    Raises `HandOverInvalid`, `WrappingKeyInvalid`, and `ImportTokenExpired` if it has expired at `now`.
    """
    files = _unzip(content, wanted=(PUBLIC_KEY, FACTS), what="the hand-over bundle")
    again = "copy hand-over.zip from the run folder again"
    try:
        facts = Facts.model_validate_json(files[FACTS])
    except ValidationError as error:
        wrong = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()} - {""})
        which = f" (wrong: {', '.join(wrong)})" if wrong else ""
        raise HandOverInvalid(f"{FACTS} of the hand-over bundle is damaged{which}; {again}") from None
    if facts.format > FORMAT:
        raise HandOverInvalid(
            f"the bundle has format {facts.format}, this version supports {FORMAT}; update aurora-byok-runbook"
        )
    if key_material.fingerprint(files[PUBLIC_KEY]) != facts.wrapping_public_key_sha256:
        raise HandOverInvalid(
            f"{PUBLIC_KEY} is not the one that {FACTS} names (SHA-256 {facts.wrapping_public_key_sha256[:16]}…); {again}"
        )
    key_material.check_wrapping_algorithm(facts.wrapping_algorithm)
    key_material.load_wrapping_public_key(files[PUBLIC_KEY], wrapping_key_spec=facts.wrapping_key_spec)
    if facts.valid_to <= now:
        raise ImportTokenExpired(
            f"the bundle was valid until {facts.valid_to:%Y-%m-%d %H:%M} UTC; run 02 again and use its new hand-over.zip"
        )
    wrapping = Wrapping(files[PUBLIC_KEY], facts.wrapping_algorithm, facts.wrapping_key_spec, facts.key_arn)
    return Bundle(wrapping, facts.valid_to)


def make_hand_back(material_set: MaterialSet) -> bytes:
    """Return the hand-back archive (zip): EncryptedKeyMaterial.bin, the backups, the custody text and custody.json."""
    return zip_files({**material_set.files, CUSTODY: material_set.manifest})


def read_hand_back(content: bytes, wrapping: Wrapping) -> MaterialSet:
    """Return the set in a hand-back archive, after comparing it with its manifest and with the run's wrapping key.

    Raises `HandOverInvalid`, `ArtefactsMismatch`, `KeyMaterialEncoded` and `EncryptedKeyMaterialInvalid`.
    """
    files, again = (
        _unzip(content, wanted=(CUSTODY, ENCRYPTED), what="the hand-back archive"),
        "copy hand-back.zip again",
    )
    sealed = files.pop(CUSTODY)
    manifest = parse_manifest(sealed, advice=f"{again}, unchanged")
    if manifest.wrapping_public_key_sha256 != key_material.fingerprint(wrapping.public_key):
        raise ArtefactsMismatch(
            "the hand-back archive was made with another wrapping key than this run's; run `runbook wrap` with this run's "
            "hand-over.zip"
        )
    if manifest.key_arn != wrapping.key_arn:
        raise ArtefactsMismatch(
            f"the hand-back archive is for {manifest.key_arn}, this run's key is {wrapping.key_arn}; run `runbook wrap` "
            "with this run's hand-over.zip"
        )
    if manifest.custody.kind == "file":
        raise HandOverInvalid(
            "the hand-back archive has custody 'file', which leaves key material in clear on the offline machine; run "
            "`runbook wrap` with another --custody"
        )
    if strange := sorted(name for name in files if not belongs(name)):
        raise HandOverInvalid(f"the hand-back archive contains an unexpected file, {strange[0]!r}; {again}, unchanged")
    if odd := sorted(set(files) ^ set(manifest.files)):
        raise HandOverInvalid(f"the hand-back archive and its {CUSTODY} differ in {', '.join(odd)}; {again}, unchanged")
    require_backups(manifest.custody, files, advice=f"{again}, unchanged")
    for name, digest in manifest.files.items():
        if key_material.fingerprint(files[name]) != digest:
            raise HandOverInvalid(f"{name} in the hand-back archive was changed (its SHA-256 differs); {again}")
    key_material.check_encrypted_key_material(files[ENCRYPTED], wrapping_key_spec=wrapping.key_spec)
    return MaterialSet(manifest.custody, manifest.key_arn, manifest.wrapping_public_key_sha256, files, brought=sealed)


def _unzip(content: bytes, *, wanted: tuple[str, ...], what: str) -> dict[str, bytes]:
    """Return the files of a small flat zip. Raises `HandOverInvalid`, also for repeated names and unusual compression."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_entries(entries, what)
            files = {entry.filename: archive.read(entry) for entry in entries}
    except _BROKEN as error:
        raise HandOverInvalid(f"{what} is not a complete zip ({error}); copy it again") from error
    if missing := [name for name in wanted if name not in files]:
        raise HandOverInvalid(f"{what} contains no {missing[0]}; copy it again, unchanged")
    return files


# What zipfile and zlib raise for damaged archives; the methods LZMA and bzip2, with errors of their own, are refused.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
)


def _check_entries(entries: Sequence[zipfile.ZipInfo], what: str) -> None:
    names = [entry.filename for entry in entries]
    if any("/" in name or "\\" in name for name in names):
        raise HandOverInvalid(f"{what} contains folders; copy it again, unchanged")
    if not all(name.isascii() and name.isprintable() for name in names):
        raise HandOverInvalid(f"{what} contains a file whose name is not printable ASCII; copy it again, unchanged")
    if len({name.casefold() for name in names}) < len(names):
        raise HandOverInvalid(f"{what} contains two files of the same name; copy it again, unchanged")
    if sum(entry.file_size for entry in entries) > _LIMIT:
        raise HandOverInvalid(f"{what} is larger than {_LIMIT} bytes; copy it again, unchanged")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise HandOverInvalid(f"{what} is compressed with another method than deflate; copy it again, unchanged")


def _readme(facts: Mapping[str, Any]) -> str:
    digest = openssl_commands.openssl_digest(facts["wrapping_algorithm"])
    size = key_material.WRAPPING_KEY_SPECS[facts["wrapping_key_spec"]] // 8
    backup = f"KeyMaterial.recovery.{facts['key_arn'].rpartition('/')[2]}.{facts['wrapping_public_key_sha256'][:8]}.bin"
    return (
        "Hand-over bundle: encrypt key material for AWS KMS on a machine without network\n\n"
        f"KMS key             {facts['key_arn']}\n"
        f"Wrapping key spec   {facts['wrapping_key_spec']}\n"
        f"Wrapping algorithm  {facts['wrapping_algorithm']}\n"
        f"Wrapping key        {PUBLIC_KEY}, SHA-256 {facts['wrapping_public_key_sha256']}\n"
        f"Valid until         {facts['valid_to']}\n\n"
        "Verify the SHA-256 with the operator over a separate channel. This bundle contains no secret; the import token\n"
        "stays with the operator.\n\n"
        "With the runbook installed:\n\n"
        f"runbook wrap {BUNDLE} --recovery-public-key recovery-public.pem\n\n"
        f"Return {HAND_BACK} to the operator and keep the KeyMaterial.* files. Or use openssl 1.1.1 or newer:\n\n"
        "umask 077\n"
        f"openssl dgst -sha256 {PUBLIC_KEY}\n"
        "openssl rand -out PlaintextKeyMaterial.bin 32\n"
        f"openssl pkeyutl -encrypt -in PlaintextKeyMaterial.bin -out {ENCRYPTED} \\\n"
        f"  -inkey {PUBLIC_KEY} -keyform DER -pubin -pkeyopt rsa_padding_mode:oaep \\\n"
        f"  -pkeyopt rsa_oaep_md:{digest} -pkeyopt rsa_mgf1_md:{digest}\n"
        f"openssl pkeyutl -encrypt -in PlaintextKeyMaterial.bin -out {backup} \\\n"
        "  -inkey recovery-public.pem -pubin -pkeyopt rsa_padding_mode:oaep \\\n"
        "  -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256\n"
        "shred -u PlaintextKeyMaterial.bin\n\n"
        f"Keep {backup}: it is the only backup.\n"
        f"Return {ENCRYPTED} ({size} bytes) to the operator, for "
        "step 03 with key_material_source wrapped and custody none.\n"
    )
