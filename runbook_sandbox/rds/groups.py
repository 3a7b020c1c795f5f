"""DB subnet groups, parameter groups, and tags.

moto gaps: a second subnet group with the same name replaces the first, one zone is enough, and a group in use can be
deleted; parameter groups of unknown families are accepted, and ones in use are deleted.
"""

from __future__ import annotations

import re
from typing import Any

from moto.core.responses import ActionResult
from moto.rds.models import DBClusterParameterGroup, DBParameterGroup, DBSubnetGroup

from runbook_sandbox.rds import checks, engines, placement
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.errors import bad_value, page, raise_error
from runbook_sandbox.rds.resources import Instance, clusters, plain_tags

_NAME = re.compile(r"[a-z][a-z0-9._ -]{0,254}")
_GROUP_NAME = re.compile(r"[a-z](?:-?[a-z0-9])*")


def _subnet_group_name(given: str | None) -> str:
    """Return the name for a new subnet group, in lower case as RDS stores it."""
    name = str(given or "").lower()
    if name == placement.DEFAULT or not _NAME.fullmatch(name):
        bad_value(
            f"The parameter DBSubnetGroupName is not a valid identifier: {given}. It has at most 255 letters, digits, "
            "spaces, periods, underscores and hyphens, begins with a letter, and is not 'default'."
        )
    return name


def _parameter_group_name(given: str | None) -> str:
    name = str(given or "").lower()
    if len(name) > 255 or not _GROUP_NAME.fullmatch(name):
        bad_value(f"The parameter DBParameterGroupName is not a valid identifier: {given}.")
    return name


def _family(given: str | None) -> str:
    if given not in engines.FAMILIES:
        bad_value(f"ParameterGroupFamily {given} is not a valid parameter group family")
    return str(given)


def _refuse_default(name: str) -> None:
    if name.startswith("default."):
        bad_value(f"Invalid value: {name}. Default parameter groups can't be changed or deleted.")


