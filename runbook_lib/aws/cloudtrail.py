"""CloudTrail events of the run: who created, imported and granted, and that Aurora used this key for this cluster.

They confirm the checks independently: the data key's encryption context names the cluster. They are not a check
themselves, because they can be missing without a fault: events arrive up to about 15 minutes late and are kept for 90
days. Sources: CloudTrail LookupEvents; Aurora user guide, Overview.Encryption.Keys (the encryption context).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.aws import kms, rds
from runbook_lib.aws.session import Session
from runbook_lib.run.clusters import finished_clusters
from runbook_lib.run.records import ClusterRecord, KeyRecord, RotationRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CREATE_CLUSTER
from runbook_lib.tables import Table

KEPT = timedelta(days=90)
_MOST_PAGES = 20
_KEY_EVENTS = (
    "CreateKey",
    "GetParametersForImport",
    "ImportKeyMaterial",
    "CreateGrant",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "RotateKeyOnDemand",
    "RotateKey",
)
_CAPTION = "What CloudTrail recorded"
_HEAD = ("", "event", "caller", "request", "time (UTC)", "event ID")
_NAMES = ("outcome", "event", "by", "says", "when", "id")


def events(session: Session, run: Run) -> Table:
    """Return the CloudTrail events of this run's key and cluster, one row per event, oldest first.

    Missing events are listed with the likely reason. Raises `AccessDenied` for a caller without
    cloudtrail:LookupEvents.
    """
    key, cluster = KeyRecord.from_run(run), finished_clusters(run)[0]
    began, ended = _life(session, key, cluster)
    rotations = [
        datetime.fromisoformat(one.rotated_at) for one in RotationRecord.so_far(run).materials if one.rotated_at
    ]
    began, ended = began - timedelta(hours=1), max([ended, *rotations]) + timedelta(hours=1)
    if session.now() - ended > KEPT:
        return Table(_CAPTION, _HEAD, [("expired", "", "", "CloudTrail's event history covers 90 days", "", "")])
    window = {"StartTime": began, "EndTime": ended}
    found = [
        event
        for name, names in ((key.key_arn, _KEY_EVENTS), (cluster.db_cluster_identifier, (_created_by(cluster),)))
        for event in reversed(list(_events(session, name, window)))  # the newest comes first
        if event["eventName"] in names and not event.get("errorCode")
    ]
    resource_id = cluster.db_cluster_resource_id
    rows = [_row(event, resource_id) for event in sorted(found, key=lambda event: str(event["eventTime"]))]
    seen = {event["eventName"] for event in found}
    missing = [name for name in (*_KEY_EVENTS[:4], _created_by(cluster)) if name not in seen]
    missing += [] if seen & set(_KEY_EVENTS[4:6]) else [_KEY_EVENTS[4]]
    rows += [
        ("pending", name, "", "not delivered yet; delivery takes up to about 15 minutes", "", "") for name in missing
    ]
    return Table(_CAPTION, _HEAD, rows)


def _created_by(cluster: ClusterRecord) -> str:
    """Return the event that created a cluster of this run."""
    return "CreateDBCluster" if cluster.step == CREATE_CLUSTER else "RestoreDBClusterFromSnapshot"


def _life(session: Session, key: KeyRecord, cluster: ClusterRecord) -> tuple[datetime, datetime]:
    """Return when AWS created key and cluster, by its own clock, which dates the events too; this machine's may differ."""
    now = session.now()
    described, found = kms.describe(session, key.key_id), rds.find_cluster(session, cluster.db_cluster_identifier)
    same = found is not None and found["DbClusterResourceId"] == cluster.db_cluster_resource_id
    began = described["CreationDate"] if described else now - KEPT
    return min(began, now), max(found["ClusterCreateTime"] if found and same else now, began)


def not_read(reason: str = "read_cloudtrail is false") -> Table:
    """Return the table for a verification that did not read CloudTrail, or was refused."""
    return Table(_CAPTION, _HEAD, [("not read", "", "", reason, "", "")])


def rows_for_json(table: Table) -> list[dict[str, str]]:
    """Return the rows of `events` for report.json: outcome, event, by, says, when, id."""
    return [dict(zip(_NAMES, map(str, row), strict=True)) for row in table.rows]


def from_json(rows: list[dict[str, str]]) -> Table:
    """Return the table of these rows of report.json, without the event IDs, which only the reports hold."""
    return Table(_CAPTION, _HEAD[:-1], [tuple(row[name] for name in _NAMES[:-1]) for row in rows])


def _events(session: Session, resource: str, window: dict[str, datetime]) -> Iterator[dict[str, Any]]:
    pages = session.client("cloudtrail").get_paginator("lookup_events")
    attributes = [{"AttributeKey": "ResourceName", "AttributeValue": resource}]
    for number, page in enumerate(pages.paginate(LookupAttributes=attributes, **window)):
        for event in page["Events"]:
            yield json.loads(event["CloudTrailEvent"])
        if number + 1 == _MOST_PAGES:
            return


def _row(event: dict[str, Any], resource_id: str) -> tuple[str, ...]:
    parameters = event.get("requestParameters") or event.get("serviceEventDetails") or {}
    user = event["userIdentity"]
    by = str(user.get("arn") or user.get("type") or user.get("invokedBy", "")).rpartition(":")[2]
    if user.get("invokedBy"):
        by = f"{by} through {user['invokedBy']}"
    words, when = _words(parameters, resource_id), str(event["eventTime"])
    return "recorded", str(event["eventName"]), by, words, when, str(event.get("eventID", ""))


def _words(parameters: dict[str, Any], resource_id: str) -> str:
    """Return an event's request parameters in words, by their names in the API."""
    constraints = parameters.get("constraints") or {}
    context = (
        parameters.get("encryptionContext")
        or constraints.get("encryptionContextSubset")
        or constraints.get("encryptionContextEquals")
        or {}
    )
    named = str(context.get("aws:rds:dbc-id", ""))
    if named:
        return f"aws:rds:dbc-id is {named}: {'this cluster' if named == resource_id else 'ANOTHER cluster'}"
    shown = ("origin", "wrappingAlgorithm", "wrappingKeySpec", "expirationModel", "validTo", "kmsKeyId", "previousKeyMaterialId",
             "currentKeyMaterialId")  # fmt: skip
    return ", ".join(f"{name} {parameters[name]}" for name in shown if parameters.get(name))
