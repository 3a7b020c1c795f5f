"""Step 3 on a machine without AWS and network: the bundle that 02 hands over, and the archive that comes back. Pure bytes.

The bundle holds what is public: the wrapping key, what it is for and until when; never the import token. What comes
back is one set of `material_set`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runbook_lib.errors import ArtefactsMismatch, HandOverInvalid, ImportTokenExpired
from runbook_lib.files import zip_files
from runbook_lib.material import key_material
from runbook_lib.material.material_set import CUSTODY, ENCRYPTED, MaterialSet, Wrapping, belongs, parse_manifest

FORMAT = 1
BUNDLE, HAND_BACK = "hand-over.zip", "hand-back.zip"
PUBLIC_KEY, FACTS, README = "WrappingPublicKey.bin", "hand-over.json", "README.txt"
_LIMIT = 2**20


@dataclass(frozen=True)
class Bundle:
    """What was handed over: the wrapping key with its facts, and until when it can be imported with."""

    wrapping: Wrapping
    valid_to: datetime


def is_archive(content: bytes) -> bool:
    """Say whether this is a zip, such as a hand-back, and not a bare EncryptedKeyMaterial.bin."""
    return content.startswith(b"PK\x03\x04")


def make_bundle(wrapping: Wrapping, *, valid_to: datetime) -> bytes:
    """Return the hand-over bundle (zip) for the wrapping key; the import token is no part of it."""
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
    """Return what a bundle holds after checking it against itself.

    Raises `HandOverInvalid`, `WrappingKeyInvalid`, and `ImportTokenExpired` when its time is over.
    """
    files = _unzip(content, wanted=(PUBLIC_KEY, FACTS), what="the hand-over bundle")
    try:
        facts = json.loads(files[FACTS])
        told = {name: facts[name] for name in ("key_arn", "wrapping_key_spec", "wrapping_algorithm")}
        valid_to, digest, number = (
            datetime.fromisoformat(facts["valid_to"]),
            facts["wrapping_public_key_sha256"],
            facts["format"],
        )
    except (ValueError, KeyError, TypeError):
        raise HandOverInvalid(f"{FACTS} of the hand-over bundle is damaged; bring the bundle again") from None
    if number > FORMAT:
        raise HandOverInvalid(
            f"the bundle has format {number}, this version knows {FORMAT}; update aurora-byok-runbook"
        )
    if told["wrapping_key_spec"] not in key_material.WRAPPING_KEY_SPECS:
        raise HandOverInvalid(
            f"{FACTS} names the wrapping key spec {told['wrapping_key_spec']!r}; bring the bundle again"
        )
    if key_material.fingerprint(files[PUBLIC_KEY]) != digest:
        raise HandOverInvalid(
            f"{PUBLIC_KEY} is not the one that {FACTS} names (SHA-256 {digest[:16]}…); bring the bundle again"
        )
    key_material.check_wrapping_algorithm(told["wrapping_algorithm"])
    key_material.load_wrapping_public_key(files[PUBLIC_KEY], wrapping_key_spec=told["wrapping_key_spec"])
    if valid_to <= now:
        raise ImportTokenExpired(
            f"the bundle was valid until {valid_to:%Y-%m-%d %H:%M} UTC; run 02 again and bring its new bundle"
        )
    wrapping = Wrapping(files[PUBLIC_KEY], told["wrapping_algorithm"], told["wrapping_key_spec"], told["key_arn"])
    return Bundle(wrapping, valid_to)


def make_hand_back(material_set: MaterialSet) -> bytes:
    """Return the archive (zip) that goes back: EncryptedKeyMaterial.bin, the custody files and custody.json."""
    return zip_files({**material_set.files, CUSTODY: material_set.manifest})


def read_hand_back(content: bytes, wrapping: Wrapping) -> MaterialSet:
    """Return the set that came back, held against itself and against the wrapping key that was handed over.

    Raises `HandOverInvalid`, `ArtefactsMismatch`, `EncryptedKeyMaterialInvalid`.
    """
    files = _unzip(content, wanted=(CUSTODY, ENCRYPTED), what="what came back")
    manifest = parse_manifest(files.pop(CUSTODY), advice="bring the archive as it was made")
    if manifest.wrapping_public_key_sha256 != key_material.fingerprint(wrapping.public_key):
        raise ArtefactsMismatch(
            "what came back was made with another wrapping key than this run's; run `runbook wrap` with this run's hand-over.zip"
        )
    if manifest.key_arn != wrapping.key_arn:
        raise ArtefactsMismatch(
            f"what came back was made for {manifest.key_arn}, this run's key is {wrapping.key_arn}; run `runbook wrap` "
            "with this run's hand-over.zip"
        )
    if manifest.custody.kind == "file":
        raise HandOverInvalid("what came back leaves the original in clear over there; wrap it with another custody")
    if strange := sorted(name for name in files if not belongs(name)):
        raise HandOverInvalid(
            f"what came back holds {strange[0]!r}, which is no file of a set; bring the archive as it was"
        )
    if set(files) != set(manifest.files):
        odd = sorted(set(files) ^ set(manifest.files))
        raise HandOverInvalid(
            f"what came back and its {CUSTODY} differ in {', '.join(odd)}; bring the archive again, whole"
        )
    for name, digest in manifest.files.items():
        if key_material.fingerprint(files[name]) != digest:
            raise HandOverInvalid(f"{name} came back changed (its SHA-256 differs); bring the archive again")
    key_material.check_encrypted_key_material(files[ENCRYPTED], wrapping_key_spec=wrapping.key_spec)
    return MaterialSet(manifest.custody, manifest.key_arn, manifest.wrapping_public_key_sha256, files)


def _unzip(content: bytes, *, wanted: tuple[str, ...], what: str) -> dict[str, bytes]:
    """Return the files of a small flat zip; names with folders, big files and absent ones are refused."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if any("/" in entry.filename or "\\" in entry.filename for entry in entries):
                raise HandOverInvalid(f"{what} holds folders; bring the archive as it was made")
            if sum(entry.file_size for entry in entries) > _LIMIT:
                raise HandOverInvalid(f"{what} is larger than {_LIMIT} bytes; bring the archive as it was made")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise HandOverInvalid(f"{what} is no whole zip ({error}); bring it again") from error
    if missing := [name for name in wanted if name not in files]:
        raise HandOverInvalid(f"{what} holds no {missing[0]}; bring the archive as it was made")
    return files


