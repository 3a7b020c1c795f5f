"""Read a PIN or password from a prompt, an environment variable or a file; only the source is a parameter."""

from __future__ import annotations

import getpass
import os
import re
import sys
from pathlib import Path

from runbook_lib.errors import PassPhraseMissing
from runbook_lib.files import read_private

_ORIGIN = re.compile(r"prompt|env:[A-Za-z_][A-Za-z0-9_]*|file:.+")


def names_source(value: object) -> bool:
    """Return whether `value` names where a secret is read, or is empty, and so is not a secret itself."""
    return isinstance(value, str) and (not value or bool(_ORIGIN.fullmatch(value)))


def check_origin(text: str) -> str:
    """Return `text` if it names the source of a secret, else raise ValueError without quoting it: it may be the secret."""
    if text and not _ORIGIN.fullmatch(text):
        raise ValueError(
            "this does not say where to read the PIN or password; write 'prompt', 'env:NAME' or 'file:PATH', "
            "never the PIN or password itself"
        )
    return text


def read_pass_phrase(origin: str, *, what: str) -> str:
    """Return the PIN or password from `origin`, without a final line feed; `what` names it in prompts and errors.

    Raises `PassPhraseMissing`, and `PrivateFileUnsafe` for a file that others can read.
    """
    check_origin(origin)
    kind, _, where = origin.partition(":")
    if kind == "env":
        if not (found := os.environ.get(where, "")):
            raise PassPhraseMissing(f"{what}: the environment variable {where} is not set; set it, or write prompt")
        return _without_line_feed(found)
    if kind == "file":
        content = read_private(Path(where).expanduser())
        try:
            return _without_line_feed(content.decode())
        except UnicodeDecodeError:
            raise PassPhraseMissing(f"{what}: {where} is not text in UTF-8; give the right file") from None
        finally:
            content[:] = bytes(len(content))
    if not _can_prompt():
        raise PassPhraseMissing(
            f"{what}: nobody can answer a prompt here; write env:NAME or file:PATH instead of prompt"
        )
    try:
        return getpass.getpass(f"{what}: ")
    except EOFError:
        raise PassPhraseMissing(f"{what}: nothing was typed; try again") from None


def _without_line_feed(text: str) -> str:
    """Return `text` without the line feed that `$(cat file)`'s relatives and editors add."""
    return text.removesuffix("\n").removesuffix("\r")


def _can_prompt() -> bool:
    """Return whether a person can answer a prompt: in JupyterLab or a terminal yes, in papermill or a scheduled job no."""
    from runbook_lib.attended import is_attended

    return is_attended() or (sys.stdin is not None and sys.stdin.isatty())
