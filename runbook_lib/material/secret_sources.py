"""A PIN or password from a prompt, an environment variable or a file; where to look is a parameter, the secret never is."""

from __future__ import annotations

import getpass
import os
import re
import sys
from pathlib import Path

from runbook_lib.errors import PassPhraseMissing
from runbook_lib.files import read_private

_ORIGIN = re.compile(r"prompt|env:[A-Za-z_][A-Za-z0-9_]*|file:.+")


def check_origin(text: str) -> str:
    """Return `text` if it says where a secret is; raise ValueError, which does not quote it, if it may be one."""
    if text and not _ORIGIN.fullmatch(text):
        raise ValueError(
            "this says nowhere to look: write 'prompt', 'env:NAME' or 'file:PATH'; the PIN or password itself is no parameter"
        )
    return text


def read_pass_phrase(origin: str, *, what: str) -> str:
    """Return the PIN or password `what` from where `origin` says; a file's last line feed is not part of it.

    Raises `PassPhraseMissing`, and `PrivateFileUnsafe` for a file that others may read.
    """
    check_origin(origin)
    kind, _, where = origin.partition(":")
    if kind == "env":
        if not (found := os.environ.get(where, "")):
            raise PassPhraseMissing(f"{what}: the environment variable {where} is not set; set it, or say prompt")
        return found
    if kind == "file":
        content = read_private(Path(where).expanduser())
        try:
            return content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise PassPhraseMissing(f"{what}: {where} is no text in UTF-8; bring the right file") from None
        finally:
            content[:] = bytes(len(content))
    if not _somebody_is_there():
        raise PassPhraseMissing(f"{what}: there is nobody to ask; say env:NAME or file:PATH where it is to be found")
    try:
        return getpass.getpass(f"{what}: ")
    except EOFError:
        raise PassPhraseMissing(f"{what}: nothing was typed; try again") from None


def _somebody_is_there() -> bool:
    """Say whether a prompt would be answered: JupyterLab or a terminal yes, papermill or a schedule no."""
    from runbook_lib.attended import is_attended

    return is_attended() or (sys.stdin is not None and sys.stdin.isatty())
