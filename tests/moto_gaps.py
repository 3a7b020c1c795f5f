"""What plain moto answers differently from AWS: one check per gap, run twice.

Each check passes against the sandbox and fails against plain moto (both in test_sandbox_gaps). When a check passes
against plain moto, delete the override that its decorator names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from rds_support import Aws


@dataclass(frozen=True)
class Gap:
    """A check, and the override that it justifies (module.name in runbook_sandbox)."""

    override: str
    check: Callable[[Aws], None]

    @property
    def name(self) -> str:
        return self.check.__name__


GAPS: list[Gap] = []


def gap(override: str) -> Callable[[Callable[[Aws], None]], Callable[[Aws], None]]:
    """Register a check for the override that it justifies."""

    def noted(check: Callable[[Aws], None]) -> Callable[[Aws], None]:
        GAPS.append(Gap(override, check))
        return check

    return noted


def cases(*marks: Any) -> list[Any]:
    """Return the gaps as pytest parameters."""
    return [pytest.param(one, id=f"{one.override}:{one.name}", marks=marks) for one in GAPS]
