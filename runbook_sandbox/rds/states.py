"""Status transitions: a resource reaches its next status after N polls or N seconds.

moto gap: its state manager does not include RDS, whose clusters are available at the second describe call in any
case. `rds::cluster` (also for snapshots) and `rds::instance` are registered here, so that
`POST /moto-api/state-manager/set-transition` and `/runbook/progression` take effect at once, also for transitions in
progress. Seconds are those of the sandbox's clock.

One describe call is one poll. Other operations do not count as a poll, unless one poll or less is required (the
default).
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import Any

from moto.moto_api import state_manager

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds.resources import Cluster, Instance, Resource, add_event

CLUSTER, INSTANCE = MODELS = ("rds::cluster", "rds::instance")
DEFAULT = {"progression": "manual", "times": 1}
_on_transition: list[Callable[[Resource], None]] = []


def register() -> None:
    """Register the models with moto's state manager."""
    for model in MODELS:
        state_manager.register_default_transition(model, dict(DEFAULT))


def on_transition(callback: Callable[[Resource], None]) -> None:
    """Call `callback` each time a resource has entered its next status."""
    if callback not in _on_transition:
        _on_transition.append(callback)


def transition(resource: Resource, *path: str) -> None:
    """Enter the first status of `path` now, and the others one after the other. "" means deleted."""
    resource.status, resource.path = path[0], list(path[1:])
    resource.ticks, resource.since = 0, clock.now()


def _advance(resource: Resource) -> None:
    resource.status = resource.path.pop(0)
    resource.ticks, resource.since = 0, clock.now()
    for callback in _on_transition:
        callback(resource)


def _due(resource: Resource, model: str, *, counts: bool) -> bool:
    setting = state_manager.get_transition(model)
    match setting.get("progression"):
        case "manual":
            times = int(setting.get("times", 1))
            if counts or times <= 1:
                resource.ticks += 1
            return resource.ticks >= times
        case "time":
            return clock.now() >= resource.since + timedelta(seconds=float(setting.get("seconds", 0)))
        case _:
            return True


def _step(resource: Resource, model: str, *, counts: bool) -> None:
    if not resource.path or not _due(resource, model, counts=counts):
        return
    _advance(resource)
    while resource.path and state_manager.get_transition(model).get("progression") == "immediate":
        _advance(resource)


def poll(resource: Resource, *, counts: bool = True) -> str:
    """Poll a resource, which may enter its next status; return its status, "" if it is deleted.

    An instance waits for its cluster, and a cluster that is being deleted for its instances.
    """
    if isinstance(resource, Instance):
        cluster = resource.cluster
        if resource.status == "creating" and cluster is not None and cluster.status == "creating":
            return resource.status
        _step(resource, INSTANCE, counts=counts)
    elif isinstance(resource, Cluster) and resource.status == "deleting" and resource.instances:
        for instance in resource.instances:
            poll(instance, counts=counts)
        if not resource.instances:
            _step(resource, CLUSTER, counts=counts)
    else:
        _step(resource, CLUSTER, counts=counts)
    return resource.status


def remove_if_deleted(resource: Resource) -> None:
    """Remove a deleted resource from its backend, and record the event."""
    if resource.status:
        return
    if isinstance(resource, Instance):
        if _removed(resource.backend.databases, resource):
            add_event(resource, "DB instance deleted", "deletion")
        cluster = resource.cluster
        if cluster is not None and resource.identifier in cluster.members:
            cluster.members.remove(resource.identifier)
            if cluster.writer == resource.identifier:
                cluster.writer = cluster.members[0] if cluster.members else None
    elif isinstance(resource, Cluster):
        if _removed(resource.backend.clusters, resource):
            add_event(resource, "DB cluster deleted", "deletion")
    else:
        _removed(resource.backend.cluster_snapshots, resource)


def _removed(stored: MutableMapping[str, Any], resource: Resource) -> bool:
    """Remove a resource unless another has its name; return whether it was removed."""
    if stored.get(resource.identifier) is not resource:
        return False
    del stored[resource.identifier]
    return True
