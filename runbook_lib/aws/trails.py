"""Trails of CloudTrail: which of them log the management events that EventBridge passes on to rules.

A rule on API calls hears nothing without such a trail (EventBridge user guide, eb-service-event-cloudtrail). A trail can
leave out the events of KMS (CloudTrail user guide, logging-management-events-with-cloudtrail).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.session import Session

KMS = "kms.amazonaws.com"
_GONE = ("TrailNotFoundException", "CloudTrailARNInvalidException")


def logs(
    selectors: Sequence[Mapping[str, Any]], advanced: Sequence[Mapping[str, Any]], *, source: str, read_only: bool
) -> bool:
    """Return whether a trail with these event selectors logs the management events of a service.

    Without any selector, a trail logs all management events (CloudTrail API, PutEventSelectors).
    """
    if selectors:
        return any(_basic(one, source, read_only) for one in selectors)
    return any(_advanced(one, source, read_only) for one in advanced) if advanced else True


def _basic(selector: Mapping[str, Any], source: str, read_only: bool) -> bool:
    wanted = selector.get("ReadWriteType", "All")
    kinds = ("All", "ReadOnly" if read_only else "WriteOnly")
    left_out = selector.get("ExcludeManagementEventSources") or ()
    return selector.get("IncludeManagementEvents", True) is True and wanted in kinds and source not in left_out


def _advanced(selector: Mapping[str, Any], source: str, read_only: bool) -> bool:
    facts = {"eventCategory": "Management", "readOnly": str(read_only).lower(), "eventSource": source}
    return all(
        field["Field"] in facts and _matches(field, facts[field["Field"]]) for field in selector["FieldSelectors"]
    )


def _matches(field: Mapping[str, Any], value: str) -> bool:
    """Return whether a value passes a field selector; its operators are all required."""
    return (
        (not field.get("Equals") or value in field["Equals"])
        and value not in (field.get("NotEquals") or ())
        and (not field.get("StartsWith") or value.startswith(tuple(field["StartsWith"])))
        and not value.startswith(tuple(field.get("NotStartsWith") or ()) or ("\0",))
        and (not field.get("EndsWith") or value.endswith(tuple(field["EndsWith"])))
        and not value.endswith(tuple(field.get("NotEndsWith") or ()) or ("\0",))
    )


def logging_kms(session: Session) -> tuple[list[str], list[str]]:
    """Return the trails that log the events of KMS in this Region: those with changes, and those with reads.

    Trails of other Regions for all Regions count, and those of the organization. One that is deleted meanwhile is left out.
    """
    client, writes, reads = session.client("cloudtrail"), [], []
    for trail in client.describe_trails(includeShadowTrails=True)["trailList"]:
        arn = trail["TrailARN"]
        try:
            if not client.get_trail_status(Name=arn)["IsLogging"]:
                continue
            found = session.client("cloudtrail", region=trail["HomeRegion"]).get_event_selectors(TrailName=arn)
        except ClientError as error:
            if error_code(error) not in _GONE:
                raise
            continue
        chosen = (found.get("EventSelectors") or [], found.get("AdvancedEventSelectors") or [])
        writes += [trail["Name"]] if logs(*chosen, source=KMS, read_only=False) else []
        reads += [trail["Name"]] if logs(*chosen, source=KMS, read_only=True) else []
    return writes, reads
