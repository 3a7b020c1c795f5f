"""Rotation: automatic for KMS-generated material, on demand for both kinds of material, and ListKeyRotations.

moto gap: on-demand rotation only stores a date (no new material, no check of a pending one, no progress), the list has no
materials, and automatic rotation can be enabled for imported keys.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from moto.kms.models import Key

from runbook_sandbox.instruments import clock
from runbook_sandbox.kms import keys
from runbook_sandbox.kms.base import KmsBase, error
from runbook_sandbox.kms.extension import KeyExtension, Rotation
from runbook_sandbox.kms.materials import Material

MOST_ON_DEMAND_ROTATIONS = 25
_SHORTEST_PERIOD, _LONGEST_PERIOD = 90, 2560


def rotate_when_due(key: Key) -> None:
    """Carry out the automatic rotations that are due; they wait while the key is not enabled."""
    state = keys.refresh(key)
    while state.rotation_enabled_at is not None and key.key_state == "Enabled":
        due = state.rotation_enabled_at + timedelta(days=state.rotation_period)
        if clock.now() < due:
            return
        keys.make_current(key, Material.generated(key.id, os.urandom(32), "NON_CURRENT"), "AUTOMATIC", due)
        keys.refresh(key)
        state.rotation_enabled_at = due


class RotationOperations(KmsBase):
    """The operations on rotation."""

    def enable_key_rotation(self) -> str:
        period = self.parameters.get("RotationPeriodInDays", 365)
        if not _SHORTEST_PERIOD <= period <= _LONGEST_PERIOD:
            raise error("ValidationException", "RotationPeriodInDays must be between 90 and 2560.")
        state = self.extension
        if state.rotation_enabled_at is None or "RotationPeriodInDays" in self.parameters:
            state.rotation_enabled_at, state.rotation_period = clock.now(), period
        self.key.key_rotation_status = True
        return "{}"

    def disable_key_rotation(self) -> str:
        self.extension.rotation_enabled_at = None
        self.key.key_rotation_status = False
        return "{}"

    def get_key_rotation_status(self) -> str:
        if not keys.is_symmetric(self.key):
            raise error("UnsupportedOperationException", f"{self.key.arn} is not a symmetric encryption key.")
        rotate_when_due(self.key)
        state = self._look()
        answer: dict[str, Any] = {"KeyId": self.key.id, "KeyRotationEnabled": self.key.key_manager == "AWS"}
        if state.rotation_enabled_at is not None and not self.key.key_state.endswith("Deletion"):
            following = state.rotation_enabled_at + timedelta(days=state.rotation_period)
            answer |= {
                "KeyRotationEnabled": True,
                "RotationPeriodInDays": state.rotation_period,
                "NextRotationDate": following.timestamp(),
            }
        if state.rotation is not None:
            answer["OnDemandRotationStartDate"] = state.rotation.started.timestamp()
        return json.dumps(answer)

    def _look(self) -> KeyExtension:
        """Return the key's state; a rotation that was looked at often enough is done."""
        state = self.extension
        if state.rotation is not None:
            state.rotation.looks_left -= 1
            if state.rotation.looks_left < 0:
                keys.complete_rotation(self.key, clock.now())
                keys.refresh(self.key)
        return state

    def rotate_key_on_demand(self) -> str:
        """Start a rotation that is carried out in the background, see `extension.Rotation`."""
        state = self.extension
        if state.on_demand_rotations >= MOST_ON_DEMAND_ROTATIONS:
            raise error(
                "LimitExceededException",
                "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be "
                f"performed for this key: {self.key.arn}",
            )
        if keys.is_replica(self.key):
            raise error("UnsupportedOperationException", "A replica key cannot be rotated; rotate the primary key.")
        if state.rotation is not None:
            raise error("ConflictException", f"A rotation of {self.key.arn} is in progress.")
        if self.key.origin == "EXTERNAL":
            self._require_new_material(state)
        else:
            state.materials.append(Material.generated(self.key.id, os.urandom(32), "PENDING_ROTATION"))
        state.rotation = Rotation(clock.now())
        state.on_demand_rotations += 1
        return json.dumps({"KeyId": self.key.arn})

    def _require_new_material(self, state: KeyExtension) -> None:
        pending = state.pending
        if pending is None or pending.value is None:
            raise error(
                "KMSInvalidStateException",
                f"No available key material pending rotation for the key: {self.key.arn}.",
            )
        for replica in keys.replicas_of(self.key):
            own = next((one for one in keys.extension_of(replica).materials if one.id == pending.id), None)
            if own is None or own.value is None:
                raise error(
                    "KMSInvalidStateException",
                    f"Import the new key material into the replica in {replica.region} first.",
                )

    def list_key_rotations(self) -> str:
        if not keys.is_symmetric(self.key):
            raise error("UnsupportedOperationException", f"{self.key.arn} is not a symmetric encryption key.")
        rotate_when_due(self.key)
        everything = self.parameters.get("IncludeKeyMaterial") == "ALL_KEY_MATERIAL"
        known = [
            one for one in self._look().materials if self.key.origin == "EXTERNAL" or one.state != "PENDING_ROTATION"
        ]
        shown = [one for one in known if everything or one.rotation_date is not None]
        shown.sort(key=lambda one: (one.state.startswith("PENDING"), one.rotation_date is not None,
                                    one.rotation_date or clock.now()))  # fmt: skip
        chosen, paging = self.page([self._material_entry(one) for one in shown], default=100)
        return json.dumps({"Rotations": chosen, **paging})

    def _material_entry(self, material: Material) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "KeyId": self.key.id, "KeyMaterialId": material.id, "KeyMaterialState": material.state
        }  # fmt: skip
        if self.key.origin == "EXTERNAL":
            entry["ImportState"] = "IMPORTED" if material.value is not None else "PENDING_IMPORT"
            if material.description:
                entry["KeyMaterialDescription"] = material.description
            if material.value is not None:
                entry["ExpirationModel"] = material.expiration_model
                if material.valid_to is not None:
                    entry["ValidTo"] = material.valid_to.timestamp()
        if material.rotation_date is not None:
            entry |= {"RotationDate": material.rotation_date.timestamp(), "RotationType": material.rotation_type}
        return entry
