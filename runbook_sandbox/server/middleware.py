"""Runs before moto's application: access control, control commands, injected faults.

A sandbox has no passwords, so it answers only programs on this machine, or those that can reach the address that
`--host` names. A Host header with another name than its own (DNS rebinding) and an Origin header of another site (a web
page in the user's browser) are rejected.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from moto.moto_api._internal import mock_random

from runbook_lib.aws.sandbox_accounts import ACCOUNT_HEADER, DEFAULT_ACCOUNT
from runbook_lib.aws.sandbox_process import HOST_VARIABLE, ROOM_REFUSED, SEAT_WAS_RESET, is_loopback
from runbook_lib.aws.seat_file import SANDBOX_HEADER
from runbook_sandbox import wire
from runbook_sandbox.instruments import fault_injection, ids, recorded_calls, visibility_delays
from runbook_sandbox.server import control_commands

_ACCOUNT_KEY = "HTTP_" + ACCOUNT_HEADER.upper().replace("-", "_")
_SANDBOX_KEY = "HTTP_" + SANDBOX_HEADER.upper().replace("-", "_")
_RESET = (
    "the trainer has reset this seat: its account is empty, and this run has ended; run 00 again, which starts a new run, "
    "and continue with 01"
)
_SCOPE = re.compile(r"Credential=[^/]*/[^/]*/([^/]+)/([^/]+)/")
_REASONS = {200: "OK", 400: "BAD REQUEST", 403: "FORBIDDEN", 404: "NOT FOUND", 405: "METHOD NOT ALLOWED"}
_LARGEST_BODY = 16 * 1024 * 1024


class Walls(Protocol):
    """What a room adds (`runbook_sandbox.room`): the only names that are answered, tokens, and pages."""

    names: frozenset[str]
    pages: Callable[..., Iterable[bytes]]

    def has_page(self, path: str) -> bool:
        """Return whether `pages` answers this path."""

    def refusal(self, environ: dict[str, Any], body: bytes) -> str | None:
        """Return why any other request is refused, or None."""


class Gate:
    """A WSGI application that wraps moto's."""

    def __init__(self, application: Callable[..., Iterable[bytes]], *, host: str, room: Walls | None = None) -> None:
        self.application = application
        self._room = room
        self._names = set() if is_loopback(host) else _own_names(host)
        self.last_request = time.monotonic()
        self.on_stop: Callable[[], None] | None = None
        self.on_new_identity: Callable[[], None] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.last_request = time.monotonic()
        path = environ.get("PATH_INFO", "")
        if (refusal := self._refusal(environ)) is not None:
            return _json(start_response, 403, {"error": refusal})
        if self._room is not None:
            if self._room.has_page(path):
                return self._room.pages(environ, start_response)
            if (refusal := self._room.refusal(environ, _body(environ))) is not None:
                return self._refused(environ, start_response, 403, ROOM_REFUSED, refusal)
        account = environ.get(_ACCOUNT_KEY)
        if account is not None and not re.fullmatch(r"[0-9]{12}", account):
            return _json(start_response, 400, {"error": f"{ACCOUNT_HEADER} {account!r} must have 12 digits"})
        if path.startswith("/runbook/"):
            return self._control(environ, start_response, path)
        if path.startswith("/moto-api/"):
            return self._moto_control(environ, start_response, path)
        if (sent := environ.get(_SANDBOX_KEY)) is not None and control_commands.was_reset(account, sent):
            return self._refused(environ, start_response, 400, SEAT_WAS_RESET, _RESET)
        if (code := _unreadable(environ)) is not None:
            wire_format = "json" if "HTTP_X_AMZ_TARGET" in environ else "xml"
            status, headers, answer = wire.error_answer(wire_format, 400, code, "The request's body cannot be parsed.")
            return _answer(start_response, status, headers, answer)
        if fault_injection.pending() or visibility_delays.pending():
            return _with_faults(self.application, environ, start_response)
        return self.application(environ, start_response)

    def _refused(
        self, environ: dict[str, Any], start_response: Any, status: int, code: str, message: str
    ) -> Iterable[bytes]:
        """Refuse a request in its own wire format, so that each client shows the reason."""
        if "HTTP_X_AMZ_TARGET" not in environ and "HTTP_AUTHORIZATION" not in environ:
            return _json(start_response, status, {"error": message})
        return _answer(start_response, *wire.error_answer(_wire_format(environ), status, code, message))

    def _refusal(self, environ: dict[str, Any]) -> str | None:
        host = environ.get("HTTP_HOST", "")
        name = _name_in(host)
        if self._room is not None and name not in self._room.names:
            return f"this room serves {', '.join(sorted(self._room.names))}; the Host header names {name or 'no host'}"
        if self._room is None and not (is_loopback(name) or name.endswith(".localhost") or self._is_own(name)):
            serves = f"{', '.join(sorted(self._names))} and addresses" if self._names else "this machine only"
            return f"the sandbox serves {serves}; the Host header names {name or 'no host'}"
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin.partition("://")[2] != host:
            return f"the sandbox does not answer web pages of other sites; the Origin header is {origin}"
        return None

    def _is_own(self, name: str) -> bool:
        """Return whether a server that serves a network has this name; an address cannot be rebound."""
        return bool(self._names) and (name in self._names or _is_address(name))

    def _control(self, environ: dict[str, Any], start_response: Any, path: str) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        try:
            body = control_commands.read_json(_body(environ))
        except ValueError as error:
            return _json(start_response, 400, {"error": f"the body is not JSON: {error}"})
        if path == "/runbook/stop":
            if method != "POST" or not isinstance(body, dict) or body.get("sandbox_id") != control_commands.sandbox_id:
                return _json(
                    start_response,
                    400,
                    {"error": 'to stop the sandbox, POST {"sandbox_id": …} with the id from /runbook/identity'},
                )
            if self.on_stop is not None:
                self.on_stop()
            return _json(start_response, 200, {"stopping": self.on_stop is not None})
        query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
        if path == "/runbook/identity" and _ACCOUNT_KEY in environ:
            query["account"] = environ[_ACCOUNT_KEY]
        status, answer = control_commands.answer(method, path, query, body)
        return _json(start_response, status, answer)

    def _moto_control(self, environ: dict[str, Any], start_response: Any, path: str) -> Iterable[bytes]:
        """Let moto answer; its reset and seed apply to the sandbox too."""
        posted = environ["REQUEST_METHOD"] == "POST"
        query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
        answer = self.application(environ, start_response)
        if path == "/moto-api/reset" and posted:
            control_commands.reset_everything()
            if ids.seed() is not None:
                mock_random.seed(ids.seed())
            if self.on_new_identity is not None:
                self.on_new_identity()
        elif path == "/moto-api/seed" and posted and re.fullmatch(r"-?\d{1,18}", query.get("a", "")):
            ids.configure(int(query["a"]))
        return answer


