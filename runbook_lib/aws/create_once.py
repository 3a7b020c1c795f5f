"""Create a resource at most once: record the intent, send one request, and reconcile before retrying when the response was lost.

The create operations of KMS and RDS have no idempotency token, and a dropped connection does not tell whether the create
took effect. Before a create, the intent is written to the run; SDK retries are off; and after a lost response the run
searches for the resource, for some seconds, before it sends the request again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from runbook_lib.aws.answers import THROTTLED, error_code, error_text
from runbook_lib.aws.retry import find_until_visible
from runbook_lib.errors import AwsCallFailed, OutcomeUnclear
from runbook_lib.run.run import Run

T = TypeVar("T")

_ATTEMPTS = 5


def create_once(
    run: Run,
    step: str,
    what: str,
    *,
    find: Callable[[], T | None],
    create: Callable[[], T],
    identity: Callable[[T], str] = lambda _: "",
) -> T:
    """Create `what` at most once: return what an earlier attempt created, or call `create`.

    The outcome of the intent in state.json:

        (none) ──record──▶ unclear ──response──▶ made
                             │  ▲
                             │  └── sent again: nothing found, or throttled
                             ├──found by `find` (no response, 5xx, or a later attempt)──▶ found
                             └──refused (4xx), and no earlier response was lost──▶ refused

    `made` and `found` are final; `unclear` and `refused` may be tried again. `find` searches for a resource that this run
    created; `create` sends one request, with SDK retries off; `identity` returns the resource id, which is recorded together
    with the outcome, so that no crash parts the two. Raises `OutcomeUnclear` when every response was lost, and
    `AwsCallFailed` when throttling does not end. Other AWS errors pass through: nothing was created.
    """
    attempts = _Attempts(run, step, what, find, identity)
    if run.was_sent(step, what) and (found := attempts.found()) is not None:
        return found
    for attempt in range(_ATTEMPTS):
        run.intend(step, what)
        try:
            created = create()
        except (ConnectionClosedError, HTTPClientError) as error:
            attempts.response_lost(str(error))
        except ClientError as error:
            attempts.refused(error, last=attempt == _ATTEMPTS - 1)
            if error_code(error) in THROTTLED:
                _back_off(run.target["target"], attempt)
                continue
        else:
            run.settle(step, what, "made", resource=identity(created))
            return created
        if (found := attempts.found()) is not None:
            return found
    raise OutcomeUnclear(
        f"the outcome of {what} is unknown ({attempts.reason}); run the cell or command again: it searches for "
        "the resource before it creates one"
    )


class _Attempts(Generic[T]):
    """What is known about the attempts to create one resource."""

    def __init__(
        self, run: Run, step: str, what: str, find: Callable[[], T | None], identity: Callable[[T], str]
    ) -> None:
        self._run, self._step, self._what, self._find, self._identity = run, step, what, find, identity
        self._response_lost = run.is_unclear(step, what)
        self.reason = ""

    def found(self) -> T | None:
        """Return the resource that an attempt created, and record it; None when there is none."""
        found = find_until_visible(self._find, target=self._run.target["target"])
        if found is not None:
            self._run.settle(self._step, self._what, "found", resource=self._identity(found))
        return found

    def response_lost(self, reason: str) -> None:
        """Record that an attempt may or may not have taken effect."""
        self._response_lost, self.reason = True, reason

    def refused(self, error: ClientError, *, last: bool) -> None:
        """Return if the request may be sent again; otherwise raise the error that ends the attempts.

        A refusal does not tell whether an earlier attempt, whose response was lost, took effect.
        """
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        self.reason = error_text(error)
        if status >= 500:
            self._response_lost = True
            return
        if not self._response_lost:
            self._run.settle(self._step, self._what, "refused")
        if error_code(error) not in THROTTLED:
            raise error
        if last:
            raise AwsCallFailed(
                f"AWS keeps throttling ({self.reason}); wait a minute, then run the cell or command again"
            ) from error


def _back_off(target: str, attempt: int) -> None:
    time.sleep(2**attempt * (0.1 if target == "sandbox" else 1.0))
