"""Aurora's engine versions and instance classes as of 2026-11, from its release calendars.

The sandbox has no versions of other engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

from runbook_sandbox.rds.errors import bad_combination, bad_value

MYSQL, POSTGRESQL = "aurora-mysql", "aurora-postgresql"
ENGINES = (MYSQL, POSTGRESQL)
# Other engines of RDS, without versions in the sandbox.
OTHER_ENGINES = ("mysql", "postgres", "mariadb", "oracle-ee", "oracle-se2", "sqlserver-ee", "sqlserver-se",
                 "sqlserver-ex", "sqlserver-web", "db2-ae", "db2-se", "neptune", "docdb")  # fmt: skip
PORTS = {MYSQL: 3306, POSTGRESQL: 5432}
LOG_TYPES = {
    MYSQL: ("audit", "error", "general", "iam-db-auth-error", "instance", "slowquery"),
    POSTGRESQL: ("iam-db-auth-error", "instance", "postgresql"),
}


@dataclass(frozen=True)
class Version:
    """One engine version. `extended`: past standard support, available only with (paid) Extended Support."""

    engine: str
    name: str
    family: str
    status: str = "available"
    extended: bool = False
    default: bool = False
    pauses: bool = True

    @property
    def major(self) -> str:
        """The major version, as in MajorEngineVersion."""
        return self.name.split(".mysql_aurora.")[0] if self.engine == MYSQL else self.name.split(".")[0]

    @property
    def order(self) -> tuple[int, ...]:
        """The sort key by age within an engine."""
        return tuple(int(part) for part in self.name.replace("mysql_aurora.", "").split("."))


def _mysql(name: str, **more: Any) -> Version:
    return Version(MYSQL, name, f"aurora-mysql{name[:3]}", **more)


def _postgresql(name: str, **more: Any) -> Version:
    return Version(POSTGRESQL, name, f"aurora-postgresql{name.split('.')[0]}", **more)


_GONE = {"status": "deprecated"}
_EXTENDED = {"extended": True, "pauses": False}
VERSIONS: tuple[Version, ...] = (
    _mysql("5.7.mysql_aurora.2.11.6", **_EXTENDED),
    _mysql("5.7.mysql_aurora.2.12.5", **_EXTENDED),
    _mysql("8.0.mysql_aurora.3.04.0", pauses=False, **_GONE),
    _mysql("8.0.mysql_aurora.3.08.0", **_GONE),
    _mysql("8.0.mysql_aurora.3.09.0", **_GONE),
    _mysql("8.0.mysql_aurora.3.10.0"),
    _mysql("8.0.mysql_aurora.3.10.1"),
    _mysql("8.0.mysql_aurora.3.10.2"),
    _mysql("8.0.mysql_aurora.3.10.3"),
    _mysql("8.0.mysql_aurora.3.10.4", default=True),
    _mysql("8.0.mysql_aurora.3.11.0", **_GONE),
    _mysql("8.0.mysql_aurora.3.12.0"),
    _mysql("8.0.mysql_aurora.3.13.0"),
    _mysql("8.4.mysql_aurora.8.4.7"),
    _mysql("8.4.mysql_aurora.8.4.8"),
    _postgresql("14.22"),
    _postgresql("15.10"),
    _postgresql("15.17"),
    _postgresql("16.8"),
    _postgresql("16.13"),
    _postgresql("17.7", default=True),
    _postgresql("17.9"),
    _postgresql("18.3"),
)
FAMILIES = tuple(dict.fromkeys(version.family for version in VERSIONS))

_SMALL = ("db.t3.medium", "db.t3.large", "db.t4g.medium", "db.t4g.large")
_SIZES = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge")
_LARGE = tuple(f"db.{family}.{size}" for family in ("r6g", "r6i", "r7g", "r7i", "r8g") for size in _SIZES)


def classes_of(version: Version) -> tuple[str, ...]:
    """Return the instance classes that are available for a version."""
    if version.extended:
        return ("db.t3.small", *_SMALL, *(name for name in _LARGE if name.startswith("db.r6g.")))
    return (*_SMALL, *_LARGE, "db.serverless")


def known_engine(engine: str | None) -> str:
    """Return the engine. Raises InvalidParameterValue for one that RDS lacks (`aurora` no longer exists)."""
    if not engine:
        bad_value("The parameter Engine must be provided and must not be blank.")
    if engine not in ENGINES and engine not in OTHER_ENGINES:
        bad_value(f"Invalid DB engine: {engine}")
    return engine


def license_model(engine: str) -> str:
    """Return the LicenseModel that AWS shows for an engine."""
    return "general-public-license" if engine == MYSQL else "postgresql-license"


def default_version(engine: str) -> Version:
    """Return an engine's default version."""
    return next(version for version in VERSIONS if version.engine == engine and version.default)


def find_version(engine: str, name: str | None) -> Version:
    """Return the version with this name; `8.0` and `17` mean the newest of that major version.

    Raises InvalidParameterCombination, as AWS does for every unavailable version, such as MySQL 5.6.
    """
    on_offer = [version for version in VERSIONS if version.engine == engine and version.status == "available"]
    if not name:
        return default_version(engine)
    matching = [version for version in on_offer if name in (version.name, version.major)]
    if not matching:
        bad_combination(f"Cannot find version {name} for {engine}")
    return max(matching, key=lambda version: version.order)