def _name_in(host: str) -> str:
    """Return the name in a Host header, in lower case; "" for what is none."""
    try:
        return urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _own_names(host: str) -> set[str]:
    """Return the names of this server: that of `--host`, the machine's, and RUNBOOK_SANDBOX_HOST."""
    machine = socket.gethostname().lower()
    names = {host.lower(), machine, f"{machine}.local", os.environ.get(HOST_VARIABLE, "").lower()}
    return {name for name in names if name and not _is_address(name)} | {host.lower()}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _json(start_response: Any, status: int, answer: dict[str, Any]) -> list[bytes]:
    data = json.dumps(answer).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    start_response(f"{status} {_REASONS.get(status, '')}", headers)
    return [data]


def _answer(start_response: Any, status: int, headers: dict[str, str], body: str) -> list[bytes]:
    headers.pop("status", None)
    start_response(f"{status} {_REASONS.get(status, 'ERROR')}", [*headers.items(), ("Content-Length", str(len(body)))])
    return [body.encode()]


def _unreadable(environ: dict[str, Any]) -> str | None:
    """Return the error code for a body that is not text or, where required, not JSON (or nested too deeply).

    moto gap: such bodies return a 500 HTML page, outside its error handling.
    """
    json_is_due = "HTTP_X_AMZ_TARGET" in environ
    if not json_is_due and "x-www-form-urlencoded" not in environ.get("CONTENT_TYPE", ""):
        return None
    try:
        text = _body(environ).decode()
        if json_is_due:
            json.loads(text or "{}")
    except (ValueError, RecursionError):
        return "SerializationException" if json_is_due else "MalformedInput"
    return None


