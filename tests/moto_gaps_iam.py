"""Gaps in moto's IAM; see moto_gaps."""

from __future__ import annotations

from kms_support import connect
from moto_gaps import gap
from rds_support import Aws


@gap("iam.simulation.SimulationResponse.simulate_principal_policy")
def policies_can_be_simulated(aws: Aws) -> None:
    iam, name = aws("iam"), aws.name("user")
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["kms:CreateKey"])
    assert ["implicitDeny"] == [row["EvalDecision"] for row in answer["EvaluationResults"]]


@gap("partitions.install")
def regions_of_every_partition_have_zones(aws: Aws) -> None:
    subnets = connect(aws.url, "ec2", region="eusc-de-east-1").describe_subnets()["Subnets"]
    assert 2 <= len({one["AvailabilityZone"] for one in subnets})
