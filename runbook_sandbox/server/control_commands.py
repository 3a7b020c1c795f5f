"""Control commands and queries under /runbook/: identity, clock, calls, messages, faults, IAM, seats, progression.

Functions from a request to a JSON response; `server` serves them. A reset clears everything here.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from moto.core.base_backend import BackendDict, backend_lock
from moto.moto_api import state_manager

from runbook_lib.aws import sandbox_accounts
from runbook_sandbox import dispatch
from runbook_sandbox.iam import enforcement
from runbook_sandbox.instruments import clock, fault_injection, ids, recorded_calls, visibility_delays
from runbook_sandbox.monitoring import messages, watching
from runbook_sandbox.rds import states

Answer = tuple[int, dict[str, Any]]
_started = datetime.now().astimezone().isoformat()
sandbox_id = str(uuid.uuid4())
_resets: dict[str, int] = {}  # by account: how often it was emptied


def id_for(account: str | None) -> str:
    """Return the sandbox's id as one account has it: emptying the account gives it another one."""
    count = _resets.get(account or "", 0)
    return f"{sandbox_id}-r{count}" if count else sandbox_id


def was_reset(account: str | None, seen: str) -> bool:
    """Return whether an account was emptied since a client saw the sandbox's id `seen`."""
    return seen.startswith(sandbox_id) and seen != id_for(account)


def reset_everything() -> None:
    """Clear what moto's own reset does not include. The sandbox gets a new id."""
    global sandbox_id
    ids.reset()
    recorded_calls.clear()
    messages.forget()
    fault_injection.clear()
    visibility_delays.forget()
    enforcement.disable()
    clock.reset()
    for model in states.MODELS:
        state_manager.unset_transition(model)
    sandbox_id = str(uuid.uuid4())
    _resets.clear()


def reset_seat(seat: int) -> str:
    """Empty the account of a seat, and that of its exercises; return the account. Raises ValueError for no seat."""
    account = sandbox_accounts.account_of_seat(seat)
    for one in sandbox_accounts.accounts_of_seat(seat):
        reset_account(one)
    _resets[account] = _resets.get(account, 0) + 1
    return account


def reset_account(account: str) -> None:
    """Empty one account in every service; other accounts are unchanged."""
    with dispatch.account_lock(account), backend_lock:
        for backends in list(BackendDict._instances):  # type: ignore[misc]
            if account in list(backends.keys()):
                backends[account].reset()
                del backends[account]
        ids.reset(account)
        recorded_calls.clear(account)
        messages.forget(account)
        fault_injection.clear(account)
        visibility_delays.forget(account)
        enforcement.disable(account)


def answer(method: str, path: str, query: dict[str, str], body: Any) -> Answer:
    """Answer a request to /runbook/…; an invalid command is a 400 whose `error` says what is wrong."""
    try:
        for pattern, methods, handler in _ROUTES:
            if (match := re.fullmatch(pattern, path)) is not None:
                if method not in methods:
                    return 405, {"error": f"{path} accepts {', '.join(methods)}, not {method}"}
                return handler(method, query, body, *match.groups())
    except ValueError as error:
        return 400, {"error": str(error)}
    return 404, {"error": f"the sandbox has no path {path}; see docs/sandbox.md"}


def _identity(method: str, query: dict[str, str], body: Any) -> Answer:
    return 200, {
        "sandbox_id": id_for(query.get("account")),
        "pid": os.getpid(),
        "started": _started,
        "now": clock.now().isoformat(),
        "seed": ids.seed(),
        "account": sandbox_accounts.DEFAULT_ACCOUNT,
    }


def _clock(method: str, query: dict[str, str], body: Any) -> Answer:
    if method == "POST":
        _set_clock(body)
        watching.catch_up()
    return 200, {"now": clock.now().isoformat()}


