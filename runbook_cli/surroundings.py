"""What a command finds around it: closed standard streams, no home folder, too few open files."""

from __future__ import annotations

import atexit
import os
import resource
import shutil
import sys
import tempfile

from runbook_lib.errors import RunbookError

FEWEST_FILES = 64  # with 48, a kernel ends before it answers


class TooFewFiles(RunbookError):
    """The process may open too few files to run a kernel."""


def prepare() -> None:
    """Make this process and those that it starts independent of its standard streams and of a home folder."""
    while True:  # a closed stream's number would be given to the next file that is opened
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            break
        os.set_inheritable(number, True)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    homeless = os.path.expanduser("~") == "~"  # neither HOME nor an entry of this user: Jupyter ends in a traceback
    if homeless or ("IPYTHONDIR" not in os.environ and not os.access(os.path.expanduser("~"), os.W_OK)):
        folder = tempfile.mkdtemp(prefix="ipython-")  # IPython would take one for each kernel, and print a warning
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ.setdefault("IPYTHONDIR", folder)
        if homeless:
            os.environ["HOME"] = folder


def require_files() -> None:
    """Allow as many open files as a run needs, as far as this process may. Raises `TooFewFiles`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEWEST_FILES and (hard < 0 or soft < hard):
        soft = FEWEST_FILES if hard < 0 else min(FEWEST_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if 0 <= soft < FEWEST_FILES:
        raise TooFewFiles(
            f"at most {soft} files may be open here, and a run needs {FEWEST_FILES}; raise the limit: ulimit -n 1024"
        )
