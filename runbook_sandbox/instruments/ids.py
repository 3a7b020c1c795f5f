"""Identifiers that repeat with a seed: by kind and account, independent of read calls in between.

moto's own seed is one stream for everything, so a single extra describe call changes every later id. Here each
(kind, account) pair has its own counter. Without a seed the ids are random. Never use this module for key material,
wrapping keys, import tokens or key material ids, which must not be predictable.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import uuid
from collections import Counter

HEX = "0123456789abcdef"
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

_lock = threading.Lock()
_seed: int | None = None
_counters: Counter[tuple[str, str]] = Counter()


def configure(seed: int | None) -> None:
    """Derive all later ids from `seed`, starting the counters again; None makes them random."""
    global _seed
    with _lock:
        _seed = seed
        _counters.clear()


def seed() -> int | None:
    """Return the current seed, or None."""
    return _seed


def reset(account: str | None = None) -> None:
    """Restart the counters, for one account or for all."""
    with _lock:
        for pair in [pair for pair in _counters if account is None or pair[1] == account]:
            del _counters[pair]


def _bytes(kind: str, account: str, length: int) -> bytes:
    with _lock:
        number = _counters[kind, account]
        _counters[kind, account] += 1
        in_force = _seed
    if in_force is None:
        return secrets.token_bytes(length)
    stream = b""
    while len(stream) < length:
        message = f"{kind}|{account}|{number}|{len(stream)}".encode()
        stream += hmac.digest(str(in_force).encode(), message, hashlib.sha256)
    return stream[:length]


def uuid_for(kind: str, account: str) -> str:
    """Return the next UUID (in version 4 format) of this kind in this account."""
    return str(uuid.UUID(bytes=_bytes(kind, account, 16), version=4))


def text_for(kind: str, account: str, n: int, alphabet: str = BASE32) -> str:
    """Return the next `n` characters of `alphabet` for this kind in this account."""
    return "".join(alphabet[byte % len(alphabet)] for byte in _bytes(kind, account, n))


def hex_for(kind: str, account: str, n: int) -> str:
    """Return the next `n` lower-case hexadecimal digits of this kind in this account."""
    return text_for(kind, account, n, HEX)