def _set_clock(body: Any) -> None:
    if not isinstance(body, dict) or len(body) != 1 or body.keys() - {"advance_seconds", "now", "reset"}:
        raise ValueError('send {"advance_seconds": N}, {"now": "2027-01-01T00:00:00Z"} or {"reset": true}')
    ((name, value),) = body.items()
    if name == "reset":
        if value is not True:
            raise ValueError(f"reset {value!r} must be true")
        clock.reset()
        return
    if name == "advance_seconds" and (not isinstance(value, (int, float)) or isinstance(value, bool)):
        raise ValueError(f"advance_seconds {value!r} must be a number")
    wanted = _time(value) if name == "now" else None
    try:
        clock.advance(timedelta(seconds=value) if wanted is None else wanted - clock.now())
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} {value!r} must result in a time between the years {clock.FIRST_YEAR} and {clock.LAST_YEAR}"
        ) from error


def _time(text: Any) -> datetime:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"now {text!r} must be a time with a time zone, such as 2027-01-01T00:00:00Z")
    return found


def _calls(method: str, query: dict[str, str], body: Any) -> Answer:
    account = query.get("account")
    if method == "DELETE":
        recorded_calls.clear(account)
    number = query.get("since", "0")
    if not number.isascii() or not number.isdigit():
        raise ValueError(f"since {number!r} must be a whole number, 0 or more")
    found = recorded_calls.since(int(number), account)
    return 200, {"calls": [call.as_json() for call in found]}


def _messages(method: str, query: dict[str, str], body: Any) -> Answer:
    watching.catch_up()
    return 200, {"messages": messages.as_json(query.get("account"))}


def _faults(method: str, query: dict[str, str], body: Any) -> Answer:
    if method == "DELETE":
        fault_injection.clear(query.get("account"))
    elif method == "POST":
        for command in body if isinstance(body, list) else [body]:
            fault_injection.add(command)
    return 200, {"faults": fault_injection.as_json()}


def _iam(method: str, query: dict[str, str], body: Any) -> Answer:
    return 200, enforcement.set_enforcement(body) if method == "POST" else enforcement.as_json()


def _seat_reset(method: str, query: dict[str, str], body: Any, seat: str) -> Answer:
    return 200, {"seat": int(seat), "account": reset_seat(int(seat))}


def _progression(method: str, query: dict[str, str], body: Any) -> Answer:
    if method == "POST":
        for model in states.MODELS:
            state_manager.set_transition(model, _transition(body))
    elif method == "DELETE":
        for model in states.MODELS:
            state_manager.unset_transition(model)
    return 200, {model: state_manager.get_transition(model) for model in states.MODELS}


def _transition(body: Any) -> dict[str, Any]:
    mode = body.get("mode") if isinstance(body, dict) else None
    if mode == "polls" and isinstance(times := body.get("times"), int) and times >= 0:
        return {"progression": "manual", "times": times}
    if mode == "seconds" and isinstance(seconds := body.get("seconds"), (int, float)) and seconds >= 0:
        return {"progression": "time", "seconds": seconds}
    if mode == "immediate":
        return {"progression": "immediate"}
    raise ValueError('send {"mode": "polls", "times": N}, {"mode": "seconds", "seconds": N} or {"mode": "immediate"}')


_ROUTES: tuple[tuple[str, tuple[str, ...], Callable[..., Answer]], ...] = (
    (r"/runbook/identity", ("GET",), _identity),
    (r"/runbook/clock", ("GET", "POST"), _clock),
    (r"/runbook/calls", ("GET", "DELETE"), _calls),
    (r"/runbook/messages", ("GET",), _messages),
    (r"/runbook/faults", ("GET", "POST", "DELETE"), _faults),
    (r"/runbook/iam", ("GET", "POST"), _iam),
    (r"/runbook/seats/(\d+)/reset", ("POST",), _seat_reset),
    (r"/runbook/progression", ("GET", "POST", "DELETE"), _progression),
)


def read_json(raw: bytes) -> Any:
    """Return a body's JSON, None for an empty one. Raises ValueError if it is not JSON."""
    return json.loads(raw) if raw.strip() else None
