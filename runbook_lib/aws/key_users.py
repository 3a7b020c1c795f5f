"""Who needs a key: everything that AWS can list which is encrypted under a KMS key, and the grants on the key.

Deleting the key, or its imported material, makes all of it unreadable. What cannot be listed at all: objects in S3,
data keys that applications hold, copies in other accounts that use their own key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, EndpointConnectionError

from runbook_lib.aws.answers import refusal_text
from runbook_lib.aws.kms import aliases_of
from runbook_lib.aws.session import Session
from runbook_lib.errors import AccessDenied, AwsCallFailed

CLUSTER, INSTANCE, CLUSTER_SNAPSHOT, GRANT = "DB cluster", "DB instance", "cluster snapshot", "grant"
INSTANCE_SNAPSHOT, BACKUP, INSTANCE_BACKUP = "instance snapshot", "automated backup", "automated instance backup"
# What only stores data: without its key it is unreadable, but nothing stops.
AT_REST = frozenset(
    {CLUSTER_SNAPSHOT, INSTANCE_SNAPSHOT, BACKUP, INSTANCE_BACKUP, "S3 export", "recovery point", "backup vault"}
)
_REFUSALS = (AccessDenied, AwsCallFailed, ClientError, EndpointConnectionError)


class KeyUser(NamedTuple):
    """A resource that needs a key. `deleted_with`: the cluster with which AWS deletes it, "" for none.

    `resource_ids`: the id of a cluster or instance, such as `cluster-ABC…`, or those in the encryption context of a grant.
    """

    kind: str
    name: str
    deleted_with: str = ""
    resource_ids: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Unread(NamedTuple):
    """Something that could not be listed: what, the IAM action that would list it, and the reason in AWS's words."""

    what: str
    permission: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} (not looked at: needs {self.permission})"


class KeyUsers(NamedTuple):
    """What needs a key, and what could not be looked at."""

    users: tuple[KeyUser, ...]
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class _Key:
    """A key, under each name by which a resource may refer to it: ARN, id, alias or ARN of an alias."""

    arn: str
    names: frozenset[str]

    @classmethod
    def of(cls, arn: str, aliases: list[str]) -> _Key:
        head, _, key_id = arn.rpartition(":key/")
        return cls(arn, frozenset({arn, key_id, *aliases, *(f"{head}:{alias}" for alias in aliases)}))

    def is_in(self, item: dict[str, Any], *fields: str) -> bool:
        return any(item.get(field) in self.names for field in fields)


def who_uses(session: Session, key_arn: str) -> KeyUsers:
    """Return everything in the session's account and Region that needs a key, and what could not be looked at.

    Each service is asked by itself: a refusal of one does not hide what the others list. Raises `CredentialsMissing` and
    what else ends all calls.
    """
    users: dict[KeyUser, None] = {}
    unread: list[Unread] = []
    try:
        key = _Key.of(key_arn, aliases_of(session, key_arn.rpartition("/")[2]))
    except _REFUSALS as error:
        unread.append(Unread("aliases, by which a resource may name the key", "kms:ListAliases", refusal_text(error)))
        key = _Key.of(key_arn, [])
    for reading in (*_OF_RDS, *_OF_OTHERS):
        try:
            for found in reading.read(session, key):
                users.setdefault(found)
        except _REFUSALS as error:
            unread.append(Unread(reading.what, reading.permission, refusal_text(error)))
    return KeyUsers(tuple(_without_doubles(users)), tuple(unread))


def _without_doubles(users: Collection[KeyUser]) -> Iterator[KeyUser]:
    """Omit the grants of listed clusters and instances, and recovery points that are listed as snapshots too."""
    names = {user.name for user in users if user.kind in (CLUSTER_SNAPSHOT, INSTANCE_SNAPSHOT)}
    ids = frozenset().union(*(user.resource_ids for user in users if user.kind in (CLUSTER, INSTANCE)))
    for user in users:
        if user.kind == "recovery point" and user.name.rpartition("snapshot:")[2] in names:
            continue
        if not (user.kind == GRANT and user.resource_ids and user.resource_ids <= ids):
            yield user


def last_use(session: Session, key_arn: str) -> str:
    """Return when KMS last used a key, in words: a hint, never evidence that nothing needs it.

    A cluster uses its data key for months without asking KMS (docs.aws.amazon.com/kms: GetKeyLastUsage).
    """
    try:
        answer = session.client("kms").get_key_last_usage(KeyId=key_arn)
    except (AccessDenied, AwsCallFailed, ClientError, AttributeError):
        return "unknown; kms:GetKeyLastUsage would tell"
    if usage := answer.get("KeyLastUsage"):
        return f"{usage['Operation']} at {usage['Timestamp']:%Y-%m-%d %H:%M} UTC"
    return f"none since {answer['TrackingStartDate']:%Y-%m-%d}" if answer.get("TrackingStartDate") else "none known"


