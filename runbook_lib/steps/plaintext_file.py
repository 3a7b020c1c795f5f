"""Identify the files that step 03 wrote to the run folder, and delete PlaintextKeyMaterial.bin after the import.

A file is identified by content, never by name: somebody else's file of the same name may be the only copy of the key
material.
"""

from __future__ import annotations

import os

from runbook_lib.errors import KeyMaterialEncoded, KeyMaterialLength, PrivateFileUnsafe
from runbook_lib.files import aside, destroy, holds, is_the_very, utc_stamp
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.material_set import CUSTODY
from runbook_lib.material.recovery_copies import PLAINTEXT
from runbook_lib.plan import Change
from runbook_lib.run.records import ImportRecord, MaterialRecord
from runbook_lib.run.run import Run

_DESTROYED = "destroyed "


def kept_aside(run: Run, names: list[str]) -> list[Change]:
    """Return a row for each of these files that exists and is not this run's; `apply` renames it first."""
    found = [run.path / name for name in names if (run.path / name).is_file() and not (run.path / name).is_symlink()]
    why = "not written by this run; renamed to {}"
    return [Change("keep", "file", path.name, why.format(aside(path).name)) for path in found]


def written(material: MaterialRecord) -> list[tuple[str, str]]:
    """Return name and SHA-256 of each file, but the plaintext, that step 03 wrote or was writing when interrupted."""
    return [*material.files.items(), (CUSTODY, material.set), *material.writing]


def files_of(run: Run, material: MaterialRecord) -> list[str]:
    """Return the names of the files in the run folder that step 03 wrote, proved by content."""
    found = {name for name, digest in written(material) if holds(run.path / name, digest)}
    return sorted(found | ({PLAINTEXT} if _is_ours(run, material) else set()))


def _is_ours(run: Run, material: MaterialRecord) -> bool:
    """Return whether step 03 wrote PlaintextKeyMaterial.bin: by file identity, then by key check value."""
    path, recorded = run.path / PLAINTEXT, material.in_clear
    if recorded is None or not is_the_very(path, recorded.file):
        return False
    try:
        with KeyMaterial.from_file(path) as content:
            return content.key_check_value == recorded.key_check_value
    except (PrivateFileUnsafe, KeyMaterialLength, KeyMaterialEncoded):
        return False


def _is_deleted_after_import(material: MaterialRecord) -> bool:
    return material.custody.kind == "file" and not material.custody.keep_plaintext_file


def plaintext_changes(run: Run) -> list[Change]:
    """Return the row of step 04's plan that deletes or keeps PlaintextKeyMaterial.bin; none with another custody.

    The file is deleted once, and only if step 03 wrote it.
    """
    material = MaterialRecord.so_far(run)
    if not _is_deleted_after_import(material) or not os.path.lexists(run.path / PLAINTEXT):
        return []
    before = ImportRecord.so_far(run).plaintext_file
    if before.startswith(_DESTROYED):
        why = f"the file of step 03 was {before}; this one was added later"
        return [Change("keep", PLAINTEXT, PLAINTEXT, why)]
    if material.in_clear is None or not _is_ours(run, material):
        why = "not the file of step 03, or changed since; delete it yourself if nobody needs it"
        return [Change("keep", PLAINTEXT, PLAINTEXT, why)]
    why = "unencrypted; overwritten and deleted once the import is verified"
    return [Change("delete", PLAINTEXT, PLAINTEXT, why, request={"file": list(material.in_clear.file)})]


def delete_plaintext(run: Run) -> str:
    """After the import, destroy the PlaintextKeyMaterial.bin of step 04's applied plan; return the outcome in words.

    Returns an empty text with another custody.
    """
    material, imported = MaterialRecord.so_far(run), ImportRecord.so_far(run)
    if not _is_deleted_after_import(material):
        return "kept on purpose" if material.custody.kind == "file" else ""
    if imported.plaintext_file.startswith(_DESTROYED):
        return imported.plaintext_file
    path, shown = run.path / PLAINTEXT, imported.plaintext_to_delete
    if not os.path.lexists(path):
        return "deleted"
    if material.in_clear is not None and shown == material.in_clear.file and _is_ours(run, material):
        return f"{_DESTROYED}{utc_stamp()}" if destroy(path, made=shown) else "kept: changed since the plan"
    return "kept: not the file of step 03, or not in the plan"
