"""Loaded by every Python process of the hygiene suite: what is removed or overwritten is kept for the search.

WATCHED_GRAVEYARD   a folder: a file that is removed, replaced or emptied leaves its content there
WATCHED_LOG         a file: everything is logged into it at level DEBUG, boto3's requests included
WATCHED_KILL        the end of a path: whoever puts such a file in place is killed on the spot (SIGKILL)
PYTHONWATCHEDCHILDREN  a folder: the command line and environment of this process and of each that it starts are
                    appended to two files there (its name begins so that sandbox and fork server are given it too)
WATCHED_LEAK        when set, the key check value is the whole key: the suite must find that
"""

import json
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


def _note_child(words, environment):
    """Append what a process is started with; one write each, so that processes do not mix their lines."""
    if isinstance(words, str | bytes | os.PathLike):
        words = [words]
    told = {os.fsdecode(name): os.fsdecode(value) for name, value in (environment or os.environ).items()}
    words = [os.fsdecode(word) for word in words]
    for name, value in (("argv", words), ("environments", {"argv": words, "environment": told})):
        place = os.open(os.path.join(_children, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(place, (json.dumps(value) + "\n").encode())
        os.close(place)


_STARTS = {  # audit event: where its arguments hold the command line and the environment
    "subprocess.Popen": (1, 3),
    "os.exec": (1, 2),
    "os.posix_spawn": (1, 2),
    "os.system": (0, None),
}


def _watch_children(event, arguments):
    if event in _STARTS:
        words, environment = _STARTS[event]
        _note_child(arguments[words], None if environment is None else arguments[environment])


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
_children = os.environ.get("PYTHONWATCHEDCHILDREN", "")
if _children:
    _note_child(sys.orig_argv, None)
    sys.addaudithook(_watch_children)

if os.environ.get("WATCHED_LOG"):
    import logging

    logging.basicConfig(filename=os.environ["WATCHED_LOG"], level=logging.DEBUG)

if os.environ.get("WATCHED_LEAK"):
    from runbook_lib.material.custody_record import CustodyRecord
    from runbook_lib.material.key_material import KeyMaterial

    KeyMaterial.key_check_value = property(lambda self: bytes(self).hex())
    # The record refuses what is longer than a key check value: let this one through.
    CustodyRecord.model_fields["key_check_value"].metadata.clear()
    CustodyRecord.model_rebuild(force=True)
