"""The library behind the Aurora BYOK runbook's notebooks; notebooks import the names in `__all__`.

Names are loaded on first use, so that importing one does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Each public name and its module; a name in _OBJECTS is an object of the module, any other is the module itself.
_HOME = {
    "clean_up": "steps.clean_up",
    "create_cluster": "steps.create_cluster",
    "create_key": "steps.create_key",
    "cut_over": "steps.cut_over",
    "encrypt_existing_cluster": "steps.encrypt_existing_cluster",
    "encrypt_key_material": "steps.encrypt_key_material",
    "get_parameters_for_import": "steps.get_parameters_for_import",
    "import_key_material": "steps.import_key_material",
    "open_step": "steps.open_step",
    "pictures": "pages.pictures",
    "recovery_drill": "steps.recovery_drill",
    "review_policy": "steps.review_policy",
    "rotate_key_material": "steps.rotate_key_material",
    "start": "steps.start",
    "task": "steps.tasks.work",
    "try_it": "steps.exercises",
    "verify_encryption": "steps.verify_encryption",
    "watch_key": "steps.watch_key",
}
_OBJECTS = {"open_step", "task", "try_it"}

__all__ = [
    "clean_up",
    "create_cluster",
    "create_key",
    "cut_over",
    "encrypt_existing_cluster",
    "encrypt_key_material",
    "get_parameters_for_import",
    "import_key_material",
    "open_step",
    "pictures",
    "recovery_drill",
    "review_policy",
    "rotate_key_material",
    "start",
    "task",
    "try_it",
    "verify_encryption",
    "watch_key",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'runbook_lib' has no attribute {name!r}")
    module = import_module(f"runbook_lib.{_HOME[name]}")
    return getattr(module, name) if name in _OBJECTS else module
