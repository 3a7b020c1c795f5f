"""Step 05, the network part: VPC, subnets in at least two zones, subnet group and security group."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.changes import create_once, until_seen
from runbook_lib.errors import PreflightFailed
from runbook_lib.inputs import PORTS, CreateClusterInputs
from runbook_lib.report import Change
from runbook_lib.session import Session, error_code
from runbook_lib.step import OpenStep


def group_name(db_cluster_identifier: str) -> str:
    """Return the name of the subnet group and the security group that a run makes for a cluster."""
    return f"runbook-{db_cluster_identifier}"


def find_vpc(session: Session, vpc_id: str) -> str:
    """Return the VPC asked for, or the default one. Raises `PreflightFailed` when there is none."""
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
        what = f"vpc_id {vpc_id!r}: there is no such VPC" if vpc_id else "there is no default VPC"
        raise PreflightFailed(
            f"{what} in account {session.account_id}, {session.region}; give vpc_id or a subnet group"
        )
    return str(found[0]["VpcId"])


def find_subnets(session: Session, vpc_id: str) -> list[dict[str, Any]]:
    """Return one subnet per zone of a VPC, in order of the zones; raise `PreflightFailed` under two zones."""
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
            f"VPC {vpc_id} has subnets in {len(by_zone)} zone; Aurora needs two or more: add a subnet, or give another vpc_id"
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


def require_security_groups(session: Session, group_ids: list[str], vpc_id: str) -> None:
    """Raise `PreflightFailed` unless all the given security groups exist in the VPC."""
    try:
        found = session.client("ec2").describe_security_groups(GroupIds=group_ids)["SecurityGroups"]
    except ClientError as error:
        raise PreflightFailed(
            f"vpc_security_group_ids: {error.response['Error']['Message']}; name existing ones"
        ) from error
    for group in found:
        if group["VpcId"] != vpc_id:
            raise PreflightFailed(
                f"security group {group['GroupId']} is of VPC {group['VpcId']}, the cluster of {vpc_id}"
            )


def require_subnet_group(session: Session, name: str) -> dict[str, Any]:
    """Return a given subnet group that covers two zones; raise `PreflightFailed` otherwise."""
    group = find_subnet_group(session, name)
    if group is None:
        raise PreflightFailed(
            f"db_subnet_group_name {name!r}: there is no such subnet group; create it or leave it empty"
        )
    zones = {subnet["SubnetAvailabilityZone"]["Name"] for subnet in group["Subnets"]}
    if len(zones) < 2:
        raise PreflightFailed(f"subnet group {name!r} covers {len(zones)} zone; Aurora needs two or more")
    return group


def tags_of(session: Session, arn: str) -> dict[str, str]:
    """Return the tags of an RDS resource."""
    found = session.client("rds").list_tags_for_resource(ResourceName=arn)["TagList"]
    return {tag["Key"]: tag["Value"] for tag in found}


def plan_network(step: OpenStep, inputs: CreateClusterInputs) -> list[Change]:
    """Return the rows for subnet group and security group: keep what is given, create what is not."""
    session, name = step.session, group_name(inputs.db_cluster_identifier)
    rows = []
    if inputs.db_subnet_group_name:
        group = require_subnet_group(session, inputs.db_subnet_group_name)
        vpc_id = group["VpcId"]
        rows.append(Change("keep", "subnet group", inputs.db_subnet_group_name, f"given, in {vpc_id}"))
        if inputs.vpc_id and inputs.vpc_id != vpc_id:
            rows.append(Change("refuse", "VPC", inputs.vpc_id, f"the subnet group is in {vpc_id}; give one of the two"))
    else:
        vpc_id = find_vpc(session, inputs.vpc_id)
        subnets = find_subnets(session, vpc_id)
        zones = ", ".join(subnet["AvailabilityZone"] for subnet in subnets)
        request = {
            "DBSubnetGroupName": name,
            "DBSubnetGroupDescription": f"Aurora cluster {inputs.db_cluster_identifier}",
            "SubnetIds": [subnet["SubnetId"] for subnet in subnets],
            "Tags": step.tag_list(inputs.tags),
        }
        there = find_subnet_group(session, name)
        if there is None:
            rows.append(
                Change(
                    "create",
                    "subnet group",
                    name,
                    f"{len(subnets)} subnets of {vpc_id}: {zones}",
                    "rds:CreateDBSubnetGroup",
                    request,
                )
            )
        else:
            rows.append(_subnet_group(step, name, there, request))
    if inputs.vpc_security_group_ids:
        require_security_groups(session, inputs.vpc_security_group_ids, vpc_id)
        if inputs.allowed_cidr:
            rows.append(
                Change(
                    "refuse",
                    "security group",
                    ", ".join(inputs.vpc_security_group_ids),
                    "allowed_cidr is for a new group; open the given one yourself, or leave it out",
                )
            )
        rows.append(Change("keep", "security group", ", ".join(inputs.vpc_security_group_ids), "given"))
        return rows
    request = {
        "GroupName": name,
        "Description": f"Aurora cluster {inputs.db_cluster_identifier}",
        "VpcId": vpc_id,
        "TagSpecifications": [{"ResourceType": "security-group", "Tags": step.tag_list(inputs.tags)}],
    }
    lets_in = f"lets in {inputs.allowed_cidr}" if inputs.allowed_cidr else "lets nothing in"
    security_group = find_security_group(session, name, vpc_id)
    if security_group is None:
        calls = "ec2:CreateSecurityGroup" + (", ec2:AuthorizeSecurityGroupIngress" if inputs.allowed_cidr else "")
        rows.append(Change("create", "security group", name, f"in {vpc_id}, {lets_in}", calls, request))
    else:
        rows.append(_security_group(step, inputs, security_group, request))
    return rows


def _subnet_group(step: OpenStep, name: str, there: dict[str, Any], request: dict[str, Any]) -> Change:
    tags = tags_of(step.session, there["DBSubnetGroupArn"])
    if not step.is_ours(tags):
        return Change("refuse", "subnet group", name, _foreign(step, "subnet group", tags))
    found = sorted(subnet["SubnetIdentifier"] for subnet in there["Subnets"])
    if found != sorted(request["SubnetIds"]):
        detail = (
            f"SubnetIds are {found}, asked {sorted(request['SubnetIds'])}; ask for what is there, or change it yourself"
        )
        return Change("refuse", "subnet group", name, detail)
    return Change("keep", "subnet group", name, "made by this run, as asked", "", request)


def _security_group(
    step: OpenStep, inputs: CreateClusterInputs, there: dict[str, Any], request: dict[str, Any]
) -> Change:
    name, tags = request["GroupName"], ec2_tags(there)
    if not step.is_ours(tags):
        return Change("refuse", "security group", name, _foreign(step, "security group", tags))
    port, asked = inputs.port or PORTS[inputs.engine], {inputs.allowed_cidr} - {""}
    found = _lets_in(there)
    if others := sorted(rule for rule in found if rule not in {(port, cidr) for cidr in asked}):
        words = ", ".join(f"{cidr} on port {at}" for at, cidr in others)
        detail = f"lets in {words}, asked {inputs.allowed_cidr or 'nothing'}; take those rules away, or ask for them"
        return Change("refuse", "security group", name, detail)
    if {(port, cidr) for cidr in asked} - found:
        detail = f"made by this run; {inputs.allowed_cidr} is let in"
        return Change("keep", "security group", name, detail, "ec2:AuthorizeSecurityGroupIngress", request)
    return Change("keep", "security group", name, "made by this run, as asked", "", request)


def _lets_in(group: dict[str, Any]) -> set[tuple[int, str]]:
    """Return port and source (network or security group) of each rule that lets something in."""
    found = set()
    for rule in group.get("IpPermissions", []):
        sources = [one["CidrIp"] for one in rule.get("IpRanges", [])]
        sources += [one["CidrIpv6"] for one in rule.get("Ipv6Ranges", [])]
        sources += [one["GroupId"] for one in rule.get("UserIdGroupPairs", [])]
        found |= {(int(rule.get("FromPort", -1)), str(source)) for source in sources}
    return found


def _foreign(step: OpenStep, what: str, tags: dict[str, str]) -> str:
    return f"exists, and {step.whose(tags)}; choose another cluster identifier, or name the {what} to use it"


def ec2_tags(resource: dict[str, Any]) -> dict[str, str]:
    """Return the tags of an EC2 resource's description."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


