"""A place in a room: `seat.json` in a runs folder (mode 0600) has the room's address, the seat and its token.

`runbook seat` writes it for a learner, `runbook room` for the trainer (seat 0). The token is sent as a header to that
address only; it is never in a URL, on a command line or in an environment variable.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from runbook_lib.errors import SandboxUnavailable
from runbook_lib.files import read_private, write_whole

FORMAT = 1
FILE_NAME = "seat.json"
TOKEN_HEADER = "x-runbook-token"  # noqa: S105 - the name of a header
SANDBOX_HEADER = "x-runbook-sandbox-id"


@dataclass(frozen=True)
class Seat:
    """A seat of a room; number 0 is the trainer's."""

    url: str
    seat: int
    token: str = field(repr=False)
    name: str = ""


# By address: the seat that this process has there. A kernel or a command has one.
_here: dict[str, Seat] = {}


def write(runs_dir: Path, seat: Seat) -> None:
    """Write the file, mode 0600. Raises `FileNotWritable`."""
    content = {"format": FORMAT, "url": seat.url, "seat": seat.seat, "token": seat.token, "name": seat.name}
    write_whole(runs_dir / FILE_NAME, (json.dumps(content, indent=1) + "\n").encode())
    remember(seat)


def remember(seat: Seat) -> None:
    """Send the token of `seat` with each request of this process to its address."""
    _here[_origin(seat.url)] = seat


def read(runs_dir: Path) -> Seat | None:
    """Return the seat of this runs folder, or None; its token is sent from now on.

    Raises `PrivateFileUnsafe` for a file that others can read, and `SandboxUnavailable` for a damaged one.
    """
    file = runs_dir / FILE_NAME
    if not file.exists():
        return None
    try:
        found = json.loads(bytes(read_private(file)))
        seat = Seat(str(found["url"]), int(found["seat"]), str(found["token"]), str(found.get("name", "")))
        valid = found["format"] == FORMAT and urlsplit(seat.url).scheme in ("http", "https")
    except (ValueError, LookupError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise SandboxUnavailable(f"{file} is damaged; delete it, then run: runbook seat NUMBER --room URL")
    remember(seat)
    return seat


def seat_at(url: str) -> Seat | None:
    """Return the seat that this process has at the address `url`, or None."""
    return _here.get(_origin(url))


def headers(url: str) -> dict[str, str]:
    """Return the header with the token for requests to `url`; empty outside of a room."""
    seat = seat_at(url)
    return {TOKEN_HEADER: seat.token} if seat else {}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
