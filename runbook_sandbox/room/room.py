"""The walls of a room: who may send which request, by the token in its header.

The trainer's token opens everything. A seat's token opens AWS calls in the two accounts of that seat, the identity of the
sandbox, and the report of its own progress.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from runbook_lib.aws.sandbox_accounts import ACCOUNT_HEADER, accounts_of_seat
from runbook_lib.aws.seat_file import TOKEN_HEADER
from runbook_sandbox.room.pages import application
from runbook_sandbox.room.seats import Seats
from runbook_sandbox.room.tokens import TRAINER, Tokens

_TOKEN_KEY = "HTTP_" + TOKEN_HEADER.upper().replace("-", "_")
_ACCOUNT_KEY = "HTTP_" + ACCOUNT_HEADER.upper().replace("-", "_")


class Room:
    """The tokens, the names that the server answers to, and the pages."""

    def __init__(self, tokens: Mapping[int, str], *, names: Iterable[str]) -> None:
        os.environ["MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS"] = "false"  # bucket names have no account in them
        self.names = frozenset(name.lower() for name in names)
        self._tokens = Tokens(tokens)
        self._accounts = {account for number in self._tokens.seats for account in accounts_of_seat(number)}
        self._seats = Seats(self._tokens.seats)
        self.pages: Callable[..., Iterable[bytes]] = application(self._tokens, self._seats)

    def has_page(self, path: str) -> bool:
        """Return whether the room's own pages answer this path; they check tokens and cookies themselves."""
        return path == "/room" or path.startswith("/room/")

    def refusal(self, environ: dict[str, Any], body: bytes) -> str | None:
        """Return why a request to AWS or a control path is refused, or None; a seat's request gets its account."""
        who = self._tokens.owner(environ.get(_TOKEN_KEY, ""))
        if who == TRAINER:
            return None
        if who is None:
            return (
                "this sandbox serves a room, and the request has no valid token; take your seat with: "
                "runbook seat NUMBER --room URL"
            )
        path = "/" + environ.get("PATH_INFO", "").lstrip("/").lower()
        if path.startswith(("/runbook", "/moto-api")) and (environ["REQUEST_METHOD"], path) != (
            "GET",
            "/runbook/identity",
        ):
            return f"{path} is for the trainer; the token is that of seat {who}"
        accounts = accounts_of_seat(who)
        account = environ.setdefault(_ACCOUNT_KEY, accounts[0])
        if account not in accounts:
            return f"account {account} is not one of seat {who}, which has {accounts[0]}; use that account"
        named = _accounts_in(environ, body) & self._accounts - set(accounts)
        if named:
            return f"the request names account {min(named)}, which is not one of seat {who}; use {accounts[0]}"
        self._seats.called(who, time.monotonic())
        return None


def _unpacked(body: bytes) -> bytes:
    """Return what a gzip body holds, up to 16 MiB."""
    try:
        return zlib.decompressobj(wbits=31).decompress(body, 16 * 1024 * 1024)
    except zlib.error:
        return b""


def _accounts_in(environ: Mapping[str, Any], body: bytes) -> set[str]:
    """Return the account ids in a request, as in ARNs: moto looks up some resources in the account of their ARN."""
    if "gzip" in environ.get("HTTP_CONTENT_ENCODING", "").lower():  # moto reads it, and SDKs compress large requests
        body += _unpacked(body)
    sent = body.decode(errors="replace")
    texts = [sent, unquote_plus(sent), unquote_plus(environ.get("QUERY_STRING", "")), environ.get("PATH_INFO", "")]
    if "&#" in sent:
        texts.append(html.unescape(sent))
    if "\\u" in sent:
        with contextlib.suppress(ValueError, RecursionError):
            texts.append(json.dumps(json.loads(sent), ensure_ascii=False))
    return {found for text in texts for found in re.findall(r"(?=([0-9]{12}))", text)}
