"""Which files in the run folder are the very ones that step 03 wrote, and the end of PlaintextKeyMaterial.bin.

A name proves nothing: what somebody puts under the name of a file of ours may be the only copy of the key material.
"""

from __future__ import annotations

import os

from runbook_lib.errors import KeyMaterialEncoded, KeyMaterialFileUnsafe, KeyMaterialLength
from runbook_lib.files import aside, destroy, holds, is_the_very, utc_stamp
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.material_set import CUSTODY
from runbook_lib.material.recovery_copies import PLAINTEXT
from runbook_lib.plan import Change
from runbook_lib.run.records import ImportRecord, MaterialRecord
from runbook_lib.run.run import Run

_DESTROYED = "destroyed "


def kept_aside(run: Run, names: list[str]) -> list[Change]:
    """Return a row for each of these files that exists: not this run's, and renamed before its name is used."""
    found = [run.path / name for name in names if (run.path / name).is_file() and not (run.path / name).is_symlink()]
    why = "was not written by this run; kept as {}"
    return [Change("keep", "file", path.name, why.format(aside(path).name)) for path in found]


def written(material: MaterialRecord) -> list[tuple[str, str]]:
    """Return name and SHA-256 of each public file that 03 wrote, or was writing when it was interrupted."""
    return [*material.files.items(), (CUSTODY, material.set), *material.writing]


def files_of(run: Run, material: MaterialRecord) -> list[str]:
    """Return the names of the files in the run folder that are proved to be what 03 wrote."""
    found = {name for name, digest in written(material) if holds(run.path / name, digest)}
    return sorted(found | ({PLAINTEXT} if _is_ours(run, material) else set()))


def _is_ours(run: Run, material: MaterialRecord) -> bool:
    """Return whether PlaintextKeyMaterial.bin is the very file that 03 wrote: by identity, then by key check value."""
    path, recorded = run.path / PLAINTEXT, material.in_clear
    if recorded is None or not is_the_very(path, recorded.file):
        return False
    try:
        with KeyMaterial.from_file(path) as content:
            return content.key_check_value == recorded.key_check_value
    except (KeyMaterialFileUnsafe, KeyMaterialLength, KeyMaterialEncoded):
        return False


def _is_deleted_after_import(material: MaterialRecord) -> bool:
    return material.custody.kind == "file" and not material.custody.keep_plaintext_file


def plaintext_changes(run: Run) -> list[Change]:
    """Return the row of 04's plan that says what becomes of PlaintextKeyMaterial.bin: none where custody is another.

    It is deleted once, and only if it is the very file that 03 wrote.
    """
    material = MaterialRecord.so_far(run)
    if not _is_deleted_after_import(material) or not os.path.lexists(run.path / PLAINTEXT):
        return []
    before = ImportRecord.so_far(run).plaintext_file
    if before.startswith(_DESTROYED):
        why = f"the file that 03 wrote was {before}; this one was put here later"
        return [Change("keep", PLAINTEXT, PLAINTEXT, why)]
    if material.in_clear is None or not _is_ours(run, material):
        why = "is not the file that 03 wrote, or was changed since; if nobody needs it, delete it yourself"
        return [Change("keep", PLAINTEXT, PLAINTEXT, why)]
    why = "in clear; overwritten and deleted once the import is verified"
    return [Change("delete", PLAINTEXT, PLAINTEXT, why, request={"file": list(material.in_clear.file)})]


def delete_plaintext(run: Run) -> str:
    """After the import, destroy the PlaintextKeyMaterial.bin that 04's applied plan showed; return what became of it.

    Returns an empty text where custody is another.
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
        return f"{_DESTROYED}{utc_stamp()}" if destroy(path, made=shown) else "kept: changed meanwhile"
    return "kept: not the file that 03 wrote, or not in the plan"
