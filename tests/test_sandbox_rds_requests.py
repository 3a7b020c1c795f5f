"""What the sandbox's RDS accepts and rejects: names, passwords, placement, engines, classes, groups, paging."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from kms_support import ACCOUNT, REGION, advance, now, refusal, sandbox
from rds_support import CLUSTER, COMBINATION, MYSQL, NEW_ACCOUNT, PASSWORD, POSTGRESQL, VALUE, Aws, raised_quotas

from runbook_lib.aws import sandbox_process
from runbook_sandbox.rds import quotas


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    """A sandbox for this module."""
    with sandbox() as url, raised_quotas():
        yield Aws(url)


def refused(aws: Aws, **asked: Any) -> str:
    """Return the error code with which CreateDBCluster fails."""
    given = {"DBClusterIdentifier": aws.name(), **CLUSTER, **asked}
    return refusal(aws("rds").create_db_cluster, **{name: value for name, value in given.items() if value is not None})


# ---- clusters: request parameters

WRONG = [
    ({"DBClusterIdentifier": "1-first"}, VALUE),
    ({"DBClusterIdentifier": "ends-"}, VALUE),
    ({"DBClusterIdentifier": "two--hyphens"}, VALUE),
    ({"DBClusterIdentifier": "under_score"}, VALUE),
    ({"DBClusterIdentifier": "a" * 64}, VALUE),
    ({"Engine": "aurora"}, VALUE),
    ({"Engine": "cobol"}, VALUE),
    ({"EngineVersion": "5.6.10a"}, COMBINATION),
    ({"EngineVersion": "5.6.mysql_aurora.1.22.2"}, COMBINATION),
    ({"EngineVersion": "8.0.mysql_aurora.3.04.0"}, COMBINATION),
    ({"EngineVersion": "8.0.mysql_aurora.3.99.0"}, COMBINATION),
    ({"EngineVersion": "17.7"}, COMBINATION),
    ({"MasterUsername": None}, VALUE),
    ({"MasterUsername": "rdsadmin"}, VALUE),
    ({"MasterUsername": "1chief"}, VALUE),
    ({"MasterUsername": "c" * 17}, VALUE),
    ({"MasterUsername": "select"}, VALUE),
    ({"Engine": POSTGRESQL, "MasterUsername": "admin"}, VALUE),
    ({"MasterUserPassword": "correct-horse"}, COMBINATION),
    ({"ManageMasterUserPassword": None}, VALUE),
    ({**PASSWORD, "MasterUserPassword": "short"}, VALUE),
    ({**PASSWORD, "MasterUserPassword": "l" * 42}, VALUE),
    ({**PASSWORD, "MasterUserPassword": "with/slash@sign"}, VALUE),
    ({**PASSWORD, "MasterUserSecretKmsKeyId": "alias/aws/secretsmanager"}, COMBINATION),
    ({"DatabaseName": "1st"}, VALUE),
    ({"DatabaseName": "with-hyphen"}, VALUE),
    ({"Port": 1149}, VALUE),
    ({"Port": 65536}, VALUE),
    ({"BackupRetentionPeriod": 0}, VALUE),
    ({"BackupRetentionPeriod": 36}, VALUE),
    ({"PreferredBackupWindow": "25:00-26:00"}, VALUE),
    ({"PreferredBackupWindow": "03:00-03:10"}, VALUE),
    ({"PreferredMaintenanceWindow": "mon:03:00"}, VALUE),
    ({"PreferredBackupWindow": "03:00-04:00", "PreferredMaintenanceWindow": "mon:03:30-mon:04:30"}, VALUE),
    ({"DBSubnetGroupName": "there-is-none"}, "DBSubnetGroupNotFoundFault"),
    ({"DBClusterParameterGroupName": "there-is-none"}, "DBClusterParameterGroupNotFound"),
    ({"DBClusterParameterGroupName": "default.aurora-postgresql17"}, COMBINATION),
    ({"VpcSecurityGroupIds": ["sg-00000000"]}, VALUE),
    ({"AvailabilityZones": ["mars-1a"]}, VALUE),
    ({"EnableCloudwatchLogsExports": ["postgresql"]}, COMBINATION),
    ({"MonitoringInterval": 60}, COMBINATION),
    ({"MonitoringInterval": 7, "MonitoringRoleArn": f"arn:aws:iam::{ACCOUNT}:role/x"}, VALUE),
    ({"MonitoringInterval": 60, "MonitoringRoleArn": f"arn:aws:iam::{ACCOUNT}:role/there-is-none"}, VALUE),
    ({"PerformanceInsightsRetentionPeriod": 31}, COMBINATION),
    ({"EnablePerformanceInsights": True, "PerformanceInsightsRetentionPeriod": 8}, VALUE),
    ({"DatabaseInsightsMode": "advanced"}, COMBINATION),
    ({"ServerlessV2ScalingConfiguration": {"MinCapacity": 0.3, "MaxCapacity": 1}}, VALUE),
    ({"ServerlessV2ScalingConfiguration": {"MinCapacity": 4, "MaxCapacity": 2}}, VALUE),
    ({"ServerlessV2ScalingConfiguration": {"MinCapacity": 0, "MaxCapacity": 300}}, VALUE),
    ({"StorageType": "gp3"}, "StorageTypeNotSupported"),
    ({"EngineLifecycleSupport": "for-ever"}, VALUE),
    ({"EngineVersion": "5.7.mysql_aurora.2.12.5",
      "EngineLifecycleSupport": "open-source-rds-extended-support-disabled"}, COMBINATION),
    ({"GlobalClusterIdentifier": "there-is-none"}, "GlobalClusterNotFoundFault"),
    ({"Tags": [{"Key": "aws:x", "Value": "y"}]}, VALUE),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "code"), WRONG, ids=[json.dumps(asked)[:70] for asked, _ in WRONG])
def test_rejected_clusters(aws: Aws, asked: dict[str, Any], code: str) -> None:
    """Each rule has its documented error code, and nothing is created."""
    before = len(aws("rds").describe_db_clusters()["DBClusters"])
    assert code == refused(aws, **asked)
    assert before == len(aws("rds").describe_db_clusters()["DBClusters"])


def test_a_cluster_shows_its_settings(aws: Aws) -> None:
    """DescribeDBClusters returns every setting that the runbook chooses."""
    group = aws.subnet_group()
    vpc = aws("rds").describe_db_subnet_groups(DBSubnetGroupName=group)["DBSubnetGroups"][0]["VpcId"]
    guard = aws("ec2").create_security_group(GroupName=aws.name("sg"), Description="x", VpcId=vpc)["GroupId"]
    asked = {"DatabaseName": "shop", "Port": 3307, "BackupRetentionPeriod": 7, "DBSubnetGroup": group,
             "PreferredBackupWindow": "02:00-03:00", "DeletionProtection": True, "CopyTagsToSnapshot": True,
             "EngineVersion": "8.0.mysql_aurora.3.10.4", "StorageType": "aurora-iopt1"}  # fmt: skip
    given = {**asked, "DBSubnetGroupName": asked["DBSubnetGroup"]}
    del given["DBSubnetGroup"]
    made = aws.cluster(
        VpcSecurityGroupIds=[guard], EnableIAMDatabaseAuthentication=True, Tags=[{"Key": "a", "Value": "b"}],
        EnableCloudwatchLogsExports=["audit", "error"], **given,
    )  # fmt: skip
    assert asked == {name: made[name] for name in asked}
    assert [guard] == [one["VpcSecurityGroupId"] for one in made["VpcSecurityGroups"]]
    assert (True, ["audit", "error"], [{"Key": "a", "Value": "b"}]) == (
        made["IAMDatabaseAuthenticationEnabled"], made["EnabledCloudwatchLogsExports"], made["TagList"],
    )  # fmt: skip
    assert made["Endpoint"].startswith(made["DBClusterIdentifier"] + ".cluster-")


@pytest.mark.parametrize(
    ("engine", "asked", "expected"),
    [(MYSQL, None, "8.0.mysql_aurora.3.10.4"), (MYSQL, "8.4", "8.4.mysql_aurora.8.4.8"),
     (MYSQL, "8.0.mysql_aurora.3.10.1", "8.0.mysql_aurora.3.10.1"), (POSTGRESQL, "17", "17.9")],
)  # fmt: skip
def test_engine_versions(aws: Aws, engine: str, asked: str | None, expected: str) -> None:
    """Without a version the default is used, for a major version its newest minor, for a full version that one."""
    more = {} if asked is None else {"EngineVersion": asked}
    assert expected == aws.cluster(Engine=engine, **more)["EngineVersion"]


# ---- instances


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"DBInstanceClass": "db.t2.small"}, COMBINATION),
        ({"DBInstanceClass": "db.t4g.small"}, COMBINATION),
        ({"DBInstanceClass": "db.huge"}, COMBINATION),
        ({"DBInstanceClass": None}, "MissingParameter"),
        ({"DBInstanceClass": "db.serverless"}, "InvalidDBClusterStateFault"),
        ({"Engine": POSTGRESQL}, COMBINATION),
        ({"EngineVersion": "5.6.10a"}, COMBINATION),
        ({"EngineVersion": "8.0.mysql_aurora.3.10.1"}, COMBINATION),
        ({"MasterUsername": "chief"}, COMBINATION),
        ({"BackupRetentionPeriod": 3}, COMBINATION),
        ({"PromotionTier": 16}, VALUE),
        ({"MonitoringInterval": 60}, COMBINATION),
        ({"DBParameterGroupName": "there-is-none"}, "DBParameterGroupNotFound"),
        ({"DBClusterIdentifier": "there-is-none"}, "DBClusterNotFoundFault"),
        ({"DBClusterIdentifier": None}, COMBINATION),
        ({"DBInstanceIdentifier": "1"}, VALUE),
    ],
)
def test_rejected_instances(aws: Aws, asked: dict[str, Any], code: str) -> None:
    """Unsupported classes and versions are rejected, among them the post's db.t2.small and MySQL 5.6."""
    given = {"DBInstanceIdentifier": aws.name("i"), "DBClusterIdentifier": aws.cluster()["DBClusterIdentifier"],
             "Engine": MYSQL, "DBInstanceClass": "db.t4g.medium", **asked}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    assert code == refusal(aws("rds").create_db_instance, **given)


