"""Making a thing exactly once: the intent is written, one request is sent, and an unclear answer is looked into.

Creates have no idempotency token in KMS and EC2, and a dropped connection says nothing about whether the
create took effect. So: before a create the intent is written to the run; the SDK's own retries are off; after
an answer that does not tell, the run looks for what it may have made, patiently, before it sends again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from runbook_lib.aws.session import THROTTLED, error_code, error_text
from runbook_lib.checks import Checks
from runbook_lib.errors import AwsCallFailed, OutcomeUnclear
from runbook_lib.run.run import Run

T = TypeVar("T")

_ATTEMPTS = 5
_PATIENCE = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


def look(find: Callable[[], T | None], *, target: str) -> T | None:
    """Return what `find` finds, asking again for some seconds: a new resource can stay invisible that long."""
    for seconds in _patience(target):
        time.sleep(seconds)
        if (found := find()) is not None:
            return found
    return None


def until_seen(call: Callable[[], T], *, codes: Collection[str], target: str) -> T:
    """Make `call`, again for some seconds while AWS answers with one of `codes`: it does not see yet what is new."""
    for seconds in (*_patience(target)[1:], None):
        try:
            return call()
        except ClientError as error:
            if error_code(error) not in codes or seconds is None:
                raise
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def settled(gather: Callable[[], Checks], *, target: str, codes: Collection[str] = ()) -> Checks:
    """Return the checks that `gather` makes once they pass, or as they are after some seconds.

    For things that were made a moment ago, which AWS may not show everywhere yet; `codes` as in `until_seen`.
    """
    for seconds in (*_patience(target)[1:], None):
        checks = until_seen(gather, codes=codes, target=target)
        if checks.passed or seconds is None:
            return checks
        time.sleep(seconds)
    raise AssertionError("the last attempt returns")


def _patience(target: str) -> tuple[float, ...]:
    return _PATIENCE[: 3 if target == "sandbox" else None]


def create_once(run: Run, step: str, what: str, *, find: Callable[[], T | None], create: Callable[[], T]) -> T:
    """Make `what` once: return what an earlier attempt made, or send `create`.

    `find` looks for what this run may already have made; `create` sends one request, with SDK retries off.
    Raises `OutcomeUnclear` when nothing answers, `AwsCallFailed` when throttling goes on; other errors of AWS
    pass through, since they say that nothing was made.
    """
    target, unclear = run.target["target"], run.is_unclear(step, what)
    if run.was_sent(step, what) and (found := look(find, target=target)) is not None:
        run.settle(step, what, "found")
        return found
    for attempt in range(_ATTEMPTS):
        run.intend(step, what)
        try:
            made = create()
        except (ConnectionClosedError, HTTPClientError) as error:
            if (found := look(find, target=target)) is not None:
                run.settle(step, what, "found")
                return found
            unclear, reason = True, str(error)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            reason = error_text(error)
            if status >= 500 and (found := look(find, target=target)) is not None:
                run.settle(step, what, "found")
                return found
            unclear = unclear or status >= 500
            if not unclear:  # a refusal says nothing about an earlier attempt whose answer was lost
                run.settle(step, what, "refused")
            if status < 500 and error_code(error) not in THROTTLED:
                raise
            if status < 500:
                time.sleep(min(2**attempt, 8) * (0.1 if target == "sandbox" else 1.0))
                if attempt == _ATTEMPTS - 1:
                    raise AwsCallFailed(
                        f"AWS keeps throttling ({reason}); wait a minute, then run this again"
                    ) from error
        else:
            run.settle(step, what, "made")
            return made
    raise OutcomeUnclear(f"no clear answer about {what} ({reason}); run this again: it looks before it creates")
