"""The custody record: who keeps the key material, since when, under which algorithm; JSON in custody.json and state.json.

A typed view of what is on disk, without secrets. `recovery_copies` and `material_set` write the files that it names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runbook_lib.material.request import Custody, Source

Line = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]  # without control characters


class Holder(BaseModel):
    """One key material backup and the recovery key that opens it.

    `component_check_value` is set if the file holds one component of split key material.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    file: str = Field(pattern=r"^KeyMaterial\.[A-Za-z0-9.-]+\.bin$")
    recovery_key_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    algorithm: Literal["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"]
    training_only: bool
    component_check_value: str = Field(default="", pattern=r"^([0-9a-f]{6})?$")


class HsmFacts(BaseModel):
    """The PKCS#11 token that keeps the key material, and the attributes that it reports."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")
    __pydantic_extra__: dict[str, Line | bool | list[Line]] = Field(init=False)

    token_label: Line
    key_label: Line


class CustodyRecord(BaseModel):
    """Who keeps the key material. `key_check_value` is empty if the key material was wrapped elsewhere.

    `kind` is named `custody` in JSON.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", populate_by_name=True)

    kind: Custody = Field(alias="custody")
    source: Source
    key_check_value: str = Field(pattern=r"^([0-9a-f]{6})?$")
    made_at: Line
    holders: tuple[Holder, ...]
    hsm: HsmFacts | None = None
    keep_plaintext_file: bool = False

    @model_validator(mode="after")
    def _token_is_named(self) -> Self:
        if self.source == "pkcs11" and self.hsm is None:
            raise ValueError("hsm: missing, but source is pkcs11")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the record as in custody.json and state.json; fields that were never set are left out."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)

    @property
    def shown_check_value(self) -> str:
        """The key check value, or `unknown here` if the key material was wrapped elsewhere."""
        return self.key_check_value or "unknown here"

    def rows(self) -> list[tuple[str, str]]:
        """Return the record as (name, value) rows for display: one per fact, then one per holder."""
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
