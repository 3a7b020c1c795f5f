"""What becomes of the set of encrypted key material that a run folder holds already: kept, refused or replaced."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from runbook_lib.errors import ArtefactMissing, ArtefactsMismatch
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.material_set import (
    read_set,
)
from runbook_lib.material.sources import read_public
from runbook_lib.plan import Action
from runbook_lib.run.records import ImportParameters, ImportRecord, MaterialRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import ENCRYPT_KEY_MATERIAL, IMPORT_KEY_MATERIAL

WRAPPING_PUBLIC_KEY = "WrappingPublicKey.bin"

AGAIN = f"run notebooks/{ENCRYPT_KEY_MATERIAL}.ipynb again"

# Keep, refuse or replace the set that exists --------------------------------------------------------------------


class SetState(NamedTuple):
    """What decides about the set of encrypted key material that a run folder holds.

    imported: the key has, or had, this material. sent: ImportKeyMaterial was sent, and its answer may have been lost.
    of_this_pair: the set was made with the wrapping key that the run holds now. same_choices: no choice differs from
    those it was made with. usable: its files are complete, and its source still holds the same material.
    """

    imported: bool
    sent: bool
    of_this_pair: bool
    same_choices: bool
    usable: bool


class Decision(NamedTuple):
    """A row of the truth table: the state it fits (None: either), and the action with its reason."""

    imported: bool | None
    sent: bool | None
    of_this_pair: bool | None
    same_choices: bool | None
    usable: bool | None
    action: Action
    why: str

    def fits(self, state: SetState) -> bool:
        """Return whether the row is about `state`."""
        return all(wanted in (None, value) for wanted, value in zip(self[:5], state, strict=True))


_BRING_BACK = "import the same material again with: runbook recover {run_id}"

# The first row that fits decides; when none fits, a new set replaces the old one, which was never imported.
DECISIONS = (
    #        imported sent  of_pair same   usable action    why
    Decision(True, None, False, None, None, "refuse", f"the key had this material, KMS refuses any other; {_BRING_BACK}"),
    Decision(True, None, True, False, None, "refuse", f"it is imported, it is too late to change {{changed}}; {_BRING_BACK}, "
             "or start a new run"),
    Decision(True, None, True, True, None, "keep", "it is imported"),
    Decision(False, True, True, False, None, "refuse", "its import may be under way, it is too late to change {changed}: "
             "finish 04"),
    Decision(False, True, True, True, None, "keep", "its import may be under way: finish 04"),
    Decision(False, False, True, True, True, "keep", "it belongs to the wrapping key"),
)  # fmt: skip


def decide(state: SetState) -> Decision | None:
    """Return what becomes of the set that exists; None when a new one is to be made."""
    return next((row for row in DECISIONS if row.fits(state)), None)


@dataclass(frozen=True)
class ExistingSet:
    """The set in the run folder, held against what is asked for now."""

    run: Run
    pair: ImportParameters
    material: MaterialRecord
    asked: EncryptKeyMaterialInputs

    @cached_property
    def of_this_pair(self) -> bool:
        return self.material.wrapping_public_key_sha256 == self.pair.sha256[WRAPPING_PUBLIC_KEY]

    @cached_property
    def changed(self) -> list[str]:
        """The choices that differ; one that the run did not know when the set was made does not count."""
        before, now = self.material.made_with, self.asked.model_dump()
        return sorted(name for name in now if name in before and now[name] != before[name])

    def state(self) -> SetState:
        """Return the state; files are read only where they decide.

        02 fetches another pair only while the key has no material, and records whether it ever had any. If it had
        not, an import with an older pair did not happen.
        """
        sent = self.run.was_sent(IMPORT_KEY_MATERIAL, "kms:ImportKeyMaterial")
        imported = bool(ImportRecord.so_far(self.run).key_material_id)
        imported = imported or (sent and bool(self.pair.key_material_id) and not self.of_this_pair)
        usable = self.of_this_pair and not (imported or sent) and self._is_usable()
        return SetState(imported, sent, self.of_this_pair, not self.changed, usable)

    def _is_usable(self) -> bool:
        if self.material.made_with != self.asked.model_dump():
            return False
        try:
            read_custody(self.run, self.material)
        except (ArtefactsMismatch, ArtefactMissing):
            return False
        in_clear = self.material.custody.kind == "file"
        if in_clear and not (self.run.path / recovery_copies.PLAINTEXT).is_file():
            return False
        return self._source_is_the_same()

    def _source_is_the_same(self) -> bool:
        """Return whether the file that the material came from, if it still exists, holds what the set was made of."""
        path, source = Path(self.asked.key_material_file).expanduser(), self.asked.key_material_source
        if source not in ("file", "wrapped") or not path.is_file():
            return True
        if source == "file":
            with key_material.KeyMaterial.from_file(path, encoding=self.asked.key_material_encoding) as found:
                return found.key_check_value == self.material.key_check_value
        return self.material.brought == wrapped_sha256(self.asked)


def wrapped_sha256(asked: EncryptKeyMaterialInputs) -> str:
    """Return the SHA-256 of material that was wrapped elsewhere, which is public; "" for all else."""
    if asked.key_material_source != "wrapped":
        return ""
    return key_material.fingerprint(read_public(asked.key_material_file))


# Verify -----------------------------------------------------------------------------------------------------------


def read_custody(run: Run, material: MaterialRecord) -> None:
    """Hold every file of the set against custody.json.

    Raises `ArtefactsMismatch` when a file is not of this set, and `ArtefactMissing` when one is missing.
    """
    read_set(run.read, fingerprint=material.set, advice=AGAIN)
