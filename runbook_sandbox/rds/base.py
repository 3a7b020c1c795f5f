"""What all RDS requests share: parameters as sent, the caller, and resources found and polled.

moto gap: a parameter with a wrong type, or a missing required one, is a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from botocore.model import OperationNotFoundError
from moto.core.parse import XFormedDict
from moto.core.utils import get_service_model
from moto.iam.models import iam_backends
from moto.rds.responses import RDSResponse

from runbook_sandbox import wire
from runbook_sandbox.rds import encryption, managed_secrets, renames, states
from runbook_sandbox.rds.encryption import Caller
from runbook_sandbox.rds.errors import bad_value, raise_error
from runbook_sandbox.rds.resources import Cluster, Instance, Resource, Snapshot, add_event, cluster_endpoints, clusters


class RdsBase(RDSResponse):
    """What all RDS operations share."""

    _refusal: tuple[str, str] | None = None

    def parse_parameters(self, request: Any) -> None:
        """Parse the request; if it cannot be parsed, `call_action` returns the error in the service's own format."""
        try:
            super().parse_parameters(request)
            model = get_service_model(self.boto3_service_name).operation_model(self._get_action())
            required = model.input_shape.required_members if model.input_shape else []
            if missing := [name for name in required if self.params.get(name) is None]:
                self._refusal = ("MissingParameter", f"The request must contain the parameter {missing[0]}.")
        except OperationNotFoundError:
            self.params = XFormedDict()
            self._refusal = ("InvalidAction", f"Could not find operation {self._get_action()}")
        except (ValueError, TypeError, KeyError, AttributeError):
            self.params = XFormedDict()
            self._refusal = ("MalformedInput", "A parameter is not of the type that it must be.")

    def call_action(self) -> Any:
        """Answer the request, or return the error from parsing it."""
        if self._refusal is None:
            return super().call_action()
        return wire.error_answer("xml", 400, *self._refusal)

    @property
    def _given(self) -> dict[str, Any]:
        """The parameters with AWS's names; an empty string counts as not given."""
        # A request without parameters leaves a plain dictionary.
        sent = self.params.original_dict() if isinstance(self.params, XFormedDict) else dict(self.params or {})
        return {name: value for name, value in sent.items() if value is not None and value != ""}

    @property
    def _caller(self) -> Caller:
        return Caller(self.current_account, self.region, self.get_access_key(), self.headers)

    @property
    def _roles(self) -> Mapping[str, str]:
        """The account's IAM roles: ARN to trust policy."""
        roles = iam_backends[self.current_account]["aws"].roles.values()
        return {str(role.arn): str(role.assume_role_policy_document) for role in list(roles)}

    def _find_cluster(self, name: str | None, *, counts: bool = False) -> Cluster:
        """Poll and return a cluster by identifier or ARN. Raises DBClusterNotFoundFault."""
        wanted = _name_of(name, "cluster")
        found = self.backend.clusters.get(wanted)
        if isinstance(found, Cluster):
            poll_cluster(found, counts=counts)
            if found.status:
                return found
        raise_error("DBClusterNotFoundFault", f"DBCluster {wanted} not found.")

    def _find_instance(self, name: str | None, *, counts: bool = False) -> Instance:
        """Poll and return a member of a cluster by identifier or ARN. Raises DBInstanceNotFound."""
        wanted = _name_of(name, "db")
        found = self.backend.databases.get(wanted)
        if isinstance(found, Instance):
            poll_instances([found], counts=counts)
            if found.status:
                return found
        raise_error("DBInstanceNotFound", f"DBInstance {wanted} not found.")

    def _find_snapshot(self, name: str | None, *, counts: bool = False) -> Snapshot:
        """Poll and return a snapshot of this account by identifier or ARN. Raises DBClusterSnapshotNotFoundFault."""
        wanted = _name_of(name, "cluster-snapshot")
        found = self.backend.cluster_snapshots.get(wanted)
        if isinstance(found, Snapshot):
            states.poll(found, counts=counts)
            states.remove_if_deleted(found)
            if found.status:
                return found
        raise_error("DBClusterSnapshotNotFoundFault", f"DBClusterSnapshot not found: {wanted}")

    def _poll_all_clusters(self) -> list[Cluster]:
        for cluster in clusters(self.backend):
            poll_cluster(cluster, counts=True)
        return clusters(self.backend)


def _name_of(name: str | None, kind: str) -> str:
    """Return the identifier from an identifier or an ARN of this resource type."""
    if not name:
        bad_value("The identifier must be provided and must not be blank.")
    parts = name.split(":", 6)
    if parts[0] == "arn" and len(parts) == 7:
        if parts[2] != "rds" or parts[5] != kind:
            bad_value(f"Invalid resource name: {name}")
        return parts[6].lower()
    return name.lower()


def poll_cluster(cluster: Cluster, *, counts: bool) -> None:
    encryption.check_key_access(cluster)
    renames.rename_if_due(cluster)
    states.poll(cluster, counts=counts)
    states.remove_if_deleted(cluster)


def poll_instances(instances: Sequence[Instance], *, counts: bool) -> None:
    """Poll the instances' clusters once each, since instances wait for them; then the instances."""
    waited_for = {id(one.cluster): one.cluster for one in instances}
    for cluster in waited_for.values():
        if cluster is not None:
            encryption.check_key_access(cluster)
            if cluster.status in ("creating", "available"):
                states.poll(cluster, counts=counts)
    for instance in instances:
        states.poll(instance, counts=counts)
        states.remove_if_deleted(instance)


def _status_entered(resource: Resource) -> None:
    """Carry out what happens when a resource enters a status: deletion, key loss, events."""
    states.remove_if_deleted(resource)
    if isinstance(resource, Cluster):
        encryption.lose_key(resource)
        if not resource.status:
            encryption.retire_grant(resource)
            known = cluster_endpoints(resource.backend)
            for name in [name for name, one in known.items() if one["DBClusterIdentifier"] == resource.identifier]:
                del known[name]
            if resource.secret is not None:
                managed_secrets.delete(resource.secret)
        elif resource.status == "available" and "created" not in resource.fields:
            resource.fields["created"] = True
            add_event(resource, "DB cluster created", "creation")
    elif isinstance(resource, Instance) and resource.status == "available" and "created" not in resource.fields:
        resource.fields["created"] = True
        add_event(resource, "DB instance created", "creation")


states.on_transition(_status_entered)