def test_an_instance_shows_its_settings(aws: Aws) -> None:
    """Monitoring, insights, tier and zone are shown; an instance is public on request or by AWS's default."""
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "monitoring.rds.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]}  # fmt: skip
    role = aws("iam").create_role(RoleName=aws.name("monitoring"), AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    cluster = aws.cluster(DBSubnetGroupName=aws.subnet_group())
    made = aws.instance(
        cluster, MonitoringInterval=60, MonitoringRoleArn=role["Arn"], EnablePerformanceInsights=True, PromotionTier=3
    )
    assert (60, role["Arn"], True, 3, False) == (
        made["MonitoringInterval"], made["MonitoringRoleArn"], made["PerformanceInsightsEnabled"],
        made["PromotionTier"], made["PubliclyAccessible"],
    )  # fmt: skip
    assert ("creating", "Endpoint" in made) == (made["DBInstanceStatus"], False)
    assert "DBInstanceAlreadyExists" == refusal(
        lambda: aws.instance(cluster, DBInstanceIdentifier=made["DBInstanceIdentifier"])
    )
    assert aws.instance(aws.cluster())["PubliclyAccessible"] is True  # the subnet group `default`
    writers = [one["IsClusterWriter"] for one in aws.described(cluster)["DBClusterMembers"]]
    aws.instance(cluster)
    assert ([True], [True, False]) == (
        writers, [one["IsClusterWriter"] for one in aws.described(cluster)["DBClusterMembers"]],
    )  # fmt: skip


def test_serverless_instances(aws: Aws) -> None:
    """db.serverless requires a scaling configuration on its cluster; capacity 0 pauses after 300 seconds by default."""
    cluster = aws.cluster(ServerlessV2ScalingConfiguration={"MinCapacity": 0, "MaxCapacity": 1})
    shown = cluster["ServerlessV2ScalingConfiguration"]
    assert {"MinCapacity": 0.0, "MaxCapacity": 1.0, "SecondsUntilAutoPause": 300} == shown
    assert "db.serverless" == aws.instance(cluster, DBInstanceClass="db.serverless")["DBInstanceClass"]


def test_instances_are_modified_and_rebooted(aws: Aws) -> None:
    """Class and tier can change; settings of the cluster are rejected, and stopping is the cluster's too."""
    rds, cluster = aws("rds"), aws.cluster()
    name = aws.instance(cluster)["DBInstanceIdentifier"]
    aws.members(cluster)
    changed = rds.modify_db_instance(DBInstanceIdentifier=name, DBInstanceClass="db.r6g.large", PromotionTier=5)
    assert ("modifying", "db.r6g.large", 5) == (
        changed["DBInstance"]["DBInstanceStatus"], changed["DBInstance"]["DBInstanceClass"],
        changed["DBInstance"]["PromotionTier"],
    )  # fmt: skip
    aws.members(cluster)
    modify = rds.modify_db_instance
    assert COMBINATION == refusal(modify, DBInstanceIdentifier=name, DBInstanceClass="db.t2.small")
    assert COMBINATION == refusal(modify, DBInstanceIdentifier=name, BackupRetentionPeriod=3)
    assert "rebooting" == rds.reboot_db_instance(DBInstanceIdentifier=name)["DBInstance"]["DBInstanceStatus"]
    assert COMBINATION == refusal(rds.stop_db_instance, DBInstanceIdentifier=name)
    assert "DBInstanceNotFound" == refusal(modify, DBInstanceIdentifier="nope")
    assert VALUE == refusal(rds.create_db_snapshot, DBInstanceIdentifier=name, DBSnapshotIdentifier=aws.name("s"))


# ---- available versions and classes


def test_the_catalogue(aws: Aws) -> None:
    """Versions with their families, and the classes of each; nothing for those that are not available."""
    rds = aws("rds")
    found = rds.describe_db_engine_versions(Engine=MYSQL)["DBEngineVersions"]
    families = {one["EngineVersion"]: one["DBParameterGroupFamily"] for one in found}
    assert "aurora-mysql8.0" == families["8.0.mysql_aurora.3.10.4"]
    assert "aurora-mysql8.4" == families["8.4.mysql_aurora.8.4.8"]
    assert not [version for version in families if version.startswith("5.6")]
    assert [] == rds.describe_db_engine_versions(Engine=MYSQL, EngineVersion="5.6.10a")["DBEngineVersions"]

    def classes(**asked: Any) -> set[str]:
        answer = rds.describe_orderable_db_instance_options(Engine=MYSQL, **asked)
        return {one["DBInstanceClass"] for one in answer["OrderableDBInstanceOptions"]}

    today = classes(EngineVersion="8.0.mysql_aurora.3.10.4")
    assert {"db.t4g.medium", "db.t3.medium", "db.r6g.large", "db.serverless"} <= today
    assert set() == {"db.t2.small", "db.t2.medium", "db.t4g.small"} & today
    assert set() == classes(DBInstanceClass="db.t2.small")
    assert set() == classes(EngineVersion="5.6.10a")
    option = rds.describe_orderable_db_instance_options(
        Engine=MYSQL, EngineVersion="8.0.mysql_aurora.3.10.4", DBInstanceClass="db.t4g.medium"
    )["OrderableDBInstanceOptions"][0]
    assert option["SupportsStorageEncryption"] is True
    assert f"{REGION}a" in [zone["Name"] for zone in option["AvailabilityZones"]]
    default = rds.describe_db_engine_versions(Engine=MYSQL, DefaultOnly=True)["DBEngineVersions"]
    assert ["8.0.mysql_aurora.3.10.4"] == [one["EngineVersion"] for one in default]
    majors = rds.describe_db_major_engine_versions(Engine=MYSQL)["DBMajorEngineVersions"]
    ends = {one["MajorEngineVersion"]: one["SupportedEngineLifecycles"][0]["LifecycleSupportEndDate"].year
            for one in majors}  # fmt: skip
    assert 2028 == ends["8.0"]


def test_quotas_count_existing_resources(aws: Aws) -> None:
    """DescribeAccountAttributes counts existing resources against the account's default quotas."""

    def used() -> dict[str, tuple[int, int]]:
        shown = aws("rds").describe_account_attributes()["AccountQuotas"]
        return {one["AccountQuotaName"]: (one["Used"], one["Max"]) for one in shown}

    before = used()
    aws.instance(aws.cluster())
    after = used()
    for name in ("DBClusters", "DBInstances"):
        assert (before[name][0] + 1, quotas.MOST[name]) == after[name]


def test_the_quotas_are_those_of_a_new_account() -> None:
    """40 clusters and 40 instances, as the Aurora User Guide has them; the tests here raise both."""
    assert (40, 40) == (NEW_ACCOUNT["DBClusters"], NEW_ACCOUNT["DBInstances"])


def test_no_cluster_beyond_the_quota(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster beyond the quota is neither created nor restored; one that was deleted does not count."""
    rds, last = aws("rds"), aws.cluster()
    snapshot = aws.snapshot(last)
    monkeypatch.setitem(quotas.MOST, "DBClusters", len(rds.describe_db_clusters()["DBClusters"]))
    for refused in (aws.cluster, lambda: aws.restored(snapshot), lambda: aws.rewound(last)):
        assert "DBClusterQuotaExceededFault" == refusal(refused)
    rds.delete_db_cluster(DBClusterIdentifier=last["DBClusterIdentifier"], SkipFinalSnapshot=True)
    aws.restored(snapshot)


def test_no_instance_beyond_the_quota(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance beyond the quota is not created; one that was deleted does not count."""
    rds, cluster = aws("rds"), aws.cluster()
    last = aws.instance(cluster)["DBInstanceIdentifier"]
    monkeypatch.setitem(quotas.MOST, "DBInstances", len(rds.describe_db_instances()["DBInstances"]))
    aws.described(cluster)
    assert "InstanceQuotaExceeded" == refusal(lambda: aws.instance(cluster))
    rds.delete_db_instance(DBInstanceIdentifier=last, SkipFinalSnapshot=True)
    aws.instance(cluster)


# ---- groups and tags


def test_subnet_groups(aws: Aws) -> None:
    """A subnet group needs two zones of one VPC and a free name, not `default`; one in use cannot be deleted."""
    rds, subnets = aws("rds"), aws.subnets()
    create, two = rds.create_db_subnet_group, [one["SubnetId"] for one in subnets[:2]]
    made = create(DBSubnetGroupName="Mixed Case", DBSubnetGroupDescription="x", SubnetIds=two)["DBSubnetGroup"]
    assert ("mixed case", "Complete", 2) == (
        made["DBSubnetGroupName"], made["SubnetGroupStatus"], len(made["Subnets"]),
    )  # fmt: skip
    given = {"DBSubnetGroupDescription": "x", "SubnetIds": two}
    assert "DBSubnetGroupAlreadyExists" == refusal(create, DBSubnetGroupName="MIXED case", **given)
    assert VALUE == refusal(create, DBSubnetGroupName="default", **given)
    assert VALUE == refusal(create, DBSubnetGroupName="semi;colon", **given)
    assert "InvalidSubnet" == refusal(
        create, DBSubnetGroupName=aws.name("g"), **{**given, "SubnetIds": [two[0], "subnet-00000000"]}
    )
    assert "DBSubnetGroupDoesNotCoverEnoughAZs" == refusal(
        create, DBSubnetGroupName=aws.name("g"), **{**given, "SubnetIds": two[:1]}
    )
    cluster = aws.cluster(DBSubnetGroupName="mixed case")
    delete = rds.delete_db_subnet_group
    assert "InvalidDBSubnetGroupStateFault" == refusal(delete, DBSubnetGroupName="mixed case")
    rds.delete_db_cluster(DBClusterIdentifier=cluster["DBClusterIdentifier"], SkipFinalSnapshot=True)
    rds.describe_db_clusters()
    delete(DBSubnetGroupName="Mixed Case")
    assert "DBSubnetGroupNotFoundFault" == refusal(delete, DBSubnetGroupName="mixed case")
    assert "DBSubnetGroupNotFoundFault" == refusal(rds.describe_db_subnet_groups, DBSubnetGroupName="nope")


def test_a_failed_change_keeps_the_subnet_group(aws: Aws) -> None:
    """moto removes the group first; here a rejected change leaves it unchanged."""
    rds, name = aws("rds"), aws.subnet_group()
    assert "InvalidSubnet" == refusal(
        rds.modify_db_subnet_group, DBSubnetGroupName=name, SubnetIds=["subnet-0", "subnet-1"]
    )
    assert 2 == len(rds.describe_db_subnet_groups(DBSubnetGroupName=name)["DBSubnetGroups"][0]["Subnets"])
    three = [one["SubnetId"] for one in aws.subnets()[:3]]
    rds.modify_db_subnet_group(DBSubnetGroupName=name, SubnetIds=three)
    assert 3 == len(rds.describe_db_subnet_groups(DBSubnetGroupName=name)["DBSubnetGroups"][0]["Subnets"])


def test_parameter_groups(aws: Aws) -> None:
    """For both kinds: families must exist, names are unique, defaults always exist, none is deleted while in use."""
    rds, name = aws("rds"), aws.name("pg")
    given = {"DBParameterGroupFamily": "aurora-mysql8.0", "Description": "x"}
    rds.create_db_cluster_parameter_group(DBClusterParameterGroupName=name, **given)
    rds.create_db_parameter_group(DBParameterGroupName=name, **given)
    assert "DBParameterGroupAlreadyExists" == refusal(
        rds.create_db_cluster_parameter_group, DBClusterParameterGroupName=name, **given
    )
    assert "DBParameterGroupAlreadyExists" == refusal(rds.create_db_parameter_group, DBParameterGroupName=name, **given)
    old = {**given, "DBParameterGroupFamily": "aurora5.6"}
    assert VALUE == refusal(rds.create_db_cluster_parameter_group, DBClusterParameterGroupName=aws.name("pg"), **old)
    cluster = aws.cluster(DBClusterParameterGroupName=name)
    aws.instance(cluster, DBParameterGroupName=name)
    assert "InvalidDBParameterGroupState" == refusal(
        rds.delete_db_cluster_parameter_group, DBClusterParameterGroupName=name
    )
    assert "InvalidDBParameterGroupState" == refusal(rds.delete_db_parameter_group, DBParameterGroupName=name)
    default = rds.describe_db_cluster_parameter_groups(DBClusterParameterGroupName="default.aurora-mysql8.0")
    assert 1 == len(default["DBClusterParameterGroups"])
    assert "DBParameterGroupNotFound" == refusal(
        rds.describe_db_cluster_parameter_groups, DBClusterParameterGroupName="nope"
    )


def test_tags(aws: Aws) -> None:
    """Clusters, instances, snapshots and groups can be tagged, listed and untagged; unknown resources are not found."""
    rds, cluster = aws("rds"), aws.cluster(Tags=[{"Key": "a", "Value": "1"}])
    arns = [cluster["DBClusterArn"], aws.instance(cluster)["DBInstanceArn"],
            aws.snapshot(aws.cluster())["DBClusterSnapshotArn"],
            f"arn:aws:rds:{REGION}:{ACCOUNT}:subgrp:{aws.subnet_group()}"]  # fmt: skip
    for arn in arns:
        rds.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "c", "Value": "3"}])
        rds.remove_tags_from_resource(ResourceName=arn, TagKeys=["c"])
        assert [{"Key": "a", "Value": "2"}] == rds.list_tags_for_resource(ResourceName=arn)["TagList"]
    assert "DBClusterNotFoundFault" == refusal(rds.list_tags_for_resource, ResourceName=arns[0] + "-nope")
    assert VALUE == refusal(rds.add_tags_to_resource, ResourceName=arns[0], Tags=[{"Key": "aws:x", "Value": "y"}])


