"""The one table of steps: what each reads, writes, changes and calls; heads, navigation and order come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from runbook_lib.inputs.base import Inputs
from runbook_lib.inputs.cut_over import CutOverInputs
from runbook_lib.inputs.existing import EncryptExistingClusterInputs
from runbook_lib.inputs.kms import (
    CreateKeyInputs,
    EncryptKeyMaterialInputs,
    GetParametersForImportInputs,
    ImportKeyMaterialInputs,
    RotateKeyMaterialInputs,
)
from runbook_lib.inputs.rds import CleanUpInputs, CreateClusterInputs, VerifyEncryptionInputs
from runbook_lib.inputs.recovery import RecoveryDrillInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.inputs.watch import WatchKeyInputs

# The steps by name: the one place where they stand in code.
START = "00_start"
CREATE_KEY = "01_create_key"
GET_PARAMETERS_FOR_IMPORT = "02_get_parameters_for_import"
ENCRYPT_KEY_MATERIAL = "03_encrypt_key_material"
IMPORT_KEY_MATERIAL = "04_import_key_material"
CREATE_CLUSTER = "05_create_cluster"
VERIFY_ENCRYPTION = "06_verify_encryption"
ENCRYPT_EXISTING_CLUSTER = "10_encrypt_existing_cluster"
CUT_OVER = "11_cut_over"
CLUSTER_STEPS = (CREATE_CLUSTER, ENCRYPT_EXISTING_CLUSTER)
ROTATE_KEY_MATERIAL = "20_rotate_key_material"
WATCH_KEY = "21_watch_key"
RECOVERY_DRILL = "80_recovery_drill"
CLEAN_UP = "90_clean_up"

# What each step asks for.
STEP_INPUTS: dict[str, type[Inputs]] = {
    START: StartInputs,
    CREATE_KEY: CreateKeyInputs,
    GET_PARAMETERS_FOR_IMPORT: GetParametersForImportInputs,
    ENCRYPT_KEY_MATERIAL: EncryptKeyMaterialInputs,
    IMPORT_KEY_MATERIAL: ImportKeyMaterialInputs,
    CREATE_CLUSTER: CreateClusterInputs,
    VERIFY_ENCRYPTION: VerifyEncryptionInputs,
    ENCRYPT_EXISTING_CLUSTER: EncryptExistingClusterInputs,
    CUT_OVER: CutOverInputs,
    ROTATE_KEY_MATERIAL: RotateKeyMaterialInputs,
    WATCH_KEY: WatchKeyInputs,
    RECOVERY_DRILL: RecoveryDrillInputs,
    CLEAN_UP: CleanUpInputs,
}


@dataclass(frozen=True)
class Step:
    """One notebook: its place in the chain and what its head says."""

    name: str
    title: str
    line: str
    reads: str
    writes: str
    changes: str
    permissions: tuple[Mapping[str, Any], ...]
    cost: str
    time: str

    @property
    def number(self) -> str:
        """The two digits in front of the name."""
        return self.name[:2]

    @property
    def words(self) -> str:
        """The name as a person says it, such as `create key`."""
        return self.name[3:].replace("_", " ")

    @property
    def actions(self) -> tuple[str, ...]:
        """Every IAM action that the step may need, each once, in order."""
        return tuple(dict.fromkeys(action for row in self.permissions for action in row["actions"]))

    @property
    def actions_by_service(self) -> str:
        """The IAM actions, grouped, such as `kms: CreateKey, TagResource; iam: GetRole`."""
        groups: dict[str, list[str]] = {}
        for action in self.actions:
            service, _, name = action.partition(":")
            groups.setdefault(service, []).append(name)
        return "; ".join(f"{service}: {', '.join(names)}" for service, names in groups.items()) or "none"

    @property
    def inputs(self) -> type[Inputs]:
        """The model of what the step asks for."""
        return STEP_INPUTS[self.name]


@cache
def all_steps() -> dict[str, Step]:
    """Return every step by name, in order."""
    text = (files("runbook_lib") / "data" / "steps.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where there is one: ten times as fast
    rows: list[dict[str, Any]] = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    return {row["name"]: Step(**{**row, "permissions": tuple(row["permissions"])}) for row in rows}


def chain(*, existing: bool = False) -> list[Step]:
    """Return the steps that a headless run executes, in order: all but cleaning up.

    With `existing`, an existing cluster is encrypted (10) in place of a new one (05).
    """
    names = [name for name in all_steps() if name[:2] < "07"]
    if existing:
        names[names.index(CREATE_CLUSTER)] = ENCRYPT_EXISTING_CLUSTER
    return [all_steps()[name] for name in names]


def navigation(name: str) -> str:
    """Return the Markdown line that links all steps, the present one in bold."""
    links = [
        f"**{step.number} {step.words}**" if step.name == name else f"[{step.number} {step.words}]({step.name}.ipynb)"
        for step in all_steps().values()
    ]
    return " · ".join(links)


def head(name: str) -> str:
    """Return the Markdown head of a step's notebook: title, navigation, and the table of what it touches."""
    step = all_steps()[name]
    actions = ", ".join(f"`{action}`" for action in step.actions) or "none: runs without AWS"
    rows = {
        "reads from the run": step.reads,
        "writes to the run": step.writes,
        "changes in your account": step.changes,
        "IAM actions it needs": actions,
        "cost": step.cost,
        "time": step.time,
    }
    # No-break spaces keep the left column on one line wherever the page is shown.
    table = [f"| {label.replace(' ', chr(0xA0))} | {value} |" for label, value in rows.items()]
    return "\n".join(
        [
            f"# {int(step.number)}. {step.title}",
            "",
            navigation(name),
            "",
            "| | |",
            "| :--- | :--- |",
            *table,
        ]
    )


def table(folder: str) -> str:
    """Return the Markdown table of all steps, with links into `folder`: what a README shows."""
    rows = [
        f"| [{step.number} {step.words}]({folder}/{step.name}.ipynb) | {step.line} |" for step in all_steps().values()
    ]
    return "\n".join(["| step | what it does |", "| --- | --- |", *rows])
