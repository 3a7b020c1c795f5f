"""What 00 asks for, and the table of all inputs: one model per step."""

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
    """Where the run works."""

    target: Literal["sandbox", "aws"] = choice("Target", "sandbox: a simulation on this machine. aws: real.", "sandbox")
    account_id: str = choice(
        "Account", "12 digits. With target aws it must equal the account you are signed in to.", ""
    )
    region: str = choice("Region", "Region of the key and the cluster; the post's is London.", "eu-west-2")

    @field_validator("account_id")
    @classmethod
    def _account(cls, value: str) -> str:
        if value and not re.fullmatch(r"\d{12}", value):
            raise ValueError(f"{value!r} is no account id: a quoted string of 12 digits, or '' for not given")
        return value

    @field_validator("region")
    @classmethod
    def _region(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-\d", value):
            raise ValueError(f"{value!r} is no Region; write e.g. 'eu-west-2'")
        return value

    @model_validator(mode="after")
    def _deliberate(self) -> Self:
        if self.target == "aws" and not self.account_id:
            raise ValueError("account_id: '' with target aws; write the 12 digits of the account you mean, in quotes")
        return self


class StartInputs(ClusterChoices, KeyNames, _Target):
    """00_start: where the run works, and the choices that can be checked before a key costs money."""

    not_in_form: ClassVar[frozenset[str]] = frozenset({"exercises"})


# The headings of a form, and what stands under each; what is not named here comes first, under none.
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
    "Only for material made in an HSM": (
        "pkcs11_module", "pkcs11_token_label", "pkcs11_key_label", "pkcs11_pin_from"),
    "Who keeps the original": (
        "custody", "recovery_public_keys", "accept_no_custody", "accept_plaintext_file", "keep_plaintext_file"),
}  # fmt: skip
