"""One writer per run folder: the lock, who holds it, and lending it to the processes that the holder starts."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from runbook_lib.errors import (
    FileNotWritable,
    RunLocked,
)
from runbook_lib.files import HALF_WRITTEN, destroy, utc_stamp, write_whole

_LOCK = ".lock"

_HOLDER = ".lock-holder.json"

HOLDER_TOKEN = "RUNBOOK_LOCK_TOKEN"  # noqa: S105 - names an environment variable, holds no secret


@contextmanager
def run_lock(path: Path, *, what: str) -> Iterator[None]:
    """Hold the lock of the run folder `path`; processes that the holder starts share it.

    The lock is an flock of the operating system: it is released when the process ends, however it ends.
    Raises `RunLocked`, naming the holder, and `FileNotWritable`.
    """
    if _is_lent(path):
        yield
        return
    lock = filelock.FileLock(path / _LOCK, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunLocked(f"run {path.name!r} is held by {_holder(path)}; wait until it ends, or stop it") from None
    except OSError as error:
        raise FileNotWritable(
            f"cannot lock {path} ({error.strerror}); free disk space or fix the permissions, then run the cell or command again"
        ) from error
    token = secrets.token_hex(8)
    before = os.environ.get(HOLDER_TOKEN)
    try:
        holder = {"token": token, "pid": os.getpid(), "host": socket.gethostname(), "what": what, "since": utc_stamp()}
        write_whole(path / _HOLDER, json.dumps(holder).encode())
        os.environ[HOLDER_TOKEN] = token
        _sweep(path)
        yield
    finally:
        if before is None:
            os.environ.pop(HOLDER_TOKEN, None)
        else:
            os.environ[HOLDER_TOKEN] = before
        (path / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _sweep(path: Path) -> None:
    """Destroy temporary files of a killed process; the lock is held, so no other process is writing."""
    for left in path.rglob(f"{HALF_WRITTEN}*"):
        destroy(left)


def _is_lent(path: Path) -> bool:
    """Return whether the process that holds the lock started this one, and so shares it."""
    token = os.environ.get(HOLDER_TOKEN)
    try:
        return bool(token) and json.loads((path / _HOLDER).read_text())["token"] == token
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _holder(path: Path) -> str:
    try:
        holder = json.loads((path / _HOLDER).read_text())
        return f"{holder['what']} (process {holder['pid']} on {holder['host']} since {holder['since']})"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "another process"