def check_class(version: Version, db_instance_class: str) -> None:
    """Raise InvalidParameterCombination for a class that this version does not support."""
    if db_instance_class not in classes_of(version):
        bad_combination(
            "RDS does not support creating a DB instance with the following combination: "
            f"DBInstanceClass={db_instance_class}, Engine={version.engine}, EngineVersion={version.name}, "
            f"LicenseModel={license_model(version.engine)}. For supported combinations of instance class and database "
            "engine version, see the documentation."
        )


@cache
def zones(region: str) -> tuple[str, ...]:
    """Return the names of a Region's Availability Zones."""
    found = RegionsAndZonesBackend.zones.get(region) or []
    return tuple(sorted(zone.name for zone in found)) or tuple(f"{region}{letter}" for letter in "abc")


def describe_version(version: Version, region: str, account: str) -> dict[str, Any]:
    """Return one entry of DescribeDBEngineVersions."""
    mysql = version.engine == MYSQL
    newer = [other for other in VERSIONS if other.engine == version.engine and other.order > version.order
             and other.status == "available"]  # fmt: skip
    capacity = {"MinCapacity": 0.0 if version.pauses else 0.5, "MaxCapacity": 256.0}
    return {
        "Engine": version.engine,
        "MajorEngineVersion": version.major,
        "EngineVersion": version.name,
        "DBParameterGroupFamily": version.family,
        "DBEngineDescription": "Aurora MySQL" if mysql else "Aurora (PostgreSQL)",
        "DBEngineVersionDescription":
            f"Aurora {'MySQL' if mysql else 'PostgreSQL'} {version.name.split('aurora.')[-1]}",
        "DBEngineVersionArn": f"arn:aws:rds:{region}:{account}:cev:{version.engine}/{version.name}",
        "ValidUpgradeTarget": [
            {"Engine": other.engine, "EngineVersion": other.name, "AutoUpgrade": False,
             "IsMajorVersionUpgrade": other.major != version.major, "SupportedEngineModes": ["provisioned"],
             "Description": f"Aurora {other.name}"}
            for other in newer
        ],
        "ExportableLogTypes": list(LOG_TYPES[version.engine]),
        "SupportsLogExportsToCloudwatchLogs": True,
        "SupportsReadReplica": False,
        "SupportedEngineModes": ["provisioned"],
        "Status": version.status,
        "SupportsParallelQuery": mysql,
        "SupportsGlobalDatabases": True,
        "SupportsBabelfish": not mysql,
        "SupportsCertificateRotationWithoutRestart": True,
        "SupportedCACertificateIdentifiers": ["rds-ca-rsa2048-g1", "rds-ca-ecc384-g1", "rds-ca-rsa4096-g1"],
        "SupportsLocalWriteForwarding": mysql,
        "SupportsIntegrations": True,
        **({} if version.extended else {"ServerlessV2FeaturesSupport": capacity}),
    }  # fmt: skip


def describe_orderable(parameters: Mapping[str, Any], region: str) -> Iterator[dict[str, Any]]:
    """Yield the options of DescribeOrderableDBInstanceOptions; none for unavailable versions and classes."""
    engine = known_engine(parameters.get("Engine"))
    for version in VERSIONS:
        wanted = parameters.get("EngineVersion")
        if (
            version.engine != engine
            or version.status != "available"
            or wanted not in (None, version.name, version.major)
        ):
            continue
        for name in classes_of(version):
            if parameters.get("DBInstanceClass") not in (None, name):
                continue
            for storage in ("aurora",) if name.startswith("db.t") else ("aurora", "aurora-iopt1"):
                yield _option(version, name, storage, region)


def _option(version: Version, name: str, storage: str, region: str) -> dict[str, Any]:
    mysql = version.engine == MYSQL
    return {
        "Engine": version.engine,
        "EngineVersion": version.name,
        "DBInstanceClass": name,
        "LicenseModel": license_model(version.engine),
        "AvailabilityZones": [{"Name": zone} for zone in zones(region)],
        "MultiAZCapable": False,
        "ReadReplicaCapable": False,
        "Vpc": True,
        "SupportsStorageEncryption": True,
        "StorageType": storage,
        "SupportsIops": False,
        "SupportsStorageThroughput": False,
        "SupportsEnhancedMonitoring": True,
        "SupportsIAMDatabaseAuthentication": True,
        "SupportsPerformanceInsights": not (mysql and name.startswith("db.t")),
        "AvailableProcessorFeatures": [],
        "SupportedEngineModes": ["provisioned"],
        "SupportsStorageAutoscaling": False,
        "SupportsKerberosAuthentication": True,
        "OutpostCapable": False,
        "SupportedActivityStreamModes": [],
        "SupportsGlobalDatabases": True,
        "SupportedNetworkTypes": ["DUAL", "IPV4"],
        "SupportsClusters": True,
        "SupportsDedicatedLogVolume": False,
        "SupportsHttpEndpoint": True,
    }
