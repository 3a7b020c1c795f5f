"""What the sandbox stores of a cluster, an instance and a cluster snapshot.

Plain objects in moto's own dictionaries instead of moto's objects, so that its tagging, its resets and the Resource
Groups Tagging API work with them. `fields` has AWS's names; what is derived from other values is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from moto.rds.models import RDSBackend, rds_backends

from runbook_sandbox.instruments import clock, ids

INACCESSIBLE = "inaccessible-encryption-credentials"
RECOVERABLE = "inaccessible-encryption-credentials-recoverable"
LOST = (INACCESSIBLE, RECOVERABLE)


@dataclass(frozen=True)
class Encryption:
    """Storage encryption: type `none`, `sse-rds` or `sse-kms`, and for the last the key's ARN."""

    type: str
    key_arn: str | None = None

    @property
    def as_fields(self) -> dict[str, Any]:
        """The three fields that AWS shows; StorageEncrypted is False for sse-rds."""
        shown: dict[str, Any] = {"StorageEncrypted": self.type == "sse-kms", "StorageEncryptionType": self.type}
        return shown | ({"KmsKeyId": self.key_arn} if self.key_arn else {})


@dataclass
class Resource:
    """What all resources share. `path` lists the statuses to come; "" means deleted."""

    backend: RDSBackend
    identifier: str
    fields: dict[str, Any]
    encryption: Encryption
    tags: list[dict[str, str]] = field(default_factory=list)
    status: str = "creating"
    path: list[str] = field(default_factory=list)
    ticks: int = 0
    since: datetime = field(default_factory=clock.now)
    created: datetime = field(default_factory=clock.now)

    resource_type = ""

    @property
    def account(self) -> str:
        """The account of the resource."""
        return str(self.backend.account_id)

    @property
    def region(self) -> str:
        """The Region of the resource."""
        return str(self.backend.region_name)

    @property
    def arn(self) -> str:
        """The ARN of the resource."""
        return f"arn:{self.backend.partition}:rds:{self.region}:{self.account}:{self.resource_type}:{self.identifier}"

    @property
    def shown_fields(self) -> dict[str, Any]:
        """The fields that AWS shows as stored."""
        return {name: value for name, value in self.fields.items() if name[:1].isupper() and value is not None}

    def get_tags(self) -> list[dict[str, str]]:
        """Return its tags; moto's tagging calls this method and the next two."""
        return list(self.tags)

    def add_tags(self, tags: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
        """Add tags, or change their values."""
        new = plain_tags(tags)
        names = {tag["Key"] for tag in new}
        self.tags = [tag for tag in self.tags if tag["Key"] not in names] + new
        return self.tags

    def remove_tags(self, tag_keys: Iterable[str]) -> None:
        """Remove tags by key."""
        removed = set(tag_keys or ())
        self.tags = [tag for tag in self.tags if tag["Key"] not in removed]


@dataclass
class Cluster(Resource):
    """A DB cluster. `members`: the identifiers of its instances; `writer`: the one that writes."""

    resource_id: str = ""
    members: list[str] = field(default_factory=list)
    writer: str | None = None
    grant_id: str | None = None
    secret: Any = None
    lost_at: datetime | None = None
    stopped_at: datetime | None = None

    resource_type = "cluster"

    @property
    def instances(self) -> list[Instance]:
        """The cluster's instances that still exist."""
        stored: MutableMapping[str, Any] = self.backend.databases
        found = [stored.get(name) for name in self.members]
        return [instance for instance in found if isinstance(instance, Instance)]


@dataclass
class Instance(Resource):
    """A DB instance of a cluster."""

    cluster_id: str = ""
    resource_id: str = ""

    resource_type = "db"

    @property
    def cluster(self) -> Cluster | None:
        """The cluster of the instance."""
        found = self.backend.clusters.get(self.cluster_id)
        return found if isinstance(found, Cluster) else None


@dataclass
class Snapshot(Resource):
    """A DB cluster snapshot, manual or automated, with the accounts that may restore it."""

    resource_id: str = ""
    shared_with: list[str] = field(default_factory=list)

    resource_type = "cluster-snapshot"


def plain_tags(tags: Iterable[Mapping[str, str]] | None) -> list[dict[str, str]]:
    """Return request tags as plain dictionaries."""
    return [{"Key": str(tag["Key"]), "Value": str(tag.get("Value") or "")} for tag in tags or ()]


def clusters(backend: RDSBackend) -> list[Cluster]:
    """Return a Region's clusters, by name."""
    stored: MutableMapping[str, Any] = backend.clusters
    found = [one for one in list(stored.values()) if isinstance(one, Cluster)]
    return sorted(found, key=lambda one: one.identifier)


def snapshots(backend: RDSBackend) -> list[Snapshot]:
    """Return a Region's cluster snapshots, oldest first."""
    stored: MutableMapping[str, Any] = backend.cluster_snapshots
    found = [one for one in list(stored.values()) if isinstance(one, Snapshot)]
    return sorted(found, key=lambda one: (one.created, one.identifier))


def cluster_endpoints(backend: RDSBackend) -> dict[str, dict[str, Any]]:
    """Return the custom endpoints of an account and Region, by identifier, as AWS shows them."""
    found: dict[str, dict[str, Any]] = backend.__dict__.setdefault("runbook_cluster_endpoints", {})
    return found


def retained_backups(backend: RDSBackend) -> list[Cluster]:
    """Return deleted clusters whose automated backups are retained."""
    retained: list[Cluster] = backend.__dict__.setdefault("runbook_retained", [])
    return retained


def all_backends(region: str) -> list[RDSBackend]:
    """Return this Region's RDS backends of all accounts in use."""
    return [regions[region] for regions in list(rds_backends.values()) if region in regions]


def host_suffix(backend: RDSBackend) -> str:
    """Return the twelve characters that all endpoints in an account and Region share."""
    suffix = backend.__dict__.get("runbook_host")
    if suffix is None:
        suffix = ids.text_for("rds-host", backend.account_id, 12, "abcdefghijklmnopqrstuvwxyz0123456789")
        backend.__dict__["runbook_host"] = suffix
    return str(suffix)


def add_event(resource: Resource, message: str, *categories: str) -> None:
    """Add an event of a cluster, instance or snapshot for DescribeEvents.

    moto gap: it has no events of clusters.
    """
    source = {"cluster": "db-cluster", "db": "db-instance", "cluster-snapshot": "db-cluster-snapshot"}
    events: list[Any] = resource.backend.events
    events.append(
        {"SourceIdentifier": resource.identifier, "SourceType": source[resource.resource_type], "SourceArn": resource.arn,
         "Message": message, "EventCategories": list(categories), "Date": clock.now()}
    )  # fmt: skip
    del events[:-2000]


def window_start(cluster: Cluster) -> datetime:
    """Return the earliest time to which a cluster can be restored."""
    days = timedelta(days=int(cluster.fields["BackupRetentionPeriod"]))
    return max(cluster.created, clock.now() - days)
