"""The sandbox serves a Region of every partition that botocore knows: zones for a cluster, and principals for a key."""

from __future__ import annotations

import json

import botocore.session
import pytest
from kms_support import ACCOUNT, connect

from conftest import World
from runbook_sandbox import partitions

FIRST = {
    name: botocore.session.get_session().get_available_regions("rds", partition_name=name)[0]
    for name in ("aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc")
}


def test_all_eight_partitions_are_known() -> None:
    """A new one of botocore's is to be tried here too."""
    assert set(FIRST) == set(partitions.names())


@pytest.mark.parametrize(("partition", "region"), FIRST.items())
def test_a_region_of_each_partition_has_zones_and_takes_principals(served: str, partition: str, region: str) -> None:
    """The key's ARN is of the partition; a principal that does not exist is still refused."""
    zones = {one["AvailabilityZone"] for one in connect(served, "ec2", region=region).describe_subnets()["Subnets"]}
    assert 2 <= len(zones)
    kms = connect(served, "kms", region=region)

    def policy(role: str) -> str:
        root = {"Effect": "Allow", "Principal": {"AWS": f"arn:{partition}:iam::{ACCOUNT}:root"}, "Action": "kms:*",
                "Resource": "*"}  # fmt: skip
        named = {**root, "Principal": {"AWS": f"arn:{partition}:iam::{ACCOUNT}:role/{role}"}}
        return json.dumps({"Version": "2012-10-17", "Statement": [root, named]})

    made = kms.create_key(Origin="EXTERNAL", Policy=policy("Admin"))["KeyMetadata"]
    assert made["Arn"].startswith(f"arn:{partition}:kms:{region}:")
    assert made["Arn"] == kms.describe_key(KeyId=made["Arn"])["KeyMetadata"]["Arn"]
    with pytest.raises(kms.exceptions.MalformedPolicyDocumentException):
        kms.create_key(Policy=policy("nobody-has-this"))


@pytest.mark.slow
def test_the_chain_runs_in_the_european_sovereign_cloud(world: World) -> None:
    """From 00 to the evidence."""
    world.runbook("run", "--run-id", "sovereign", "-p", "region", FIRST["aws-eusc"])
    assert world.report("sovereign")["verified"]
