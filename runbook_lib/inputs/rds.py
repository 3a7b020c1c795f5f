"""Inputs of the steps that concern the cluster: 05, 06 and 90."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    field_validator,
    model_validator,
)

from runbook_lib.inputs.aws_rules import LOGS, check, longest_cluster_identifier, rule
from runbook_lib.inputs.base import Inputs, check_tags, choice, matching

PORTS = {"aurora-mysql": 3306, "aurora-postgresql": 5432}
# Seconds between two polls, by target, where poll_seconds is 0.
POLL_SECONDS = {"aws": 30.0, "sandbox": 0.2}


Engine = Literal["aurora-mysql", "aurora-postgresql"]


class ClusterChoices(Inputs):
    """The inputs of the cluster that 00 checks before a key exists, and that 05 uses."""

    db_cluster_identifier: str = choice("DB cluster identifier", "Name of the new DB cluster.", "aurora-byok")
    engine: Engine = choice(
        "Engine", "aurora-mysql: Aurora MySQL. aurora-postgresql: Aurora PostgreSQL.", "aurora-mysql"
    )
    engine_version: str = choice(
        "Engine version",
        "Empty: the available long-term support (LTS) version, else the engine's default version.",
        "",
    )
    db_instance_class: str = choice(
        "Instance class",
        "db.t4g.medium: the smallest current class. db.serverless: Aurora Serverless v2.",
        "db.t4g.medium",
    )
    serverless_min_capacity: float = choice("Serverless minimum", "ACUs in steps of 0.5. 0: pauses when idle.", 0.0)
    serverless_max_capacity: float = choice("Serverless maximum", "ACUs in steps of 0.5, 1 to 256.", 2.0)
    reader_count: int = choice(
        "Readers",
        "Aurora Replicas in other Availability Zones. 0: a single instance. 1: Multi-AZ, as in the AWS post.",
        0,
        ge=0,
        le=15,
    )
    vpc_id: str = choice("VPC", "VPC ID. Empty: the default VPC.", "")
    db_subnet_group_name: str = choice(
        "Subnet group", "Name of an existing DB subnet group. Empty: a new one in the VPC.", ""
    )
    vpc_security_group_ids: list[str] = choice(
        "Security groups", "IDs of existing groups. Empty: a new one that admits the allowed network only.", []
    )
    db_cluster_parameter_group_name: str = choice(
        "Cluster parameter group", "Name of an existing one. Empty: the engine's default.", ""
    )
    db_parameter_group_name: str = choice(
        "Instance parameter group", "Name of an existing one. Empty: the engine's default.", ""
    )
    monitoring_interval: int = choice(
        "Enhanced Monitoring",
        "Seconds between samples: 1, 5, 10, 15, 30 or 60. 0: off.",
        0,
        json_schema_extra={"choices": [0, 1, 5, 10, 15, 30, 60]},
    )
    monitoring_role_arn: str = choice(
        "Monitoring role", "ARN of its IAM role. Required with Enhanced Monitoring only.", ""
    )
    master_user_secret_kms_key_id: str = choice(
        "Key of the managed password",
        "Key ARN or alias that encrypts its secret. Empty: aws/secretsmanager. With the imported key, the password "
        "becomes unreadable when the key material is deleted or expires.",
        "",
    )

    _identifier = field_validator("db_cluster_identifier")(rule("db_cluster_identifier", optional=True))
    _class = field_validator("db_instance_class")(
        matching(r"db\.[a-z0-9]+(\.[a-z0-9]+)?", "is not a valid instance class; write e.g. 'db.t4g.medium'")
    )
    _vpc = field_validator("vpc_id")(
        matching(r"vpc-[0-9a-f]{8,17}", "is not a valid VPC ID; write e.g. 'vpc-0a1b2c3d'")
    )
    _groups = field_validator("db_subnet_group_name", "db_cluster_parameter_group_name", "db_parameter_group_name")(
        matching(
            r"[A-Za-z][A-Za-z0-9._ -]{0,254}",
            "is not a valid group name: write a letter, then letters, digits, spaces, '.', '_' or '-'",
        )
    )
    _role = field_validator("monitoring_role_arn")(
        matching(
            r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+",
            "is not a valid role ARN; write e.g. 'arn:aws:iam::123456789012:role/rds-monitoring-role'",
        )
    )

    @field_validator("db_cluster_identifier")
    @classmethod
    def _named(cls, value: str) -> str:
        if not value:
            raise ValueError("'' is not a valid identifier; give the cluster a name")
        return value

    @field_validator("vpc_security_group_ids")
    @classmethod
    def _security_groups(cls, values: list[str]) -> list[str]:
        for value in values:
            if not re.fullmatch(r"sg-[0-9a-f]{8,17}", str(value)):
                raise ValueError(f"{value!r} is not a valid security group ID; write e.g. 'sg-0a1b2c3d'")
        return values

    _interval = field_validator("monitoring_interval")(rule("monitoring_interval"))

    @field_validator("serverless_min_capacity", "serverless_max_capacity", mode="before")
    @classmethod
    def _whole_acus(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    _least = field_validator("serverless_min_capacity")(rule("serverless_min_capacity"))
    _most = field_validator("serverless_max_capacity")(rule("serverless_max_capacity"))

    @model_validator(mode="after")
    def _derived(self) -> Self:
        longest = longest_cluster_identifier(self.reader_count + 1)
        if len(self.db_cluster_identifier) > longest:
            raise ValueError(
                f"db_cluster_identifier: {self.db_cluster_identifier!r} has {len(self.db_cluster_identifier)} characters; write "
                f"at most {longest}, since its instances are named {self.db_cluster_identifier[:12]}…-1 to …-"
                f"{self.reader_count + 1}, of at most 63"
            )
        return self

    @model_validator(mode="after")
    def _capacities(self) -> Self:
        if self.serverless_max_capacity < self.serverless_min_capacity:
            raise ValueError(
                f"serverless_max_capacity: {self.serverless_max_capacity} is below serverless_min_capacity, "
                f"{self.serverless_min_capacity}; raise it"
            )
        return self

    @model_validator(mode="after")
    def _monitoring(self) -> Self:
        if self.monitoring_interval and not self.monitoring_role_arn:
            raise ValueError(
                f"monitoring_interval: {self.monitoring_interval} needs monitoring_role_arn, a role that trusts "
                "monitoring.rds.amazonaws.com; give one, or set monitoring_interval: 0"
            )
        return self


class CreateClusterInputs(ClusterChoices):
    """05_create_cluster: everything that the AWS post sets in the RDS console."""

    database_name: str = choice("Database name", "Name of the first database. Empty: none.", "appdb")
    port: int = choice("Port", "0: the engine's default (3306 or 5432).", 0)
    master_username: str = choice("Master user name", "RDS creates and manages its password.", "dbadmin")
    allowed_cidr: str = choice(
        "Allowed network", "CIDR block from which the new security group allows inbound traffic. Empty: none.", ""
    )
    promotion_tier: int = choice("Failover priority", "0 (first) to 15. The AWS post keeps the default, 1.", 1)
    backup_retention_period: int = choice("Backup retention", "Days that automated backups are kept, 1 to 35.", 1)
    deletion_protection: bool = choice("Deletion protection", "Recommended for a cluster that you keep.", False)
    copy_tags_to_snapshot: bool = choice("Copy tags to snapshots", "Snapshots can then be found by tag.", True)
    enable_cloudwatch_logs_exports: list[str] = choice(
        "Log exports",
        "; ".join(f"{engine}: {', '.join(logs)}" for engine, logs in LOGS.items()) + ". Sent to CloudWatch Logs.",
        [],
        json_schema_extra={"choices": sorted({log for logs in LOGS.values() for log in logs})},
    )
    tags: dict[str, str] = choice("Tags", "Tags for every resource that the run creates.", {})

    _tags = field_validator("tags")(check_tags)
    _port = field_validator("port")(rule("port", optional=True))
    _tier = field_validator("promotion_tier")(rule("promotion_tier"))
    _retention = field_validator("backup_retention_period")(rule("backup_retention_period"))

    @field_validator("allowed_cidr")
    @classmethod
    def _cidr(cls, value: str) -> str:
        if not value:
            return value
        try:
            network = ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is not a valid network: {error}; write e.g. 10.0.0.0/16") from None
        if network.prefixlen == 0:
            raise ValueError(f"{value!r} admits the whole internet; write the network of the database's clients")
        return value

    @model_validator(mode="after")
    def _by_engine(self) -> Self:
        given = [("master_username", self.master_username), ("database_name", self.database_name)]
        given += [("enable_cloudwatch_logs_exports", log) for log in self.enable_cloudwatch_logs_exports]
        for field, value in given:
            if value or field != "database_name":  # no database is possible
                try:
                    check(field, value, self.engine)
                except ValueError as error:
                    raise ValueError(f"{field}: {error}") from None
        return self


class VerifyEncryptionInputs(Inputs):
    """06_verify_encryption: how long to wait, and which further evidence to gather."""

    wait_timeout_minutes: int = choice(
        "Maximum wait", "Minutes for the cluster and its instances to become available.", 60, ge=1, le=600
    )
    poll_seconds: int = choice(
        "Poll every",
        f"Seconds between two polls. 0: {POLL_SECONDS['aws']:g} on AWS, {POLL_SECONDS['sandbox']:g} in the sandbox.",
        0,
        ge=0,
        le=300,
    )
    take_snapshot: bool = choice("Take a snapshot", "A manual snapshot as further evidence. It is kept.", False)
    read_cloudtrail: bool = choice(
        "Read CloudTrail", "Events of the key and the cluster, for the report. Needs cloudtrail:LookupEvents.", True
    )
    backups_kept_elsewhere: bool = choice(
        "Backups are kept elsewhere",
        "Pass although backups of the key material are missing from the run folder, because they are in a safe place.",
        False,
    )
    rotate_every_days: int = choice(
        "Days until a rotation is due",
        "Fail if the last rotation is older: a finding, nothing is rotated. 0: rotation is never due.",
        0, ge=0, le=3650,
    )  # fmt: skip
    warn_days_before_expiry: int = choice(
        "Days of warning before expiry",
        "A repeated verification fails from then on before a key material expires, and names the clusters. 0: never.",
        7, ge=0, le=365,
    )  # fmt: skip


class CleanUpInputs(Inputs):
    """90_clean_up: the confirmation, and the waiting period of the key."""

    remembered: ClassVar[bool] = False
    typed_each_time: ClassVar[frozenset[str]] = frozenset({"confirm_db_cluster_identifier"})

    confirm_db_cluster_identifier: str = choice(
        "Type the cluster's name to delete",
        "Its DB cluster identifier. Empty: the plan is shown, nothing is deleted.",
        "",
    )
    pending_window_in_days: int = choice(
        "Waiting period of the key", "Days in which its deletion can be cancelled, 7 to 30.", 30
    )
    final_db_snapshot_identifier: str = choice(
        "Final snapshot", "Name of the snapshot. Empty: none. While it exists, the key is kept.", ""
    )
    ignore_grant_ids: list[str] = choice(
        "Grants to ignore",
        "Ids of grants on the key that nobody needs any more; any other foreign grant keeps the key.",
        [],
    )
    _snapshot = field_validator("final_db_snapshot_identifier")(rule("final_db_snapshot_identifier", optional=True))
    _window = field_validator("pending_window_in_days")(rule("pending_window_in_days"))
