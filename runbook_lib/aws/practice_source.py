"""A practice cluster in the sandbox, which somebody else made: what step 10 works on where no existing cluster is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError

from runbook_lib.aws import rds
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.retry import poll
from runbook_lib.aws.session import Session

NAME, ROLE = "practice-shop", "PracticeOwner"
_TAGS = [{"Key": "team", "Value": "shop"}]
_CLIENTS = {"Key": "sandbox:clients", "Value": "3"}  # the sandbox's metric of connections counts them


def make(session: Session) -> str:
    """Create the practice cluster unless it exists, under the role PracticeOwner; return its name. Sandbox only.

    It has what a restore loses unless it is asked for: a parameter group, deletion protection, windows, log exports, a
    reader of another class and zone, monitoring, a custom
    endpoint, the Data API, autoscaling and tags. Raises `ValueError` for another target.
    """
    if session.target != "sandbox":
        raise ValueError("a practice cluster is created in the sandbox only")
    if rds.find_cluster(session, NAME) is not None:
        return NAME
    client = _as_owner(session)
    monitoring = _role(session, "PracticeMonitoring", {"Service": "monitoring.rds.amazonaws.com"})
    _unless_there(
        client("rds").create_db_cluster_parameter_group,
        DBClusterParameterGroupName=NAME, DBParameterGroupFamily="aurora-mysql8.0", Description="of the practice cluster",
    )  # fmt: skip
    _unless_there(
        client("rds").create_db_cluster,
        DBClusterIdentifier=NAME, Engine="aurora-mysql", MasterUsername="shopadmin", ManageMasterUserPassword=True,
        DBClusterParameterGroupName=NAME, DatabaseName="shop", DeletionProtection=True, CopyTagsToSnapshot=True,
        BackupRetentionPeriod=7, PreferredBackupWindow="02:10-02:40", PreferredMaintenanceWindow="sun:03:10-sun:03:40",
        EnableCloudwatchLogsExports=["error", "slowquery"], EnableIAMDatabaseAuthentication=True, Tags=[*_TAGS, _CLIENTS],
    )  # fmt: skip
    for number, db_class in enumerate(("db.r6g.large", "db.t4g.medium"), start=1):
        _unless_there(
            client("rds").create_db_instance,
            DBInstanceIdentifier=f"{NAME}-{number}", DBClusterIdentifier=NAME, Engine="aurora-mysql",
            DBInstanceClass=db_class, PromotionTier=number, AvailabilityZone=f"{session.region}{'ab'[number - 1]}",
            PubliclyAccessible=False, AutoMinorVersionUpgrade=False, MonitoringInterval=60, MonitoringRoleArn=monitoring,
            Tags=_TAGS,
        )  # fmt: skip
    _wait(session)
    arn = (rds.find_cluster(session, NAME) or {})["DBClusterArn"]
    imports = _role(session, "PracticeImport", {"Service": "rds.amazonaws.com"})
    if not (rds.find_cluster(session, NAME) or {}).get("AssociatedRoles"):
        client("rds").add_role_to_db_cluster(DBClusterIdentifier=NAME, RoleArn=imports)
    client("rds").enable_http_endpoint(ResourceArn=arn)
    _unless_there(
        client("rds").create_db_cluster_endpoint,
        DBClusterIdentifier=NAME, DBClusterEndpointIdentifier=f"{NAME}-reports", EndpointType="READER",
        StaticMembers=[f"{NAME}-2"],
    )  # fmt: skip
    readers = {
        "ServiceNamespace": "rds", "ResourceId": f"cluster:{NAME}", "ScalableDimension": "rds:cluster:ReadReplicaCount"
    }  # fmt: skip
    scaling = client("application-autoscaling")
    scaling.register_scalable_target(**readers, MinCapacity=1, MaxCapacity=3)
    metric = {"PredefinedMetricType": "RDSReaderAverageCPUUtilization"}
    scaling.put_scaling_policy(
        **readers, PolicyName=f"{NAME}-readers", PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={"TargetValue": 60.0, "PredefinedMetricSpecification": metric},
    )  # fmt: skip
    return NAME


def _wait(session: Session) -> None:
    """Wait until cluster and instances are available; custom endpoints need that."""

    def states() -> set[str]:
        instances = rds.instances_of(session, NAME)
        cluster = rds.find_cluster(session, NAME) or {}
        return {str(cluster.get("Status")), *(str(one["DBInstanceStatus"]) for one in instances)}

    poll(states, until=lambda found: found == {"available"}, every=0.2, timeout=600)


def _as_owner(session: Session) -> Callable[[str], Any]:
    """Return clients of the owner's role, which is created if it does not exist."""
    arn = _role(session, ROLE, {"AWS": "*"})
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    session.client("iam").put_role_policy(RoleName=ROLE, PolicyName="all", PolicyDocument=policy)
    given = session.client("sts").assume_role(RoleArn=arn, RoleSessionName="owner")["Credentials"]
    return lambda service: boto3.client(
        service,
        region_name=session.region,
        endpoint_url=session.endpoint_url,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )


def _role(session: Session, name: str, principal: dict[str, str]) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    _unless_there(session.client("iam").create_role, RoleName=name, AssumeRolePolicyDocument=trust)
    return f"arn:{session.partition}:iam::{session.account_id}:role/{name}"


def _unless_there(create: Any, **request: Any) -> None:
    try:
        create(**request)
    except ClientError as error:
        if "AlreadyExists" not in error_code(error):
            raise
