"""The tokens of a room: one for the trainer, one for each seat; kept in files of mode 0600, so that a restart keeps them."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from runbook_lib.errors import SandboxUnavailable
from runbook_lib.files import private_folder, read_private, write_whole

FOLDER, FILE, SLIPS = "_room", "room.json", "slips.txt"
TRAINER = 0
_FORMAT = 1
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that a reader takes for another one


class Tokens:
    """Who a token belongs to; compared in constant time, and with every token."""

    def __init__(self, tokens: Mapping[int, str]) -> None:
        self.seats = sorted(number for number in tokens if number != TRAINER)
        self._digests = {number: _digest(token) for number, token in tokens.items()}

    def owner(self, token: str) -> int | None:
        """Return the seat of a token (TRAINER is 0), or None. Capitals, blanks and hyphens do not count."""
        given, found = _digest(token), None
        for number, digest in self._digests.items():
            if hmac.compare_digest(digest, given):
                found = number
        return found


def _digest(token: str) -> bytes:
    return sha256("".join(token.split()).replace("-", "").lower().encode(errors="replace")).digest()


def draw() -> str:
    """Return a new token: 16 letters and digits (79 bits) in groups of four, which a person can type."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(4))


def load(runs_dir: Path, seats: int) -> dict[int, str]:
    """Return the tokens of this folder's room for the trainer and seats 1 to `seats`; draw those that are missing.

    Raises `SandboxUnavailable` for a damaged file, `PrivateFileUnsafe` and `FileNotWritable`.
    """
    folder = private_folder(runs_dir / FOLDER, parents=True)
    file, known = folder / FILE, {}
    if file.exists():
        try:
            noted = json.loads(bytes(read_private(file)))["tokens"]
            known = {int(number): str(token) for number, token in noted.items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise SandboxUnavailable(f"{file} is damaged; delete it: the next room draws new tokens") from error
    tokens = {number: known.get(number) or draw() for number in range(seats + 1)}
    everything = {**known, **tokens}
    if everything != known:
        content = {"format": _FORMAT, "tokens": {str(number): token for number, token in sorted(everything.items())}}
        write_whole(file, (json.dumps(content, indent=1) + "\n").encode())
    return tokens


def write_slips(runs_dir: Path, url: str, tokens: Mapping[int, str]) -> Path:
    """Write what to hand to each learner, mode 0600: address, seat and token; return the path. Raises `FileNotWritable`."""
    slips = [
        f"Seat {number}   token {token}\n  runbook seat {number} --room {url}\n  Your page: {url}/room\n"
        for number, token in sorted(tokens.items())
        if number != TRAINER
    ]
    path = runs_dir / FOLDER / SLIPS
    write_whole(path, "\n".join(slips).encode())
    return path