# ---- secrets, logs, events, paging, malformed requests


def test_the_managed_secret(aws: Aws) -> None:
    """A managed secret uses the given key, rotates every seven days, belongs to RDS and is deleted with its cluster."""
    rds, secrets, key = aws("rds"), aws("secretsmanager"), aws.key()
    own, default = aws.cluster(MasterUserSecretKmsKeyId=key["KeyId"]), aws.cluster()
    shown = own["MasterUserSecret"]
    assert ("active", key["Arn"]) == (shown["SecretStatus"], shown["KmsKeyId"])
    described = secrets.describe_secret(SecretId=shown["SecretArn"])
    assert (key["Arn"], "rds", True) == (
        described["KmsKeyId"], described["OwningService"], described["RotationEnabled"],
    )  # fmt: skip
    assert "KmsKeyId" not in secrets.describe_secret(SecretId=default["MasterUserSecret"]["SecretArn"])
    values = [json.loads(secrets.get_secret_value(SecretId=one["MasterUserSecret"]["SecretArn"])["SecretString"])
              for one in (own, default)]  # fmt: skip
    assert ["chief", "chief"] == [value["username"] for value in values]
    assert values[0]["password"] != values[1]["password"]
    for operation, more in ((secrets.delete_secret, {}), (secrets.put_secret_value, {"SecretString": "x"}),
                            (secrets.update_secret, {"SecretString": "x"})):  # fmt: skip
        assert "InvalidRequestException" == refusal(operation, SecretId=shown["SecretArn"], **more)
    rds.modify_db_cluster(DBClusterIdentifier=own["DBClusterIdentifier"], RotateMasterUserPassword=True)
    aws.described(own)
    rotated = json.loads(secrets.get_secret_value(SecretId=shown["SecretArn"])["SecretString"])
    assert rotated["password"] != values[0]["password"]
    aws("kms").disable_key(KeyId=key["KeyId"])
    assert "DecryptionFailure" == refusal(secrets.get_secret_value, SecretId=shown["SecretArn"])
    rds.delete_db_cluster(DBClusterIdentifier=own["DBClusterIdentifier"], SkipFinalSnapshot=True)
    rds.describe_db_clusters()
    assert "ResourceNotFoundException" == refusal(secrets.describe_secret, SecretId=shown["SecretArn"])