class GroupOperations(RdsBase):
    """Subnet groups, parameter groups, tags."""

    def create_db_subnet_group(self) -> ActionResult:
        """moto gap: it replaces a group with the same name, and accepts subnets in one zone."""
        given = self._given
        name = _subnet_group_name(given.get("DBSubnetGroupName"))
        if name in self.backend.subnet_groups:
            raise_error("DBSubnetGroupAlreadyExists", f"The DB subnet group '{name}' already exists.")
        found = placement.subnets(self.backend, given.get("SubnetIds") or [])
        checks.tags(given.get("Tags"))
        group = DBSubnetGroup(  # type: ignore[abstract]
            self.backend, name, str(given.get("DBSubnetGroupDescription", "")), found, plain_tags(given.get("Tags"))
        )
        self.backend.subnet_groups[name] = group
        return ActionResult({"DBSubnetGroup": group})

    def describe_db_subnet_groups(self) -> ActionResult:
        """moto gap: names in capital letters are not found, and there is no paging."""
        given = self._given
        name = given.get("DBSubnetGroupName")
        found = [self._subnet_group(name)] if name else list(self.backend.subnet_groups.values())
        chosen, marker = page(found, given)
        return ActionResult({"DBSubnetGroups": chosen, "Marker": marker})

    def modify_db_subnet_group(self) -> ActionResult:
        """moto gap: it removes the group first, so that any error loses it."""
        given = self._given
        group = self._subnet_group(given.get("DBSubnetGroupName"))
        found = placement.subnets(self.backend, given.get("SubnetIds") or [])
        kept = {subnet.id for subnet in found}
        for cluster in clusters(self.backend):
            if cluster.fields["DBSubnetGroup"] == group.name:
                zones = {instance.fields["AvailabilityZone"] for instance in cluster.instances}
                if zones - {subnet.availability_zone for subnet in found}:
                    raise_error(
                        "SubnetAlreadyInUse", f"Subnets outside {sorted(kept)} are in use by {cluster.identifier}."
                    )
        group.subnets = found
        group.description = str(given.get("DBSubnetGroupDescription") or group.description)
        return ActionResult({"DBSubnetGroup": group})

    def delete_db_subnet_group(self) -> ActionResult:
        """moto gap: a group that a cluster uses is deleted."""
        group = self._subnet_group(self._given.get("DBSubnetGroupName"))
        users = [one.identifier for one in clusters(self.backend) if one.fields["DBSubnetGroup"] == group.name]
        if users or group.name == placement.DEFAULT:
            raise_error(
                "InvalidDBSubnetGroupStateFault",
                f"Cannot delete the subnet group '{group.name}' because at least one database instance or cluster: "
                f"{', '.join(users) or 'the account'} is still using it.",
            )
        del self.backend.subnet_groups[group.name]
        return ActionResult({})

    def _subnet_group(self, name: Any) -> DBSubnetGroup:
        found = self.backend.subnet_groups.get(str(name or "").lower())
        if found is None:
            raise_error("DBSubnetGroupNotFoundFault", f"DB subnet group '{name}' does not exist.")
        return found

    def create_db_cluster_parameter_group(self) -> ActionResult:
        """moto gap: it accepts any family."""
        given = self._given
        name = _parameter_group_name(given.get("DBClusterParameterGroupName"))
        if placement.find_cluster_parameter_group(self.backend, name) is not None:
            raise_error("DBParameterGroupAlreadyExists", f"Parameter group {name} already exists")
        family = _family(given.get("DBParameterGroupFamily"))
        group = DBClusterParameterGroup(  # type: ignore[abstract]
            self.backend, name, str(given.get("Description", "")), family, plain_tags(given.get("Tags"))
        )
        self.backend.db_cluster_parameter_groups[name] = group
        return ActionResult({"DBClusterParameterGroup": group})

    def describe_db_cluster_parameter_groups(self) -> ActionResult:
        """moto gap: the default groups do not exist."""
        given = self._given
        for family in engines.FAMILIES:
            placement.find_cluster_parameter_group(self.backend, f"default.{family}")
        found = [group for _, group in sorted(self.backend.db_cluster_parameter_groups.items())]
        if (name := given.get("DBClusterParameterGroupName")) is not None:
            found = [group for group in found if group.name == name.lower()]
            if not found:
                raise_error("DBParameterGroupNotFound", f"DBClusterParameterGroup not found: {name}")
        chosen, marker = page(found, given)
        return ActionResult({"DBClusterParameterGroups": chosen, "Marker": marker})

    def delete_db_cluster_parameter_group(self) -> ActionResult:
        """moto gap: a group that a cluster uses is deleted."""
        name = str(self._given.get("DBClusterParameterGroupName", "")).lower()
        _refuse_default(name)
        if name not in self.backend.db_cluster_parameter_groups:
            raise_error("DBParameterGroupNotFound", f"DBClusterParameterGroup not found: {name}")
        if any(cluster.fields["DBClusterParameterGroup"] == name for cluster in clusters(self.backend)):
            raise_error(
                "InvalidDBParameterGroupState", "One or more DB clusters are still members of this parameter group."
            )
        del self.backend.db_cluster_parameter_groups[name]
        return ActionResult({})

    def create_db_parameter_group(self) -> ActionResult:
        """moto gap: it accepts any family."""
        given = self._given
        name = _parameter_group_name(given.get("DBParameterGroupName"))
        if placement.find_instance_parameter_group(self.backend, name) is not None:
            raise_error("DBParameterGroupAlreadyExists", f"Parameter group {name} already exists")
        family = given.get("DBParameterGroupFamily")
        if str(family).startswith("aurora"):
            _family(family)
        group = DBParameterGroup(  # type: ignore[abstract]
            self.backend, name, str(given.get("Description", "")), family, plain_tags(given.get("Tags"))
        )
        self.backend.db_parameter_groups[name] = group
        return ActionResult({"DBParameterGroup": group})

    def describe_db_parameter_groups(self) -> ActionResult:
        """moto gap: an unknown group returns an empty list, and the default groups are missing."""
        given = self._given
        for family in engines.FAMILIES:
            placement.find_instance_parameter_group(self.backend, f"default.{family}")
        found = [group for _, group in sorted(self.backend.db_parameter_groups.items())]
        if (name := given.get("DBParameterGroupName")) is not None:
            found = [group for group in found if group.name == name.lower()]
            if not found:
                raise_error("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}")
        chosen, marker = page(found, given)
        return ActionResult({"DBParameterGroups": chosen, "Marker": marker})

    def delete_db_parameter_group(self) -> ActionResult:
        """moto gap: a group that an instance uses is deleted."""
        name = str(self._given.get("DBParameterGroupName", "")).lower()
        _refuse_default(name)
        if name not in self.backend.db_parameter_groups:
            raise_error("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}")
        for one in list(self.backend.databases.values()):
            groups: list[Any] = one.fields["DBParameterGroups"] if isinstance(one, Instance) else []
            if any(group["DBParameterGroupName"] == name for group in groups):
                raise_error(
                    "InvalidDBParameterGroupState",
                    "One or more database instances are still members of this parameter group.",
                )
        del self.backend.db_parameter_groups[name]
        return ActionResult({})

    def _tagged(self) -> str:
        """Return the ARN in the request, of an existing resource."""
        arn = str(self._given.get("ResourceName", ""))
        parts = arn.split(":", 6)
        kind, name = (parts[5], parts[6]) if len(parts) == 7 and parts[2] == "rds" else ("", "")
        code, stored = _TAGGED.get(kind, ("", ""))
        if not kind:
            bad_value(f"Invalid resource name: {arn}")
        if stored and name not in getattr(self.backend, stored):
            raise_error(code, f"Could not find a resource by the name {arn}")
        return arn

    def list_tags_for_resource(self) -> ActionResult:
        """moto gap: a resource that does not exist has no tags, instead of an error."""
        return ActionResult({"TagList": self.backend.list_tags_for_resource(self._tagged())})

    def add_tags_to_resource(self) -> ActionResult:
        """moto gap: it crashes on a resource that does not exist, and accepts reserved keys."""
        arn, tags = self._tagged(), self._given.get("Tags")
        checks.tags(tags)
        self.backend.add_tags_to_resource(arn, plain_tags(tags))
        return ActionResult({})

    def remove_tags_from_resource(self) -> ActionResult:
        """moto gap: it crashes on a resource that does not exist."""
        self.backend.remove_tags_from_resource(self._tagged(), self._given.get("TagKeys") or [])
        return ActionResult({})


# Resource types with tags: the error code if the resource does not exist, and its store in moto's backend.
_TAGGED = {
    "cluster": ("DBClusterNotFoundFault", "clusters"),
    "db": ("DBInstanceNotFound", "databases"),
    "cluster-snapshot": ("DBClusterSnapshotNotFoundFault", "cluster_snapshots"),
    "subgrp": ("DBSubnetGroupNotFoundFault", "subnet_groups"),
    "pg": ("DBParameterGroupNotFound", "db_parameter_groups"),
    "cluster-pg": ("DBParameterGroupNotFound", "db_cluster_parameter_groups"),
}
