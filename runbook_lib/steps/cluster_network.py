"""Step 05, the network part: subnet group and security group; plan and apply."""

from __future__ import annotations

from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.ec2 import (
    find_security_group,
    find_subnet_group,
    find_subnets,
    find_vpc,
    require_security_groups,
    require_subnet_group,
)
from runbook_lib.aws.retry import retry_until_visible
from runbook_lib.inputs.rds import PORTS, CreateClusterInputs
from runbook_lib.plan import Change
from runbook_lib.steps import ownership
from runbook_lib.steps.cluster_request import AS_IT_IS, MADE
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import SECURITY_GROUP, SUBNET_GROUP


def group_name(db_cluster_identifier: str) -> str:
    """Return the name of the subnet group and the security group that a run creates for a cluster."""
    return f"runbook-{db_cluster_identifier}"


# Plan -------------------------------------------------------------------------------------------------------------


def plan_network(step: OpenStep, asked: CreateClusterInputs) -> list[Change]:
    """Return the rows for subnet group and security group: keep existing ones that are named, else create them."""
    vpc_id, rows = _given_subnet_group(step, asked) if asked.db_subnet_group_name else _own_subnet_group(step, asked)
    if asked.vpc_security_group_ids:
        return [*rows, *_given_security_groups(step, asked, vpc_id)]
    return [*rows, _own_security_group(step, asked, vpc_id)]


def _given_subnet_group(step: OpenStep, asked: CreateClusterInputs) -> tuple[str, list[Change]]:
    """Return the VPC of the named subnet group, and its rows."""
    vpc_id = str(require_subnet_group(step.session, asked.db_subnet_group_name)["VpcId"])
    rows = [Change("keep", SUBNET_GROUP, asked.db_subnet_group_name, f"existing, in {vpc_id}")]
    if asked.vpc_id not in ("", vpc_id):
        why = f"the subnet group is in {vpc_id}; set only one of vpc_id and db_subnet_group_name"
        rows.append(Change("refuse", "VPC", asked.vpc_id, why))
    return vpc_id, rows


def _own_subnet_group(step: OpenStep, asked: CreateClusterInputs) -> tuple[str, list[Change]]:
    """Return the VPC, and the row of the run's own subnet group over it."""
    name, vpc_id = group_name(asked.db_cluster_identifier), find_vpc(step.session, asked.vpc_id)
    subnets = find_subnets(step.session, vpc_id)
    request = {
        "DBSubnetGroupName": name,
        "DBSubnetGroupDescription": f"Aurora cluster {asked.db_cluster_identifier}",
        "SubnetIds": [subnet["SubnetId"] for subnet in subnets],
        "Tags": step.tag_list(asked.tags),
    }
    found = find_subnet_group(step.session, name)
    if found is None:
        zones = ", ".join(subnet["AvailabilityZone"] for subnet in subnets)
        detail = f"{len(subnets)} subnets of {vpc_id}: {zones}"
        return vpc_id, [Change("create", SUBNET_GROUP, name, detail, "rds:CreateDBSubnetGroup", request)]
    one = ownership.of_subnet_group(step, found)
    if not ownership.is_ours(step, one):
        return vpc_id, [Change("refuse", SUBNET_GROUP, name, _foreign(step, one))]
    ids = sorted(subnet["SubnetIdentifier"] for subnet in found["Subnets"])
    if ids != sorted(request["SubnetIds"]):
        detail = f"SubnetIds are {ids}, requested {sorted(request['SubnetIds'])}; {AS_IT_IS}"
        return vpc_id, [Change("refuse", SUBNET_GROUP, name, detail)]
    made = f"{MADE}{ownership.by_tags(step, one)}"
    return vpc_id, [Change("keep", SUBNET_GROUP, name, made, "", request, one.identity)]


def _given_security_groups(step: OpenStep, asked: CreateClusterInputs, vpc_id: str) -> list[Change]:
    require_security_groups(step.session, asked.vpc_security_group_ids, vpc_id)
    names = ", ".join(asked.vpc_security_group_ids)
    if asked.allowed_cidr:
        why = (
            "allowed_cidr is for a new group; add the rule to the existing group yourself, or leave allowed_cidr empty"
        )
        return [Change("refuse", SECURITY_GROUP, names, why)]
    return [Change("keep", SECURITY_GROUP, names, "existing", "", {})]


