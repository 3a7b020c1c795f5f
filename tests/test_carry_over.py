"""Every setting of an existing cluster is carried over, and each one that is left out shows as a difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kms_support import reset
from rds_support import raised_quotas
from source_clusters import FULL, MYSQL, POSTGRESQL, Account, Source

from runbook_lib.aws.cluster_settings import ClusterSettings


@pytest.fixture(scope="module")
def account(served: str) -> Iterator[Account]:
    reset(served)
    with raised_quotas():
        yield Account(served)


@pytest.fixture(scope="module", params=[MYSQL, POSTGRESQL])
def full(account: Account, request: pytest.FixtureRequest) -> ClusterSettings:
    return account.make(FULL[request.param])


def test_a_cluster_with_everything_comes_out_the_same(account: Account, full: ClusterSettings) -> None:
    """No difference in any member of DBCluster and DBInstance that is compared."""
    assert [] == account.restore(full)


# What is sent, parameter by parameter, and where its absence shows. Names and keys are no settings.
LEFT_OUT = [
    ("restore", "EngineVersion", "EngineVersion"),
    ("restore", "EngineLifecycleSupport", "EngineLifecycleSupport"),
    ("restore", "DBClusterParameterGroupName", "DBClusterParameterGroup"),
    ("restore", "EnableIAMDatabaseAuthentication", "IAMDatabaseAuthenticationEnabled"),
    ("restore", "BacktrackWindow", "BacktrackWindow"),
    ("restore", "EnableCloudwatchLogsExports", "EnabledCloudwatchLogsExports"),
    ("restore", "DeletionProtection", "DeletionProtection"),
    ("restore", "CopyTagsToSnapshot", "CopyTagsToSnapshot"),
    ("restore", "StorageType", "StorageType"),
    ("restore", "PreferredBackupWindow", "PreferredBackupWindow"),
    ("restore", "NetworkType", "NetworkType"),
    ("restore", "VpcSecurityGroupIds", "VpcSecurityGroups"),
    ("restore", "DBSubnetGroupName", "DBSubnetGroup"),
    ("restore", "AssociatedRoles", "AssociatedRoles"),
    ("restore", "Tags", "TagList"),
    ("modify", "PreferredMaintenanceWindow", "PreferredMaintenanceWindow"),
    ("modify", "EnableLocalWriteForwarding", "LocalWriteForwardingStatus"),
    ("modify", "ManageMasterUserPassword", "MasterUserSecret"),
    ("modify", "MasterUserSecretKmsKeyId", "MasterUserSecret"),
    ("modify", "DatabaseInsightsMode", "DatabaseInsightsMode"),
    ("modify", "EnablePerformanceInsights", "PerformanceInsightsEnabled"),
    ("instance", "DBInstanceClass", "DBInstanceClass"),
    ("instance", "AvailabilityZone", "AvailabilityZone"),
    ("instance", "PreferredMaintenanceWindow", "PreferredMaintenanceWindow"),
    ("instance", "AutoMinorVersionUpgrade", "AutoMinorVersionUpgrade"),
    ("instance", "PubliclyAccessible", "PubliclyAccessible"),
    ("instance", "PromotionTier", "PromotionTier"),
    ("instance", "CACertificateIdentifier", "CACertificateIdentifier"),
    ("instance", "DBParameterGroupName", "DBParameterGroups"),
    ("instance", "MonitoringInterval", "MonitoringInterval"),
    ("instance", "EnablePerformanceInsights", "PerformanceInsightsEnabled"),
    ("instance", "PerformanceInsightsRetentionPeriod", "PerformanceInsightsRetentionPeriod"),
    ("instance", "Tags", "TagList"),
    ("endpoint", "StaticMembers", "custom endpoints"),
    ("endpoint", "ExcludedMembers", "custom endpoints"),
]


# What is refused without it, and so left out with it.
WITH = {
    "EnablePerformanceInsights": {
        "PerformanceInsightsKMSKeyId",
        "PerformanceInsightsRetentionPeriod",
        "DatabaseInsightsMode",
    },
    "MonitoringInterval": {"MonitoringRoleArn"},
    "ManageMasterUserPassword": {"MasterUserSecretKmsKeyId"},
}


@pytest.fixture(scope="module")
def odd(account: Account) -> ClusterSettings:
    """A cluster whose every setting differs from AWS's default for it."""
    rds, ec2 = account("rds"), account("ec2")
    rds.create_db_cluster_parameter_group(
        DBClusterParameterGroupName="odd", DBParameterGroupFamily="aurora-mysql8.0", Description="x"
    )
    rds.create_db_parameter_group(DBParameterGroupName="odd", DBParameterGroupFamily="aurora-mysql8.0", Description="x")
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
    rds.create_db_subnet_group(DBSubnetGroupName="odd", DBSubnetGroupDescription="x", SubnetIds=subnets)
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="odd", Description="x", VpcId=vpc)["GroupId"]
    source = FULL[MYSQL]
    cluster = source.cluster | {
        "EngineVersion": "8.0.mysql_aurora.3.10.1", "DBClusterParameterGroupName": "odd", "DBSubnetGroupName": "odd",
        "VpcSecurityGroupIds": [group], "NetworkType": "DUAL",
        "MasterUserSecretKmsKeyId": account("kms").create_key()["KeyMetadata"]["Arn"],
    }  # fmt: skip
    first, second = source.instances
    instances = ({**first, "DBParameterGroupName": "odd"}, second)
    return account.make(Source(**{**source.__dict__, "cluster": cluster, "instances": instances}))


