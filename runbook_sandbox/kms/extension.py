"""What moto's Key does not store of a KMS key; `keys.extension_of` returns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runbook_sandbox.kms.materials import Material

# A rotation on demand is carried out in the background (KMS API, RotateKeyOnDemand): it is done after so many looks at
# the key's rotation, and after so much time in any case.
LOOKS = 2
LONGEST_ROTATION = timedelta(minutes=1)


@dataclass
class Rotation:
    """A rotation on demand that is in progress."""

    started: datetime
    looks_left: int = LOOKS


@dataclass
class KeyExtension:
    """A key's state that moto's Key does not store; attached to it as `key.runbook`."""

    disabled: bool = False
    deletion: datetime | None = None
    window_days: int = 30
    awaits_replicas: bool = False
    last_replica_gone: datetime | None = None
    materials: list[Material] = field(default_factory=list)
    on_demand_rotations: int = 0
    rotation: Rotation | None = None
    last_usage: tuple[str, datetime, str] | None = None
    rotation_period: int = 365
    rotation_enabled_at: datetime | None = None
    alias_dates: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)

    @property
    def permanent(self) -> list[Material]:
        """The materials that must all be present for the key to work."""
        return [material for material in self.materials if material.state in ("CURRENT", "NON_CURRENT")]

    @property
    def current(self) -> Material | None:
        """The material that encrypts, present or not."""
        return next((material for material in self.materials if material.state == "CURRENT"), None)

    @property
    def pending(self) -> Material | None:
        """The material that is pending rotation."""
        waiting = ("PENDING_ROTATION", "PENDING_MULTI_REGION_IMPORT_AND_ROTATION")
        return next((material for material in self.materials if material.state in waiting), None)