def _own_security_group(step: OpenStep, asked: CreateClusterInputs, vpc_id: str) -> Change:
    """Return the row of the run's own security group, whose only inbound rule is for `allowed_cidr`."""
    name = group_name(asked.db_cluster_identifier)
    request = {
        "GroupName": name,
        "Description": f"Aurora cluster {asked.db_cluster_identifier}",
        "VpcId": vpc_id,
        "TagSpecifications": [{"ResourceType": "security-group", "Tags": step.tag_list(asked.tags)}],
    }
    found = find_security_group(step.session, name, vpc_id)
    if found is None:
        inbound = f"inbound from {asked.allowed_cidr}" if asked.allowed_cidr else "no inbound rules"
        calls = "ec2:CreateSecurityGroup" + (", ec2:AuthorizeSecurityGroupIngress" if asked.allowed_cidr else "")
        return Change("create", SECURITY_GROUP, name, f"in {vpc_id}, {inbound}", calls, request)
    one = ownership.of_security_group(found)
    if not ownership.is_ours(step, one):
        return Change("refuse", SECURITY_GROUP, name, _foreign(step, one))
    port = asked.port or PORTS[asked.engine]
    requested = {Rule("tcp", port, port, asked.allowed_cidr)} if asked.allowed_cidr else set()
    rules = _inbound_rules(found)
    if others := sorted(map(str, rules - requested)):
        words = ", ".join(others)
        detail = f"allows {words}, requested {asked.allowed_cidr or 'nothing'}; remove those rules, or set allowed_cidr"
        return Change("refuse", SECURITY_GROUP, name, detail)
    if requested - rules:
        detail = f"created by this run; gets an inbound rule for {asked.allowed_cidr}"
        return Change(
            "change", SECURITY_GROUP, name, detail, "ec2:AuthorizeSecurityGroupIngress", request, one.identity
        )
    made = f"{MADE}{ownership.by_tags(step, one)}"
    return Change("keep", SECURITY_GROUP, name, made, "", request, one.identity)


class Rule(NamedTuple):
    """One inbound rule for one source: protocol, first and last port (-1: all), and CIDR, group or prefix list."""

    protocol: str
    first: int
    last: int
    source: str

    def __str__(self) -> str:
        if self.protocol == "-1":
            return f"{self.source} on all ports and protocols"
        ports = f"port {self.first}" if self.first == self.last else f"ports {self.first} to {self.last}"
        return f"{self.source} on {ports}" + ("" if self.protocol == "tcp" else f" of {self.protocol}")


def _inbound_rules(group: dict[str, Any]) -> set[Rule]:
    """Return the inbound rules, one for each source; a source of a kind that is not known here counts too."""
    found = set()
    for rule in group.get("IpPermissions", []):
        sources = [one["CidrIp"] for one in rule.get("IpRanges", [])]
        sources += [one["CidrIpv6"] for one in rule.get("Ipv6Ranges", [])]
        sources += [one.get("GroupId") or one.get("GroupName") for one in rule.get("UserIdGroupPairs", [])]
        sources += [one["PrefixListId"] for one in rule.get("PrefixListIds", [])]
        first, last = int(rule.get("FromPort", -1)), int(rule.get("ToPort", -1))
        protocol = str(rule.get("IpProtocol", "-1"))
        found |= {Rule(protocol, first, last, str(source)) for source in sources or ["an unknown source"]}
    return found


def _foreign(step: OpenStep, found: ownership.Found) -> str:
    return f"exists, and {step.whose(found.tags)}; choose another cluster identifier, or name the {found.resource} to use it"


def apply_subnet_group(step: OpenStep, change: Change) -> str:
    """Create the planned subnet group at most once; return its name."""
    if change.action == "create":
        rds = step.client("rds", retry=False)
        create_once(
            step.run,
            step.name,
            "rds:CreateDBSubnetGroup",
            find=lambda: _our_subnet_group(step, change.name),
            create=lambda: dict(rds.create_db_subnet_group(**step.marked(change.request))["DBSubnetGroup"]),
            identity=lambda made: str(made["DBSubnetGroupArn"]),
        )
        step.run.note(step.name, made_subnet_group=change.name)
    else:
        ownership.keep(step, change)
    return change.name


def _our_subnet_group(step: OpenStep, name: str) -> dict[str, Any] | None:
    found = find_subnet_group(step.session, name)
    return found if found and ownership.is_ours(step, ownership.of_subnet_group(step, found)) else None


def apply_security_group(step: OpenStep, change: Change, *, port: int, allowed_cidr: str) -> list[str]:
    """Create the planned security group at most once, add its inbound rule, and return the ids for the cluster."""
    if not change.request:  # existing groups
        return change.name.split(", ")
    ec2 = step.client("ec2", retry=False)

    def find() -> str | None:
        found = find_security_group(step.session, change.name, change.request["VpcId"])
        return str(found["GroupId"]) if found and ownership.is_ours(step, ownership.of_security_group(found)) else None

    if change.action == "create":
        group_id = create_once(
            step.run,
            step.name,
            "ec2:CreateSecurityGroup",
            find=find,
            create=lambda: str(ec2.create_security_group(**step.marked(change.request))["GroupId"]),
            identity=str,
        )
    else:
        ownership.keep(step, change)
        group_id = change.identity
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