@pytest.mark.parametrize(
    ("call", "parameter", "member"), LEFT_OUT, ids=[f"{call}-{name}" for call, name, _ in LEFT_OUT]
)
def test_what_is_left_out_is_a_difference(
    account: Account, odd: ClusterSettings, call: str, parameter: str, member: str
) -> None:
    """One parameter less in one request, and the member that it sets is named."""
    dropped = []

    def drop(which: str, request: dict[str, Any]) -> dict[str, Any]:
        if which != call or parameter not in request:
            return request
        dropped.append(parameter)
        if parameter == "DBInstanceClass":
            return {**request, "DBInstanceClass": "db.t4g.medium"}  # the request needs one
        gone = {parameter} | WITH.get(parameter, set())
        return {name: value for name, value in request.items() if name not in gone}

    found = account.restore(odd, drop)
    assert dropped
    assert member in {one.member for one in found}


def test_every_parameter_that_is_sent_is_in_the_list(account: Account, odd: ClusterSettings) -> None:
    """A new one needs a row of its own."""
    sent: set[tuple[str, str]] = set()

    def note(call: str, request: dict[str, Any]) -> dict[str, Any]:
        sent.update((call, name) for name in request)
        return request

    account.restore(odd, note)
    no_settings = {
        "DBClusterIdentifier", "SnapshotIdentifier", "KmsKeyId", "Engine", "DBInstanceIdentifier", "ApplyImmediately",
        "DBClusterEndpointIdentifier", "EndpointType", "PerformanceInsightsKMSKeyId",
    }  # fmt: skip
    inherited = {
        ("restore", "Port"),
        ("restore", "BackupRetentionPeriod"),
    }  # sent all the same
    together = {  # refused without each other
        ("restore", "ServerlessV2ScalingConfiguration"),
        ("instance", "MonitoringRoleArn"), ("modify", "PerformanceInsightsRetentionPeriod"),
    }  # fmt: skip
    listed = {(call, name) for call, name, _ in LEFT_OUT} | inherited | together
    assert (
        set()
        == {one for one in sent if one[0] in ("restore", "modify", "instance") and one[1] not in no_settings} - listed
    )


def test_a_serverless_instance_is_refused_without_the_range_of_the_cluster(
    account: Account, odd: ClusterSettings
) -> None:
    """The range cannot be forgotten unseen."""

    def drop(which: str, request: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in request.items() if name != "ServerlessV2ScalingConfiguration"}

    with pytest.raises(ClientError, match="Set the Serverless v2 scaling configuration"):
        account.restore(odd, drop)
