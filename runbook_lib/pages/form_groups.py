"""How the fields of a form are arranged: their headings, and which of them belong to the choice of another field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.inputs.aws_rules import LOGS

# The headings of a form and the fields under each; a field that is not named here comes first, without a heading.
GROUPS: dict[str, tuple[str, ...]] = {
    "Key": ("key_alias", "key_description", "key_administrators", "key_users", "grant_rds_service_linked_role",
            "allow_key_deletion"),
    "Cluster": ("source_db_cluster_identifier", "db_cluster_identifier", "engine", "engine_version", "db_instance_class",
                "reader_count", "serverless_min_capacity", "serverless_max_capacity", "promotion_tier"),
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

# A field that has a meaning with some values of another field only, and those values.
APPEARS_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "key_material_file": ("key_material_source", ("file", "wrapped", "recovery")),
    "key_material_encoding": ("key_material_source", ("file",)),
    "recovery_private_key": ("key_material_source", ("recovery",)),
    "recovery_password_from": ("key_material_source", ("recovery",)),
    "pkcs11_module": ("key_material_source", ("pkcs11",)),
    "pkcs11_token_label": ("key_material_source", ("pkcs11",)),
    "pkcs11_key_label": ("key_material_source", ("pkcs11",)),
    "pkcs11_pin_from": ("key_material_source", ("pkcs11",)),
    "recovery_public_keys": ("custody", ("recovery_key", "split")),
    "accept_no_custody": ("custody", ("none", "file")),
    "accept_plaintext_file": ("custody", ("file",)),
    "keep_plaintext_file": ("custody", ("file",)),
    "valid_to": ("expiration_model", ("KEY_MATERIAL_EXPIRES",)),
    "serverless_min_capacity": ("db_instance_class", ("db.serverless",)),
    "serverless_max_capacity": ("db_instance_class", ("db.serverless",)),
    "monitoring_role_arn": ("monitoring_interval", (1, 5, 10, 15, 30, 60)),
} | dict.fromkeys(
    (  # an existing cluster keeps what it has
        "engine", "engine_version", "db_instance_class", "reader_count", "vpc_id", "db_subnet_group_name",
        "vpc_security_group_ids", "db_cluster_parameter_group_name", "db_parameter_group_name", "monitoring_interval",
        "master_user_secret_kms_key_id",
    ),
    ("source_db_cluster_identifier", ("",)),
)  # fmt: skip

# A field that offers other options with each value of another field.
OPTIONS_WITH: dict[str, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    "enable_cloudwatch_logs_exports": ("engine", LOGS),
}


def belongs(name: str, values: Mapping[str, Any]) -> bool:
    """Return whether field `name` has a meaning with the choices in `values`."""
    other, chosen = APPEARS_WITH.get(name, ("", ()))
    return other not in values or values[other] in chosen


def options(name: str, values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what field `name` offers with the choices in `values`; None if that does not depend on them."""
    other, offered = OPTIONS_WITH.get(name, ("", {}))
    return offered.get(values.get(other, ""))
