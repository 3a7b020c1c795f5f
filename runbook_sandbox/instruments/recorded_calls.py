"""The recorded calls, in order: who, when, what, and the outcome, without secrets.

`/runbook/calls` (for tests and learners) and CloudTrail's LookupEvents read them. `dispatch` records requests;
services that act on a caller's behalf (RDS creating a grant) record their events themselves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runbook_sandbox.instruments import clock, ids

CAPACITY = 100_000
HIDDEN = "(hidden)"
_LONGEST = 32_768

# Services whose parameters contain no secrets other than those below. For all others only parameter names are kept.
_KNOWN_SERVICES = frozenset(
    [
        "cloudtrail",
        "cloudwatch",
        "ec2",
        "iam",
        "kms",
        "logs",
        "monitoring",
        "rds",
        "resourcegroupstaggingapi",
        "secretsmanager",
        "sts",
        "tagging",
    ]
)
_SECRET_NAMES = frozenset(
    [
        "plaintext",
        "plaintextkey",
        "ciphertextblob",
        "importtoken",
        "encryptedkeymaterial",
        "message",
        "mac",
        "signature",
        "privatekey",
        "secretstring",
        "secretbinary",
        "userdata",
        "authenticationcode1",
        "authenticationcode2",
        "samlassertion",
        "publickeymaterial",
        "attestationdocument",
    ]
)


@dataclass(frozen=True)
class Call:
    """One request, or one event of a service that acted on a caller's behalf."""

    n: int
    time: datetime
    account: str
    region: str
    service: str
    operation: str
    parameters: Mapping[str, Any]
    status: int
    error_code: str | None
    error_message: str | None = None
    source: str = ""
    resources: Sequence[tuple[str, str]] = ()
    invoked_by: str | None = None
    caller: str = ""
    access_key: str = ""
    read_only: bool = True
    details: Mapping[str, Any] | None = None
    event_id: str = field(default="", repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the call as `/runbook/calls` shows it."""
        return {
            "n": self.n,
            "time": self.time.isoformat(),
            "account": self.account,
            "region": self.region,
            "service": self.service,
            "operation": self.operation,
            "parameters": self.parameters,
            "outcome": {"status": self.status, "code": self.error_code},
            "invoked_by": self.invoked_by,
        }


_lock = threading.Lock()
_calls: deque[Call] = deque(maxlen=CAPACITY)
_number = 0
_listeners: list[Callable[[Call], None]] = []


def listen(listener: Callable[[Call], None]) -> None:
    """Call `listener` with each call from now on, right after it is recorded; once, however often it is given."""
    if listener not in _listeners:
        _listeners.append(listener)


def record(*, event_id: str | None = None, **fields: Any) -> Call:
    """Append one call with the next number, and with the current time and a new event id unless one is given."""
    global _number
    time = fields.pop("time", None) or clock.now()
    event_id = event_id or ids.uuid_for(f"event {fields['operation']}", fields["account"])
    with _lock:
        _number += 1
        call = Call(n=_number, time=time, event_id=event_id, **fields)
        _calls.append(call)
    for listener in _listeners:
        listener(call)
    return call


def record_event(
    account: str,
    region: str,
    *,
    name: str,
    source: str,
    request_parameters: Mapping[str, Any],
    resources: Sequence[tuple[str, str]] = (),
    invoked_by: str | None = None,
) -> Call:
    """Record what a service did on the caller's behalf, as CloudTrail shows it.

    `name` is the event's name (`CreateGrant`), `source` its service (`kms.amazonaws.com`), `resources` pairs of
    type and name (`("AWS::KMS::Key", key_arn)`), `invoked_by` the service that acted (`rds.amazonaws.com`).
    """
    service = source.removesuffix(".amazonaws.com")
    return record(
        account=account, region=region, service=service, operation=name, source=source,
        parameters=redacted(service, request_parameters), status=200, error_code=None,
        resources=tuple(resources), invoked_by=invoked_by, read_only=is_read_only(name),
    )  # fmt: skip


def record_service_event(
    account: str, region: str, *, name: str, key_arn: str, details: Mapping[str, Any], at: datetime
) -> Call:
    """Record what KMS did to a key by itself, `at` the time when it happened, noticed later or not.

    CloudTrail shows such an event with `serviceEventDetails` and without request parameters (KMS guide, ct-rotatekey).
    """
    return record(
        account=account, region=region, service="kms", operation=name, source="kms.amazonaws.com", parameters={},
        status=200, error_code=None, resources=(("AWS::KMS::Key", key_arn),), invoked_by="AWS Internal",
        read_only=False, details=dict(details), time=at,
    )  # fmt: skip


def since(n: int = 0, account: str | None = None) -> list[Call]:
    """Return the calls after number `n`, in order, of one account or all."""
    with _lock:
        return [call for call in _calls if call.n > n and account in (None, call.account)]


def clear(account: str | None = None) -> None:
    """Remove the calls of one account, or all; numbering continues."""
    with _lock:
        kept = [call for call in _calls if account is not None and call.account != account]
        _calls.clear()
        _calls.extend(kept)


def is_read_only(operation: str) -> bool:
    """Return the value of CloudTrail's ReadOnly field for this operation."""
    if operation.startswith("GenerateDataKey") or operation in ("Encrypt", "Decrypt", "ReEncrypt", "Verify"):
        return True
    return operation.startswith(("Describe", "Get", "List", "Lookup", "Simulate", "Verify"))


def redacted(service: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parameters` with secrets hidden; for unknown services all values are hidden."""
    if service not in _KNOWN_SERVICES:
        return {str(name): HIDDEN for name in parameters}
    return {str(name): _redacted(str(name), value) for name, value in parameters.items()}


def _redacted(name: str, value: Any) -> Any:
    lowered = name.lower()
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), inner) for key, inner in value.items()}
    if isinstance(value, bool) or value is None:
        return value
    if lowered in _SECRET_NAMES or lowered.endswith(("password", "token", "tokens", "tokencode")):
        return HIDDEN
    if isinstance(value, (list, tuple)):
        return [_redacted(name, inner) for inner in value]
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and len(value) <= _LONGEST:
        return value
    return HIDDEN
