"""Checks of request parameters: identifiers, names, passwords, windows, numbers. Pure functions that raise RDS errors.

moto gap: it accepts nearly everything. Limits are those of the API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from runbook_lib.reserved_words import reserved_database, reserved_user
from runbook_sandbox.rds.engines import LOG_TYPES, MYSQL, PORTS, Version
from runbook_sandbox.rds.errors import bad_combination, bad_value, raise_error

_IDENTIFIER = re.compile(r"[a-z](?:-?[a-z0-9])*")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_INTERVALS = (0, 1, 5, 10, 15, 30, 60)
_LIFECYCLES = ("open-source-rds-extended-support", "open-source-rds-extended-support-disabled")


def identifier(value: str | None, parameter: str, *, longest: int = 63) -> str:
    """Return an identifier in lower case, as RDS stores it."""
    if not value:
        bad_value(f"The parameter {parameter} must be provided and must not be blank.")
    lowered = value.lower()
    if len(lowered) > longest or not lowered.isascii() or not _IDENTIFIER.fullmatch(lowered):
        bad_value(
            f"The parameter {parameter} is not a valid identifier. Identifiers must begin with a letter; must contain "
            "only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive "
            "hyphens."
        )
    return lowered


def master_user(engine: str, name: str | None) -> str:
    """Return the master user name: 1 to 16 letters, digits and underscores, not a reserved word."""
    if not name:
        bad_value("The parameter MasterUsername must be provided and must not be blank.")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,15}", name):
        bad_value(
            "The parameter MasterUsername must begin with a letter and have 1 to 16 letters, digits and underscores."
        )
    if engine != MYSQL and name.lower().startswith("pg_"):
        bad_value(
            f'MasterUsername {name} cannot be used because role names starting with "pg_" are reserved by the PostgreSQL engine'
        )
    if reserved_user(engine, name):
        bad_value(f"MasterUsername {name} cannot be used as it is a reserved word used by the engine")
    return name


def password(value: str) -> None:
    """Check a master password: 8 to 41 printable ASCII characters, without / \" and @."""
    if len(value) < 8:
        bad_value("The parameter MasterUserPassword is not a valid password because it is shorter than 8 characters.")
    if len(value) > 41:
        bad_value("The parameter MasterUserPassword is not a valid password because it is longer than 41 characters.")
    if not value.isascii() or not value.isprintable() or set(value) & set('/"@'):
        bad_value(
            "The parameter MasterUserPassword is not a valid password. Only printable ASCII characters besides '/', "
            "'@', '\"' may be used."
        )


def password_choice(parameters: Mapping[str, Any], *, needed: bool) -> bool:
    """Check the parameters for a given and a managed password together; return whether RDS manages it."""
    managed, given = bool(parameters.get("ManageMasterUserPassword")), parameters.get("MasterUserPassword")
    if managed and given is not None:
        bad_combination("You can't specify MasterUserPassword and ManageMasterUserPassword together.")
    if parameters.get("MasterUserSecretKmsKeyId") and not managed:
        bad_combination("You can specify MasterUserSecretKmsKeyId only with ManageMasterUserPassword.")
    if not managed and needed and not given:
        bad_value("The parameter MasterUserPassword must be provided and must not be blank.")
    if given is not None:
        password(given)
    return managed


def database_name(engine: str, name: str | None) -> None:
    """Check the first database's name."""
    if name is None:
        return
    longest = 64 if engine == MYSQL else 63
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{longest - 1}}}", name):
        bad_value("DatabaseName must begin with a letter and contain only alphanumeric characters.")
    if reserved_database(engine, name):
        bad_value(f"DatabaseName {name} cannot be used. It is a reserved word for this engine")


def port(engine: str, value: int | None) -> int:
    """Return the port, by default the engine's."""
    if value is None:
        return PORTS[engine]
    if not 1150 <= value <= 65535:
        bad_value(f"Invalid database port: {value}. Must be between 1150 and 65535.")
    return value


def retention(days: int | None) -> int:
    """Return the backup retention in days: 1 to 35; Aurora's backups cannot be turned off."""
    if days is None:
        return 1
    if not 1 <= days <= 35:
        bad_value(f"Invalid backup retention period: {days}. Must be between 1 and 35.")
    return days


