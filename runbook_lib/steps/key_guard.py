"""What keeps a run's key or key material from being deleted: what needs it, and what could not be looked at.

90 asks before it schedules the key's deletion, and the drill before it deletes the key material.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from runbook_lib.aws import key_users
from runbook_lib.aws.key_users import AT_REST, GRANT, KeyUser, KeyUsers
from runbook_lib.run.clusters import clusters
from runbook_lib.steps.open_step import OpenStep

_SHOWN = 8


def what_keeps_the_key(
    step: OpenStep, key_arn: str, *, deleted: Collection[tuple[str, str]] = (), ignore_grant_ids: Collection[str] = ()
) -> list[str]:
    """Return what needs the key, apart from what is in `deleted` or is deleted with a cluster in it; [] for nothing.

    A grant counts unless its encryption context names this run's recorded clusters only, or its id is in
    `ignore_grant_ids`. What could not be looked at counts, with the permission that would tell.
    """
    found = key_users.who_uses(step.session, key_arn)
    ours = {cluster.db_cluster_resource_id for cluster in clusters(step.run)} - {""}
    needed = [
        str(user)
        for user in found.users
        if (user.kind, user.name) not in deleted
        and (key_users.CLUSTER, user.deleted_with) not in deleted
        and not (user.kind == GRANT and (user.name in ignore_grant_ids or _is_of(user, ours)))
    ]
    return [*needed, *map(str, found.unread)]


def in_words(keeps: list[str], key_arn: str) -> str:
    """Return what keeps a key as a phrase; a long list is cut, with the command that shows all of it."""
    more = f" and {len(keeps) - _SHOWN} more; all of it: runbook key-users {key_arn}" if len(keeps) > _SHOWN else ""
    return f"still needed by {', '.join(keeps[:_SHOWN])}{more}"


def what_would_stop(step: OpenStep, key_arn: str) -> list[str]:
    """Return what would fail without the key material, apart from the run's own clusters and what only stores data."""
    found: KeyUsers = key_users.who_uses(step.session, key_arn)
    return [*map(str, _others(step, found)), *map(str, found.unread)]


def _others(step: OpenStep, found: KeyUsers) -> Iterator[KeyUser]:
    own = clusters(step.run)
    names = {cluster.db_cluster_identifier for cluster in own}
    ids = {cluster.db_cluster_resource_id for cluster in own} - {""}
    for user in found.users:
        is_own = (
            (user.kind == key_users.CLUSTER and user.name in names) or user.deleted_with in names or _is_of(user, ids)
        )
        if not is_own and user.kind not in AT_REST:
            yield user


def _is_of(user: KeyUser, ids: set[str]) -> bool:
    return user.kind == GRANT and bool(user.resource_ids) and user.resource_ids <= ids
