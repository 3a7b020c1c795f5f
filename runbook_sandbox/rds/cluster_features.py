"""What a DB cluster can have beside its own fields: custom endpoints, IAM roles, the Data API.

moto gap: custom endpoints and the Data API are not implemented.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult

from runbook_sandbox.instruments import ids
from runbook_sandbox.rds import checks
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.errors import apply_filters, bad_combination, bad_value, page, raise_error
from runbook_sandbox.rds.resources import Cluster, cluster_endpoints, host_suffix

MOST_ROLES = MOST_ENDPOINTS = 5
_TYPES = ("READER", "ANY")


def role_of(handler: RdsBase, cluster_roles: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    """Check a role of a cluster; return it as shown. Raises DBClusterRoleAlreadyExists and DBClusterRoleQuotaExceeded."""
    arn, feature = given["RoleArn"], given.get("FeatureName")
    trust = handler._roles.get(str(arn))
    if trust is None or "rds.amazonaws.com" not in trust:
        bad_value(f"The IAM role ARN value {arn} is not valid or does not include the required permissions.")
    if any(one["RoleArn"] == arn and one.get("FeatureName") == feature for one in cluster_roles):
        raise_error("DBClusterRoleAlreadyExists", f"The role {arn} is associated with the DB cluster already.")
    if len(cluster_roles) >= MOST_ROLES:
        raise_error("DBClusterRoleQuotaExceeded", "The maximum number of IAM roles of the DB cluster is reached.")
    return {"RoleArn": arn, "Status": "ACTIVE", **({"FeatureName": feature} if feature else {})}


class FeatureOperations(RdsBase):
    """Custom endpoints; AddRoleToDBCluster, RemoveRoleFromDBCluster; EnableHttpEndpoint, DisableHttpEndpoint."""

    def create_db_cluster_endpoint(self) -> ActionResult:
        """moto gap: not implemented."""
        given = self._given
        cluster = self._find_cluster(given.get("DBClusterIdentifier"))
        name = checks.identifier(given.get("DBClusterEndpointIdentifier"), "DBClusterEndpointIdentifier")
        kind = str(given.get("EndpointType", "")).upper()
        checks.one_of(kind, _TYPES, "EndpointType")
        known = cluster_endpoints(self.backend)
        if name in known:
            raise_error("DBClusterEndpointAlreadyExistsFault", f"DB cluster endpoint {name} already exists.")
        if sum(one["DBClusterIdentifier"] == cluster.identifier for one in known.values()) >= MOST_ENDPOINTS:
            raise_error(
                "DBClusterEndpointQuotaExceededFault", "The cluster has the most custom endpoints that it can have."
            )
        if cluster.status not in ("available", "modifying"):
            raise_error(
                "InvalidDBClusterStateFault", f"DB cluster {cluster.identifier} is in the state {cluster.status}."
            )
        suffix = host_suffix(cluster.backend)
        known[name] = {
            "DBClusterEndpointIdentifier": name, "DBClusterIdentifier": cluster.identifier, "EndpointType": "CUSTOM",
            "CustomEndpointType": kind, "Status": "available",
            "DBClusterEndpointResourceIdentifier": "cluster-endpoint-" + ids.text_for("rds-endpoint", self.current_account, 26),
            "Endpoint": f"{name}.cluster-custom-{suffix}.{self.region}.rds.amazonaws.com",
            "DBClusterEndpointArn":
                f"arn:{self.backend.partition}:rds:{self.region}:{self.current_account}:cluster-endpoint:{name}",
            **self._members(cluster, given),
        }  # fmt: skip
        return ActionResult(known[name])

    def modify_db_cluster_endpoint(self) -> ActionResult:
        """moto gap: not implemented. What is left out stays; one list of members takes the place of the other."""
        given = self._given
        found = self._find_endpoint(given.get("DBClusterEndpointIdentifier"))
        cluster = self._find_cluster(found["DBClusterIdentifier"])
        if cluster.status != "available":
            raise_error(
                "InvalidDBClusterStateFault", f"DB cluster {cluster.identifier} is in the state {cluster.status}."
            )
        kind = str(given.get("EndpointType", found["CustomEndpointType"])).upper()
        checks.one_of(kind, _TYPES, "EndpointType")
        asked = any(name in given for name in ("StaticMembers", "ExcludedMembers"))
        found |= {"CustomEndpointType": kind, **(self._members(cluster, given) if asked else {})}
        return ActionResult(found | {"Status": "modifying"})

    def _find_endpoint(self, name: str | None) -> dict[str, Any]:
        """Return a custom endpoint as stored. Raises DBClusterEndpointNotFoundFault."""
        found = cluster_endpoints(self.backend).get(str(name).lower())
        if found is None:
            raise_error("DBClusterEndpointNotFoundFault", f"DB cluster endpoint {name} not found.")
        return found

    def _members(self, cluster: Cluster, given: dict[str, Any]) -> dict[str, list[str]]:
        static, excluded = given.get("StaticMembers") or [], given.get("ExcludedMembers") or []
        if static and excluded:
            bad_combination("You can't specify StaticMembers and ExcludedMembers together.")
        for name in (*static, *excluded):
            if name not in cluster.members:
                raise_error("DBInstanceNotFound", f"DBInstance {name} is not a member of {cluster.identifier}.")
        return {"StaticMembers": list(static), "ExcludedMembers": list(excluded)}

    def describe_db_cluster_endpoints(self) -> ActionResult:
        """moto gap: not implemented. The built-in endpoints are listed too, as on AWS."""
        given = self._given
        if (name := given.get("DBClusterIdentifier")) is not None:
            clusters = [self._find_cluster(name)]
        else:
            clusters = self._poll_all_clusters()
        names = {one.identifier for one in clusters}
        found = [
            {"DBClusterIdentifier": one.identifier, "EndpointType": kind, "Status": "available",
             "Endpoint": f"{one.identifier}.{part}-{host_suffix(one.backend)}.{self.region}.rds.amazonaws.com"}
            for one in clusters for kind, part in (("WRITER", "cluster"), ("READER", "cluster-ro"))
        ]  # fmt: skip
        found += [one for one in cluster_endpoints(self.backend).values() if one["DBClusterIdentifier"] in names]
        if (wanted := given.get("DBClusterEndpointIdentifier")) is not None:
            found = [one for one in found if one.get("DBClusterEndpointIdentifier") == wanted]
            if not found:
                raise_error("DBClusterEndpointNotFoundFault", f"DB cluster endpoint {wanted} not found.")
        found = apply_filters(found, given.get("Filters"), {
            "db-cluster-endpoint-type": lambda one: (str(one["EndpointType"]).lower(),),
            "db-cluster-endpoint-custom-type": lambda one: (str(one.get("CustomEndpointType", "")).lower(),),
            "db-cluster-endpoint-id": lambda one: (one.get("DBClusterEndpointIdentifier", ""),),
            "db-cluster-endpoint-status": lambda one: (one["Status"],),
        })  # fmt: skip
        chosen, marker = page(found, given)
        return ActionResult({"DBClusterEndpoints": chosen, "Marker": marker})

    def delete_db_cluster_endpoint(self) -> ActionResult:
        """moto gap: not implemented."""
        found = self._find_endpoint(self._given.get("DBClusterEndpointIdentifier"))
        del cluster_endpoints(self.backend)[found["DBClusterEndpointIdentifier"]]
        return ActionResult({**found, "Status": "deleting"})

    def add_role_to_db_cluster(self) -> ActionResult:
        """As moto has it, for the sandbox's own clusters."""
        cluster = self._find_cluster(self._given.get("DBClusterIdentifier"))
        roles = cluster.fields["AssociatedRoles"]
        cluster.fields["AssociatedRoles"] = [*roles, role_of(self, roles, self._given)]
        return ActionResult({})

    def remove_role_from_db_cluster(self) -> ActionResult:
        """As moto has it, for the sandbox's own clusters."""
        given = self._given
        cluster = self._find_cluster(given.get("DBClusterIdentifier"))
        roles = cluster.fields["AssociatedRoles"]
        left = [
            one for one in roles
            if (one["RoleArn"], one.get("FeatureName")) != (given["RoleArn"], given.get("FeatureName"))
        ]  # fmt: skip
        if left == roles:
            raise_error("DBClusterRoleNotFound", f"The role {given['RoleArn']} is not associated with the DB cluster.")
        cluster.fields["AssociatedRoles"] = left
        return ActionResult({})

    def enable_http_endpoint(self) -> ActionResult:
        """moto gap: not implemented."""
        return self._data_api(on=True)

    def disable_http_endpoint(self) -> ActionResult:
        """moto gap: not implemented."""
        return self._data_api(on=False)

    def _data_api(self, *, on: bool) -> ActionResult:
        cluster = self._find_cluster(self._given.get("ResourceArn"))
        cluster.fields["HttpEndpointEnabled"] = on
        return ActionResult({"ResourceArn": cluster.arn, "HttpEndpointEnabled": on})