# RDS --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reading:
    """One question to AWS: what it lists, the permission that it needs, and how."""

    what: str
    permission: str
    read: Callable[[Session, _Key], Iterator[KeyUser]]


def _pages(session: Session, service: str, call: str, items: str, **asked: Any) -> Iterator[dict[str, Any]]:
    client = session.client(service)
    if not client.can_paginate(call):
        yield from getattr(client, call)(**asked)[items]
        return
    for page in client.get_paginator(call).paginate(**asked):
        yield from page[items]


def _clusters(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "rds", "describe_db_clusters", "DBClusters"):
        name = item["DBClusterIdentifier"]
        if key.is_in(item, "KmsKeyId"):
            yield KeyUser(CLUSTER, name, resource_ids=frozenset({item["DbClusterResourceId"]}))
        if key.is_in(item, "PerformanceInsightsKMSKeyId"):
            yield KeyUser("Performance Insights data of DB cluster", name, name)
        if key.is_in(item, "ActivityStreamKmsKeyId"):
            yield KeyUser("activity stream", item.get("ActivityStreamKinesisStreamName") or name)
        if key.is_in(item.get("MasterUserSecret") or {}, "KmsKeyId"):
            yield KeyUser("master user secret of DB cluster", name, name)


def _instances(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "rds", "describe_db_instances", "DBInstances"):
        name, cluster = item["DBInstanceIdentifier"], item.get("DBClusterIdentifier", "")
        if key.is_in(item, "KmsKeyId"):
            yield KeyUser(INSTANCE, name, cluster, frozenset({item["DbiResourceId"]}))
        if key.is_in(item, "PerformanceInsightsKMSKeyId"):
            yield KeyUser("Performance Insights data of DB instance", name, cluster)
        if key.is_in(item, "ActivityStreamKmsKeyId"):
            yield KeyUser("activity stream", item.get("ActivityStreamKinesisStreamName") or name)
        if key.is_in(item.get("MasterUserSecret") or {}, "KmsKeyId"):
            yield KeyUser("master user secret of DB instance", name, cluster)


# Without a type, RDS lists this account's manual and automated snapshots; the others only when asked for.
_TYPES: tuple[dict[str, str], ...] = ({}, {"SnapshotType": "awsbackup"}, {"SnapshotType": "shared"})


def _cluster_snapshots(session: Session, key: _Key) -> Iterator[KeyUser]:
    for asked in _TYPES:
        for item in _pages(session, "rds", "describe_db_cluster_snapshots", "DBClusterSnapshots", **asked):
            if key.is_in(item, "KmsKeyId"):
                automated = item["SnapshotType"] == "automated"
                cluster = item["DBClusterIdentifier"] if automated else ""
                yield KeyUser(CLUSTER_SNAPSHOT, item["DBClusterSnapshotIdentifier"], cluster)


def _instance_snapshots(session: Session, key: _Key) -> Iterator[KeyUser]:
    for asked in _TYPES:
        for item in _pages(session, "rds", "describe_db_snapshots", "DBSnapshots", **asked):
            if key.is_in(item, "KmsKeyId"):
                yield KeyUser(INSTANCE_SNAPSHOT, item["DBSnapshotIdentifier"])


def _backups(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "rds", "describe_db_cluster_automated_backups", "DBClusterAutomatedBackups"):
        if key.is_in(item, "KmsKeyId"):
            name = item["DBClusterIdentifier"]
            # A retained backup belongs to a deleted cluster, and is not deleted with any.
            yield KeyUser(BACKUP, name, "" if item.get("Status") == "retained" else name)


def _instance_backups(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "rds", "describe_db_instance_automated_backups", "DBInstanceAutomatedBackups"):
        if key.is_in(item, "KmsKeyId"):
            yield KeyUser(INSTANCE_BACKUP, item["DBInstanceIdentifier"])


def _exports(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "rds", "describe_export_tasks", "ExportTasks"):
        # The list is history; the objects in S3 stay encrypted, and are listed nowhere.
        if key.is_in(item, "KmsKeyId") and str(item.get("Status")).upper() not in ("CANCELED", "FAILED"):
            yield KeyUser("S3 export", item["ExportTaskIdentifier"])


