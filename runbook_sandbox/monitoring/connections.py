"""The metric of open connections: AWS/RDS, DatabaseConnections, by cluster and by its writer.

moto gap: RDS has no metrics. A cluster with the tag `sandbox:clients` has that many clients, which connect while one of its
security groups admits anything inbound. What is connected stays connected until the writer restarts (VPC user guide,
Security groups, Connection tracking), so that closing the network alone stops nobody. There is one datum, of the present
minute.
"""

from __future__ import annotations

from typing import Any

from moto.core.common_models import CloudWatchMetricProvider
from moto.ec2.models import ec2_backends
from moto.rds.models import rds_backends

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds.resources import Cluster, clusters

NAME = "DatabaseConnections"
CLIENTS_TAG = "sandbox:clients"


def open_connections(cluster: Cluster) -> int:
    """Return how many clients are connected now."""
    tagged = {tag["Key"]: tag["Value"] for tag in cluster.tags}.get(CLIENTS_TAG, "0")
    disconnected = cluster.fields.get("clients_cut_off") and not _admits(cluster)
    return 0 if disconnected or cluster.status != "available" else int(tagged)


def _admits(cluster: Cluster) -> bool:
    groups = ec2_backends[cluster.backend.account_id][cluster.backend.region_name]
    found = (groups.get_security_group_from_id(one) for one in cluster.fields.get("security_groups", []))
    return any(group.ingress_rules for group in found if group is not None)


def _metrics(account_id: str, region: str) -> list[Any]:
    """Return the present datum of each cluster, in moto's format (times without time zone)."""
    from moto.cloudwatch.models import MetricDatum

    minute = clock.now().replace(second=0, microsecond=0, tzinfo=None)
    return [
        MetricDatum(
            namespace="AWS/RDS", name=NAME, value=open_connections(one), unit="Count", timestamp=minute,
            dimensions=[{"Name": "DBClusterIdentifier", "Value": one.identifier}, *role],
        )
        for one in clusters(rds_backends[account_id][region])
        for role in ([], [{"Name": "Role", "Value": "WRITER"}])
        if one.instances
    ]  # fmt: skip


class _RdsMetrics(CloudWatchMetricProvider):
    get_cloudwatch_metrics = staticmethod(_metrics)


def install() -> type:
    """Return the provider, which moto finds because it is defined."""
    return _RdsMetrics
