"""Read everything that is set on an existing Aurora cluster, whichever service keeps it. Knows no step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, rds
from runbook_lib.aws.answers import error_code, error_text
from runbook_lib.aws.session import Session

Item = dict[str, Any]


@dataclass(frozen=True)
class ClusterSettings:
    """A cluster with its instances (the writer first), as AWS describes them, and what other operations list for it.

    `scalable_targets` and `scaling_policies` are those of Application Auto Scaling, `proxies` and `integrations` names and
    ARNs. `unread` names what AWS refused to show, with the reason. `secret_key` is the KMS key of the managed master password,
    "" for aws/secretsmanager.
    """

    cluster: Item
    instances: list[Item]
    custom_endpoints: list[Item] = field(default_factory=list)
    scalable_targets: list[Item] = field(default_factory=list)
    scaling_policies: list[Item] = field(default_factory=list)
    event_subscriptions: list[Item] = field(default_factory=list)
    proxies: list[str] = field(default_factory=list)
    integrations: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    secret_key: str = ""

    @property
    def name(self) -> str:
        """The DB cluster identifier."""
        return str(self.cluster["DBClusterIdentifier"])

    def to_json(self) -> bytes:
        """Return the settings as JSON, with times in ISO 8601."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, default=_in_words).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Return the settings of `to_json`; times stay texts."""
        return cls(**json.loads(content))


def _in_words(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def read_settings(session: Session, identifier: str) -> ClusterSettings | None:
    """Return the settings of a cluster, or None if there is none of that name."""
    cluster = rds.find_cluster(session, identifier)
    if cluster is None:
        return None
    unread: dict[str, str] = {}

    def listed(service: str, call: str, items: str, **asked: Any) -> list[Item]:
        client = session.client(service)
        try:
            if not client.can_paginate(call):
                return [dict(one) for one in getattr(client, call)(**asked)[items]]
            pages = client.get_paginator(call).paginate(**asked)
            return [dict(one) for page in pages for one in page[items]]
        except ClientError as error:
            unread[f"{service}:{client.meta.method_to_api_mapping[call]}"] = f"{error_code(error)}: {error_text(error)}"
            return []

    writers = {one["DBInstanceIdentifier"] for one in cluster.get("DBClusterMembers", []) if one.get("IsClusterWriter")}
    instances = sorted(
        rds.instances_of(session, identifier),
        key=lambda one: (
            one["DBInstanceIdentifier"] not in writers, one.get("PromotionTier", 1), one["DBInstanceIdentifier"]
        ),
    )  # fmt: skip
    names = {identifier, *(str(one["DBInstanceIdentifier"]) for one in instances)}
    arn, resource = cluster["DBClusterArn"], f"cluster:{identifier}"
    scaling: dict[str, Any] = {"ServiceNamespace": "rds"}
    targets = listed("application-autoscaling", "describe_scalable_targets", "ScalableTargets", **scaling)
    policies = listed("application-autoscaling", "describe_scaling_policies", "ScalingPolicies", **scaling)
    endpoints = listed(
        "rds", "describe_db_cluster_endpoints", "DBClusterEndpoints", DBClusterIdentifier=identifier
    )  # fmt: skip
    return ClusterSettings(
        cluster=cluster,
        instances=instances,
        custom_endpoints=[one for one in endpoints if one.get("EndpointType") == "CUSTOM"],
        scalable_targets=[one for one in targets if one["ResourceId"] == resource],
        scaling_policies=[one for one in policies if one["ResourceId"] == resource],
        event_subscriptions=[
            one
            for one in listed("rds", "describe_event_subscriptions", "EventSubscriptionsList")
            if names & set(one.get("SourceIdsList") or [])
        ],
        proxies=_proxies(session, listed, identifier),
        integrations=[
            str(one["IntegrationArn"])
            for one in listed("rds", "describe_integrations", "Integrations")
            if one.get("SourceArn") == arn
        ],
        unread=unread,
        secret_key=_secret_key(session, cluster, unread),
    )


def _secret_key(session: Session, cluster: Item, unread: dict[str, str]) -> str:
    """Return the key of the managed master password, or "" for aws/secretsmanager and for a password that is not managed."""
    arn = str((cluster.get("MasterUserSecret") or {}).get("KmsKeyId", ""))
    try:
        metadata = kms.describe(session, arn) if arn else None
    except ClientError as error:
        unread["kms:DescribeKey"] = f"{error_code(error)}: {error_text(error)}"
        return arn
    return "" if metadata is None or metadata.get("KeyManager") == "AWS" else arn


def _proxies(session: Session, listed: Any, identifier: str) -> list[str]:
    """Return the names of the RDS proxies that have the cluster as a target."""
    found = []
    for proxy in listed("rds", "describe_db_proxies", "DBProxies"):
        targets = listed("rds", "describe_db_proxy_targets", "Targets", DBProxyName=proxy["DBProxyName"])
        if any(target.get("TrackedClusterId") == identifier for target in targets):
            found.append(str(proxy["DBProxyName"]))
    return found


def members_of(session: Session, shape: str) -> tuple[str, ...]:
    """Return the members of a shape of the SDK's RDS model, such as `DBCluster`."""
    return tuple(session.client("rds").meta.service_model.shape_for(shape).members)


def parameters_of(session: Session, operation: str) -> frozenset[str]:
    """Return the parameters that the SDK's RDS model has for an operation: an older SDK has fewer."""
    return frozenset(session.client("rds").meta.service_model.operation_model(operation).input_shape.members)


def cluster_of(session: Session, resource_id: str) -> Mapping[str, Any] | None:
    """Return the cluster with this DbClusterResourceId, whatever its name is now, or None."""
    filters = [{"Name": "db-cluster-resource-id", "Values": [resource_id]}]
    found = session.client("rds").describe_db_clusters(Filters=filters)["DBClusters"] if resource_id else []
    return dict(found[0]) if found else None
