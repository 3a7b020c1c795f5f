"""The survey of an existing cluster, before anything is created: how it is encrypted, and what is in the way; reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, rds
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.cluster_settings import ClusterSettings, parameters_of
from runbook_lib.aws.session import Session
from runbook_lib.errors import PreflightFailed
from runbook_lib.inputs.aws_rules import longest_cluster_identifier
from runbook_lib.inputs.base import Inputs
from runbook_lib.inputs.existing import OLD_SUFFIX
from runbook_lib.tables import Table

_WRITING = ("started", "starting")


@dataclass(frozen=True)
class Encryption:
    """How a cluster is encrypted: the state as a short name, in words, and why its key cannot be used ("" if it can)."""

    state: str
    words: str
    problem: str = ""


def encryption_of(session: Session, cluster: dict[str, Any], *, our_key: str = "") -> Encryption:
    """Return how a cluster is encrypted: none, sse-rds, aws/rds, another key, another with imported material, or ours."""
    kind, arn = rds.storage_encryption_type(cluster), str(cluster.get("KmsKeyId", ""))
    if kind == "none":
        return Encryption(kind, "not encrypted")
    if kind == "sse-rds":
        return Encryption(kind, "encrypted with a key that AWS owns (sse-rds)")
    if kind != "sse-kms":
        return Encryption(kind, kind)
    if our_key and arn == our_key:
        return Encryption("ours", "encrypted with the key of this run")
    try:
        metadata = kms.describe(session, arn) or {}
    except ClientError as error:
        return Encryption("other", f"encrypted with {arn}", f"{error_code(error)}: {error_text(error)}")
    state = metadata.get("KeyState", "absent")
    problem = "" if state == "Enabled" else f"the key {arn} is {state}"
    if metadata.get("KeyManager") == "AWS":
        return Encryption("aws/rds", "encrypted with aws/rds, the key that AWS manages for the account", problem)
    if metadata.get("Origin") == "EXTERNAL":
        return Encryption("imported", f"encrypted with {arn}, another key with imported material", problem)
    return Encryption("other", f"encrypted with {arn}, another key of the account", problem)


def blockers(session: Session, settings: ClusterSettings, encryption: Encryption) -> list[str]:
    """Return what is in the way of a snapshot, a restore and the cut-over, each with the way out."""
    cluster, name = settings.cluster, settings.name
    found = []

    def unless(holds: bool, words: str) -> None:
        if not holds:
            found.append(words)

    unless(
        str(cluster["Engine"]) in ("aurora-mysql", "aurora-postgresql"),
        f"its engine is {cluster['Engine']}: this runbook is for Aurora MySQL and Aurora PostgreSQL",
    )
    unless(cluster["Status"] == "available", f"it is {cluster['Status']}: start it, or wait until it is available")
    unless(
        cluster.get("EngineMode", "provisioned") == "provisioned",
        f"its engine mode is {cluster.get('EngineMode')}: convert it to provisioned or Serverless v2 first (ModifyDBCluster)",
    )
    unless(
        not cluster.get("GlobalClusterIdentifier"),
        f"it is a member of the global database {cluster.get('GlobalClusterIdentifier')}: remove it first "
        "(rds:RemoveFromGlobalCluster), and add Regions to the new cluster after the cut-over",
    )
    unless(
        not cluster.get("ReplicationSourceIdentifier"),
        f"it is a replica of {cluster.get('ReplicationSourceIdentifier')}: encrypt the source instead, or promote it first",
    )
    unless(
        not cluster.get("LimitlessDatabase"),
        "it is an Aurora Limitless database, which is not restored by this runbook",
    )
    unless(
        cluster.get("ActivityStreamStatus", "stopped") not in _WRITING,
        "its activity stream is started: stop it (rds:StopActivityStream), and start one on the new cluster",
    )
    unless(
        not settings.integrations,
        f"{', '.join(settings.integrations)} copies its data (zero-ETL): delete it, and create one for the new cluster",
    )
    unless(
        not settings.proxies,
        f"the RDS proxy {', '.join(settings.proxies)} connects to it: deregister the cluster first "
        "(rds:DeregisterDBProxyTargets), and register the new one after the cut-over",
    )
    unless(bool(settings.instances), "it has no instance: create one, so that its class is known")
    unless(not encryption.problem, f"its own key cannot be used: {encryption.problem}; the snapshot needs it")
    for call, reason in settings.unread.items():
        found.append(f"{call} was refused ({reason}): what it lists would be lost; allow it")
    return [f"{name}: {one}" for one in found]


def name_problems(
    session: Session, settings: ClusterSettings, identifier: str, is_ours: Callable[[str], bool]
) -> list[str]:
    """Return what is wrong with the names that the new cluster and the cut-over need."""
    found, count = [], len(settings.instances)
    old = f"{settings.name}{OLD_SUFFIX}"
    if identifier == settings.name:
        found.append(f"db_cluster_identifier {identifier!r} is the source's own name; choose another")
    if len(identifier) > (longest := longest_cluster_identifier(max(count, 1))):
        found.append(
            f"db_cluster_identifier {identifier!r} has {len(identifier)} characters; write at most {longest}, since its "
            f"instances are named {identifier[:12]}…-1 to …-{count}"
        )
    if len(old) > 63:
        found.append(f"the cut-over renames the source to {old!r}, which has more than 63 characters")
    elif rds.find_cluster(session, old) is not None:
        found.append(
            f"the cut-over renames the source to {old!r}, and a cluster of that name exists; rename or delete it"
        )
    if identifier != settings.name and rds.find_cluster(session, identifier) is not None and not is_ours(identifier):
        found.append(f"db_cluster_identifier {identifier!r} exists, and this run did not create it; choose another")
    return found


# What 00 asks for a new cluster, with how an existing one has it.
_AS_THE_SOURCE: dict[str, Callable[[ClusterSettings], Any]] = {
    "engine": lambda found: found.cluster["Engine"],
    "engine_version": lambda found: found.cluster["EngineVersion"],
    "db_instance_class": lambda found: found.instances[0]["DBInstanceClass"] if found.instances else "",
    "reader_count": lambda found: len(found.instances) - 1,
    "db_subnet_group_name": lambda found: found.cluster.get("DBSubnetGroup", ""),
    "vpc_security_group_ids": lambda found: [
        one["VpcSecurityGroupId"] for one in found.cluster.get("VpcSecurityGroups", [])
    ],
    "db_cluster_parameter_group_name": lambda found: found.cluster.get("DBClusterParameterGroup", ""),
    "monitoring_interval": lambda found: found.instances[0].get("MonitoringInterval", 0) if found.instances else 0,
}


def given_otherwise(asked: Inputs, settings: ClusterSettings) -> list[str]:
    """Return the parameters that are given for a new cluster and differ from the existing one, which keeps what it has."""
    found = []
    for name, read in _AS_THE_SOURCE.items():
        given, has = getattr(asked, name), read(settings)
        if given not in (type(asked).model_fields[name].default, has):
            found.append(f"{name} is {given!r}, but {settings.name} has {has!r}; leave it out")
    return found


def require_quotas(session: Session, settings: ClusterSettings) -> str:
    """Return the quotas that a second cluster needs, with their use. Raises `PreflightFailed`."""
    needed = {"DBClusters": 1, "DBInstances": len(settings.instances), "ManualClusterSnapshots": 1}
    rows = []
    for quota in session.client("rds").describe_account_attributes()["AccountQuotas"]:
        name, used, most = quota["AccountQuotaName"], quota["Used"], quota["Max"]
        if (more := needed.get(name)) is None:
            continue
        if used + more > most:
            raise PreflightFailed(
                f"{name}: {used} of {most} are used, and {more} more are needed beside {settings.name}; request an increase, "
                "or delete some"
            )
        rows.append(f"{name} {used} of {most} used")
    return ", ".join(rows)


def expiry_problem(valid_to: Any, now: Any, *, minutes: float) -> str:
    """Return that the key material expires before the work is done, or ""."""
    if not valid_to or valid_to > now + timedelta(minutes=minutes):
        return ""
    return (
        f"the key material expires at {valid_to:%Y-%m-%d %H:%M} UTC, before the snapshot and restore may be done; extend it "
        "with: runbook recover RUN_ID --valid-to"
    )


def roads(session: Session, settings: ClusterSettings, encryption: Encryption) -> Table:
    """Return the ways to a cluster under another key, which of them is taken, and why the others are not."""
    kms_only = "not possible" if encryption.state in ("none", "sse-rds") else "possible, not used"
    blue_green = "TargetResourceConfigurations" in parameters_of(session, "CreateBlueGreenDeployment")
    managed = bool(settings.cluster.get("MasterUserSecret"))
    rows = [
        (
            "snapshot and restore with the key",
            "taken",
            "from every state of encryption; writes a new volume under the key",
        ),
        (
            "restore to a point in time",
            kms_only,
            "accepts KmsKeyId only for a source that is encrypted with a KMS key; for any second of the retention period",
        ),
        (
            "copy of a snapshot",
            kms_only,
            "CopyDBClusterSnapshot refuses KmsKeyId for a snapshot that is not encrypted with a KMS key",
        ),
        ("clone", "not used", "shares pages with the source, and these stay under the key of the source"),
        (
            "blue/green deployment",
            "not possible" if managed or not blue_green else "possible, not used",
            "not with a managed master password"
            if managed
            else "TargetKmsKeyId since 2026-09-29: create-blue-green-deployment --target-resource-configurations "
            f"SourceArn={settings.cluster['DBClusterArn']},TargetKmsKeyId=KEY_ARN"
            if blue_green
            else "TargetKmsKeyId, since 2026-09-29, is not in this SDK; update boto3",
        ),
    ]
    return Table(f"Ways to encrypt {settings.name}, which is {encryption.words}", ("way", "", "why"), rows)
