"""The sandbox as a process of its own: find it, start it, stop it.

One sandbox per runs folder. The file `sandbox.json` in that folder holds its address; it counts only while the
sandbox at that address responds with the same id. Imports no moto.
"""

from __future__ import annotations

import http.client
import importlib.util
import ipaddress
import json
import os
import re
import site
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from runbook_lib.aws import seat_file
from runbook_lib.aws.sandbox_accounts import ACCOUNT_HEADER, account_of_seat
from runbook_lib.errors import SandboxUnavailable

FORMAT = 1
FILE_NAME = "sandbox.json"
LOG_NAME = "sandbox.log"
ENDPOINT_VARIABLE = "RUNBOOK_SANDBOX_ENDPOINT"
HOST_VARIABLE = "RUNBOOK_SANDBOX_HOST"
SEED_VARIABLE = "RUNBOOK_SANDBOX_SEED"
SEAT_WAS_RESET = "SeatWasReset"  # the error code of a request that a run from before the reset sends
ROOM_REFUSED = "RoomRefused"  # that of a request without the right token
# What an interpreter and its libraries need: no credentials, passwords or tokens, since the process outlives its caller.
# HOME leads to the files of AWS, so it is replaced; packages that were installed for the user are found without it.
_KEPT = re.compile(
    r"PYTHON\w*|VIRTUAL_ENV|COVERAGE_\w+|PATH|TMPDIR|TZ|LANG|LANGUAGE|LC_\w+|LD_\w+|DYLD_\w+|OPENSSL_\w+"
    r"|GLIBC_TUNABLES|MALLOC_\w+|MOTO_\w+|RUNBOOK_SANDBOX_\w+"
)
_START_TIMEOUT = 30.0
# A stopped sandbox refuses at once; one that serves thirty learners may respond slowly.
_ANSWER_TIMEOUT = 60.0
# The sandbox is always reached directly, whatever proxy the machine has; a redirect could lead to another machine.
opener = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.HTTPDefaultErrorHandler,
):
    opener.add_handler(_handler())


@dataclass(frozen=True)
class Sandbox:
    """The URL and the id of a sandbox, as this seat has it; resetting all of it, or the seat, gives it another id."""

    url: str
    sandbox_id: str


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address, can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def headers_for(url: str) -> dict[str, str]:
    """Return the headers of a control request to `url`: its account, if this process has a seat, and the seat's token."""
    place, given = seat_file.seat_at(url), os.environ.get("RUNBOOK_SEAT", "")
    seat = place.seat if place else int(given) if re.fullmatch(r"[0-9]{1,4}", given) else 0
    account = {ACCOUNT_HEADER: account_of_seat(seat)} if seat else {}
    return {"Content-Type": "application/json", **account, **seat_file.headers(url)}


def seen_as(sandbox_id: str, url: str, account_id: str) -> dict[str, str]:
    """Return the header that says which id of the sandbox an account has seen; only this process's own seat has one."""
    own = headers_for(url).get(ACCOUNT_HEADER) if sandbox_id else None
    return {seat_file.SANDBOX_HEADER: sandbox_id} if own and own == account_id else {}


def reason(error: urllib.error.HTTPError) -> str:
    """Return why the sandbox refused a request, as its response says."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return f"the sandbox answered {error}"


def call(url: str, path: str, *, body: object = None, method: str = "GET", timeout: float = _ANSWER_TIMEOUT) -> Any:
    """Call a control endpoint (`/runbook/…`) of the sandbox at `url`; return its JSON.

    Raises `SandboxUnavailable` when no sandbox responds there.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - its scheme is checked before
        url.rstrip("/") + path, data=data, method=method, headers=headers_for(url)
    )
    try:
        with opener.open(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise SandboxUnavailable(f"no sandbox answers at {url}: {reason(error)}") from error
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        raise SandboxUnavailable(f"no sandbox answers at {url}: {error}") from error


def identify(url: str, *, timeout: float = _ANSWER_TIMEOUT) -> Sandbox:
    """Return the sandbox at `url`. Raises `SandboxUnavailable` when it is not a sandbox."""
    answer = call(url, "/runbook/identity", timeout=timeout)
    if not isinstance(answer, dict) or not isinstance(answer.get("sandbox_id"), str):
        raise SandboxUnavailable(f"the server at {url} is not a sandbox of this runbook")
    return Sandbox(url=url.rstrip("/"), sandbox_id=answer["sandbox_id"])


def find(runs_dir: Path) -> Sandbox | None:
    """Return the sandbox that is running for this runs folder, or None.

    `RUNBOOK_SANDBOX_ENDPOINT` takes precedence over the folder, and the folder's seat in a room over its own sandbox.
    Its host must be a loopback address or equal `RUNBOOK_SANDBOX_HOST`; so must that of the URL in sandbox.json. Raises
    `SandboxUnavailable` when it is neither, or the endpoint does not respond.
    """
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "").strip()
    seat = seat_file.read(runs_dir)
    if seat is not None and not endpoint:
        return _room(seat, runs_dir)
    if endpoint:
        _check_endpoint(endpoint, f"{ENDPOINT_VARIABLE}={endpoint}", "correct or unset it")
        return identify(endpoint)
    noted = _read(runs_dir)
    if noted is None:
        return None
    try:
        found = identify(noted["url"])
    except SandboxUnavailable:
        return None
    return found if base_id(found.sandbox_id) == noted["sandbox_id"] else None


