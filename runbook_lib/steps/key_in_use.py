"""Whether the key has key material that this run folder does not know of, as after a restore of the folder.

A folder that was restored from a backup taken before the import would make new key material, and custodians would replace
their backups of the true material by worthless ones. 03 works without AWS, so that it asks for 02 instead, which asks KMS.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.plan import Change
from runbook_lib.run.materials import all_materials
from runbook_lib.run.records import ImportParameters, was_restored
from runbook_lib.run.run import Run
from runbook_lib.run.steps import GET_PARAMETERS_FOR_IMPORT, IMPORT_KEY_MATERIAL


def unknown_material(run: Run, metadata: dict[str, Any]) -> str:
    """Return why the key is not for new material, with the way out; "" if the run knows of the material that the key has."""
    current = str(metadata.get("CurrentKeyMaterialId", ""))
    known = ["", ImportParameters.so_far(run).key_material_id, *(one.key_material_id for one in all_materials(run))]
    if current in known or run.was_sent(IMPORT_KEY_MATERIAL, "kms:ImportKeyMaterial"):
        return ""
    return (
        f"the key is {metadata['KeyState']} and has material (KeyMaterialId {current[:16]}) that this run folder has no record "
        "of: either the folder was restored from a backup taken before the import (restore a later copy of it, with the backups "
        "of that material), or somebody else imported material (start a new run)"
    )


def restored_since_02(run: Run) -> list[Change]:
    """Return the row that refuses new key material in a folder that is not the one in which step 02 ran; else none."""
    if not was_restored(run):
        return []
    why = (
        "was copied or restored from a backup since step 02, so that the key may have key material by now; run "
        f"notebooks/{GET_PARAMETERS_FOR_IMPORT}.ipynb again: it asks KMS"
    )
    return [Change("refuse", "run folder", run.path.name, why)]
