"""EventBridge: what KMS and CloudTrail tell the default event bus, and the rules that publish it to SNS topics.

moto gap: KMS sends no events, calls are not passed on, and a rule has no topic as target. KMS's own events need no trail
(KMS developer guide, kms-events). Calls and service events reach the bus only if a trail logs them in this Region; a rule in
state ENABLED does not hear calls that only read, one in ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS does (EventBridge user
guide, eb-service-event-cloudtrail-management).
"""

from __future__ import annotations

import json
from typing import Any

from moto.cloudtrail.models import cloudtrail_backends
from moto.events.models import Rule, events_backends

from runbook_lib.aws import trails
from runbook_sandbox.instruments import ids
from runbook_sandbox.instruments.recorded_calls import Call
from runbook_sandbox.monitoring import cloudtrail, messages

_FROM_KMS = {
    "DeleteExpiredKeyMaterial": "KMS Imported Key Material Expiration", "DeleteKey": "KMS CMK Deletion",
    "RotateKey": "KMS CMK Rotation",
}  # fmt: skip
_EVERYTHING = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"


def everywhere() -> list[tuple[str, str]]:
    """Return each account and Region that has rules."""
    backends = [(account, list(regions.items())) for account, regions in list(events_backends.items())]
    return [(account, region) for account, found in backends for region, _ in found if _rules(account, region)]


def _rules(account: str, region: str) -> list[Rule]:
    backend = dict.get(events_backends[account], region) if account in events_backends else None
    return list(backend.event_buses["default"].rules.values()) if backend is not None else []


def hear(call: Call) -> None:
    """Pass a recorded call on to the rules of its account and Region. The caller holds the account's lock."""
    if not (rules := [rule for rule in _rules(call.account, call.region) if rule.state != "DISABLED"]):
        return
    if call.details is not None and call.operation in _FROM_KMS:
        event = _event(call, _FROM_KMS[call.operation], _kms_detail(call), [name for _, name in call.resources])
        _send(rules, event, call)
    if call.status == 0 or not call.source or not _is_logged(call):
        return
    kind = "AWS API Call via CloudTrail" if call.details is None else "AWS Service Event via CloudTrail"
    event = _event(call, kind, json.loads(cloudtrail.event(call)["CloudTrailEvent"]), [])
    _send([rule for rule in rules if not call.read_only or rule.state == _EVERYTHING], event, call)


def _is_logged(call: Call) -> bool:
    """Return whether a trail logs this call in its Region, so that EventBridge gets it."""
    found = [trail for backend in list(cloudtrail_backends[call.account].values()) for trail in backend.trails.values()]
    return any(
        (trail.is_multi_region or trail.region_name == call.region)
        and trail.status.is_logging
        and trails.logs(
            trail.event_selectors, trail.advanced_event_selectors, source=call.source, read_only=call.read_only
        )
        for trail in found
    )


def _kms_detail(call: Call) -> dict[str, Any]:
    """Return `detail` of an event of KMS itself: names with hyphens, and material ids for a rotation only."""
    details = dict(call.details or {})
    if call.operation != "RotateKey":
        return {"key-id": details["keyId"]}
    return {
        "key-id": details["keyId"], "key-origin": details["keyOrigin"], "rotation-type": details["rotationType"],
        "previous-key-material-id": details["previousKeyMaterialId"],
        "current-key-material-id": details["currentKeyMaterialId"],
    }  # fmt: skip


def _event(call: Call, kind: str, detail: dict[str, Any], resources: list[str]) -> dict[str, Any]:
    return {
        "version": "0", "id": ids.uuid_for("bus-event", call.account), "detail-type": kind,
        "source": f"aws.{call.source.removesuffix('.amazonaws.com')}", "account": call.account,
        "time": call.time.strftime("%Y-%m-%dT%H:%M:%SZ"), "region": call.region, "resources": resources, "detail": detail,
    }  # fmt: skip


def _send(rules: list[Rule], event: dict[str, Any], call: Call) -> None:
    matching: Any = event
    for rule in rules:
        if not rule.event_pattern.get_pattern() or not rule.event_pattern.matches_event(matching):
            continue
        for target in rule.targets:
            if ":sns:" in target["Arn"]:
                messages.deliver(
                    call.account, target["Arn"], service=messages.EVENTS, source_arn=rule.arn,
                    subject="AWS Notification Message", message=_input(target, event), at=call.time,
                )  # fmt: skip


def _input(target: dict[str, Any], event: dict[str, Any]) -> str:
    """Return what a target gets: the event, a part of it, a constant, or a template with values of it filled in."""
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return json.dumps(_at(event, target["InputPath"]))
    if "InputTransformer" not in target:
        return json.dumps(event)
    text = str(target["InputTransformer"]["InputTemplate"])
    for name, path in target["InputTransformer"].get("InputPathsMap", {}).items():
        value = _at(event, path)
        shown = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        text = text.replace(f"<{name}>", shown)
    return text


def _at(event: Any, path: str) -> Any:
    """Return the value at a path such as `$.detail.eventName`, or None."""
    for name in path.removeprefix("$").split(".")[1:]:
        event = event.get(name) if isinstance(event, dict) else None
    return event
