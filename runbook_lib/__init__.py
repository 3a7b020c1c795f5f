"""The library behind the Aurora BYOK runbook's notebooks; what stands in `__all__` is what notebooks import.

Names are looked up when they are first used, so that importing one does not load the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {"Form": "form", "open_step": "step"}
_MODULES = (
    "choices",
    "clean_up",
    "drill",
    "inputs",
    "kms",
    "kms_import",
    "pictures",
    "practice",
    "preflight",
    "rds",
    "verification",
    "wrapping",
)

__all__ = [
    "Form",
    "choices",
    "clean_up",
    "drill",
    "inputs",
    "kms",
    "kms_import",
    "open_step",
    "pictures",
    "practice",
    "preflight",
    "rds",
    "verification",
    "wrapping",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"runbook_lib.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"runbook_lib.{name}")
    raise AttributeError(f"module 'runbook_lib' has no attribute {name!r}")
