"""Existing clusters with odd settings, made through the API alone: nothing here knows how the runbook carries them over."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from runbook_lib.aws.cluster_settings import ClusterSettings, members_of, parameters_of, read_settings
from runbook_lib.aws.sandbox_accounts import DEFAULT_ACCOUNT
from runbook_lib.aws.session import Session
from runbook_lib.steps import carry_over
from runbook_lib.steps.settings_difference import Difference, differences

_number = itertools.count(1)
MYSQL, POSTGRESQL = "aurora-mysql", "aurora-postgresql"
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Source:
    """What to make: the engine, how it is encrypted, requests of CreateDBCluster and CreateDBInstance, and what is set later."""

    engine: str = MYSQL
    encryption: str = "sse-rds"  # none, sse-rds, aws/rds, own
    cluster: dict[str, Any] = field(default_factory=dict)
    instances: tuple[dict[str, Any], ...] = ({},)
    roles: tuple[str, ...] = ()
    data_api: bool = False
    write_forwarding: bool = False
    endpoints: tuple[dict[str, Any], ...] = ()
    autoscaling: tuple[int, int] = (0, 0)
    managed: bool = True


# One with everything, per engine.
FULL = {
    MYSQL: Source(
        MYSQL, "own",
        {
            "EngineVersion": "8.0.mysql_aurora.3.10.4", "Port": 3310, "BackupRetentionPeriod": 9,
            "PreferredBackupWindow": "01:02-01:32", "PreferredMaintenanceWindow": "wed:05:06-wed:05:36",
            "EnableIAMDatabaseAuthentication": True, "EnableCloudwatchLogsExports": ["audit", "slowquery"],
            "DeletionProtection": True, "CopyTagsToSnapshot": True, "StorageType": "aurora-iopt1", "BacktrackWindow": 3600,
            "EngineLifecycleSupport": "open-source-rds-extended-support-disabled", "DatabaseInsightsMode": "advanced",
            "EnablePerformanceInsights": True,
            "PerformanceInsightsRetentionPeriod": 465,
            "ServerlessV2ScalingConfiguration": {"MinCapacity": 1.5, "MaxCapacity": 7.0},
            "Tags": [{"Key": "team", "Value": "a b"}],
        },
        (
            {"DBInstanceClass": "db.r6g.large", "PromotionTier": 4, "AvailabilityZone": "eu-west-2b",
             "PubliclyAccessible": True, "AutoMinorVersionUpgrade": False, "CACertificateIdentifier": "rds-ca-ecc384-g1",
             "PreferredMaintenanceWindow": "fri:01:01-fri:01:31", "EnablePerformanceInsights": True,
             "PerformanceInsightsRetentionPeriod": 465, "MonitoringInterval": 15, "Tags": [{"Key": "n", "Value": "1"}]},
            {"DBInstanceClass": "db.serverless", "PromotionTier": 7, "AvailabilityZone": "eu-west-2a"},
        ),
        roles=("", "s3Import"), data_api=True, write_forwarding=True, autoscaling=(1, 4),
        endpoints=({"EndpointType": "READER", "StaticMembers": [1]}, {"EndpointType": "ANY", "ExcludedMembers": [0]}),
    ),
    POSTGRESQL: Source(
        POSTGRESQL, "aws/rds",
        {
            "Port": 5440, "BackupRetentionPeriod": 3, "EnableCloudwatchLogsExports": ["postgresql"],
            "EngineLifecycleSupport": "open-source-rds-extended-support-disabled", "NetworkType": "DUAL",
        },
        ({"DBInstanceClass": "db.r6g.large"},),
        managed=False,
    ),
}  # fmt: skip


def sources() -> st.SearchStrategy[Source]:
    """Return a strategy of sources, up to fifteen readers."""
    minutes = st.integers(0, 29)
    window = st.builds(
        lambda hour, minute: f"{hour:02}:{minute:02}-{hour:02}:{minute + 30:02}", st.integers(0, 11), minutes
    )
    week = st.builds(
        lambda day, hour, minute: f"{day}:{hour:02}:{minute:02}-{day}:{hour:02}:{minute + 30:02}",
        st.sampled_from(_DAYS), st.integers(12, 22), minutes,
    )  # fmt: skip
    instance = st.fixed_dictionaries(
        {"DBInstanceClass": st.sampled_from(["db.r6g.large", "db.t4g.medium", "db.r6g.xlarge"])},
        optional={
            "PromotionTier": st.integers(0, 15), "PubliclyAccessible": st.booleans(),
            "AutoMinorVersionUpgrade": st.booleans(), "PreferredMaintenanceWindow": week,
            "AvailabilityZone": st.sampled_from(["eu-west-2a", "eu-west-2b", "eu-west-2c"]),
            "EnablePerformanceInsights": st.booleans(),
            "CACertificateIdentifier": st.sampled_from(["rds-ca-rsa2048-g1", "rds-ca-ecc384-g1"]),
        },
    )  # fmt: skip

    def of(engine: str) -> st.SearchStrategy[Source]:
        logs = ["error", "slowquery"] if engine == MYSQL else ["postgresql"]
        cluster = st.fixed_dictionaries(
            {},
            optional={
                "Port": st.integers(1150, 65535), "BackupRetentionPeriod": st.integers(1, 35),
                "PreferredBackupWindow": window, "PreferredMaintenanceWindow": week,
                "EnableIAMDatabaseAuthentication": st.booleans(), "DeletionProtection": st.booleans(),
                "CopyTagsToSnapshot": st.booleans(), "StorageType": st.sampled_from(["aurora", "aurora-iopt1"]),
                "EnableCloudwatchLogsExports": st.lists(st.sampled_from(logs), unique=True),
                "EngineLifecycleSupport": st.sampled_from(
                    ["open-source-rds-extended-support", "open-source-rds-extended-support-disabled"]
                ),
                "NetworkType": st.sampled_from(["IPV4", "DUAL"]),
                "Tags": st.lists(st.builds(lambda n: {"Key": f"k{n}", "Value": "v"}, st.integers(0, 3)), unique_by=str),
            },
        )  # fmt: skip
        return st.builds(
            Source, st.just(engine), st.sampled_from(["none", "sse-rds", "aws/rds", "own"]), cluster,
            st.lists(instance, min_size=1, max_size=16).map(tuple), managed=st.booleans(), data_api=st.booleans(),
            roles=st.sampled_from([(), ("",), ("s3Import",)]), autoscaling=st.sampled_from([(0, 0), (1, 3)]),
        )  # fmt: skip

    return st.sampled_from([MYSQL, POSTGRESQL]).flatmap(of)


def make(client: Callable[[str], Any], source: Source) -> str:
    """Create the source and wait for it; return its name. A cluster of state `none` needs an earlier clock: see `earlier`."""
    rds, name = client("rds"), f"source-{next(_number)}"
    request: dict[str, Any] = {
        "DBClusterIdentifier": name,
        "Engine": source.engine,
        "MasterUsername": "chief",
        **source.cluster,
    }
    request |= {"ManageMasterUserPassword": True} if source.managed else {"MasterUserPassword": "correct-horse-battery"}
    if source.encryption == "aws/rds":
        request["StorageEncrypted"] = True
    if source.encryption == "own":
        request |= {"StorageEncrypted": True, "KmsKeyId": client("kms").create_key()["KeyMetadata"]["Arn"]}
    rds.create_db_cluster(**request)
    for number, one in enumerate(source.instances, start=1):
        more = {"MonitoringRoleArn": role(client, "monitoring")} if one.get("MonitoringInterval") else {}
        rds.create_db_instance(**{
            "DBInstanceIdentifier": f"{name}-i{number}", "DBClusterIdentifier": name, "Engine": source.engine,
            "DBInstanceClass": "db.r6g.large", **one, **more,
        })  # fmt: skip
    wait(client, name)
    for feature in source.roles:
        more = {"FeatureName": feature} if feature else {}
        rds.add_role_to_db_cluster(DBClusterIdentifier=name, RoleArn=role(client, f"role{feature}"), **more)
    if source.data_api:
        rds.enable_http_endpoint(
            ResourceArn=rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]["DBClusterArn"]
        )
    if source.write_forwarding:
        rds.modify_db_cluster(DBClusterIdentifier=name, EnableLocalWriteForwarding=True, ApplyImmediately=True)
        wait(client, name)
    for number, one in enumerate(source.endpoints):
        members = {key: [f"{name}-i{index + 1}" for index in one[key]] for key in one if key.endswith("Members")}
        rds.create_db_cluster_endpoint(
            DBClusterIdentifier=name,
            DBClusterEndpointIdentifier=f"{name}-e{number}",
            EndpointType=one["EndpointType"],
            **members,
        )
    if source.autoscaling[1]:
        least, most = source.autoscaling
        where = {
            "ServiceNamespace": "rds",
            "ResourceId": f"cluster:{name}",
            "ScalableDimension": "rds:cluster:ReadReplicaCount",
        }
        scaling = client("application-autoscaling")
        scaling.register_scalable_target(**where, MinCapacity=least, MaxCapacity=most)
        tracking = {
            "TargetValue": 60.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "RDSReaderAverageCPUUtilization"},
        }
        scaling.put_scaling_policy(
            **where,
            PolicyName="by-load",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,
        )
    return name


def role(client: Callable[[str], Any], name: str) -> str:
    """Return the ARN of an IAM role that RDS and its monitoring can assume, created if need be."""
    iam = client("iam")
    services = ["rds.amazonaws.com", "monitoring.rds.amazonaws.com"]
    statement = {"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}
    try:
        return str(iam.get_role(RoleName=name)["Role"]["Arn"])
    except iam.exceptions.NoSuchEntityException:
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        return str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"])


def wait(client: Callable[[str], Any], name: str) -> None:
    """Wait until a cluster and its instances are available."""
    rds = client("rds")
    for _ in range(400):
        found = rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]
        instances = rds.describe_db_instances(Filters=[{"Name": "db-cluster-id", "Values": [name]}])["DBInstances"]
        if {found["Status"], *(one["DBInstanceStatus"] for one in instances)} == {"available"}:
            return
        time.sleep(0.01)
    raise AssertionError(f"{name} is {found['Status']}")


Drop = Callable[[str, dict[str, Any]], dict[str, Any]]


class Account:
    """Clients of an empty account, and the key to restore under."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = Session(target="sandbox", region="eu-west-2", account_id=DEFAULT_ACCOUNT, endpoint_url=url)
        self.key = str(self("kms").create_key()["KeyMetadata"]["Arn"])

    def __call__(self, service: str) -> Any:
        return self.session.client(service)

    def make(self, source: Source) -> ClusterSettings:
        found = read_settings(self.session, make(self, source))
        assert found is not None
        return found

    def restore(self, source: ClusterSettings, drop: Drop = lambda call, request: request) -> list[Difference]:
        """Restore as the runbook plans it, each request passed through `drop`; return the differences."""
        rds, name = self("rds"), f"new-{next(_number)}"
        snapshot = f"{name}-snapshot"
        rds.create_db_cluster_snapshot(DBClusterIdentifier=source.name, DBClusterSnapshotIdentifier=snapshot)
        rds.get_waiter("db_cluster_snapshot_available").wait(
            DBClusterSnapshotIdentifier=snapshot, WaiterConfig={"Delay": 0, "MaxAttempts": 200}
        )
        known = parameters_of(self.session, "RestoreDBClusterFromSnapshot")
        tags = [{"Key": key, "Value": value} for key, value in carry_over.carried_tags(source.cluster).items()]
        request = carry_over.restore_request(
            source.cluster, identifier=name, snapshot=snapshot, key_arn=self.key, tags=tags, known=known
        )
        rds.restore_db_cluster_from_snapshot(**drop("restore", request))
        of_instances = {
            one["DBInstanceIdentifier"]: [
                {"Key": key, "Value": value} for key, value in carry_over.carried_tags(one).items()
            ]
            for one in source.instances
        }
        for one in carry_over.instance_requests(source, identifier=name, key_arn=self.key, tags=of_instances):
            rds.create_db_instance(**drop("instance", one))
        wait(self, name)
        if modify := drop("modify", carry_over.modify_request(source, identifier=name, key_arn=self.key, known=known)):
            rds.modify_db_cluster(**modify)
            wait(self, name)
        if source.cluster.get("HttpEndpointEnabled"):
            rds.enable_http_endpoint(
                ResourceArn=rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]["DBClusterArn"]
            )
        for one in carry_over.endpoint_requests(source, identifier=name, suffix=f"-{name}"):
            rds.create_db_cluster_endpoint(**drop("endpoint", one))
        for one in carry_over.target_requests(source, identifier=name):
            self("application-autoscaling").register_scalable_target(**drop("target", one))
        for one in carry_over.policy_requests(source, identifier=name):
            self("application-autoscaling").put_scaling_policy(**drop("policy", one))
        new = read_settings(self.session, name)
        assert new is not None
        return differences(
            source, new,
            cluster_members=members_of(self.session, "DBCluster"), instance_members=members_of(self.session, "DBInstance"),
        )  # fmt: skip
