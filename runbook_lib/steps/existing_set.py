"""Decide whether the set of encrypted key material in a run folder is kept, refused or replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from runbook_lib.checks import Checks
from runbook_lib.errors import ArtefactMissing, ArtefactsMismatch
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.material_set import (
    read_set,
)
from runbook_lib.material.sources import read_public
from runbook_lib.plan import Action
from runbook_lib.run.materials import Material
from runbook_lib.run.records import ImportParameters, ImportRecord, MaterialRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import ENCRYPT_KEY_MATERIAL, IMPORT_KEY_MATERIAL
from runbook_lib.steps.custody_choice import backup_for_training

WRAPPING_PUBLIC_KEY = "WrappingPublicKey.bin"

AGAIN = f"run notebooks/{ENCRYPT_KEY_MATERIAL}.ipynb again"

# Keep, refuse or replace the set that exists --------------------------------------------------------------------


class SetState(NamedTuple):
    """The facts that decide about the set of encrypted key material in a run folder.

    imported: the key has, or had, this material. sent: ImportKeyMaterial was sent; its response may have been lost.
    of_this_pair: the set was made with the run's current wrapping key. same_choices: the inputs are those that it was
    made with. usable: its files are complete, and its source still holds the same material.
    """

    imported: bool
    sent: bool
    of_this_pair: bool
    same_choices: bool
    usable: bool


class Decision(NamedTuple):
    """A row of the truth table: the state that it fits (None: either), the action, and the reason."""

    imported: bool | None
    sent: bool | None
    of_this_pair: bool | None
    same_choices: bool | None
    usable: bool | None
    action: Action
    why: str

    def fits(self, state: SetState) -> bool:
        """Return whether the row applies to `state`."""
        return all(expected in (None, value) for expected, value in zip(self[:5], state, strict=True))


_IMPORT_AGAIN = "import the same material again with: runbook recover {run_id}"

# The first row that fits decides; when none fits, a new set replaces the old one, which was never imported.
DECISIONS = (
    #        imported sent  of_pair same   usable action    why
    Decision(True, None, False, None, None, "refuse", f"the key had this material, and KMS refuses any other; {_IMPORT_AGAIN}"),
    Decision(True, None, True, False, None, "refuse", f"it is imported, and {{changed}} can no longer change; {_IMPORT_AGAIN}, "
             "or start a new run"),
    Decision(True, None, True, True, None, "keep", "it is imported"),
    Decision(False, True, True, False, None, "refuse", "its import may be in progress, and {changed} can no longer "
             "change; finish step 04"),
    Decision(False, True, True, True, None, "keep", "its import may be in progress; finish step 04"),
    Decision(False, False, True, True, True, "keep", "it was made with the current wrapping key"),
)  # fmt: skip


def decide(state: SetState) -> Decision | None:
    """Return the row that applies to an existing set; None when a new set replaces it."""
    return next((row for row in DECISIONS if row.fits(state)), None)


@dataclass(frozen=True)
class ExistingSet:
    """The set in the run folder, compared with the current inputs."""

    run: Run
    pair: ImportParameters
    material: MaterialRecord
    asked: EncryptKeyMaterialInputs

    @cached_property
    def of_this_pair(self) -> bool:
        return self.material.wrapping_public_key_sha256 == self.pair.sha256[WRAPPING_PUBLIC_KEY]

    @cached_property
    def changed(self) -> list[str]:
        """The inputs that differ; one that is newer than the set does not count."""
        before, now = self.material.made_with, self.asked.model_dump()
        return sorted(name for name in now if name in before and now[name] != before[name])

    def state(self) -> SetState:
        """Return the facts for the decision; read the files only if the other facts do not decide.

        Step 02 fetches another pair only while the key has no material, and records whether it ever had any. If it never
        had, no import with an older pair took effect.
        """
        sent = self.run.was_sent(IMPORT_KEY_MATERIAL, "kms:ImportKeyMaterial")
        imported = bool(ImportRecord.so_far(self.run).key_material_id)
        imported = imported or (sent and bool(self.pair.key_material_id) and not self.of_this_pair)
        usable = self.of_this_pair and not (imported or sent) and self._is_usable()
        return SetState(imported, sent, self.of_this_pair, not self.changed, usable)

    def _is_usable(self) -> bool:
        if self.material.made_with != self.asked.model_dump() or backup_for_training(self.run, self.material.custody):
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
        """Return whether the source file, if it still exists, holds the material of the set."""
        path, source = Path(self.asked.key_material_file).expanduser(), self.asked.key_material_source
        if source not in ("file", "wrapped") or not path.is_file():
            return True
        if source == "file":
            with key_material.KeyMaterial.from_file(path, encoding=self.asked.key_material_encoding) as found:
                return found.key_check_value == self.material.key_check_value
        return self.material.brought == wrapped_sha256(self.asked)


def wrapped_sha256(asked: EncryptKeyMaterialInputs) -> str:
    """Return the SHA-256 of material that was wrapped elsewhere, which is public; "" for other sources."""
    if asked.key_material_source != "wrapped":
        return ""
    return key_material.fingerprint(read_public(asked.key_material_file))


# Verify -----------------------------------------------------------------------------------------------------------


def read_custody(run: Run, material: MaterialRecord) -> None:
    """Compare every file of the set with custody.json.

    Raises `ArtefactsMismatch` when a file does not belong to this set, and `ArtefactMissing` when one is missing.
    """
    read_set(run.read, fingerprint=material.set, advice=AGAIN)


def check_files(
    checks: Checks, read: Callable[[str], bytes], material: MaterialRecord | Material, *, claim: str
) -> None:
    """Add the claim that every file of the set is as step 03 wrote it. Raises `ArtefactMissing` when one is missing."""
    changed = [name for name, digest in material.files.items() if key_material.fingerprint(read(name)) != digest]
    number = f"{len(material.files)} files"
    checks.equal(claim, number, f"changed: {', '.join(changed)}" if changed else number, source="SHA-256 of each file")
