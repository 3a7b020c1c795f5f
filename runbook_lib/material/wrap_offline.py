"""Offline wrapping: `runbook wrap` reads a hand-over bundle and writes the set and hand-back.zip to a new folder.

No run, no AWS call, no network. `hand_over` defines the bundle and the hand-back archive.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.errors import CustodyRefused, FileNotWritable, InputError
from runbook_lib.files import write_private
from runbook_lib.material.hand_over import HAND_BACK, make_hand_back, read_bundle
from runbook_lib.material.material_set import MaterialSet, write_set
from runbook_lib.material.recovery_keys import CREATE, refuse_training_keys
from runbook_lib.material.request import MaterialRequest
from runbook_lib.material.sources import make_set, read_public, read_recovery_public_keys


def wrap_bundle(bundle: str, request: MaterialRequest, *, folder: Path, now: datetime | None = None) -> MaterialSet:
    """Create the set for a bundle in a new `folder` (mode 0700, files 0600); hand-back.zip is written last.

    `bundle` is a path. Raises `InputError`, `HandOverInvalid`, `ImportTokenExpired`, `CustodyRefused`,
    `FileNotWritable`, and what `sources.make_set` raises.
    """
    wrapping = read_bundle(read_public(bundle), now=now or datetime.now(UTC)).wrapping
    if request.custody == "file":
        raise InputError(
            [
                (
                    "--custody",
                    "'file' would leave key material in clear on this machine; choose recovery_key, split or hsm",
                )
            ]
        )
    if request.custody in ("recovery_key", "split") and not request.recovery_public_keys:
        raise CustodyRefused(
            f"no recovery public key was given; create a pair where it will be kept ({CREATE}) and give "
            "--recovery-public-key recovery-public.pem"
        )
    paths = request.recovery_public_keys
    keys = read_recovery_public_keys(paths)
    refuse_training_keys(keys, paths)
    made = make_set(request, wrapping, recovery_public_keys=keys)
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise FileNotWritable(f"cannot create {folder} ({error.strerror}); give --out a new folder") from error
    write_set(made, folder=folder, write=lambda name, content: write_private(folder / name, content))
    write_private(folder / HAND_BACK, make_hand_back(made))
    return made
