"""What RDS offers in a Region: engine versions, instance classes and parameter groups, and checks against them.

Versions and classes are fetched once per session: they do not change while a notebook runs.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.session import Session
from runbook_lib.errors import PreflightFailed

# Series with long-term support, newest first, as of 2026-11 (Aurora release calendars); no API returns it.
LONG_TERM_SUPPORT = {
    "aurora-mysql": ("8.0.mysql_aurora.3.10.",),
    "aurora-postgresql": ("17.7", "16.8", "15.10"),
}


def engine_versions(session: Session, engine: str) -> list[dict[str, Any]]:
    """Return the versions of `engine` that can be created today (rds:DescribeDBEngineVersions)."""

    def fetch() -> list[dict[str, Any]]:
        pages = session.client("rds").get_paginator("describe_db_engine_versions").paginate(Engine=engine)
        return [
            version
            for page in pages
            for version in page["DBEngineVersions"]
            if version.get("Status", "available") == "available"
        ]

    versions: list[dict[str, Any]] = session.offered("versions", engine, fetch=fetch)
    return versions


def choose_engine_version(session: Session, *, engine: str, engine_version: str) -> str:
    """Return `engine_version` if it is available, completed as RDS does; for '' the newest with long-term support.

    Without one, the engine's default.

    Raises `PreflightFailed`, naming the available versions.
    """
    offered = [version["EngineVersion"] for version in engine_versions(session, engine)]
    if engine_version:
        if engine_version not in offered and (resolved := _resolved(session, engine, engine_version)) in offered:
            return resolved
        if engine_version not in offered:
            raise PreflightFailed(
                f"engine_version {engine_version!r} of {engine} is not available in {session.region}; choose one of "
                f"{', '.join(offered)}, or leave it empty"
            )
        return engine_version
    for series in LONG_TERM_SUPPORT[engine]:
        if supported := [version for version in offered if version.startswith(series)]:
            return str(max(supported, key=_by_number))
    default = session.client("rds").describe_db_engine_versions(Engine=engine, DefaultOnly=True)["DBEngineVersions"]
    if not default:
        raise PreflightFailed(f"no version of {engine} is available in {session.region}; choose another Region")
    return str(default[0]["EngineVersion"])


def _resolved(session: Session, engine: str, series: str) -> str:
    """Return the version that RDS creates for a series such as `16` or `8.0`: its default one, or ''.

    API: rds:DescribeDBEngineVersions with DefaultOnly.
    """
    found = session.client("rds").describe_db_engine_versions(Engine=engine, EngineVersion=series, DefaultOnly=True)
    versions = [str(version["EngineVersion"]) for version in found["DBEngineVersions"]]
    return versions[0] if versions and versions[0].startswith(f"{series.rstrip('.')}.") else ""


def _by_number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.replace("mysql_aurora.", "").split(".") if part.isdigit())


def orderable_classes(session: Session, *, engine: str, engine_version: str) -> dict[str, dict[str, Any]]:
    """Return the orderable instance classes by name (rds:DescribeOrderableDBInstanceOptions)."""

    def fetch() -> dict[str, dict[str, Any]]:
        pages = session.client("rds").get_paginator("describe_orderable_db_instance_options")
        pages = pages.paginate(Engine=engine, EngineVersion=engine_version)
        return {option["DBInstanceClass"]: option for page in pages for option in page["OrderableDBInstanceOptions"]}

    classes: dict[str, dict[str, Any]] = session.offered("classes", engine, engine_version, fetch=fetch)
    return classes


def require_class(
    session: Session, *, engine: str, engine_version: str, db_instance_class: str, readers: int
) -> dict[str, Any]:
    """Return the orderable option of a class; raise `PreflightFailed` when it is not available or cannot be encrypted."""
    classes = orderable_classes(session, engine=engine, engine_version=engine_version)
    if db_instance_class not in classes:
        raise PreflightFailed(
            f"db_instance_class {db_instance_class!r} cannot be ordered for {engine} {engine_version} in {session.region}; "
            f"choose one of {', '.join(sorted(classes)) or 'another version'}"
        )
    option = classes[db_instance_class]
    if not option.get("SupportsStorageEncryption", True):
        raise PreflightFailed(
            f"db_instance_class {db_instance_class!r} does not support storage encryption; choose another"
        )
    zones = option.get("AvailabilityZones", [])
    if readers and len(zones) < 2:
        raise PreflightFailed(
            f"{db_instance_class!r} is available in {len(zones)} zone; readers in other zones need two: choose another class"
        )
    return option


def parameter_group_family(session: Session, *, engine: str, engine_version: str) -> str:
    """Return the parameter group family of an available engine version."""
    versions = engine_versions(session, engine)
    return next(str(v["DBParameterGroupFamily"]) for v in versions if v["EngineVersion"] == engine_version)


def require_parameter_groups(session: Session, cluster_group: str, instance_group: str, *, family: str) -> None:
    """Raise `PreflightFailed` unless the named parameter groups exist and are of the engine's family."""
    rds = session.client("rds")
    groups = (
        (
            "db_cluster_parameter_group_name",
            cluster_group,
            "describe_db_cluster_parameter_groups",
            "DBClusterParameterGroup",
        ),
        ("db_parameter_group_name", instance_group, "describe_db_parameter_groups", "DBParameterGroup"),
    )
    for field, name, call, word in groups:
        if not name:
            continue
        try:
            found = getattr(rds, call)(**{f"{word}Name": name})[f"{word}s"]
        except ClientError as error:
            if error_code(error) not in ("DBParameterGroupNotFound", "DBClusterParameterGroupNotFound"):
                raise
            found = []
        if not found:
            raise PreflightFailed(f"{field} {name!r} does not exist; create it or leave the parameter empty")
        if family and found[0]["DBParameterGroupFamily"] != family:
            raise PreflightFailed(
                f"{field} {name!r} is of family {found[0]['DBParameterGroupFamily']}; name one of {family}"
            )
