"""The evidence of a run for an auditor: a zip of a fixed list of what goes in, with a manifest, optionally signed.

Only what `GOES_IN` names is packed: reports, executed notebooks, state.json and the custody records. No key material,
wrapped or not, no hand-over, no draft, and no file that a link leads to. Knows files, and neither AWS nor any step.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from runbook_lib.errors import ArtefactMissing
from runbook_lib.files import write_private, zip_files
from runbook_lib.material.signing import sign
from runbook_lib.run.records import RotationRecord
from runbook_lib.run.run import Run

MANIFEST, SIGNATURE, PUBLIC_KEY, README = "SHA256SUMS", "SHA256SUMS.sig", "signing-public-key.pem", "README.txt"
_CUSTODY = r"custody\.json|CUSTODY(\.[A-Za-z0-9._-]+)?\.txt"
# What goes in, by folder ("" is the run folder) and name; nothing else does. `_CUSTODY` also of each recorded rotation.
GOES_IN = {
    "": rf"report\.(html|json)|state\.json|{_CUSTODY}",
    "reports": r"[0-9TZ]+(-[0-9]+)?-report\.(html|json)",
    "notebooks": r"[0-9]{2}_[a-z_]+(\.attempt-[0-9]+)?\.ipynb",
}
CHECK_MANIFEST = f"sha256sum -c {MANIFEST}"
CHECK_SIGNATURE = f"openssl dgst -sha256 -verify {PUBLIC_KEY} -signature {SIGNATURE} {MANIFEST}"
FINGERPRINT = f"openssl pkey -pubin -in {PUBLIC_KEY} -outform DER | openssl dgst -sha256"


@dataclass(frozen=True)
class Packed:
    """A zip that was written: its path, SHA-256, the names of the run's files in it, and the key that signed it, if any."""

    path: Path
    sha256: str
    names: tuple[str, ...]
    signed_with: str = ""


def pack(run: Run, out: Path, *, private_key: Path | None = None, password_from: str = "") -> Packed:
    """Write the evidence of `run` to the new file `out` (mode 0600), signed if there is a private key.

    Holds the run's lock while reading, so that the files belong together. Raises `RunLocked`, `ArtefactMissing` for a
    file that cannot be read, `FileNotWritable` if `out` exists, and what `signing.sign` raises.
    """
    with run.locked(what="runbook evidence"):
        files = contents(run)
    packed = {**files, README: _readme(run.run_id, signed=private_key is not None)}
    packed[MANIFEST] = manifest(packed)
    signed_with = ""
    if private_key is not None:
        signature = sign(packed[MANIFEST], private_key=private_key, password_from=password_from)
        packed |= {SIGNATURE: signature.content, PUBLIC_KEY: signature.public_key}
        signed_with = signature.fingerprint
    content = zip_files(packed)
    write_private(out, content)
    return Packed(out, sha256(content).hexdigest(), tuple(files), signed_with)


def contents(run: Run, *, without: str = "") -> dict[str, bytes]:
    """Return what goes in, name to content, in order, except the folder `without`. Raises `ArtefactMissing`."""
    rotations = {one.folder: _CUSTODY for one in RotationRecord.so_far(run).materials}
    found = {}
    for part, pattern in (GOES_IN | rotations).items():
        for name in _names(run.path, part) if part != (without or None) else ():
            if re.fullmatch(pattern, name) and (content := _read(run.path / part / name)) is not None:
                found[f"{part}/{name}" if part else name] = content
    return found


def _names(folder: Path, part: str) -> list[str]:
    """Return the names in a folder of the run, sorted; none if it does not exist or a link is on the way to it."""
    place = folder / part
    if place.resolve() != folder.resolve() / part or not place.is_dir():
        return []
    try:
        return sorted(os.listdir(place))
    except OSError as error:
        raise ArtefactMissing(f"{place} cannot be read ({error.strerror}); fix its permissions") from error


def _read(path: Path) -> bytes | None:
    """Return the content of a regular file, None for anything else: a link may lead out of the run."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except OSError as error:
        if not path.is_file() or path.is_symlink():
            return None
        raise ArtefactMissing(f"{path} cannot be read ({error.strerror}); fix its permissions") from error


def manifest(files: dict[str, bytes]) -> bytes:
    """Return the SHA-256 of each file, as `sha256sum` writes it."""
    return "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in files.items()).encode()


def _readme(run_id: str, *, signed: bool) -> bytes:
    lines = [
        f"Evidence of run {run_id} of the Aurora BYOK runbook. Start with report.html. There is no key material in it.",
        "",
        "1. Check that no file was changed since it was packed (macOS: shasum -a 256 -c):",
        "",
        f"   {CHECK_MANIFEST}",
        "",
    ]
    if signed:
        lines += [
            "2. Check who packed it. Whoever changes files can replace this public key too: get the SHA-256 of the key over",
            "   a separate channel, such as the telephone, and compare it with the first command's output.",
            "",
            f"   {FINGERPRINT}",
            f"   {CHECK_SIGNATURE}",
        ]
    else:
        lines += [
            f"2. It is not signed: whoever changes files can change {MANIFEST} too. Get the SHA-256 of the zip file over a",
            "   separate channel, such as the telephone, and compare it.",
        ]
    return ("\n".join(lines) + "\n").encode()
