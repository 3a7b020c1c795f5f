"""The headings of a form, and which fields stand under each; a field that no group names comes first."""

from __future__ import annotations

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
