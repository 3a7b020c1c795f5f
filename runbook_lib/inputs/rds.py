"""What the steps ask for that concern the cluster: 05, 06 and 90."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    field_validator,
    model_validator,
)

from runbook_lib.inputs.base import Inputs, check_tags, choice, identifier, matching

PORTS = {"aurora-mysql": 3306, "aurora-postgresql": 5432}
LOGS = {
    "aurora-mysql": ("audit", "error", "general", "instance", "slowquery", "iam-db-auth-error"),
    "aurora-postgresql": ("instance", "postgresql", "iam-db-auth-error"),
}
# Seconds between two looks at what is waited for, by target, where poll_seconds is 0.
POLL_SECONDS = {"aws": 30.0, "sandbox": 0.2}
RESERVED_USER_NAMES = frozenset({"admin", "rdsadmin", "rdsrepladmin", "root", "user"})


Engine = Literal["aurora-mysql", "aurora-postgresql"]


class ClusterChoices(Inputs):
    """What 00 checks before a key exists and 05 uses."""

    db_cluster_identifier: str = choice("DB cluster identifier", "Name of the new cluster.", "aurora-byok")
    engine: Engine = choice("Engine", "Aurora edition.", "aurora-mysql")
    engine_version: str = choice(
        "Engine version",
        "Empty: the version with long-term support that is on offer, else the default one.",
        "",
    )
    db_instance_class: str = choice(
        "Instance class", "Smallest current class, or db.serverless for Serverless v2.", "db.t4g.medium"
    )
    serverless_min_capacity: float = choice("Serverless minimum", "ACUs, steps of 0.5; 0 pauses when idle.", 0.0)
    serverless_max_capacity: float = choice("Serverless maximum", "ACUs, steps of 0.5, 256 at most.", 2.0)
    reader_count: int = choice(
        "Readers",
        "Aurora Replicas in other zones; 0 is a single instance (the post's Multi-AZ: 1).",
        0,
        ge=0,
        le=15,
    )
    vpc_id: str = choice("VPC", "Empty: the default VPC.", "")
    db_subnet_group_name: str = choice("Subnet group", "An existing one; empty: a new one over the VPC.", "")
    vpc_security_group_ids: list[str] = choice(
        "Security groups", "Existing ones; empty: a new one that lets nothing in.", []
    )
    db_cluster_parameter_group_name: str = choice("Cluster parameter group", "Empty: the engine's default.", "")
    db_parameter_group_name: str = choice("Instance parameter group", "Empty: the engine's default.", "")
    monitoring_interval: int = choice(
        "Enhanced Monitoring",
        "Seconds between samples: 1, 5, 10, 15, 30 or 60; 0 is standard monitoring.",
        0,
        json_schema_extra={"choices": [0, 1, 5, 10, 15, 30, 60]},
    )
    monitoring_role_arn: str = choice("Monitoring role", "Role ARN; needed for Enhanced Monitoring only.", "")
    master_user_secret_kms_key_id: str = choice(
        "Key of the managed password",
        "Key ARN or alias for the secret; empty: aws/secretsmanager. The imported key is a deliberate choice: "
        "the password is then out of reach whenever its material is.",
        "",
    )

    _identifier = field_validator("db_cluster_identifier")(identifier)
    _class = field_validator("db_instance_class")(
        matching(r"db\.[a-z0-9]+(\.[a-z0-9]+)?", "is no instance class; write e.g. 'db.t4g.medium'")
    )
    _vpc = field_validator("vpc_id")(matching(r"vpc-[0-9a-f]{8,17}", "is no VPC id; write e.g. 'vpc-0a1b2c3d'"))
    _groups = field_validator("db_subnet_group_name", "db_cluster_parameter_group_name", "db_parameter_group_name")(
        matching(
            r"[A-Za-z][A-Za-z0-9._ -]{0,254}",
            "is no group name: a letter, then letters, digits, '.', '_', '-'",
        )
    )
    _role = field_validator("monitoring_role_arn")(
        matching(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", "is no role ARN")
    )

    @field_validator("db_cluster_identifier")
    @classmethod
    def _named(cls, value: str) -> str:
        if not value:
            raise ValueError("'' is no identifier; give the cluster a name")
        return value

    @field_validator("vpc_security_group_ids")
    @classmethod
    def _security_groups(cls, values: list[str]) -> list[str]:
        for value in values:
            if not re.fullmatch(r"sg-[0-9a-f]{8,17}", str(value)):
                raise ValueError(f"{value!r} is no security group id; write e.g. 'sg-0a1b2c3d'")
        return values

    @field_validator("monitoring_interval")
    @classmethod
    def _interval(cls, value: int) -> int:
        if value not in (0, 1, 5, 10, 15, 30, 60):
            raise ValueError(f"{value!r} seconds is not offered; choose 0 (standard), 1, 5, 10, 15, 30 or 60")
        return value

    @field_validator("serverless_min_capacity", "serverless_max_capacity", mode="before")
    @classmethod
    def _whole_acus(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("serverless_min_capacity", "serverless_max_capacity")
    @classmethod
    def _capacity(cls, value: float) -> float:
        if not 0 <= value <= 256 or value * 2 != int(value * 2):
            raise ValueError(f"{value} is no capacity: 0 to 256 ACUs in steps of 0.5")
        return value

    @model_validator(mode="after")
    def _capacities(self) -> Self:
        if self.serverless_max_capacity < max(self.serverless_min_capacity, 1):
            raise ValueError(
                f"serverless_max_capacity: {self.serverless_max_capacity} is under 1 or under the minimum of "
                f"{self.serverless_min_capacity}"
            )
        return self

    @model_validator(mode="after")
    def _monitoring(self) -> Self:
        if self.monitoring_interval and not self.monitoring_role_arn:
            raise ValueError(
                f"monitoring_interval: {self.monitoring_interval} needs monitoring_role_arn, a role that trusts "
                "monitoring.rds.amazonaws.com; give one or set monitoring_interval to 0"
            )
        return self


class CreateClusterInputs(ClusterChoices):
    """05_create_cluster: everything that the post chooses in the RDS console."""

    database_name: str = choice("Database name", "First database; empty: none.", "appdb")
    port: int = choice("Port", "0: the engine's own (3306 or 5432).", 0)
    master_username: str = choice("Master user name", "Its password is made and kept by RDS.", "dbadmin")
    allowed_cidr: str = choice("Allowed network", "CIDR that the new security group lets in; empty: nothing.", "")
    promotion_tier: int = choice(
        "Failover priority", "0 (first) to 15; the post leaves the default, 1.", 1, ge=0, le=15
    )
    backup_retention_period: int = choice("Backup retention", "Days, 1 to 35.", 1, ge=1, le=35)
    deletion_protection: bool = choice("Deletion protection", "Advised for a cluster that lives.", False)
    copy_tags_to_snapshot: bool = choice("Copy tags to snapshots", "So that they can be found by tag.", True)
    enable_cloudwatch_logs_exports: list[str] = choice(
        "Log exports",
        "Logs sent to CloudWatch, e.g. error.",
        [],
        json_schema_extra={"choices": sorted({log for logs in LOGS.values() for log in logs})},
    )
    tags: dict[str, str] = choice("Tags", "Your own tags on everything that the run makes.", {})

    _tags = field_validator("tags")(check_tags)
    _database = field_validator("database_name")(
        matching(
            r"[A-Za-z][A-Za-z0-9_]{0,62}",
            "is no database name: a letter, then letters, digits and '_', 63 at most",
        )
    )

    @field_validator("port")
    @classmethod
    def _port(cls, value: int) -> int:
        if value != 0 and not 1150 <= value <= 65535:
            raise ValueError(f"{value} is no port: 1150 to 65535, or 0 for the engine's own")
        return value

    @field_validator("master_username")
    @classmethod
    def _user(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,15}", value):
            raise ValueError(f"{value!r} is no master user name: 1 to 16 letters and digits, beginning with a letter")
        if value.lower() in RESERVED_USER_NAMES:
            raise ValueError(f"{value!r} is reserved by the engine; choose another, e.g. 'dbadmin'")
        return value

    @field_validator("allowed_cidr")
    @classmethod
    def _cidr(cls, value: str) -> str:
        if not value:
            return value
        try:
            network = ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no network: {error}; write e.g. 10.0.0.0/16") from None
        if network.prefixlen == 0:
            raise ValueError(f"{value!r} is the whole internet; name the network that needs the database")
        return value

    @model_validator(mode="after")
    def _logs(self) -> Self:
        logs = LOGS[self.engine]
        for log in self.enable_cloudwatch_logs_exports:
            if log not in logs:
                raise ValueError(
                    f"enable_cloudwatch_logs_exports: {log!r} is no log of {self.engine}: {', '.join(logs)}"
                )
        return self


class VerifyEncryptionInputs(Inputs):
    """06_verify_encryption: how long to wait, and whether to take a snapshot as further evidence."""

    wait_timeout_minutes: int = choice(
        "Wait at most", "Minutes until cluster and instances are available.", 60, ge=1, le=600
    )
    poll_seconds: int = choice(
        "Ask every",
        f"Seconds between two looks; 0: {POLL_SECONDS['aws']:g} on AWS, {POLL_SECONDS['sandbox']:g} in the sandbox.",
        0,
        ge=0,
        le=300,
    )
    take_snapshot: bool = choice("Take a snapshot", "A manual snapshot as further evidence (it is kept).", False)
    read_cloudtrail: bool = choice(
        "Read CloudTrail", "What it recorded of key and cluster, for the report; needs cloudtrail:LookupEvents.", True
    )


class CleanUpInputs(Inputs):
    """90_clean_up: the confirmation, and how long the key waits."""

    remembered: ClassVar[bool] = False

    confirm_db_cluster_identifier: str = choice(
        "Type the cluster's name to delete", "Empty: the plan is shown and nothing is deleted.", ""
    )
    pending_window_in_days: int = choice(
        "Waiting period of the key", "Days, 7 to 30, in which its deletion can be cancelled.", 30, ge=7, le=30
    )
    final_db_snapshot_identifier: str = choice(
        "Final snapshot", "Name of a last snapshot; empty: none. While it exists the key is kept.", ""
    )
    _snapshot = field_validator("final_db_snapshot_identifier")(identifier)