def _readme(facts: Mapping[str, Any]) -> str:
    digest = key_material.openssl_digest(facts["wrapping_algorithm"])
    size = key_material.WRAPPING_KEY_SPECS[facts["wrapping_key_spec"]] // 8
    return (
        "Hand-over bundle: encrypt key material for AWS KMS on a machine without network\n\n"
        f"KMS key             {facts['key_arn']}\n"
        f"Wrapping key spec   {facts['wrapping_key_spec']}\n"
        f"Wrapping algorithm  {facts['wrapping_algorithm']}\n"
        f"Wrapping key        {PUBLIC_KEY}, SHA-256 {facts['wrapping_public_key_sha256']}\n"
        f"Valid until         {facts['valid_to']}\n\n"
        "Compare the SHA-256 with the operator by another way than the one that this bundle took. There is nothing\n"
        "secret in here; the import token stays with the operator.\n\n"
        "With the runbook installed:\n\n"
        f"runbook wrap {BUNDLE} --recovery-public-key recovery-public.pem\n\n"
        f"It makes {HAND_BACK}: bring that back, and keep its KeyMaterial.* files. With openssl 1.1.1 or newer alone:\n\n"
        "umask 077\n"
        f"openssl dgst -sha256 {PUBLIC_KEY}\n"
        "openssl rand -out PlaintextKeyMaterial.bin 32\n"
        f"openssl pkeyutl -encrypt -in PlaintextKeyMaterial.bin -out {ENCRYPTED} \\\n"
        f"  -inkey {PUBLIC_KEY} -keyform DER -pubin -pkeyopt rsa_padding_mode:oaep \\\n"
        f"  -pkeyopt rsa_oaep_md:{digest} -pkeyopt rsa_mgf1_md:{digest}\n"
        "openssl pkeyutl -encrypt -in PlaintextKeyMaterial.bin -out KeyMaterial.recovery.bin \\\n"
        "  -inkey recovery-public.pem -pubin -pkeyopt rsa_padding_mode:oaep \\\n"
        "  -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256\n"
        "shred -u PlaintextKeyMaterial.bin\n\n"
        f"Keep KeyMaterial.recovery.bin: it is the only copy. Bring back {ENCRYPTED} ({size} bytes), and give it to 03 as\n"
        "key_material_source wrapped with custody none.\n"
    )
