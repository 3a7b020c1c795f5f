"""CloudTrail's LookupEvents, answered from the recorded calls.

moto gap: it has trails but no events. Events are delivered immediately here; on AWS it takes up to about 15 minutes.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import moto.cloudtrail.urls
from moto.cloudtrail.responses import CloudTrailResponse
from moto.core.exceptions import JsonRESTError

from runbook_lib.aws import sandbox_accounts
from runbook_sandbox.instruments import accounts, clock, recorded_calls
from runbook_sandbox.instruments.recorded_calls import Call

_KEPT = timedelta(days=90)
_ATTRIBUTES = ("EventId", "EventName", "ReadOnly", "Username", "ResourceType", "ResourceName", "EventSource",
               "AccessKeyId")  # fmt: skip
# Calls of these services are global, and recorded in us-east-1.
_GLOBAL = ("iam.amazonaws.com",)


def _error(code: str, message: str) -> JsonRESTError:
    return JsonRESTError(code, message)


def _lower_first(value: Any) -> Any:
    """Format parameter names as CloudTrail does: KeyId becomes keyId, DBClusterIdentifier dBClusterIdentifier."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _lower_first(inner) for name, inner in value.items()}
    return [_lower_first(inner) for inner in value] if isinstance(value, list) else value


def _user(call: Call) -> dict[str, Any]:
    if call.details is not None:
        return {"accountId": call.account, "invokedBy": call.invoked_by}
    arn = call.caller or sandbox_accounts.caller_arn(call.account)
    role_id = next(
        (role.id for role in accounts.iam_of(call.account).roles.values() if role.name == sandbox_accounts.ROLE_NAME),
        "",
    )
    user: dict[str, Any] = {"arn": arn, "accountId": call.account}
    if ":assumed-role/" in arn:
        issuer = {"type": "Role", "principalId": role_id, "arn": sandbox_accounts.role_arn(call.account),
                  "accountId": call.account, "userName": arn.split("/")[1]}  # fmt: skip
        user |= {"type": "AssumedRole", "principalId": f"{role_id}:{arn.split('/')[-1]}",
                 "accessKeyId": call.access_key, "sessionContext": {"sessionIssuer": issuer}}  # fmt: skip
    else:
        user |= {"type": "IAMUser", "userName": arn.split("/")[-1], "accessKeyId": call.access_key}
    if call.invoked_by:
        user["invokedBy"] = call.invoked_by
    return user


def event(call: Call) -> dict[str, Any]:
    """Return one recorded call as LookupEvents shows it."""
    detail: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": _user(call),
        "eventTime": call.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": call.source,
        "eventName": call.operation,
        "awsRegion": call.region,
        "sourceIPAddress": call.invoked_by or "127.0.0.1",
        "userAgent": call.invoked_by or "sandbox",
        "requestParameters": _lower_first(dict(call.parameters)) or None,
        "responseElements": None,
        "eventID": call.event_id,
        "readOnly": call.read_only,
        "resources": [{"accountId": call.account, "type": kind, "ARN": name} for kind, name in call.resources],
        "eventType": "AwsApiCall" if call.details is None else "AwsServiceEvent",
        "managementEvent": True,
        "recipientAccountId": call.account,
        "eventCategory": "Management",
    }
    if call.details is not None:
        detail["serviceEventDetails"] = dict(call.details)
    if call.error_code:
        detail |= {"errorCode": call.error_code, "errorMessage": call.error_message or ""}
    return {
        "EventId": call.event_id,
        "EventName": call.operation,
        "ReadOnly": str(call.read_only).lower(),
        "AccessKeyId": call.access_key,
        "EventTime": call.time.timestamp(),
        "EventSource": call.source,
        "Username": detail["userIdentity"].get("arn", "").split("/")[-1],
        "Resources": [{"ResourceType": kind, "ResourceName": name} for kind, name in call.resources],
        "CloudTrailEvent": json.dumps(detail),
    }


def _matches(shown: dict[str, Any], attribute: str, value: str) -> bool:
    if attribute in ("ResourceName", "ResourceType"):
        return any(resource[attribute] == value for resource in shown["Resources"])
    return bool(shown[attribute] == value)


class SandboxCloudTrailResponse(CloudTrailResponse):
    """moto's handler with LookupEvents."""

    def lookup_events(self) -> str:
        attribute = self._attribute()
        start, end = self._time("StartTime"), self._time("EndTime")
        if start and end and start > end:
            raise _error("InvalidTimeRangeException", "StartTime must not be after EndTime.")
        limit = self._get_param("MaxResults", 50)
        if not isinstance(limit, int) or not 1 <= limit <= 50:
            raise _error("InvalidMaxResultsException", "MaxResults must be between 1 and 50.")
        oldest = clock.now() - _KEPT
        found = []
        calls = recorded_calls.since(0, self.current_account)
        for call in sorted(calls, key=lambda call: (call.time, call.n), reverse=True):
            region = "us-east-1" if call.source in _GLOBAL else call.region
            if region != self.region or call.status == 0 or not call.source or call.time < oldest:
                continue
            if (start and call.time < start) or (end and call.time > end):
                continue
            shown = event(call)
            if attribute is None or _matches(shown, *attribute):
                found.append(shown)
        # Pages count from the oldest event, since new events arrive between two pages.
        last = self._last(len(found))
        chosen = found[len(found) - last :][:limit]
        answer: dict[str, Any] = {"Events": chosen}
        if last > limit:
            answer["NextToken"] = base64.b64encode(json.dumps(last - limit).encode()).decode()
        return json.dumps(answer)

    def _attribute(self) -> tuple[str, str] | None:
        wanted = self._get_param("LookupAttributes") or []
        if not wanted:
            return None
        if not isinstance(wanted, list) or len(wanted) != 1 or not isinstance(wanted[0], dict):
            raise _error("InvalidLookupAttributesException", "Specify one lookup attribute.")
        key, value = wanted[0].get("AttributeKey"), wanted[0].get("AttributeValue")
        if key not in _ATTRIBUTES or not isinstance(value, str) or not value:
            raise _error("InvalidLookupAttributesException", f"{key} is not a lookup attribute.")
        return key, value

    def _time(self, name: str) -> datetime | None:
        given = self._get_param(name)
        if given is None:
            return None
        try:
            return datetime.fromtimestamp(given, UTC)
        except (TypeError, ValueError, OverflowError):
            raise _error("InvalidTimeRangeException", f"{name} is not a time.") from None

    def _last(self, available: int) -> int:
        token = self._get_param("NextToken")
        if token is None:
            return available
        try:
            last = json.loads(base64.b64decode(token, validate=True))
            if not isinstance(last, int) or not 0 <= last <= available:
                raise ValueError
        except (ValueError, TypeError, binascii.Error):
            raise _error("InvalidNextTokenException", "NextToken is not valid.") from None
        return last


def install() -> None:
    """Install the handler in moto."""
    moto.cloudtrail.urls.url_paths = {"{0}/$": SandboxCloudTrailResponse.dispatch}
