"""Inputs of 00, and the headings under which forms group the fields of all steps."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

from pydantic import (
    field_validator,
    model_validator,
)

from runbook_lib.inputs.base import Inputs, choice
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


class StartInputs(ClusterChoices, KeyNames, _Target):
    """00_start: the target of the run, and the inputs that can be checked before anything incurs costs."""

    not_in_form: ClassVar[frozenset[str]] = frozenset({"exercises"})


# The headings of a form and the fields under each; a field that is not named here comes first, without a heading.
GROUPS: dict[str, tuple[str, ...]] = {
    "Key": ("key_alias", "key_description", "key_administrators", "key_users", "grant_rds_service_linked_role",
            "allow_key_deletion"),
    "Cluster": ("db_cluster_identifier", "engine", "engine_version", "db_instance_class", "reader_count",
                "serverless_min_capacity", "serverless_max_capacity", "promotion_tier"),
    "Database": ("database_name", "port", "master_username", "master_user_secret_kms_key_id"),
    "Network": ("vpc_id", "db_subnet_group_name", "vpc_security_group_ids", "allowed_cidr"),
    "Parameter groups, monitoring and logs": (
        "db_cluster_parameter_group_name", "db_parameter_group_name", "monitoring_interval", "monitoring_role_arn",
        "enable_cloudwatch_logs_exports"),
    "Backup and protection": ("backup_retention_period", "deletion_protection", "copy_tags_to_snapshot"),
    "Tags": ("tags",),
    "Only for key material in an HSM": (
        "pkcs11_module", "pkcs11_token_label", "pkcs11_key_label", "pkcs11_pin_from"),
    "Key material backup": (
        "custody", "recovery_public_keys", "accept_no_custody", "accept_plaintext_file", "keep_plaintext_file"),
}  # fmt: skip
