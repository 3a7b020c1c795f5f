"""Trails of CloudTrail: which of them log the management events that EventBridge passes on to rules.

A rule on API calls hears nothing without such a trail (EventBridge user guide, eb-service-event-cloudtrail). A trail can
leave out the events of KMS (CloudTrail user guide, logging-management-events-with-cloudtrail).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KMS = "kms.amazonaws.com"


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