def _integrations(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "rds", "describe_integrations", "Integrations"):
        if key.is_in(item, "KMSKeyId"):
            yield KeyUser("zero-ETL integration", item["IntegrationName"])


_OF_RDS = (
    _Reading("DB clusters", "rds:DescribeDBClusters", _clusters),
    _Reading("DB instances", "rds:DescribeDBInstances", _instances),
    _Reading("cluster snapshots", "rds:DescribeDBClusterSnapshots", _cluster_snapshots),
    _Reading("instance snapshots", "rds:DescribeDBSnapshots", _instance_snapshots),
    _Reading("automated backups of clusters", "rds:DescribeDBClusterAutomatedBackups", _backups),
    _Reading("automated backups of instances", "rds:DescribeDBInstanceAutomatedBackups", _instance_backups),
    _Reading("S3 exports", "rds:DescribeExportTasks", _exports),
    _Reading("zero-ETL integrations", "rds:DescribeIntegrations", _integrations),
)


# Other services, and the grants ------------------------------------------------------------------------------------


def _secrets(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "secretsmanager", "list_secrets", "SecretList", IncludePlannedDeletion=True):
        if key.is_in(item, "KmsKeyId"):
            yield KeyUser("secret", item["Name"], _cluster_of(item))


def _secret_versions(session: Session, key: _Key) -> Iterator[KeyUser]:
    """Versions stay under the key that the secret had when they were made."""
    client = session.client("secretsmanager")
    for item in _pages(session, "secretsmanager", "list_secrets", "SecretList", IncludePlannedDeletion=True):
        if key.is_in(item, "KmsKeyId"):
            continue  # the secret itself is listed
        asked: dict[str, Any] = {"SecretId": item["ARN"], "IncludeDeprecated": True}
        while asked:
            answer = client.list_secret_version_ids(**asked)
            if any(key.names & set(version.get("KmsKeyIds", ())) for version in answer["Versions"]):
                yield KeyUser("older version of secret", item["Name"], _cluster_of(item))
            token = answer.get("NextToken")
            asked = asked | {"NextToken": token} if token else {}


def _cluster_of(secret: dict[str, Any]) -> str:
    """Return the cluster whose master password RDS keeps in a secret; it is deleted with the cluster."""
    if secret.get("OwningService") != "rds":
        return ""
    tags = {tag["Key"]: tag["Value"] for tag in secret.get("Tags", ())}
    return str(tags.get("aws:rds:primaryDBClusterArn", "")).rpartition(":cluster:")[2]


def _log_groups(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "logs", "describe_log_groups", "logGroups"):
        if key.is_in(item, "kmsKeyId"):
            yield KeyUser("log group", item["logGroupName"])


def _vaults(session: Session, key: _Key) -> Iterator[KeyUser]:
    for item in _pages(session, "backup", "list_backup_vaults", "BackupVaultList"):
        if key.is_in(item, "EncryptionKeyArn"):
            yield KeyUser("backup vault", item["BackupVaultName"])


def _recovery_points(session: Session, key: _Key) -> Iterator[KeyUser]:
    for vault in _pages(session, "backup", "list_backup_vaults", "BackupVaultList"):
        asked = {"BackupVaultName": vault["BackupVaultName"]}
        for item in _pages(session, "backup", "list_recovery_points_by_backup_vault", "RecoveryPoints", **asked):
            if key.is_in(item, "EncryptionKeyArn"):
                yield KeyUser("recovery point", item["RecoveryPointArn"])


def _grants(session: Session, key: _Key) -> Iterator[KeyUser]:
    """Grants see what the lists above do not: a service that keeps using a key holds one, as RDS does for each cluster."""
    for item in _pages(session, "kms", "list_grants", "Grants", KeyId=key.arn):
        constraints = item.get("Constraints") or {}
        context = constraints.get("EncryptionContextSubset") or constraints.get("EncryptionContextEquals") or {}
        ids = frozenset(str(value) for name, value in context.items() if name.startswith("aws:rds:"))
        yield KeyUser(GRANT, item["GrantId"], resource_ids=ids)


_OF_OTHERS = (
    _Reading("secrets", "secretsmanager:ListSecrets", _secrets),
    _Reading("versions of secrets", "secretsmanager:ListSecretVersionIds", _secret_versions),
    _Reading("log groups", "logs:DescribeLogGroups", _log_groups),
    _Reading("backup vaults", "backup:ListBackupVaults", _vaults),
    _Reading("recovery points", "backup:ListRecoveryPointsByBackupVault", _recovery_points),
    _Reading("grants", "kms:ListGrants", _grants),
)
