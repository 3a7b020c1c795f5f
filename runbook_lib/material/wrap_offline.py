"""Step 3 on another machine: `runbook wrap` reads a hand-over bundle and leaves the set and what goes back in a new folder.

Knows no run, no AWS and no network. What a bundle and an archive hold is `hand_over`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.errors import CustodyRefused, FileNotWritable, InputError
from runbook_lib.files import write_private
from runbook_lib.material.hand_over import HAND_BACK, make_hand_back, read_bundle
from runbook_lib.material.material_set import MaterialSet, write_set
from runbook_lib.material.request import MaterialRequest
from runbook_lib.material.sources import make_set, read_public


def wrap_bundle(bundle: str, request: MaterialRequest, *, folder: Path, now: datetime | None = None) -> MaterialSet:
    """Make the set for a bundle in a new `folder` (0700, files 0600); what goes back is written last.

    Raises `HandOverInvalid`, `ImportTokenExpired`, `CustodyRefused`, and what `sources.make_set` raises.
    """
    wrapping = read_bundle(read_public(bundle), now=now or datetime.now(UTC)).wrapping
    if request.custody == "file":
        raise InputError([("--custody", "'file' would leave the original in clear here; choose another")])
    if request.custody in ("recovery_key", "split") and not request.recovery_public_keys:
        raise CustodyRefused(
            "no recovery public key was given; make a pair where it will be kept (openssl genrsa -aes256 -out "
            "recovery-private.pem 4096; openssl rsa -in recovery-private.pem -pubout -out recovery-public.pem) and give "
            "--recovery-public-key recovery-public.pem"
        )
    made = make_set(
        request, wrapping, recovery_public_keys=[read_public(path) for path in request.recovery_public_keys]
    )
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise FileNotWritable(f"cannot make {folder} ({error.strerror}); give --out a new folder") from error
    write_set(made, folder=folder, write=lambda name, content: write_private(folder / name, content))
    write_private(folder / HAND_BACK, make_hand_back(made))
    return made
