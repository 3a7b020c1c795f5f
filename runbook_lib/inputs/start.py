"""Inputs of 00, and the headings under which forms group the fields of all steps."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

from pydantic import (
    field_validator,
    model_validator,
)

from runbook_lib.inputs.base import Inputs, choice
from runbook_lib.inputs.existing import SUFFIX, SourceChoices
from runbook_lib.inputs.kms import (
    KeyNames,
)
from runbook_lib.inputs.rds import ClusterChoices


class _Target(Inputs):
    """The target of the run."""

    target: Literal["sandbox", "aws"] = choice(
        "Target", "sandbox: a simulation of AWS on this machine. aws: your AWS account.", "sandbox"
    )
    account_id: str = choice("Account", "12 digits. With target aws: the account that you are signed in to.", "")
    region: str = choice(
        "Region", "AWS Region of the key and the cluster. The AWS post uses London, eu-west-2.", "eu-west-2"
    )

    @field_validator("account_id")
    @classmethod
    def _account(cls, value: str) -> str:
        if value and not re.fullmatch(r"\d{12}", value):
            raise ValueError(f"{value!r} is not a valid account ID; write 12 digits in quotes, or '' for none")
        return value

    @field_validator("region")
    @classmethod
    def _region(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-\d", value):
            raise ValueError(f"{value!r} is not a valid Region; write e.g. 'eu-west-2'")
        return value

    @model_validator(mode="after")
    def _deliberate(self) -> Self:
        if self.target == "aws" and not self.account_id:
            raise ValueError(
                "account_id: '' is not possible with target aws; write the 12 digits of the account, in quotes"
            )
        return self


class StartInputs(ClusterChoices, SourceChoices, KeyNames, _Target):
    """00_start: the target of the run, and the inputs that can be checked before anything incurs costs."""

    not_in_form: ClassVar[frozenset[str]] = frozenset({"exercises"})

    @property
    def cluster_identifier(self) -> str:
        """The name of the new cluster: with an existing one to encrypt, the temporary name until the cut-over."""
        named, source = self.db_cluster_identifier, self.source_db_cluster_identifier
        if source and named == ClusterChoices.model_fields["db_cluster_identifier"].default:
            return f"{source}{SUFFIX}"
        return named