def _minutes(text: str) -> int | None:
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", text)
    return int(match[1]) * 60 + int(match[2]) if match else None


def windows(backup: str | None, maintenance: str | None) -> None:
    """Check both windows: format, at least 30 minutes each, no overlap."""
    backup_span = maintenance_span = None
    if backup is not None:
        ends = [_minutes(part) for part in backup.split("-")]
        if len(ends) != 2 or ends[0] is None or ends[1] is None:
            bad_value(
                f"Invalid backup window format: {backup}. Should be specified as a range hh24:mi-hh24:mi "
                "(24H Clock UTC)."
            )
        if (length := (ends[1] - ends[0]) % 1440) < 30:
            bad_value("The backup window must be at least 30 minutes.")
        backup_span = (ends[0], length)
    if maintenance is not None:
        points = [_week_minutes(part) for part in maintenance.lower().split("-")]
        if len(points) != 2 or points[0] is None or points[1] is None:
            bad_value(
                f"Invalid maintenance window format: {maintenance}. Should be specified as a range "
                "ddd:hh24:mi-ddd:hh24:mi (24H Clock UTC)."
            )
        if not 30 <= (length := (points[1] - points[0]) % (7 * 1440)) < 1440:
            bad_value("The maintenance window must be at least 30 minutes and less than 24 hours.")
        maintenance_span = (points[0], length)
    if backup_span and maintenance_span and _overlap(backup_span, maintenance_span):
        bad_value("The backup window and maintenance window must not overlap.")


def _week_minutes(text: str) -> int | None:
    day, _, clock = text.partition(":")
    minutes = _minutes(clock)
    return None if day not in _DAYS or minutes is None else _DAYS.index(day) * 1440 + minutes


def _overlap(daily: tuple[int, int], weekly: tuple[int, int]) -> bool:
    taken = {minute % 1440 for minute in range(daily[0], daily[0] + daily[1])}
    return any(minute % 1440 in taken for minute in range(weekly[0], weekly[0] + weekly[1]))


def lifecycle(version: Version, value: str | None) -> str:
    """Return EngineLifecycleSupport; a version past standard support requires Extended Support."""
    if value is not None and value not in _LIFECYCLES:
        bad_value(f"Invalid EngineLifecycleSupport: {value}. Valid values: {', '.join(_LIFECYCLES)}")
    if value == _LIFECYCLES[1] and version.extended:
        bad_combination(f"{version.engine} {version.name} is past standard support and needs RDS Extended Support.")
    return value or _LIFECYCLES[0]


def log_exports(version: Version, names: Iterable[str] | None) -> list[str]:
    """Return the log types to export. Raises InvalidParameterCombination for one that the engine lacks."""
    wanted = list(dict.fromkeys(names or ()))
    if unknown := [name for name in wanted if name not in LOG_TYPES[version.engine]]:
        bad_combination(
            f"You cannot use the log types '{', '.join(unknown)}' with engine version {version.engine} {version.name}. "
            "For supported log types, see the documentation."
        )
    return wanted


def monitoring(parameters: Mapping[str, Any], known_roles: Mapping[str, str]) -> None:
    """Check enhanced monitoring: interval, and a role that RDS can assume. `known_roles`: ARN to trust policy."""
    interval, role = parameters.get("MonitoringInterval"), parameters.get("MonitoringRoleArn")
    if interval is not None and interval not in _INTERVALS:
        bad_value(f"Invalid monitoring interval: {interval}. Valid values: {', '.join(map(str, _INTERVALS))}")
    if interval and not role:
        bad_combination("A MonitoringRoleARN value is required if you specify a MonitoringInterval value other than 0.")
    if role and not interval:
        bad_combination(
            "You must specify a MonitoringInterval value other than 0 when you specify a MonitoringRoleARN value."
        )
    if role and "monitoring.rds.amazonaws.com" not in known_roles.get(role, ""):
        bad_value("IAM role ARN value is invalid or does not include the required permissions for: ENHANCED_MONITORING")