def test_events(aws: Aws) -> None:
    """Events of a cluster are listed for the last hour or a given time, by category; a source needs a type."""
    rds, cluster = aws("rds"), aws.cluster()
    name = cluster["DBClusterIdentifier"]
    asked = {"SourceType": "db-cluster", "SourceIdentifier": name}
    found = rds.describe_events(**asked)["Events"]
    assert ["creation"] == found[0]["EventCategories"]
    assert [] == rds.describe_events(EventCategories=["failover"], **asked)["Events"]
    assert COMBINATION == refusal(rds.describe_events, SourceIdentifier=name)
    assert VALUE == refusal(rds.describe_events, SourceType="db-colour")
    try:
        advance(aws.url, hours=2)
        assert [] == rds.describe_events(**asked)["Events"]
        assert found == rds.describe_events(StartTime=now(aws.url) - timedelta(hours=3), **asked)["Events"]
        assert found == rds.describe_events(Duration=180, **asked)["Events"]
    finally:
        sandbox_process.call(aws.url, "/runbook/clock", method="POST", body={"reset": True})


def test_clusters_are_paged(aws: Aws) -> None:
    """MaxRecords is 20 to 100, Marker returns the next page, and nothing is repeated."""
    rds = aws("rds")
    for _ in range(25):
        rds.create_db_cluster(DBClusterIdentifier=aws.name("page"), **CLUSTER)
    pages = list(rds.get_paginator("describe_db_clusters").paginate(PaginationConfig={"PageSize": 20}))
    names = [one["DBClusterIdentifier"] for page in pages for one in page["DBClusters"]]
    assert len(pages) > 1
    assert len(names) == len(set(names)) >= 25
    assert VALUE == refusal(rds.describe_db_clusters, MaxRecords=19)
    assert VALUE == refusal(rds.describe_db_clusters, Marker="no marker")