def _room(seat: seat_file.Seat, runs_dir: Path) -> Sandbox:
    """Return the room's sandbox. `runbook seat` named its host, so that it may be another machine."""
    try:
        return identify(seat.url)
    except SandboxUnavailable as error:
        raise SandboxUnavailable(
            f"{error}; ask the trainer, or leave the room: delete {runs_dir / seat_file.FILE_NAME}"
        ) from error


def base_id(sandbox_id: str) -> str:
    """Return the id of a sandbox without the number of times that one of its seats was reset."""
    return sandbox_id.partition("-r")[0]


def ensure(runs_dir: Path, *, idle_minutes: float = 30) -> Sandbox:
    """Return the sandbox of this runs folder; start one, detached from this process, if there is none.

    Raises `SandboxUnavailable` when moto is not installed, or the sandbox does not start.
    """
    running = find(runs_dir)
    if running is not None:
        return running
    try:
        runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with filelock.FileLock(runs_dir / ".sandbox.lock", timeout=_START_TIMEOUT, mode=0o600):
            return find(runs_dir) or _start(runs_dir.resolve(), idle_minutes)
    except filelock.Timeout as error:
        raise SandboxUnavailable(
            f"another process has been starting a sandbox in {runs_dir} for {_START_TIMEOUT:.0f} s; try again"
        ) from error
    except OSError as error:
        raise SandboxUnavailable(f"cannot start a sandbox in {runs_dir}: {error}") from error


def stop(runs_dir: Path) -> bool:
    """Stop the sandbox of this runs folder, and discard its state; return whether one was running."""
    noted = _read(runs_dir)
    stopped = False
    if noted is not None:
        try:
            call(noted["url"], "/runbook/stop", body={"sandbox_id": noted["sandbox_id"]}, method="POST")
            stopped = True
        except SandboxUnavailable as error:
            # Answer cut off: it ended before the answer was complete. Otherwise it was stopped already, or another sandbox
            # uses its port.
            stopped = isinstance(error.__cause__, http.client.IncompleteRead | ConnectionResetError)
    for _ in range(100):
        if not stopped or _has_stopped(noted):
            break
        time.sleep(0.05)
    (runs_dir / FILE_NAME).unlink(missing_ok=True)
    return stopped


def _has_stopped(noted: dict[str, Any] | None) -> bool:
    try:
        return noted is None or base_id(identify(noted["url"]).sandbox_id) != noted["sandbox_id"]
    except SandboxUnavailable:
        return True


def _check_endpoint(endpoint: str, named: str, cure: str) -> None:
    """Raise `SandboxUnavailable` unless this URL is on this machine, or of the host that was allowed explicitly."""
    try:
        parts = urllib.parse.urlsplit(endpoint)
        host, valid = parts.hostname or "", parts.port != 0 and parts.username is None
    except ValueError:
        host, valid = "", False
    if not valid or not host or parts.scheme not in ("http", "https"):
        raise SandboxUnavailable(f"{named} is not a URL such as http://127.0.0.1:5000; {cure}")
    if not is_loopback(host) and host != os.environ.get(HOST_VARIABLE):
        raise SandboxUnavailable(
            f"{named} is not on this machine; {cure}, or to use it anyway, set {HOST_VARIABLE}={host} as well"
        )


def _read(runs_dir: Path) -> dict[str, Any] | None:
    """Return the content of sandbox.json, or None if it is missing, damaged or of another format.

    Raises `SandboxUnavailable` for a URL that is not on this machine.
    """
    file = runs_dir / FILE_NAME
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(noted, dict) or noted.get("format") != FORMAT:
        return None
    if not all(isinstance(noted.get(name), str) for name in ("url", "sandbox_id")):
        return None
    _check_endpoint(noted["url"], f"the url {noted['url']!r} in {file}", f"delete {file}")
    return noted


def require_installed() -> None:
    """Raise `SandboxUnavailable` unless the sandbox's packages are installed."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        raise SandboxUnavailable(
            "the sandbox needs moto, which is not installed; run: pip install 'aurora-byok-runbook[sandbox]'"
        )


def _start(runs_dir: Path, idle_minutes: float) -> Sandbox:
    require_installed()
    (runs_dir / FILE_NAME).unlink(missing_ok=True)
    log = runs_dir / LOG_NAME
    command = [sys.executable, "-m", "runbook_sandbox", "--runs-dir", str(runs_dir)]
    command += ["--idle-minutes", str(idle_minutes)]
    package_parent = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    environment["PYTHONPATH"] = package_parent + (os.pathsep + inherited if inherited else "")
    environment |= {"HOME": os.devnull, "PYTHONUSERBASE": site.getuserbase()}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, cwd="/", env=environment,
        )  # fmt: skip
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if _read(runs_dir) is not None and (sandbox := find(runs_dir)) is not None:
            # The child outlives this process on purpose; without this, Python warns that it still runs.
            child.returncode = 0
            return sandbox
        if child.poll() is not None:
            break
        time.sleep(0.02)
    else:
        child.terminate()
    raise SandboxUnavailable(f"the sandbox did not start: {_last_line(log)} (see {log})")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
