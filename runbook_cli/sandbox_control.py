"""Control commands for a running sandbox, as `runbook sandbox` sends them: clock, states, faults, messages, seats.

Imports no moto.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import InputError, SandboxUnavailable

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(span: str) -> int:
    """Return the seconds of a time span such as 7d, 25h, 30m or 45s. Raises `InputError`."""
    match = re.fullmatch(r"(-?[0-9]{1,6})([smhd])", span.strip())
    if match is None:
        raise InputError([("span", f"{span!r} is not a time span; give one such as 45s, 30m, 25h or 7d")])
    return int(match[1]) * _SECONDS[match[2]]


def _running(runs_dir: Path) -> str:
    running = sandbox_process.find(runs_dir)
    if running is None:
        raise SandboxUnavailable(f"no sandbox is running for {runs_dir}; start one with runbook run or runbook lab")
    return running.url


def send_command(runs_dir: Path, path: str, body: Any = None, *, method: str = "POST") -> Any:
    """Send a command to the running sandbox; return its JSON response.

    Raises `SandboxUnavailable` when none is running, and `InputError` when the sandbox rejects the command.
    """
    url = _running(runs_dir)
    request = urllib.request.Request(  # noqa: S310 - its scheme is checked before
        url + path,
        data=None if method == "GET" else json.dumps(body).encode(),
        method=method,
        headers=sandbox_process.headers_for(url),
    )
    try:
        with sandbox_process.opener.open(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise InputError([("command", sandbox_process.reason(error))]) from error
    except (OSError, ValueError, RecursionError) as error:
        raise SandboxUnavailable(
            f"the sandbox at {url} did not respond ({error}); start one with runbook run or runbook lab, then repeat the command"
        ) from error


def advance(runs_dir: Path, span: str) -> str:
    """Advance the clock by a time span; return the sandbox's new time."""
    return str(send_command(runs_dir, "/runbook/clock", {"advance_seconds": seconds(span)})["now"])


def set_states(runs_dir: Path, pace: str) -> None:
    """Let states last a time span (20s) or a number of describe calls (3); 0 makes them immediate."""
    if pace == "0":
        command: dict[str, Any] = {"mode": "immediate"}
    elif pace.isascii() and pace.isdigit():
        command = {"mode": "polls", "times": int(pace)}
    else:
        command = {"mode": "seconds", "seconds": seconds(pace)}
    send_command(runs_dir, "/runbook/progression", command)


def inject(runs_dir: Path, operation: str, kind: str, *, count: int, delay: float) -> None:
    """Inject a fault into the next calls of an operation, such as kms:ImportKeyMaterial."""
    command = {"operation": operation, "kind": kind, "count": count, "seconds": delay}
    send_command(runs_dir, "/runbook/faults", command)


def reset_seat(runs_dir: Path, seat: int) -> str:
    """Delete all resources of one seat; return its account id."""
    return str(send_command(runs_dir, f"/runbook/seats/{seat}/reset", {})["account"])


def messages(runs_dir: Path, account: str) -> list[str]:
    """Return one line for each message to an SNS topic: time, topic, subject, text, and why it was not delivered."""
    query = f"?{urllib.parse.urlencode({'account': account})}" if account else ""
    found = send_command(runs_dir, f"/runbook/messages{query}", method="GET")["messages"]
    shown = [(one, f"; NOT DELIVERED: {one['problem']}" if one["problem"] else "") for one in found]
    return [
        f"{one['time']} {one['topic'].rpartition(':')[2]} · {one['subject']} · {_first(one['message'])}{why}"
        for one, why in shown
    ]


def _first(text: str) -> str:
    """Return the beginning of a message in one line."""
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159]}…"
