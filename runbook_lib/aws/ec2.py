"""Read the network: VPC, subnets in two or more zones, DB subnet group, security groups. Knows no step."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.session import Session
from runbook_lib.errors import PreflightFailed


def find_vpc(session: Session, vpc_id: str) -> str:
    """Return the id of `vpc_id`, or of the default VPC for "". Raises `PreflightFailed` when it does not exist."""
    ec2 = session.client("ec2")
    try:
        if vpc_id:
            found = ec2.describe_vpcs(VpcIds=[vpc_id])["Vpcs"]
        else:
            found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    except ClientError as error:
        if error_code(error) != "InvalidVpcID.NotFound":
            raise
        found = []
    if not found:
        problem = f"vpc_id {vpc_id!r} does not exist" if vpc_id else "there is no default VPC"
        raise PreflightFailed(
            f"{problem} in account {session.account_id}, {session.region}; set vpc_id or db_subnet_group_name"
        )
    return str(found[0]["VpcId"])


def find_subnets(session: Session, vpc_id: str) -> list[dict[str, Any]]:
    """Return one available subnet per zone of a VPC, by zone; raise `PreflightFailed` below two zones."""
    pages = (
        session.client("ec2")
        .get_paginator("describe_subnets")
        .paginate(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])
    )
    by_zone: dict[str, dict[str, Any]] = {}
    for subnet in sorted((subnet for page in pages for subnet in page["Subnets"]), key=lambda s: str(s["SubnetId"])):
        if subnet.get("State", "available") == "available":
            by_zone.setdefault(subnet["AvailabilityZone"], subnet)
    if len(by_zone) < 2:
        raise PreflightFailed(
            f"VPC {vpc_id} has subnets in {len(by_zone)} zone; Aurora needs two or more: add a subnet, or set another vpc_id"
        )
    return [by_zone[zone] for zone in sorted(by_zone)]


def find_subnet_group(session: Session, name: str) -> dict[str, Any] | None:
    """Return a DB subnet group, or None."""
    try:
        return dict(session.client("rds").describe_db_subnet_groups(DBSubnetGroupName=name)["DBSubnetGroups"][0])
    except ClientError as error:
        if error_code(error) == "DBSubnetGroupNotFoundFault":
            return None
        raise


def find_security_group(session: Session, name: str, vpc_id: str) -> dict[str, Any] | None:
    """Return a security group by its name within a VPC, or None."""
    filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc_id]}]
    found = session.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
    return dict(found[0]) if found else None


def security_groups_named(session: Session, name: str) -> list[dict[str, Any]]:
    """Return the security groups of a name, in any VPC."""
    filters = [{"Name": "group-name", "Values": [name]}]
    return [dict(one) for one in session.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]]


def security_group(session: Session, group_id: str) -> dict[str, Any] | None:
    """Return a security group by its id, or None."""
    filters = [{"Name": "group-id", "Values": [group_id]}]
    found = session.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
    return dict(found[0]) if found else None


def require_security_groups(session: Session, group_ids: list[str], vpc_id: str) -> None:
    """Raise `PreflightFailed` unless all the given security groups exist in the VPC."""
    try:
        found = session.client("ec2").describe_security_groups(GroupIds=group_ids)["SecurityGroups"]
    except ClientError as error:
        raise PreflightFailed(
            f"vpc_security_group_ids: {error.response['Error']['Message']}; name existing security groups"
        ) from error
    for group in found:
        if group["VpcId"] != vpc_id:
            raise PreflightFailed(
                f"security group {group['GroupId']} is in VPC {group['VpcId']}, the cluster in {vpc_id}; name one in {vpc_id}"
            )


def require_subnet_group(session: Session, name: str) -> dict[str, Any]:
    """Return an existing subnet group that spans two zones or more; raise `PreflightFailed` otherwise."""
    group = find_subnet_group(session, name)
    if group is None:
        raise PreflightFailed(f"db_subnet_group_name {name!r} does not exist; create it or leave the parameter empty")
    zones = {subnet["SubnetAvailabilityZone"]["Name"] for subnet in group["Subnets"]}
    if len(zones) < 2:
        raise PreflightFailed(
            f"subnet group {name!r} spans {len(zones)} zone; Aurora needs two or more: add a subnet to it"
        )
    return group


def tags_of(session: Session, arn: str) -> dict[str, str]:
    """Return the tags of an RDS resource (rds:ListTagsForResource)."""
    found = session.client("rds").list_tags_for_resource(ResourceName=arn)["TagList"]
    return {tag["Key"]: tag["Value"] for tag in found}


def ec2_tags(resource: dict[str, Any]) -> dict[str, str]:
    """Return the tags of an EC2 resource's description."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}
