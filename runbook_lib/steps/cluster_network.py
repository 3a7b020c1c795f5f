"""Step 05, the network part: subnet group and security group; plan and apply."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.ec2 import (
    ec2_tags,
    find_security_group,
    find_subnet_group,
    find_subnets,
    find_vpc,
    require_security_groups,
    require_subnet_group,
    tags_of,
)
from runbook_lib.aws.retry import retry_until_visible
from runbook_lib.aws.session import error_code
from runbook_lib.inputs.rds import PORTS, CreateClusterInputs
from runbook_lib.plan import Change
from runbook_lib.steps.open_step import OpenStep


def group_name(db_cluster_identifier: str) -> str:
    """Return the name of the subnet group and the security group that a run makes for a cluster."""
    return f"runbook-{db_cluster_identifier}"


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
        return Change("change", "security group", name, detail, "ec2:AuthorizeSecurityGroupIngress", request)
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
    if not change.request:  # it was given
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
    if allowed_cidr and change.action != "keep":
        kind, address = ("Ipv6Ranges", "CidrIpv6") if ":" in allowed_cidr else ("IpRanges", "CidrIp")
        rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, kind: [{address: allowed_cidr}]}
        client = step.client("ec2")
        try:
            retry_until_visible(
                lambda: client.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule]),
                codes=("InvalidGroup.NotFound",),
                target=step.session.target,
            )
        except ClientError as error:
            if error_code(error) != "InvalidPermission.Duplicate":
                raise
    return [group_id]
