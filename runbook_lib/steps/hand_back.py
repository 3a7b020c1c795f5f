"""The row of a plan for key material that was wrapped elsewhere and comes back in an archive: in 03 and in 20."""

from __future__ import annotations

from runbook_lib.material.hand_over import HAND_BACK, is_archive, read_hand_back
from runbook_lib.material.key_material import check_encrypted_key_material
from runbook_lib.material.material_set import Wrapping
from runbook_lib.material.sources import read_public
from runbook_lib.plan import Change
from runbook_lib.run.run import Run
from runbook_lib.steps.custody_choice import require_no_training


def hand_back(run: Run, wrapping: Wrapping, path: str) -> list[Change]:
    """Return the row with the fingerprint of a hand-back archive, which covers all of its files; none for a bare file.

    Raises what reading it raises, and `CustodyRefused` for a backup that only a training key opens.
    """
    content = read_public(path)
    if not is_archive(content):
        check_encrypted_key_material(content, wrapping_key_spec=wrapping.key_spec)
        return []
    returned = read_hand_back(content, wrapping)
    require_no_training(run, returned.record)
    why = "SHA-256 over all of it; compare it with the fingerprint that `runbook wrap` printed"
    return [Change("keep", HAND_BACK, returned.fingerprint, why, request={"fingerprint": returned.fingerprint})]
