"""AWS error responses: their codes, and the typed errors for those that all callers handle alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from runbook_lib.aws.denials import denied_by
from runbook_lib.errors import AccessDenied, AwsCallFailed, CredentialsMissing

_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
}

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}

THROTTLED = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "RequestThrottled",
        "LimitExceeded",
    }
)


# What one read can answer in place of what it was asked for: evidence then says so, and other parts are read all the same.
REFUSALS = (AccessDenied, AwsCallFailed, CredentialsMissing, ClientError, BotoCoreError)


def refusal_text(error: Exception) -> str:
    """Return a refusal in one line, with AWS's code if it has one."""
    return error_text(error) if isinstance(error, ClientError) else " ".join(str(error).split())


def error_code(error: ClientError) -> str:
    """Return the AWS error code of `error`, such as `NotFoundException`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_text(error: ClientError) -> str:
    """Return code and message of `error` in one line."""
    details = error.response.get("Error", {})
    return f"{details.get('Code', 'error')}: {' '.join(str(details.get('Message', '')).split())}".removesuffix(": ")


def clock_skew(parsed: Mapping[str, Any]) -> str:
    """Return what to do about this machine's clock when AWS refused a signature because of its time; '' otherwise."""
    error = parsed.get("Error", {})
    message = str(error.get("Message", ""))
    expired = re.search(r"signature (expired|not yet current)", message, re.IGNORECASE)
    if error.get("Code") != "RequestTimeTooSkewed" and not expired:
        return ""
    date = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    at_aws = f": at AWS it is {date}" if date else ""
    return f"the clock of this machine is wrong{at_aws}; set it (timedatectl set-ntp true), then repeat the command"


def raise_for_answer(parsed: Mapping[str, Any], call: str, *, retried: bool) -> None:
    """Raise the typed error for an answer that no caller can handle better; `call` is such as `kms:CreateKey`.

    Raises `CredentialsMissing` for expired or unknown credentials, `AccessDenied`, which names the action that is lacking,
    and, for a call that the SDK has `retried` already, `AwsCallFailed` for throttling and server errors. A create is sent
    once, and `create_once` judges its answer.
    """
    error = parsed.get("Error", {})
    if skew := clock_skew(parsed):
        raise CredentialsMissing(skew)
    code, message = error.get("Code"), " ".join(str(error.get("Message", "")).split())
    if code in _EXPIRED:
        raise CredentialsMissing(
            f"AWS does not accept the credentials ({code}); sign in again, then repeat the command"
        )
    if code in _DENIED:
        named = re.search(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)", message)
        action = named[1] if named else call  # AWS names an implied action, such as kms:TagResource
        needs = f": it needs {action}" if action != call else ""
        what, way_out = denied_by(message)
        if what:
            raise AccessDenied(
                f"{what} denies {call}{needs} ({message}); {way_out}, then run the cell or command again"
            )
        raise AccessDenied(
            f"you are not authorized to call {call}{needs} ({message}); allow {action} for your role (runbook "
            "permissions prints each "
            "step's policy), then run the cell or command again"
        )
    status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if retried and (code in THROTTLED or status >= 500):
        word = "keeps throttling" if code in THROTTLED else "keeps failing on"
        raise AwsCallFailed(
            f"AWS {word} {call} ({code}) after several attempts; wait a minute, then run the cell or command again"
        )
