"""States take time: what is asked for comes about after N looks or N seconds.

moto gap: its state manager knows nothing of RDS, whose clusters are available at the second look whatever is
set. `rds::cluster` (snapshots with it) and `rds::instance` are registered, so `POST /moto-api/state-manager/set-
transition` and `/runbook/progression` apply at once, also to what is under way. Seconds are the movable clock's.

One describe call is one look. Operations that change something do not count, except with at most one look to wait
for (the default): then asking is looking.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import Any

from moto.moto_api import state_manager

from runbook_sandbox.instruments import clock
from runbook_sandbox.rds.records import Cluster, Instance, Record, add_event

CLUSTER, INSTANCE = "rds::cluster", "rds::instance"
DEFAULT = {"progression": "manual", "times": 1}
_on_arrival: list[Callable[[Record], None]] = []


def register() -> None:
    """Make the models known to moto's state manager."""
    for model in (CLUSTER, INSTANCE):
        state_manager.register_default_transition(model, dict(DEFAULT))


def on_arrival(told: Callable[[Record], None]) -> None:
    """Have `told` called each time a record has reached its next status."""
    if told not in _on_arrival:
        _on_arrival.append(told)


def go(record: Record, *path: str) -> None:
    """Enter the first status of `path` now; the others come one after the other. "" means gone."""
    record.status, record.path = path[0], list(path[1:])
    record.ticks, record.since = 0, clock.now()


def _advance(record: Record) -> None:
    record.status = record.path.pop(0)
    record.ticks, record.since = 0, clock.now()
    for told in _on_arrival:
        told(record)


def _due(record: Record, model: str, *, counts: bool) -> bool:
    setting = state_manager.get_transition(model)
    match setting.get("progression"):
        case "manual":
            times = int(setting.get("times", 1))
            if counts or times <= 1:
                record.ticks += 1
            return record.ticks >= times
        case "time":
            return clock.now() >= record.since + timedelta(seconds=float(setting.get("seconds", 0)))
        case _:
            return True


def _step(record: Record, model: str, *, counts: bool) -> None:
    if not record.path or not _due(record, model, counts=counts):
        return
    _advance(record)
    while record.path and state_manager.get_transition(model).get("progression") == "immediate":
        _advance(record)


def look(record: Record, *, counts: bool = True) -> str:
    """Look at a record, which may bring it on its way; return its status, "" if it is gone.

    An instance waits for its cluster, a cluster that is being deleted for its instances.
    """
    if isinstance(record, Instance):
        cluster = record.cluster
        if record.status == "creating" and cluster is not None and cluster.status == "creating":
            return record.status
        _step(record, INSTANCE, counts=counts)
    elif isinstance(record, Cluster) and record.status == "deleting" and record.instances:
        for instance in record.instances:
            look(instance, counts=counts)
        if not record.instances:
            _step(record, CLUSTER, counts=counts)
    else:
        _step(record, CLUSTER, counts=counts)
    return record.status


def settle_gone(record: Record) -> None:
    """Take a record that is gone out of its backend, and say so in the events."""
    if record.status:
        return
    if isinstance(record, Instance):
        if _taken_out(record.backend.databases, record):
            add_event(record, "DB instance deleted", "deletion")
        cluster = record.cluster
        if cluster is not None and record.identifier in cluster.members:
            cluster.members.remove(record.identifier)
            if cluster.writer == record.identifier:
                cluster.writer = cluster.members[0] if cluster.members else None
    elif isinstance(record, Cluster):
        if _taken_out(record.backend.clusters, record):
            add_event(record, "DB cluster deleted", "deletion")
    else:
        _taken_out(record.backend.cluster_snapshots, record)


def _taken_out(stored: MutableMapping[str, Any], record: Record) -> bool:
    """Remove a record, unless another one has its name by now; say whether it was there."""
    if stored.get(record.identifier) is not record:
        return False
    del stored[record.identifier]
    return True