def _body(environ: dict[str, Any]) -> bytes:
    """Read the request's body, and leave it readable for moto."""
    try:
        length = min(int(environ.get("CONTENT_LENGTH") or 0), _LARGEST_BODY)
    except ValueError:
        length = 0
    data: bytes = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = io.BytesIO(data)
    return data


def _wire_format(environ: dict[str, Any]) -> str:
    if "HTTP_X_AMZ_TARGET" in environ:
        return "json"
    return "cbor" if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor" else "xml"


def _describe(environ: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return account, region, service, operation and wire format of an AWS request."""
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    region, service = (scope[1], scope[2]) if scope else ("us-east-1", "unknown")
    account = environ.get(_ACCOUNT_KEY, DEFAULT_ACCOUNT)
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        return account, region, service, target.rsplit(".", 1)[-1], "json"
    if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor":
        named = {"monitoring": "cloudwatch"}.get(service, service)
        return account, region, named, environ.get("PATH_INFO", "").rpartition("/operation/")[2], "cbor"
    form = urllib.parse.parse_qs(_body(environ).decode(errors="replace"))
    form = form or urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    return account, region, service, form.get("Action", ["Unknown"])[0], "xml"


def _with_faults(
    application: Callable[..., Iterable[bytes]], environ: dict[str, Any], start_response: Any
) -> Iterable[bytes]:
    account, region, service, operation, wire_format = _describe(environ)
    due = fault_injection.take(f"{service}:{operation}", account)
    for fault in due:
        if fault.kind == "latency":
            time.sleep(fault.seconds)
    for fault in due:
        if fault.kind in ("throttle", "error", "drop_before"):
            status, code = _fault_error(fault, service, wire_format)
            recorded_calls.record(
                account=account, region=region, service=service, operation=operation, parameters={},
                status=0 if fault.kind == "drop_before" else status,
                error_code="ConnectionDropped" if fault.kind == "drop_before" else code,
                source=f"{service}.amazonaws.com", read_only=recorded_calls.is_read_only(operation),
            )  # fmt: skip
            if fault.kind == "drop_before":
                _drop(environ)
            status, headers, body = wire.error_answer(
                wire_format, status, code, f"Fault injected into {operation} ({fault.kind})."
            )
            return _answer(start_response, status, headers, body)
    if (unseen := visibility_delays.answer(account, f"{service}:{operation}", wire_format)) is not None:
        return _answer(start_response, *unseen)
    answer = application(environ, start_response)
    for fault in due:
        if fault.kind == "invisible":
            visibility_delays.hide(account, f"{service}:{operation}", fault.seconds)
    if any(fault.kind == "drop_after" for fault in due):
        for _ in answer:
            pass
        _drop(environ)
    return answer


def _fault_error(fault: fault_injection.Fault, service: str, wire_format: str) -> tuple[int, str]:
    if fault.kind == "throttle":
        return 400, "Throttling" if wire_format == "xml" else "ThrottlingException"
    return fault.status, fault.code or ("KMSInternalException" if service == "kms" else "InternalFailure")


def _drop(environ: dict[str, Any]) -> None:
    """Close the connection without a response; werkzeug treats a ConnectionError as a client that disconnected."""
    connection: socket.socket | None = environ.get("werkzeug.socket")
    if connection is not None:
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("connection dropped by an injected fault")
