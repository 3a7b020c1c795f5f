"""Credentials as botocore finds them: what its providers raise, and a prompt for an MFA code that nobody can answer."""

from __future__ import annotations

import getpass
import re
import sys
from typing import Any
from urllib.parse import unquote

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from runbook_lib.attended import is_attended
from runbook_lib.errors import CredentialsMissing

SIGN_IN = "sign in (aws sso login, AWS_PROFILE, or the environment's role)"
# Files, processes, prompts and answers that are not as they must be.
OF_PROVIDERS = (
    BotoCoreError,
    ClientError,
    RuntimeError,
    OSError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
)


def answer_mfa_prompts(core: botocore.session.Session) -> None:
    """Raise `CredentialsMissing` in place of botocore's prompt for an MFA code where nobody can type it."""

    def ask(prompt: str) -> str:
        if not is_attended() or not sys.stdin or not sys.stdin.isatty():
            raise CredentialsMissing(
                "the profile needs an MFA code (mfa_serial), and nobody can type it here; sign in first and export temporary "
                "credentials (aws configure export-credentials), or use a profile without mfa_serial"
            )
        return getpass.getpass(prompt)

    for provider in core.get_component("credential_provider").providers:
        if hasattr(provider, "_prompter"):
            provider._prompter = ask


def access_key_of(request: Any) -> str:
    """Return the access key that signed `request` (Signature Version 4, in a header or in the query), or ""."""
    signed = f"{request.headers.get('Authorization', '')!s} {unquote(request.url)}"
    found = re.search(r"[ ,?&](?:X-Amz-)?Credential=([^/&, ]+)/", signed)
    return found[1] if found else ""
