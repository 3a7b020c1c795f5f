"""Gaps in moto's RDS after creation: changes, lost keys, deletion, snapshots, restores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kms_support import (
    OTHER_REGION,
    REGION,
    UNKNOWN,
    refusal,
)
from moto_gaps import gap
from rds_support import CLUSTER, COMBINATION, MYSQL, NO_KEY, PASSWORD, VALUE, Aws, set_transition, unset_transition

# ---- RDS: changing, stopping, deleting


@gap("rds.cluster_changes.ChangeOperations.modify_db_cluster")
def a_failed_change_keeps_the_cluster(aws: Aws) -> None:
    there = aws.cluster()
    refusal(
        aws("rds").modify_db_cluster, DBClusterIdentifier=there["DBClusterIdentifier"],
        NewDBClusterIdentifier=aws.cluster()["DBClusterIdentifier"],
    )  # fmt: skip
    assert there["DbClusterResourceId"] == aws.described(there)["DbClusterResourceId"]


@gap("rds.cluster_changes.ChangeOperations.modify_db_cluster")
def changing_an_unknown_cluster_is_a_404(aws: Aws) -> None:
    assert "DBClusterNotFoundFault" == refusal(aws("rds").modify_db_cluster, DBClusterIdentifier="nope")


@gap("rds.cluster_changes.ChangeOperations.start_db_cluster")
def clusters_do_not_start_without_their_key(aws: Aws) -> None:
    cluster = aws.encrypted()
    name = cluster["DBClusterIdentifier"]
    aws("rds").stop_db_cluster(DBClusterIdentifier=name)
    aws.described(cluster)
    aws("kms").disable_key(KeyId=cluster["KmsKeyId"].split("/")[-1])
    assert NO_KEY == refusal(aws("rds").start_db_cluster, DBClusterIdentifier=name)


@gap("rds.encryption.check_key_access")
def clusters_lose_their_key(aws: Aws) -> None:
    cluster = aws.encrypted()
    aws("kms").disable_key(KeyId=cluster["KmsKeyId"].split("/")[-1])
    states = [aws.described(cluster)["Status"] for _ in range(3)]
    assert "inaccessible-encryption-credentials-recoverable" in states


@gap("rds.states.poll")
def states_take_as_long_as_configured(aws: Aws) -> None:
    set_transition(aws.url, "rds::cluster", {"progression": "manual", "times": 3})
    try:
        made = aws("rds").create_db_cluster(DBClusterIdentifier=aws.name(), **CLUSTER)["DBCluster"]
        seen = [made["Status"], *(aws.described(made)["Status"] for _ in range(3))]
    finally:
        unset_transition(aws.url, "rds::cluster")
    assert ["creating", "creating", "creating", "available"] == seen


@gap("rds.clusters.ClusterOperations.delete_db_cluster")
def deletion_requires_a_choice_of_final_snapshot(aws: Aws) -> None:
    name = aws.cluster()["DBClusterIdentifier"]
    assert COMBINATION == refusal(aws("rds").delete_db_cluster, DBClusterIdentifier=name)


@gap("rds.clusters.ClusterOperations.delete_db_cluster")
def deleting_takes_time(aws: Aws) -> None:
    name = aws.cluster()["DBClusterIdentifier"]
    answer = aws("rds").delete_db_cluster(DBClusterIdentifier=name, FinalDBSnapshotIdentifier=aws.name("final"))
    assert "deleting" == answer["DBCluster"]["Status"]


@gap("rds.backups_and_events.BackupAndEventOperations.describe_events")
def clusters_have_events(aws: Aws) -> None:
    name = aws.cluster()["DBClusterIdentifier"]
    assert aws("rds").describe_events(SourceType="db-cluster", SourceIdentifier=name)["Events"]


@gap("rds.backups_and_events.BackupAndEventOperations.describe_db_cluster_automated_backups")
def automated_backups_are_listed(aws: Aws) -> None:
    name = aws.cluster()["DBClusterIdentifier"]
    found = aws("rds").describe_db_cluster_automated_backups(DBClusterIdentifier=name)
    assert [name] == [one["DBClusterIdentifier"] for one in found["DBClusterAutomatedBackups"]]


@gap("rds.clusters.export_logs")
def exported_logs_have_groups(aws: Aws) -> None:
    name = aws.cluster(EnableCloudwatchLogsExports=["audit"])["DBClusterIdentifier"]
    found = aws("logs").describe_log_groups(logGroupNamePrefix=f"/aws/rds/cluster/{name}/")["logGroups"]
    assert [f"/aws/rds/cluster/{name}/audit"] == [group["logGroupName"] for group in found]


@gap("rds.global_clusters.GlobalOperations.create_global_cluster")
def global_clusters_return_their_encryption(aws: Aws) -> None:
    made = aws("rds").create_global_cluster(GlobalClusterIdentifier=aws.name("world"), Engine=MYSQL)
    assert "sse-rds" == made["GlobalCluster"]["StorageEncryptionType"]


@gap("rds.managed_secrets.SandboxSecretsManagerResponse.describe_secret")
def managed_secrets_rotate(aws: Aws) -> None:
    arn = aws.cluster()["MasterUserSecret"]["SecretArn"]
    shown = aws("secretsmanager").describe_secret(SecretId=arn)
    assert ("rds", True, 7) == (
        shown["OwningService"], shown["RotationEnabled"], shown["RotationRules"]["AutomaticallyAfterDays"],
    )  # fmt: skip


@gap("rds.managed_secrets.SandboxSecretsManagerResponse.delete_secret")
def managed_secrets_cannot_be_deleted(aws: Aws) -> None:
    arn = aws.cluster()["MasterUserSecret"]["SecretArn"]
    assert "InvalidRequestException" == refusal(aws("secretsmanager").delete_secret, SecretId=arn)


# ---- RDS: snapshots and restores


@gap("rds.snapshots.describe_snapshot")
def snapshots_without_a_key_have_no_kms_key_id(aws: Aws) -> None:
    assert "KmsKeyId" not in aws.snapshot(aws.cluster())


@gap("rds.snapshots.SnapshotOperations.describe_db_cluster_snapshots")
def snapshots_are_found_by_arn(aws: Aws) -> None:
    taken = aws.snapshot(aws.cluster())
    found = aws("rds").describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=taken["DBClusterSnapshotArn"])
    assert [taken["DBClusterSnapshotArn"]] == [one["DBClusterSnapshotArn"] for one in found["DBClusterSnapshots"]]


def _copy(aws: Aws, source: Any, region: str = REGION, **asked: Any) -> Any:
    return aws("rds", region).copy_db_cluster_snapshot(
        SourceDBClusterSnapshotIdentifier=source["DBClusterSnapshotArn"],
        TargetDBClusterSnapshotIdentifier=aws.name("copy"), **asked,
    )["DBClusterSnapshot"]  # fmt: skip


def _copy_refusal(aws: Aws, source: Any, region: str = REGION, **asked: Any) -> str:
    return refusal(lambda: _copy(aws, source, region, **asked))


@gap("rds.snapshots.SnapshotOperations.copy_db_cluster_snapshot")
def copies_name_their_source(aws: Aws) -> None:
    source = aws.snapshot(aws.cluster())
    assert source["DBClusterSnapshotArn"] == _copy(aws, source)["SourceDBClusterSnapshotArn"]


@gap("rds.snapshots.SnapshotOperations.copy_db_cluster_snapshot")
def copies_take_no_disabled_key(aws: Aws) -> None:
    assert NO_KEY == _copy_refusal(aws, aws.snapshot(aws.encrypted()), KmsKeyId=aws.disabled())


@gap("rds.snapshots.SnapshotOperations.copy_db_cluster_snapshot")
def copies_take_no_unknown_alias(aws: Aws) -> None:
    assert NO_KEY == _copy_refusal(aws, aws.snapshot(aws.encrypted()), KmsKeyId="alias/there-is-none")


@gap("rds.snapshots.SnapshotOperations.copy_db_cluster_snapshot")
def copies_to_another_region_need_a_key(aws: Aws) -> None:
    assert _copy_refusal(aws, aws.snapshot(aws.encrypted()), OTHER_REGION) in (NO_KEY, COMBINATION, VALUE)


@gap("rds.snapshots.SnapshotOperations.copy_db_cluster_snapshot")
def copying_does_not_encrypt(aws: Aws) -> None:
    asked = _copy_refusal(aws, aws.snapshot(aws.cluster()), KmsKeyId=aws.key()["Arn"])
    assert asked in (COMBINATION, "InvalidDBClusterSnapshotStateFault")


@gap("rds.snapshots.SnapshotOperations.modify_db_cluster_snapshot_attribute")
def encrypted_snapshots_are_not_public(aws: Aws) -> None:
    taken = aws.snapshot(aws.encrypted())
    assert refusal(
        aws("rds").modify_db_cluster_snapshot_attribute, AttributeName="restore", ValuesToAdd=["all"],
        DBClusterSnapshotIdentifier=taken["DBClusterSnapshotIdentifier"],
    ) in ("InvalidDBClusterSnapshotStateFault", VALUE, NO_KEY)  # fmt: skip


def _restore(aws: Aws, source: Any, **asked: Any) -> Any:
    return aws("rds").restore_db_cluster_from_snapshot(
        DBClusterIdentifier=aws.name("r"), SnapshotIdentifier=source["DBClusterSnapshotIdentifier"], Engine=MYSQL,
        **asked,
    )["DBCluster"]  # fmt: skip


@gap("rds.restores.RestoreOperations.restore_db_cluster_from_snapshot")
def restoring_a_source_with_a_managed_password_works(aws: Aws) -> None:
    assert "creating" == _restore(aws, aws.snapshot(aws.encrypted()))["Status"]


@gap("rds.restores.RestoreOperations.restore_db_cluster_from_snapshot")
def restores_take_no_unknown_key(aws: Aws) -> None:
    source = aws.snapshot(aws.cluster(**PASSWORD))
    assert NO_KEY == refusal(lambda: _restore(aws, source, KmsKeyId=UNKNOWN))


@gap("rds.restores.RestoreOperations.restore_db_cluster_from_snapshot")
def restoring_with_a_key_encrypts(aws: Aws) -> None:
    key, source = aws.key(), aws.snapshot(aws.cluster(**PASSWORD))
    made = _restore(aws, source, KmsKeyId=key["Arn"])
    assert (True, key["Arn"]) == (made["StorageEncrypted"], made["KmsKeyId"])


@gap("rds.restores.RestoreOperations.restore_db_cluster_to_point_in_time")
def points_in_time_take_no_disabled_key(aws: Aws) -> None:
    cluster = aws.encrypted(**PASSWORD)
    assert NO_KEY == refusal(
        aws("rds").restore_db_cluster_to_point_in_time, DBClusterIdentifier=aws.name("r"), KmsKeyId=aws.disabled(),
        SourceDBClusterIdentifier=cluster["DBClusterIdentifier"], UseLatestRestorableTime=True,
    )  # fmt: skip


# ---- What else needs a key


@gap("rds.integrations.IntegrationOperations.create_integration")
def integrations_are_listed_with_their_key(aws: Aws) -> None:
    key = aws("kms").create_key()["KeyMetadata"]["Arn"]
    name, target = aws.name(), f"arn:aws:redshift-serverless:{REGION}:123456789012:namespace/one"
    aws("rds").create_integration(
        SourceArn=aws.cluster()["DBClusterArn"], TargetArn=target, IntegrationName=name, KMSKeyId=key
    )
    found = aws("rds").describe_integrations()["Integrations"]
    assert [key] == [one["KMSKeyId"] for one in found if one["IntegrationName"] == name]


@gap("rds.integrations.IntegrationOperations.start_activity_stream")
def a_cluster_shows_the_key_of_its_activity_stream(aws: Aws) -> None:
    key, cluster = aws("kms").create_key()["KeyMetadata"]["Arn"], aws.cluster()
    aws("rds").start_activity_stream(ResourceArn=cluster["DBClusterArn"], Mode="async", KmsKeyId=key)
    assert key == aws.described(cluster)["ActivityStreamKmsKeyId"]


@gap("rds.renames.wait_for_window")
def a_rename_waits_for_the_maintenance_window(aws: Aws) -> None:
    cluster, new = aws.cluster(), aws.name()
    aws("rds").modify_db_cluster(DBClusterIdentifier=cluster["DBClusterIdentifier"], NewDBClusterIdentifier=new)
    assert {"DBClusterIdentifier": new} == aws.described(cluster)["PendingModifiedValues"]


@gap("rds.cluster_features.FeatureOperations.create_db_cluster_endpoint")
def custom_endpoints_are_listed(aws: Aws) -> None:
    cluster, name = aws.cluster()["DBClusterIdentifier"], aws.name()
    aws("rds").create_db_cluster_endpoint(
        DBClusterIdentifier=cluster, DBClusterEndpointIdentifier=name, EndpointType="READER"
    )
    found = aws("rds").describe_db_cluster_endpoints(DBClusterIdentifier=cluster)["DBClusterEndpoints"]
    assert [name] == [one["DBClusterEndpointIdentifier"] for one in found if one["EndpointType"] == "CUSTOM"]


@gap("rds.cluster_features.FeatureOperations.modify_db_cluster_endpoint")
def custom_endpoints_can_be_changed(aws: Aws) -> None:
    cluster, name = aws.cluster()["DBClusterIdentifier"], aws.name()
    aws("rds").create_db_cluster_endpoint(
        DBClusterIdentifier=cluster, DBClusterEndpointIdentifier=name, EndpointType="READER"
    )
    aws("rds").modify_db_cluster_endpoint(DBClusterEndpointIdentifier=name, EndpointType="ANY")
    found = aws("rds").describe_db_cluster_endpoints(DBClusterEndpointIdentifier=name)["DBClusterEndpoints"]
    assert ["ANY"] == [one["CustomEndpointType"] for one in found]


@gap("rds.checks.backup_tags")
def automated_backups_have_tags_of_their_own(aws: Aws) -> None:
    own = [{"Key": "kept", "Value": "long"}]
    made = aws.cluster(TagSpecifications=[{"ResourceType": "cluster-auto-backup", "Tags": own}])
    found = aws("rds").describe_db_cluster_automated_backups(DbClusterResourceId=made["DbClusterResourceId"])
    assert [own] == [one["TagList"] for one in found["DBClusterAutomatedBackups"]]


@gap("rds.cluster_features.FeatureOperations.enable_http_endpoint")
def the_data_api_can_be_enabled(aws: Aws) -> None:
    cluster = aws.cluster()
    aws("rds").enable_http_endpoint(ResourceArn=cluster["DBClusterArn"])
    assert aws.described(cluster)["HttpEndpointEnabled"]


@gap("rds.restores.RestoreOperations.restore_db_cluster_from_snapshot")
def a_restore_has_the_default_parameter_group_version_and_no_logs(aws: Aws) -> None:
    group = aws.name()
    aws("rds").create_db_cluster_parameter_group(
        DBClusterParameterGroupName=group, DBParameterGroupFamily="aurora-mysql8.0", Description="x"
    )
    old = "8.0.mysql_aurora.3.10.1"
    source = aws.snapshot(aws.cluster(
        **PASSWORD, DBClusterParameterGroupName=group, EngineVersion=old, EnableCloudwatchLogsExports=["error"],
        CopyTagsToSnapshot=True,
    ))  # fmt: skip
    made = _restore(aws, source)
    assert group != made["DBClusterParameterGroup"]
    assert old != made["EngineVersion"]
    assert (None, False) == (made.get("EnabledCloudwatchLogsExports") or None, made["CopyTagsToSnapshot"])


@gap("backup.SandboxBackupResponse.start_backup_job")
def a_recovery_point_of_a_cluster_is_a_snapshot_under_its_key(aws: Aws) -> None:
    cluster, vault = aws.encrypted(), aws.name()
    aws("backup").create_backup_vault(BackupVaultName=vault)
    aws("backup").start_backup_job(
        BackupVaultName=vault, ResourceArn=cluster["DBClusterArn"], IamRoleArn="arn:aws:iam::123456789012:role/Admin"
    )
    points = aws("backup").list_recovery_points_by_backup_vault(BackupVaultName=vault)["RecoveryPoints"]
    assert [cluster["KmsKeyId"]] == [one["EncryptionKeyArn"] for one in points]
    snapshots = aws("rds").describe_db_cluster_snapshots(SnapshotType="awsbackup")["DBClusterSnapshots"]
    assert points[0]["RecoveryPointArn"] in [one["DBClusterSnapshotArn"] for one in snapshots]


@gap("secret_versions.VersionKeys.list_secret_version_ids")
def versions_of_a_secret_stay_under_the_key_they_were_made_with(aws: Aws) -> None:
    old, new = (aws("kms").create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    name = aws.name()
    first = aws("secretsmanager").create_secret(Name=name, SecretString="x", KmsKeyId=old)["VersionId"]
    aws("secretsmanager").update_secret(SecretId=name, SecretString="y", KmsKeyId=new)
    versions = aws("secretsmanager").list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"]
    keys = {one["VersionId"]: one["KmsKeyIds"] for one in versions}
    assert [old] == keys.pop(first)
    assert [[new]] == list(keys.values())


@gap("monitoring.connections.open_connections")
def connections_are_counted_for_each_cluster(aws: Aws) -> None:
    cluster = aws.cluster()
    name = cluster["DBClusterIdentifier"]
    aws("rds").create_db_instance(
        DBInstanceIdentifier=f"{name}-1",
        DBClusterIdentifier=name,
        Engine=cluster["Engine"],
        DBInstanceClass="db.r6g.large",
    )
    aws("rds").add_tags_to_resource(
        ResourceName=cluster["DBClusterArn"], Tags=[{"Key": "sandbox:clients", "Value": "2"}]
    )
    aws.described(cluster)
    now = datetime.now(UTC)
    found = aws("cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS", MetricName="DatabaseConnections", Dimensions=[{"Name": "DBClusterIdentifier", "Value": name}],
        StartTime=now - timedelta(minutes=5), EndTime=now + timedelta(minutes=5), Period=60, Statistics=["Maximum"],
    )["Datapoints"]  # fmt: skip
    assert [2.0] == [one["Maximum"] for one in found]
