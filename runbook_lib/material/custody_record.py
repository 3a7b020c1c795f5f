"""The custody record: who keeps the key material, since when, under which algorithm. JSON in custody.json and state.json.

A typed view of what is on disk; no secret in it. The files that it names are `recovery_copies` and `material_set`.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runbook_lib.material.request import Custody, Source


class Holder(BaseModel):
    """One custody file and the recovery key that opens it.

    `component_check_value` is set where the file holds a component of split material, not the whole of it.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    file: str
    recovery_key_sha256: str
    algorithm: str
    training_only: bool
    component_check_value: str = ""


class HsmFacts(BaseModel):
    """Where key material was made in a PKCS#11 token, and what the token says of it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    token_label: str
    key_label: str


class CustodyRecord(BaseModel):
    """Who keeps the key material. `key_check_value` is empty where the material was wrapped elsewhere.

    `kind` is called `custody` in JSON.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", populate_by_name=True)

    kind: Custody = Field(alias="custody")
    source: Source
    key_check_value: str = Field(pattern=r"^([0-9a-f]{6})?$")
    made_at: str
    holders: tuple[Holder, ...]
    hsm: HsmFacts | None = None
    keep_plaintext_file: bool = False

    @model_validator(mode="after")
    def _token_is_named(self) -> Self:
        if self.source == "pkcs11" and self.hsm is None:
            raise ValueError("hsm: source pkcs11 without the token")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the record as custody.json and state.json hold it: what was never set is left out."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)

    @property
    def shown_check_value(self) -> str:
        """The key check value, or words where nobody here knows it."""
        return self.key_check_value or "unknown here"

    def rows(self) -> list[tuple[str, str]]:
        """Return the record as rows for a person: one for each fact, one for each holder."""
        facts = {name: value for name, value in self.to_json().items() if name not in ("holders", "hsm")}
        shown = [(name.replace("_", " "), str(value)) for name, value in facts.items()]
        for holder in self.holders:
            component = (
                f", component check value {holder.component_check_value}" if holder.component_check_value else ""
            )
            training = ", TRAINING ONLY" if holder.training_only else ""
            key = f"recovery key SHA-256 {holder.recovery_key_sha256}, {holder.algorithm}{component}{training}"
            shown.append((holder.file, key))
        token = self.hsm.model_dump(exclude_unset=True) if self.hsm else {}
        return [*shown, *((f"HSM {name.replace('_', ' ')}", str(value)) for name, value in token.items())]
