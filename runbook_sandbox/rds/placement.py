"""Placement of a cluster: its subnet group, security groups, zones and parameter groups.

moto gap: it accepts names of groups that do not exist, and has no default subnet group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moto.ec2.exceptions import InvalidSubnetIdError
from moto.ec2.models import ec2_backends
from moto.rds.models import DBClusterParameterGroup, DBParameterGroup, DBSubnetGroup, RDSBackend

from runbook_sandbox.rds import engines
from runbook_sandbox.rds.engines import Version
from runbook_sandbox.rds.errors import bad_combination, bad_value, raise_error

DEFAULT = "default"


def ec2_of(backend: RDSBackend) -> Any:
    """Return EC2 of the same account and Region."""
    return ec2_backends[backend.account_id][backend.region_name]


def subnets(backend: RDSBackend, subnet_ids: Sequence[str]) -> list[Any]:
    """Return existing subnets of one VPC in at least two zones.

    Raises InvalidSubnet, or DBSubnetGroupDoesNotCoverEnoughAZs.
    """
    found = []
    for subnet_id in dict.fromkeys(subnet_ids):
        try:
            found.append(ec2_of(backend).get_subnet(subnet_id))
        except InvalidSubnetIdError:
            raise_error("InvalidSubnet", f"The subnet ID '{subnet_id}' does not exist.")
    if not found:
        bad_value("The parameter SubnetIds must be provided and must not be blank.")
    if len({subnet.vpc_id for subnet in found}) > 1:
        raise_error("InvalidSubnet", "All subnets of a DB subnet group must be in the same VPC.")
    zones = {subnet.availability_zone for subnet in found}
    if len(zones) < 2:
        raise_error(
            "DBSubnetGroupDoesNotCoverEnoughAZs",
            "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. Current AZ coverage: "
            f"{', '.join(sorted(zones))}. Add subnets to cover at least 2 AZs.",
        )
    return found


def subnet_group(backend: RDSBackend, name: str | None) -> DBSubnetGroup:
    """Return a subnet group, by default `default`, created from the default VPC's subnets on first use."""
    if name and name in backend.subnet_groups:
        return backend.subnet_groups[name]
    if name and name.lower() != DEFAULT:
        raise_error("DBSubnetGroupNotFoundFault", f"DB subnet group '{name}' does not exist.")
    if DEFAULT not in backend.subnet_groups:
        vpc = next(
            (vpc for vpc in ec2_of(backend).vpcs.values() if vpc.is_default == "true" or vpc.is_default is True), None
        )
        of_vpc = [] if vpc is None else ec2_of(backend).describe_subnets(filters={"vpc-id": [vpc.id]})
        if len({subnet.availability_zone for subnet in of_vpc}) < 2:
            raise_error(
                "InvalidVPCNetworkStateFault",
                "There is no default VPC with subnets in two zones; name a DB subnet group.",
            )
        backend.subnet_groups[DEFAULT] = DBSubnetGroup(backend, DEFAULT, DEFAULT, of_vpc, [])  # type: ignore[abstract]
    return backend.subnet_groups[DEFAULT]


def group_zones(group: DBSubnetGroup) -> list[str]:
    """Return the zones that a subnet group covers."""
    return sorted({subnet.availability_zone for subnet in group._subnets})


def security_groups(backend: RDSBackend, group_ids: Sequence[str] | None, vpc_id: str) -> list[str]:
    """Return the security groups to use, by default the VPC's default group."""
    ec2 = ec2_of(backend)
    if not group_ids:
        default = ec2.get_default_security_group(vpc_id)
        return [default.id] if default is not None else []
    for group_id in group_ids:
        group = ec2.get_security_group_from_id(group_id)
        if group is None:
            bad_value(f"Invalid security group , groupId= {group_id}, groupName=.")
        if group.vpc_id != vpc_id:
            bad_combination("The DB instance and EC2 security group are in different VPCs.")
    return list(dict.fromkeys(group_ids))


def zones(backend: RDSBackend, given: Sequence[str] | None, group: DBSubnetGroup) -> list[str]:
    """Return the three zones of a cluster's storage, preferring those of the subnet group."""
    of_region = engines.zones(backend.region_name)
    for zone in given or ():
        if zone not in of_region:
            bad_value(f"Invalid availability zone: {zone}")
    wanted = [*(given or ()), *group_zones(group), *of_region]
    return sorted(list(dict.fromkeys(wanted))[:3])


def instance_zone(backend: RDSBackend, given: str | None, group: DBSubnetGroup, taken: Sequence[str]) -> str:
    """Return an instance's zone: the given one, or the subnet group's zone with the fewest instances."""
    covered = group_zones(group)
    if given:
        if given not in covered:
            raise_error(
                "InvalidVPCNetworkStateFault",
                f"The subnet group has no subnet in {given}; it covers {', '.join(covered)}.",
            )
        return given
    return min(covered, key=lambda zone: (list(taken).count(zone), zone))


def cluster_parameter_group(backend: RDSBackend, name: str | None, version: Version) -> str:
    """Return the cluster parameter group's name. Raises DBClusterParameterGroupNotFound."""
    name = name or f"default.{version.family}"
    group = find_cluster_parameter_group(backend, name)
    if group is None:
        raise_error("DBClusterParameterGroupNotFound", f"DBClusterParameterGroup not found: {name}")
    _check_family(name, str(group.db_parameter_group_family), version)
    return str(group.name)


def instance_parameter_group(backend: RDSBackend, name: str | None, version: Version) -> str:
    """Return the instance parameter group's name. Raises DBParameterGroupNotFound."""
    name = name or f"default.{version.family}"
    group = find_instance_parameter_group(backend, name)
    if group is None:
        raise_error("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}")
    _check_family(name, str(group.family), version)
    return str(group.name)


def _check_family(name: str, family: str, version: Version) -> None:
    if family != version.family:
        bad_combination(
            f"The parameter group {name} with DBParameterGroupFamily {family} can't be used for this instance. "
            f"Use a parameter group with DBParameterGroupFamily {version.family}."
        )


def find_cluster_parameter_group(backend: RDSBackend, name: str) -> DBClusterParameterGroup | None:
    """Return a cluster parameter group or None; those named default.<family> always exist."""
    groups = backend.db_cluster_parameter_groups
    if name not in groups and (family := _default_family(name)):
        described = f"Default cluster parameter group for {family}"
        groups[name] = DBClusterParameterGroup(backend, name, described, family, [])  # type: ignore[abstract]
    return groups.get(name)


def find_instance_parameter_group(backend: RDSBackend, name: str) -> DBParameterGroup | None:
    """Return an instance parameter group or None; those named default.<family> always exist."""
    groups = backend.db_parameter_groups
    if name not in groups and (family := _default_family(name)):
        described = f"Default parameter group for {family}"
        groups[name] = DBParameterGroup(backend, name, described, family, [])  # type: ignore[abstract]
    return groups.get(name)


def _default_family(name: str) -> str | None:
    """Return the family whose default group has this name, or None."""
    prefix, _, family = name.lower().partition(".")
    return family if prefix == "default" and family in engines.FAMILIES else None
