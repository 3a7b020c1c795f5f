"""Nothing that needs a key is overlooked: one forgotten user of each kind keeps it, and so does what cannot be seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kms_support import REGION

from conftest import World
from runbook_lib.aws.key_users import KeyUser, Unread, last_use, who_uses
from runbook_lib.aws.sandbox_accounts import DEFAULT_ACCOUNT
from runbook_lib.aws.session import Session, sandbox_session

CLUSTER = {"Engine": "aurora-mysql", "MasterUsername": "chief", "ManageMasterUserPassword": True}
INSTANCE = {
    "Engine": "postgres", "DBInstanceClass": "db.t3.medium", "AllocatedStorage": 20, "MasterUsername": "chief",
    "MasterUserPassword": "correct-horse", "StorageEncrypted": True,
}  # fmt: skip
ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/Admin"


class Account:
    """Clients of the account, and names that were not used before."""

    def __init__(self, world: World) -> None:
        self.world, self.numbers = world, iter(range(1, 1000))

    def __call__(self, service: str) -> Any:
        return self.world.client(service, region=REGION)

    def name(self) -> str:
        return f"one-{next(self.numbers)}"

    def key(self) -> str:
        return str(self("kms").create_key()["KeyMetadata"]["Arn"])

    def cluster(self, key: str = "", **given: Any) -> str:
        name = self.name()
        under = {"StorageEncrypted": True, "KmsKeyId": key} if key else {}
        self("rds").create_db_cluster(DBClusterIdentifier=name, **CLUSTER, **under, **given)
        for _ in range(4):
            self("rds").describe_db_clusters()
        return name

    def arn(self, cluster: str) -> str:
        return f"arn:aws:rds:{REGION}:{DEFAULT_ACCOUNT}:cluster:{cluster}"


@pytest.fixture(scope="module")
def account(shared_world: World) -> Account:
    return Account(shared_world)


@pytest.fixture(scope="module")
def session(shared_world: World) -> Session:
    return sandbox_session(shared_world.sandbox, region=REGION, account_id=DEFAULT_ACCOUNT)


def _snapshot_of_an_instance(aws: Account, key: str) -> tuple[str, str]:
    name = aws.name()
    aws("rds").create_db_instance(DBInstanceIdentifier=name, KmsKeyId=key, **INSTANCE)
    aws("rds").create_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=f"{name}-kept")
    aws("rds").delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    return "instance snapshot", f"{name}-kept"


def _instance(aws: Account, key: str) -> tuple[str, str]:
    name = aws.name()
    aws("rds").create_db_instance(DBInstanceIdentifier=name, KmsKeyId=key, **INSTANCE)
    return "DB instance", name


def _cluster(aws: Account, key: str) -> tuple[str, str]:
    return "DB cluster", aws.cluster(key)


def _secret_of_another_cluster(aws: Account, key: str) -> tuple[str, str]:
    return "master user secret of DB cluster", aws.cluster(MasterUserSecretKmsKeyId=key)


def _performance_insights(aws: Account, key: str) -> tuple[str, str]:
    cluster, name = aws.cluster(), aws.name()
    aws("rds").create_db_instance(
        DBInstanceIdentifier=name, DBClusterIdentifier=cluster, Engine="aurora-mysql", DBInstanceClass="db.r6g.large",
        EnablePerformanceInsights=True, PerformanceInsightsKMSKeyId=key,
    )  # fmt: skip
    return "Performance Insights data of DB instance", name


def _activity_stream(aws: Account, key: str) -> tuple[str, str]:
    name = aws.cluster()
    stream = aws("rds").start_activity_stream(ResourceArn=aws.arn(name), Mode="async", KmsKeyId=key)
    return "activity stream", stream["KinesisStreamName"]


def _cluster_snapshot(aws: Account, key: str) -> tuple[str, str]:
    name = aws.cluster(key)
    aws("rds").create_db_cluster_snapshot(DBClusterIdentifier=name, DBClusterSnapshotIdentifier=f"{name}-kept")
    aws("rds").delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    return "cluster snapshot", f"{name}-kept"


def _recovery_point(aws: Account, key: str) -> tuple[str, str]:
    name = aws.cluster(key)
    vault = aws.name()
    aws("backup").create_backup_vault(BackupVaultName=vault)
    job = aws("backup").start_backup_job(BackupVaultName=vault, ResourceArn=aws.arn(name), IamRoleArn=ROLE)
    aws("rds").delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    return "cluster snapshot", f"awsbackup:job-{job['BackupJobId']}"


def _retained_backup(aws: Account, key: str) -> tuple[str, str]:
    name = aws.cluster(key)
    aws("rds").delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True, DeleteAutomatedBackups=False)
    return "automated backup", name


def _export(aws: Account, key: str) -> tuple[str, str]:
    _kind, snapshot = _snapshot_of_an_instance(aws, aws.key())
    name = aws.name()
    aws("rds").start_export_task(
        ExportTaskIdentifier=name, SourceArn=f"arn:aws:rds:{REGION}:{DEFAULT_ACCOUNT}:snapshot:{snapshot}",
        S3BucketName="bucket", IamRoleArn=ROLE, KmsKeyId=key,
    )  # fmt: skip
    return "S3 export", name


def _integration(aws: Account, key: str) -> tuple[str, str]:
    name, source = aws.name(), aws.arn(aws.cluster())
    target = f"arn:aws:redshift-serverless:{REGION}:{DEFAULT_ACCOUNT}:namespace/one"
    aws("rds").create_integration(SourceArn=source, TargetArn=target, IntegrationName=name, KMSKeyId=key)
    return "zero-ETL integration", name


def _secret(aws: Account, key: str) -> tuple[str, str]:
    name = aws.name()
    aws("secretsmanager").create_secret(Name=name, SecretString="x", KmsKeyId=key)
    return "secret", name


def _secret_by_alias(aws: Account, key: str) -> tuple[str, str]:
    alias = f"alias/{aws.name()}"
    aws("kms").create_alias(AliasName=alias, TargetKeyId=key.rpartition("/")[2])
    return _secret(aws, alias)


def _secret_to_be_deleted(aws: Account, key: str) -> tuple[str, str]:
    kind, name = _secret(aws, key)
    aws("secretsmanager").delete_secret(SecretId=name, RecoveryWindowInDays=30)
    return kind, name


def _older_version(aws: Account, key: str) -> tuple[str, str]:
    _, name = _secret(aws, key)
    aws("secretsmanager").update_secret(SecretId=name, SecretString="y", KmsKeyId=aws.key())
    return "older version of secret", name


def _log_group(aws: Account, key: str) -> tuple[str, str]:
    name = f"/aws/rds/cluster/{aws.name()}/audit"
    aws("logs").create_log_group(logGroupName=name, kmsKeyId=key)
    return "log group", name


def _vault(aws: Account, key: str) -> tuple[str, str]:
    name = aws.name()
    aws("backup").create_backup_vault(BackupVaultName=name, EncryptionKeyArn=key)
    return "backup vault", name


def _grant(aws: Account, key: str) -> tuple[str, str]:
    made = aws("kms").create_grant(KeyId=key, GranteePrincipal=ROLE, Operations=["Decrypt"])
    return "grant", made["GrantId"]


FORGOTTEN: tuple[Callable[[Account, str], tuple[str, str]], ...] = (
    _cluster, _instance, _snapshot_of_an_instance, _secret_of_another_cluster, _performance_insights, _activity_stream,
    _cluster_snapshot, _recovery_point, _retained_backup, _export, _integration, _secret, _secret_by_alias,
    _secret_to_be_deleted, _older_version, _log_group, _vault, _grant,
)  # fmt: skip


@pytest.mark.parametrize("forget", FORGOTTEN, ids=lambda one: one.__name__.strip("_"))
def test_a_forgotten_user_is_found(account: Account, session: Session, forget: Any) -> None:
    """One of each kind; a key beside it has no users."""
    key = account.key()
    kind, name = forget(account, key)
    found = who_uses(session, key)
    assert (kind, name) in [(user.kind, user.name) for user in found.users]
    assert () == found.unread
    assert ((), ()) == tuple(who_uses(session, account.key()))


def test_a_users_cluster_is_named_where_aws_deletes_both(account: Account, session: Session) -> None:
    """What goes with a cluster says so; the snapshot that somebody took stays."""
    key = account.key()
    name = account.cluster(key, MasterUserSecretKmsKeyId=key)
    account("rds").create_db_cluster_snapshot(DBClusterIdentifier=name, DBClusterSnapshotIdentifier=f"{name}-kept")
    found = {(user.kind, user.deleted_with) for user in who_uses(session, key).users if user.name != f"{name}-kept"}
    assert {
        ("DB cluster", ""), ("cluster snapshot", name), ("automated backup", name),
        ("master user secret of DB cluster", name), ("secret", name),
    } == found  # fmt: skip
    assert KeyUser("cluster snapshot", f"{name}-kept") in who_uses(session, key).users


def test_the_grant_of_a_listed_cluster_has_no_row_of_its_own(account: Account, session: Session) -> None:
    """Any other has: also one whose context names a cluster that is under another key."""
    key = account.key()
    name, other = account.cluster(key), account.cluster(account.key())
    ids = {
        one["DBClusterIdentifier"]: one["DbClusterResourceId"]
        for one in account("rds").describe_db_clusters()["DBClusters"]
    }
    made = [
        account("kms").create_grant(
            KeyId=key, GranteePrincipal=ROLE, Operations=["Decrypt"],
            Constraints={"EncryptionContextSubset": {"aws:rds:dbc-id": ids[one]}},
        )["GrantId"] for one in (name, other)
    ]  # fmt: skip
    assert [made[1]] == [user.name for user in who_uses(session, key).users if user.kind == "grant"]


def test_a_failed_export_left_nothing_in_s3(account: Account, session: Session) -> None:
    """The twin: an export that was cancelled does not need the key."""
    key = account.key()
    _, name = _export(account, key)
    account("rds").cancel_export_task(ExportTaskIdentifier=name)
    assert () == who_uses(session, key).users


REFUSED = (
    ("rds", "DescribeDBClusters"), ("rds", "DescribeDBInstances"), ("rds", "DescribeDBClusterSnapshots"),
    ("rds", "DescribeDBSnapshots"), ("rds", "DescribeDBClusterAutomatedBackups"),
    ("rds", "DescribeDBInstanceAutomatedBackups"), ("rds", "DescribeExportTasks"), ("rds", "DescribeIntegrations"),
    ("secretsmanager", "ListSecrets"), ("secretsmanager", "ListSecretVersionIds"), ("logs", "DescribeLogGroups"),
    ("backup", "ListBackupVaults"), ("backup", "ListRecoveryPointsByBackupVault"), ("kms", "ListGrants"),
    ("kms", "ListAliases"),
)  # fmt: skip


@pytest.fixture
def refuse(session: Session) -> Iterator[Callable[[str, str], None]]:
    """Have AWS refuse an operation, as it does without the permission, until the test ends."""
    handlers = []

    def refuse(service: str, operation: str) -> None:
        def answer(**_: Any) -> Any:
            from botocore.awsrequest import AWSResponse

            class _Raw:
                def stream(self, **_: Any) -> Iterator[bytes]:
                    yield b""

            body = AWSResponse("", 403, {}, _Raw())
            message = f"User: x is not authorized to perform: {service}:{operation}"
            return body, {
                "Error": {"Code": "AccessDenied", "Message": message},
                "ResponseMetadata": {"HTTPStatusCode": 403},
            }

        client = session.client(service)
        event = f"before-call.{service.replace('secretsmanager', 'secrets-manager').replace('logs', 'cloudwatch-logs')}"
        client.meta.events.register_first(f"{event}.{operation}", answer)
        handlers.append((client, f"{event}.{operation}", answer))

    yield refuse
    for client, event, handler in handlers:
        client.meta.events.unregister(event, handler)


@pytest.mark.parametrize(("service", "operation"), REFUSED, ids=[f"{one}:{two}" for one, two in REFUSED])
def test_what_cannot_be_looked_at_is_said_with_its_permission(
    account: Account, session: Session, refuse: Any, service: str, operation: str
) -> None:
    """The rest is still listed, and the permission is the one that would tell."""
    key = account.key()
    _secret(account, account.key())
    _vault(account, key)
    account("logs").create_log_group(logGroupName=account.name(), kmsKeyId=key)
    _grant(account, key)
    refuse(service, operation)
    found = who_uses(session, key)
    assert f"{service}:{operation}" in [one.permission for one in found.unread]
    kinds = {user.kind for user in found.users}
    hides = {("logs", "DescribeLogGroups"): "log group", ("backup", "ListBackupVaults"): "backup vault",
             ("kms", "ListGrants"): "grant"}.get((service, operation), "")  # fmt: skip
    assert {"log group", "backup vault", "grant"} - {hides} == kinds


def test_the_last_use_is_a_hint(account: Account, session: Session) -> None:
    """The operation and the minute; a key that never was used says since when that is known."""
    key = account.key()
    assert "none" in last_use(session, key)
    account("kms").encrypt(KeyId=key, Plaintext=b"x")
    assert last_use(session, key).startswith("Encrypt at 20")


def test_the_command_says_in_use_and_exits_with_3(account: Account, shared_world: World) -> None:
    """By id, alias or ARN; the JSON lists the same."""
    key = account.key()
    _, name = _log_group(account, key)
    said = shared_world.runbook("key-users", key.rpartition("/")[2], "--region", REGION, code=3).stdout
    assert name in said
    assert "do not delete it" in said
    found = json.loads(shared_world.runbook("key-users", key, "--json", code=3).stdout)
    assert [{"kind": "log group", "name": name, "deleted_with": ""}] == found["users"]
    assert [] == found["not_looked_at"]


def test_the_command_exits_with_0_when_nothing_needs_the_key(account: Account, shared_world: World) -> None:
    """And says what no list can show."""
    assert "Objects in S3" in shared_world.runbook("key-users", account.key(), code=0).stdout


def test_a_key_that_is_not_there_is_one_line(shared_world: World) -> None:
    """With the Region in which it was looked for."""
    done = shared_world.runbook("key-users", "alias/nobody-has-this", "--region", REGION, code=1)
    assert f"error: key alias/nobody-has-this does not exist in {REGION}" in done.stderr
    assert 1 == done.stderr.count("\n")


def test_unread_is_said_in_one_phrase() -> None:
    """As 90's plan shows it."""
    assert "log groups (not looked at: needs logs:DescribeLogGroups)" == str(
        Unread("log groups", "logs:DescribeLogGroups", "denied")
    )