def scaling(version: Version, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return ServerlessV2ScalingConfiguration: 0 to 256 in steps of 0.5; 0 only for versions that can pause."""
    if not given:
        return None
    smallest, largest = given.get("MinCapacity"), given.get("MaxCapacity")
    if smallest is None or largest is None:
        bad_value("The ServerlessV2ScalingConfiguration needs MinCapacity and MaxCapacity.")
    smallest, largest = float(smallest), float(largest)
    for value in (smallest, largest):
        if value * 2 != int(value * 2) or not 0 <= value <= 256:
            bad_value("Serverless v2 capacity isn't valid: it must be between 0 and 256 in steps of 0.5.")
    if largest < 1:
        bad_value("Serverless v2 maximum capacity must be 1 or more.")
    if smallest > largest:
        bad_value("Serverless v2 minimum capacity must be less than or equal to the maximum capacity.")
    if version.extended:
        bad_combination(f"Serverless v2 is not supported for {version.engine} {version.name}.")
    if smallest == 0 and not version.pauses:
        bad_combination(f"Serverless v2 minimum capacity 0 isn't supported for {version.engine} {version.name}.")
    shown: dict[str, Any] = {"MinCapacity": smallest, "MaxCapacity": largest}
    pause = given.get("SecondsUntilAutoPause")
    if pause is not None:
        if smallest > 0:
            bad_combination("SecondsUntilAutoPause can be specified only when MinCapacity is 0.")
        if not 300 <= pause <= 86400:
            bad_value("SecondsUntilAutoPause must be between 300 and 86400.")
    if smallest == 0:
        shown["SecondsUntilAutoPause"] = pause or 300
    return shown


def storage_type(value: str | None) -> str:
    """Return the storage type: aurora or aurora-iopt1."""
    if value not in (None, "", "aurora", "aurora-iopt1"):
        raise_error("StorageTypeNotSupported", f"Storage type {value} isn't supported for Aurora.")
    return value or "aurora"


def one_of(value: str | None, allowed: Iterable[str], parameter: str) -> None:
    """Check an enumerated parameter."""
    if value is not None and value not in allowed:
        bad_value(f"Invalid {parameter}: {value}. Valid values: {', '.join(allowed)}")


def insights(parameters: Mapping[str, Any]) -> None:
    """Check the Performance Insights parameters."""
    days, mode = parameters.get("PerformanceInsightsRetentionPeriod"), parameters.get("DatabaseInsightsMode")
    one_of(mode, ("standard", "advanced"), "DatabaseInsightsMode")
    enabled = parameters.get("EnablePerformanceInsights")
    if not enabled and (parameters.get("PerformanceInsightsKMSKeyId") or days is not None):
        bad_combination("You can specify Performance Insights parameters only with EnablePerformanceInsights.")
    if days is not None and days not in (7, 731) and not (days % 31 == 0 and 1 <= days // 31 <= 23):
        bad_value(f"Invalid Performance Insights retention period: {days}. Valid values: 7, 731, or 31 times 1 to 23.")
    if mode == "advanced" and (not enabled or (days or 0) < 465):
        bad_combination(
            "To enable the Advanced mode of Database Insights, enable Performance Insights and set its retention to "
            "465 days or more."
        )


def tags(given: Iterable[Mapping[str, str]] | None) -> None:
    """Check tags: at most 50, keys of 1 to 128 characters without the prefixes aws: and rds:, values of at most 256."""
    listed = list(given or ())
    if len(listed) > 50:
        bad_value("The number of tags exceeds the limit of 50.")
    for tag in listed:
        key, value = str(tag.get("Key") or ""), str(tag.get("Value") or "")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            bad_value("Tag keys have 1 to 128 characters, values at most 256.")
        if key.lower().startswith(("aws:", "rds:")):
            bad_value(f"Tag keys can't begin with aws: or rds:, as {key} does.")
        for text in (key, value):
            if not re.fullmatch(r"[\w\s+=.:/@-]*", text):
                bad_value(f"Tags have letters, digits, white space and + - = . _ : / @ only, unlike {text}.")


def backup_tags(given: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Check TagSpecifications; return the tags of the automated backup, its only resource (API reference, CreateDBCluster)."""
    specifications = given.get("TagSpecifications")
    for one in specifications or ():
        if not one.get("ResourceType"):
            bad_value("Each of TagSpecifications must have a ResourceType.")
        one_of(one["ResourceType"], ("cluster-auto-backup",), "ResourceType")
    found = [tag for one in specifications or () for tag in one.get("Tags") or ()]
    tags(found)
    return None if specifications is None else found
