"""Runs around every request that moto answers: serialize it per account, record it, and never return an HTML page.

moto gaps: its dictionaries have no locks, it records nothing for CloudTrail, and an operation that it lacks (or a
crash in one that it has) returns a 500 with an HTML page, which SDKs retry and cannot parse. Here both are a 400 that
says so; a crash in the sandbox's own code is a 500 in the service's own format.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import moto.core.responses
from moto.core.responses import BaseResponse
from moto.core.utils import camelcase_to_underscores, method_names_from_class

from runbook_sandbox import wire
from runbook_sandbox.iam import enforcement
from runbook_sandbox.instruments import accounts, recorded_calls

_moto_call_action = BaseResponse.call_action
_locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
_unknown_operation = {"json": "UnknownOperationException", "xml": "InvalidAction", "cbor": "UnknownOperationException"}
# Services whose requests need the account's IAM to be prepared first.
_NEEDS_IAM = frozenset({"iam", "sts", "rds"})


def _names(handler: type) -> list[str]:
    """moto gap: it inspects the handler's whole class on each request."""
    return list(method_names_from_class(handler))


def account_lock(account: str) -> threading.RLock:
    """Return the lock that serializes an account's requests."""
    return _locks[account]


def install() -> None:
    """Wrap moto's call_action; repeated calls have no further effect."""
    vars(moto.core.responses)["method_names_from_class"] = functools.cache(_names)
    BaseResponse.call_action = _call_action  # type: ignore[method-assign,assignment]


def _call_action(response: BaseResponse) -> Any:
    """Answer one request under its account's lock and record it."""
    account = response.current_account
    operation = response._get_action() or "Unknown"
    service = response.service_name or ""
    with account_lock(account):
        if service in _NEEDS_IAM:
            accounts.iam_of(account)
        try:
            refused = enforcement.refusal(response, service, operation) if enforcement.is_enforced(account) else None
            answer = _error(response, *refused) if refused else _moto_call_action(response)
        except NotImplementedError:
            message = f"The sandbox does not implement the operation {operation} of {service}."
            answer = _error(response, 400, _unknown_operation[wire.format_of(response)], message)
        except Exception as error:  # noqa: BLE001 - answered as AWS would, and logged by type
            print(f"{service}:{operation} failed: {type(error).__name__}", file=sys.stderr)
            if _is_motos_own(response, operation):
                message = f"The sandbox does not support {operation} with these parameters."
                answer = _error(response, 400, _unknown_operation[wire.format_of(response)], message)
            else:
                answer = _error(response, 500, "InternalFailure", f"The sandbox failed in {operation}.")
        _record(response, service, operation, answer)
    return answer


def _is_motos_own(response: BaseResponse, operation: str) -> bool:
    """Return whether an operation is moto's own: its crash is then a 400, which SDKs do not retry."""
    method = getattr(response, camelcase_to_underscores(operation), None)
    return str(getattr(method, "__module__", "")).startswith("moto.")


def _error(response: BaseResponse, status: int, code: str, message: str) -> tuple[int, dict[str, str], Any]:
    return wire.error_answer(wire.format_of(response), status, code, message, dict(response.response_headers))


def _record(response: Any, service: str, operation: str, answer: Any) -> None:
    status, headers, body = answer
    code = message = None
    if status >= 400:
        code, message = _code_of(headers, body)
    access_key = response.get_access_key()
    recorded_calls.record(
        account=response.current_account, region=response.region, service=service, operation=operation,
        parameters=recorded_calls.redacted(service, _parameters(response)),
        status=status, error_code=code, error_message=message,
        source=f"{'monitoring' if service == 'cloudwatch' else service}.amazonaws.com",
        resources=_resources(response, service, body if status < 400 else ""),
        caller=accounts.caller(response.current_account, access_key)[1],
        access_key=access_key, read_only=recorded_calls.is_read_only(operation),
        event_id=getattr(response, "runbook_event_id", None),
    )  # fmt: skip


def _parameters(response: Any) -> dict[str, Any]:
    if response.automated_parameter_parsing:
        parsed = getattr(response, "params", None) or {}
        return dict(parsed.original_dict() if hasattr(parsed, "original_dict") else parsed)
    ignored = ("Action", "Version") if wire.format_of(response) == "xml" else ()
    return {name: value for name, value in wire.raw_parameters(response).items() if name not in ignored}


def _code_of(headers: Mapping[str, Any], body: Any) -> tuple[str, str]:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    if (named := re.search(r"<Code>([^<]+)</Code>", text)) is not None:
        text_of_error = re.search(r"<Message>([^<]*)</Message>", text)
        return named[1], text_of_error[1] if text_of_error else ""
    try:
        parsed = json.loads(text)
        code = parsed.get("__type") or headers.get("X-Amzn-ErrorType") or "Unknown"
        return str(code).split("#")[-1], str(parsed.get("message") or parsed.get("Message") or "")
    except (ValueError, AttributeError):
        return str(headers.get("X-Amzn-ErrorType") or "Unknown"), ""


_NAMED_IN_REQUEST = {
    "DBClusterIdentifier": "AWS::RDS::DBCluster",
    "DBInstanceIdentifier": "AWS::RDS::DBInstance",
    "DBClusterSnapshotIdentifier": "AWS::RDS::DBClusterSnapshot",
    "DBSubnetGroupName": "AWS::RDS::DBSubnetGroup",
}
_KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+")


def _resources(response: Any, service: str, body: Any) -> tuple[tuple[str, str], ...]:
    """Return what CloudTrail lists as the call's resources: key ARNs for KMS, identifiers for RDS."""
    if service == "kms":
        found = [arn for arn in (getattr(response, "runbook_key_arn", None),) if arn]
        if isinstance(body, str):
            found += _KEY_ARN.findall(body[:4096])
        return tuple(("AWS::KMS::Key", arn) for arn in dict.fromkeys(found))
    if service == "rds":
        parameters = _parameters(response)
        return tuple((kind, str(parameters[name])) for name, kind in _NAMED_IN_REQUEST.items() if parameters.get(name))
    return ()
