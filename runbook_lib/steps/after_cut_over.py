"""What is left after a cut-over: what still needs the old key, what nobody but you can change, and how to compare rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.cluster_settings import ClusterSettings
from runbook_lib.aws.rds import storage_encryption_type
from runbook_lib.run.clusters import SETTINGS_FILE, ExistingClusterRecord
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.writers import cluster_by_id
from runbook_lib.tables import Table, Text

_COPY = "copy it with KmsKeyId (rds:CopyDBClusterSnapshot)"
_RESTORE = "cannot be re-keyed by a copy: restore it under the key, then take a snapshot"
_ADVICE = """\
TLS: the certificate of a renamed cluster names the old endpoint until the cluster was stopped and started. Clients that
verify the host name (verify-full) fail until then.
DNS: the old address may be cached for minutes. A CNAME record in your Route 53 zone stays as it is, and fails verify-full.
Instances: instance endpoints have the new names {instances}. Applications that use them must change.
IAM: policies with rds-db:connect name the resource ID. Replace {old_id} by {new_id}.
Secrets: {secret}
Terraform: it replaces (deletes and creates) a cluster whose cluster_identifier or kms_key_id changes. Before the next apply:
  terraform state rm aws_rds_cluster.NAME, the same for its instances, then terraform import aws_rds_cluster.NAME {name}
  write kms_key_id as the key ARN {key}, never as an alias or key ID
Backups: point-in-time recovery of {name} starts with its restore; earlier times are restored from {old}."""
_MYSQL = """\
-- for each schema of yours; exact counts, on both clusters, while nobody writes
SELECT CONCAT('SELECT ''', table_schema, '.', table_name, ''', COUNT(*) FROM `', table_schema, '`.`', table_name, '`;')
FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema');
-- run what it returns; CHECKSUM TABLE compares contents too"""
_POSTGRESQL = """\
-- in each database; exact counts, on both clusters, while nobody writes
SELECT format('SELECT %L, count(*) FROM %I.%I;', schemaname || '.' || tablename, schemaname, tablename)
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema');
-- run what it returns, in psql with \\gexec"""


def row_counts(step: OpenStep) -> Text:
    """Return the SQL that counts the rows of every table: nothing outside the database can."""
    engine = str(_settings(step).cluster["Engine"])
    return Text("Compare the rows of both clusters", _POSTGRESQL if "postgres" in engine else _MYSQL)


def advice(step: OpenStep) -> Text:
    """Return what changes for applications, policies and Terraform."""
    record, settings = ExistingClusterRecord.from_run(step.run), _settings(step)
    name = record.source_db_cluster_identifier
    new = cluster_by_id(step, record.db_cluster_resource_id) or {}
    secret = (new.get("MasterUserSecret") or {}).get("SecretArn")
    words = _ADVICE.format(
        instances=", ".join(record.db_instance_identifiers), old_id=record.source_db_cluster_resource_id,
        new_id=record.db_cluster_resource_id, name=name, old=f"{name}-old", key=new.get("KmsKeyId", ""),
        secret=f"the managed secret is {secret}, with a new password." if secret else "the master password is the same.",
    )  # fmt: skip
    return Text(f"After the cut-over of {name}", words if settings.cluster else "")


def still_under_the_old_key(step: OpenStep) -> Table:
    """Return what is still unencrypted or under the key of the existing cluster, and how each can be re-keyed; only read."""
    record, rds = ExistingClusterRecord.from_run(step.run), step.client("rds")
    source = record.source_db_cluster_resource_id
    rows: list[tuple[str, str, str, str]] = []

    def listed(call: str, items: str, **asked: Any) -> list[dict[str, Any]]:
        try:
            pages = rds.get_paginator(call).paginate(**asked)
            return [dict(one) for page in pages for one in page[items]]
        except ClientError as error:
            rows.append((call.replace("_", " "), "not looked at", f"{error_code(error)}: {error_text(error)}", ""))
            return []

    cluster = cluster_by_id(step, source)
    if cluster is not None:
        rows.append(
            ("DB cluster", str(cluster["DBClusterIdentifier"]), _key(cluster), "delete it when nobody needs it")
        )
        of_it = [{"Name": "db-cluster-id", "Values": [str(cluster["DBClusterIdentifier"])]}]
        members = listed("describe_db_instances", "DBInstances", Filters=of_it)
        rows += [
            (
                "Performance Insights",
                str(one["DBInstanceIdentifier"]),
                str(one["PerformanceInsightsKMSKeyId"]),
                "ends with it",
            )
            for one in members
            if one.get("PerformanceInsightsKMSKeyId")
        ]
    every = listed("describe_db_cluster_snapshots", "DBClusterSnapshots")
    snapshots = [one for one in every if one.get("DbClusterResourceId") == source]
    for one in snapshots:
        how = _COPY if storage_encryption_type(one) == "sse-kms" else _RESTORE
        rows.append(
            (f"{one.get('SnapshotType', 'manual')} snapshot", str(one["DBClusterSnapshotIdentifier"]), _key(one), how)
        )
    backups = listed("describe_db_cluster_automated_backups", "DBClusterAutomatedBackups", DbClusterResourceId=source)
    rows += [
        ("automated backups", str(one.get("DBClusterIdentifier", "")), _key(one), "end with their retention")
        for one in backups
    ]
    arns = {str(one["DBClusterSnapshotArn"]) for one in snapshots} | {record.source_db_cluster_arn}
    rows += [
        (
            "export to S3",
            str(one["ExportTaskIdentifier"]),
            str(one.get("KmsKeyId", "")),
            "export again under another key",
        )
        for one in listed("describe_export_tasks", "ExportTasks")
        if one.get("SourceArn") in arns
    ]
    rows.append(("elsewhere", "copies in other Regions and accounts, AWS Backup, replicas", "", "look there yourself"))
    name = record.source_db_cluster_identifier
    return Table(
        f"Not under the key of this run: {name} was {record.source_encryption}, and that key must live as long as one of these "
        "is needed",
        ("what", "name", "encrypted with", "how it is re-keyed or ends"), rows,
    )  # fmt: skip


def _key(found: Mapping[str, Any]) -> str:
    return str(found.get("KmsKeyId") or storage_encryption_type(dict(found)))


def _settings(step: OpenStep) -> ClusterSettings:
    ExistingClusterRecord.from_run(step.run)  # 10 has finished, or StepMissing
    return ClusterSettings.from_json(step.run.read(SETTINGS_FILE))