@pytest.mark.parametrize(
    ("operation", "asked", "code"),
    [
        ("create_db_cluster", {"Engine": MYSQL}, "MissingParameter"),
        ("create_db_cluster", {"DBClusterIdentifier": "x", "Engine": MYSQL, "Port": "x"}, "MalformedInput"),
        ("describe_db_clusters", {"DBClusterIdentifier": "nope"}, "DBClusterNotFoundFault"),
        ("describe_db_clusters", {"Filters": [{"Name": "colour", "Values": ["red"]}]}, VALUE),
        ("describe_db_instances", {"DBInstanceIdentifier": "nope"}, "DBInstanceNotFound"),
        ("modify_db_cluster", {"DBClusterIdentifier": "nope"}, "DBClusterNotFoundFault"),
        ("stop_db_cluster", {"DBClusterIdentifier": "nope"}, "DBClusterNotFoundFault"),
        ("start_db_cluster", {"DBClusterIdentifier": "nope"}, "DBClusterNotFoundFault"),
        ("failover_db_cluster", {"DBClusterIdentifier": "nope"}, "DBClusterNotFoundFault"),
        ("restore_db_cluster_from_snapshot",
         {"DBClusterIdentifier": "x", "SnapshotIdentifier": "nope", "Engine": MYSQL}, "DBClusterSnapshotNotFoundFault"),
        ("describe_events", {"Duration": 99999999999}, VALUE),
        ("list_tags_for_resource", {"ResourceName": "nope"}, VALUE),
        ("describe_db_proxy_targets", {"DBProxyName": "nope"}, "InvalidAction"),
    ],
)  # fmt: skip
def test_malformed_requests_have_an_error_code(aws: Aws, operation: str, asked: dict[str, Any], code: str) -> None:
    """Missing, malformed and unknown parameters are a 4xx with its code, never a 500."""
    assert code == refusal(getattr(aws("rds"), operation), **asked)
