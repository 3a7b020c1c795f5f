"""Polling, and retries until a resource is visible (eventual consistency). Knows no step."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.checks import Checks

T = TypeVar("T")

_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_SANDBOX_PAUSES = _PAUSES[:3]


def poll(read: Callable[[], T], *, until: Callable[[T], bool], every: float, timeout: float) -> tuple[T, bool]:
    """Call `read` every `every` seconds until its result is `until`, or `timeout` seconds have passed.

    Return the last result, and whether `until` was true of it. `read` is called at least once.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = read()
        if until(found):
            return found, True
        if time.monotonic() > deadline:
            return found, False
        time.sleep(every)


def find_until_visible(find: Callable[[], T | None], *, target: str) -> T | None:
    """Return what `find` finds, retried for some seconds: a resource created moments ago may not be visible yet."""
    for seconds in _pauses(target):
        time.sleep(seconds)
        if (found := find()) is not None:
            return found
    return None


def retry_until_visible(call: Callable[[], T], *, codes: Collection[str], target: str) -> T:
    """Retry `call` while AWS returns one of `codes`, as it may for a resource created moments ago.

    Raises the error of the last attempt.
    """
    for seconds in (*_pauses(target)[1:], None):
        try:
            return call()
        except ClientError as error:
            if error_code(error) not in codes or seconds is None:
                raise
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def retry_until_passed(gather: Callable[[], Checks], *, target: str, codes: Collection[str] = ()) -> Checks:
    """Return the checks of `gather` once they pass, or as they are after some seconds.

    For resources created moments ago, which AWS may not show everywhere yet; `codes` as in `retry_until_visible`.
    """
    for seconds in (*_pauses(target)[1:], None):
        checks = retry_until_visible(gather, codes=codes, target=target)
        if checks.passed or seconds is None:
            return checks
        time.sleep(seconds)
    raise AssertionError("the last attempt returns")


def _pauses(target: str) -> tuple[float, ...]:
    return _SANDBOX_PAUSES if target == "sandbox" else _PAUSES
