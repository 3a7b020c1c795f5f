"""Every key material of a run, oldest first: the one of 03 and 04, then one for each rotation of 20.

The one reader for whoever has to know several: recovery, drill, evidence, reports and expiry. A key needs each material
that it ever used, so that none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.material.custody_record import CustodyRecord
from runbook_lib.run.records import ImportRecord, MaterialRecord, RotatedMaterial, RotationRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import IMPORT_KEY_MATERIAL, ROTATE_KEY_MATERIAL


@dataclass(frozen=True)
class Material:
    """One key material: the folder of its files in the run folder ("" for the first), its KeyMaterialId and custody.

    `permanent` is false until the rotation to it was sent: from then on, the key needs it. `valid_to` is empty if it does
    not expire.
    """

    folder: str
    key_material_id: str
    custody: CustodyRecord
    set: str
    files: Mapping[str, str]
    expiration_model: str
    valid_to: str
    recovered_at: str
    made_with: Mapping[str, Any]
    permanent: bool = True

    @property
    def shown_check_value(self) -> str:
        """The key check value, or `unknown here` if the key material was wrapped elsewhere."""
        return self.custody.shown_check_value

    def path(self, name: str) -> str:
        """Return the path of one of its files, within the run folder."""
        return f"{self.folder}/{name}" if self.folder else name

    def reader(self, run: Run) -> Callable[[str], bytes]:
        """Return the function that reads its files."""
        return lambda name: run.read(self.path(name))


def all_materials(run: Run) -> tuple[Material, ...]:
    """Return every key material that the run imported, oldest first. Raises `RunUnreadable`."""
    first, imported = MaterialRecord.so_far(run), ImportRecord.so_far(run)
    found = []
    if first.custody_record is not None and imported.key_material_id:
        found.append(
            Material(
                "", imported.key_material_id, first.custody_record, first.set, first.files, imported.expiration_model,
                imported.valid_to, imported.recovered_at, first.made_with,
            )
        )  # fmt: skip
    found += [_of(run, one) for one in RotationRecord.so_far(run).materials if one.key_material_id]
    return tuple(found)


def _of(run: Run, one: RotatedMaterial) -> Material:
    sent = run.was_sent(ROTATE_KEY_MATERIAL, f"kms:RotateKeyOnDemand {one.folder}")
    return Material(
        one.folder, one.key_material_id, one.custody, one.set, one.files, one.expiration_model, one.valid_to,
        one.recovered_at, one.made_with, permanent=bool(one.rotated_at) or sent,
    )  # fmt: skip


def permanent_materials(run: Run) -> tuple[Material, ...]:
    """Return the materials that the key needs, oldest first; the last one is current."""
    return tuple(one for one in all_materials(run) if one.permanent)


def current_id(run: Run) -> str:
    """Return the KeyMaterialId that the run made current last; "" before the import."""
    found = permanent_materials(run)
    return found[-1].key_material_id if found else ImportRecord.so_far(run).key_material_id


def note_material(run: Run, key_material_id: str, **values: Any) -> None:
    """Add `values` to the record of one material, in the section of the step that imported it."""
    rotated = run.made(ROTATE_KEY_MATERIAL).get("materials", [])
    if not any(one.get("key_material_id") == key_material_id for one in rotated):
        run.note(IMPORT_KEY_MATERIAL, key_material_id=key_material_id, **values)
        return
    noted = [one | values if one.get("key_material_id") == key_material_id else one for one in rotated]
    run.note(ROTATE_KEY_MATERIAL, materials=noted)
