"""Loaded by every Python process of the hygiene suite: what is removed or overwritten is kept for the search.

WATCHED_GRAVEYARD   a folder: a file that is removed, replaced or emptied leaves its content there
WATCHED_LOG         a file: everything is logged into it at level DEBUG, boto3's requests included
WATCHED_KILL        the end of a path: whoever puts such a file in place is killed on the spot (SIGKILL)
WATCHED_LEAK        when set, the key check value is the whole key: the suite must find that
"""

import os
import shutil
import signal
import stat
import sys
import threading
import time


def _keep(path):
    """Keep a regular file's content: by another name where it is about to go, as a copy."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode) or str(path).startswith(_graveyard):
            return
        # Not by tempfile: it holds a lock while it removes a file of its own.
        copy = os.path.join(_graveyard, f"{os.getpid()}-{time.monotonic_ns()}")
        with open(copy, "wb") as target, open(path, "rb") as source:
            shutil.copyfileobj(source, target)
    except OSError:
        return


def _watch(event, arguments):
    if getattr(_mine, "busy", False) or event not in ("os.remove", "os.rename", "os.truncate", "open"):
        return
    _mine.busy = True
    try:
        if event == "os.rename":
            if _kill and str(arguments[1]).endswith(_kill):
                os.kill(os.getpid(), signal.SIGKILL)
            if _graveyard:
                _keep(arguments[1])
        elif event == "open":
            path, _, flags = arguments
            if _kill and flags & os.O_CREAT and str(path).endswith(_kill):
                os.kill(os.getpid(), signal.SIGKILL)
            if _graveyard and isinstance(flags, int) and flags & os.O_TRUNC and not isinstance(path, int):
                _keep(path)
        elif _graveyard:
            _keep(arguments[0])
    finally:
        _mine.busy = False


_mine = threading.local()  # what the hook itself opens is not watched
_graveyard = os.environ.get("WATCHED_GRAVEYARD", "")
_kill = os.environ.get("WATCHED_KILL", "")
sys.addaudithook(_watch)

if os.environ.get("WATCHED_LOG"):
    import logging

    logging.basicConfig(filename=os.environ["WATCHED_LOG"], level=logging.DEBUG)

if os.environ.get("WATCHED_LEAK"):
    from runbook_lib.key_material import KeyMaterial

    KeyMaterial.key_check_value = property(lambda self: bytes(self).hex())