def apply_subnet_group(step: OpenStep, change: Change) -> str:
    """Make the subnet group of the plan, once; return its name."""
    if change.action == "create":
        rds = step.client("rds", retry=False)
        create_once(
            step.run,
            step.name,
            "rds:CreateDBSubnetGroup",
            find=lambda: _our_subnet_group(step, change.name),
            create=lambda: dict(rds.create_db_subnet_group(**change.request)["DBSubnetGroup"]),
        )
        step.run.note(step.name, made_subnet_group=change.name)
    return change.name


def _our_subnet_group(step: OpenStep, name: str) -> dict[str, Any] | None:
    found = find_subnet_group(step.session, name)
    return found if found and step.is_ours(tags_of(step.session, found["DBSubnetGroupArn"])) else None


def apply_security_group(step: OpenStep, change: Change, *, port: int, allowed_cidr: str) -> list[str]:
    """Make the security group of the plan, once, and let the allowed network in; return the ids to use."""
    if change.detail == "given":
        return change.name.split(", ")
    ec2 = step.client("ec2", retry=False)

    def find() -> str | None:
        found = find_security_group(step.session, change.name, change.request["VpcId"])
        return str(found["GroupId"]) if found and step.is_ours(ec2_tags(found)) else None

    group_id = (
        create_once(
            step.run,
            step.name,
            "ec2:CreateSecurityGroup",
            find=find,
            create=lambda: str(ec2.create_security_group(**change.request)["GroupId"]),
        )
        if change.action == "create"
        else str(find())
    )
    step.run.note(step.name, made_security_group_id=group_id)
    if allowed_cidr:
        kind, address = ("Ipv6Ranges", "CidrIpv6") if ":" in allowed_cidr else ("IpRanges", "CidrIp")
        rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, kind: [{address: allowed_cidr}]}
        client = step.client("ec2")
        try:
            until_seen(
                lambda: client.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule]),
                codes=("InvalidGroup.NotFound",),
                target=step.session.target,
            )
        except ClientError as error:
            if error_code(error) != "InvalidPermission.Duplicate":
                raise
    return [group_id]
