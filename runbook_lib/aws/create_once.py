"""Create a resource at most once: record the intent, send one request, and reconcile before retrying when the answer was lost.

Creates have no idempotency token in KMS and EC2, and a dropped connection does not tell whether the create took effect.
So: before a create the intent is written to the run, SDK retries are off, and after an unclear answer the run looks for
what it may have created, patiently, before it sends again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from runbook_lib.aws.retry import find_until_visible
from runbook_lib.aws.session import THROTTLED, error_code, error_text
from runbook_lib.errors import AwsCallFailed, OutcomeUnclear
from runbook_lib.run.run import Run

T = TypeVar("T")

_ATTEMPTS = 5


def create_once(run: Run, step: str, what: str, *, find: Callable[[], T | None], create: Callable[[], T]) -> T:
    """Create `what` at most once: return what an earlier attempt created, or send `create`.

    The outcome of the intent in state.json:

        (none) ──record──▶ unclear ──answer──▶ made
                             │  ▲
                             │  └── sent again: nothing was found, or throttled
                             ├──found by `find` (no answer, 5xx, or a later attempt)──▶ found
                             └──refused (4xx), and no earlier answer was lost──▶ refused

    `made` and `found` end it; `unclear` and `refused` may be tried again. `find` looks for what this run may already have
    created; `create` sends one request, with SDK retries off. Raises `OutcomeUnclear` when no attempt was answered
    clearly, `AwsCallFailed` when throttling does not end; other errors of AWS pass through, since they say that nothing
    was created.
    """
    attempts = _Attempts(run, step, what, find)
    if run.was_sent(step, what) and (found := attempts.found()) is not None:
        return found
    for attempt in range(_ATTEMPTS):
        run.intend(step, what)
        try:
            made = create()
        except (ConnectionClosedError, HTTPClientError) as error:
            attempts.lost_answer(str(error))
        except ClientError as error:
            attempts.refused(error, last=attempt == _ATTEMPTS - 1)
            if error_code(error) in THROTTLED:
                _back_off(run.target["target"], attempt)
                continue
        else:
            run.settle(step, what, "made")
            return made
        if (found := attempts.found()) is not None:
            return found
    raise OutcomeUnclear(
        f"no clear answer about {what} ({attempts.reason}); run this again: it looks for the resource before it creates one"
    )


class _Attempts(Generic[T]):
    """What is known of the attempts to create one thing."""

    def __init__(self, run: Run, step: str, what: str, find: Callable[[], T | None]) -> None:
        self._run, self._step, self._what, self._find = run, step, what, find
        self._answer_lost = run.is_unclear(step, what)
        self.reason = ""

    def found(self) -> T | None:
        """Return what an attempt has created, and record that; None when there is nothing."""
        found = find_until_visible(self._find, target=self._run.target["target"])
        if found is not None:
            self._run.settle(self._step, self._what, "found")
        return found

    def lost_answer(self, reason: str) -> None:
        """Take note that nobody knows whether an attempt took effect."""
        self._answer_lost, self.reason = True, reason

    def refused(self, error: ClientError, *, last: bool) -> None:
        """Judge an error of AWS: return when a later attempt may succeed, raise otherwise.

        A refusal tells nothing about an earlier attempt whose answer was lost.
        """
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        self.reason = error_text(error)
        if status >= 500:
            self._answer_lost = True
            return
        if not self._answer_lost:
            self._run.settle(self._step, self._what, "refused")
        if error_code(error) not in THROTTLED:
            raise error
        if last:
            raise AwsCallFailed(f"AWS keeps throttling ({self.reason}); wait a minute, then run this again") from error


def _back_off(target: str, attempt: int) -> None:
    time.sleep(min(2**attempt, 8) * (0.1 if target == "sandbox" else 1.0))
