"""Keeps what watches a key up to date: rules hear each recorded call, alarms follow the clock.

There are no timers: a jump of the clock first lets due material expire and due keys go, each with
its event at the time when it happened, and then evaluates the alarms.
"""

from __future__ import annotations

from runbook_sandbox import dispatch
from runbook_sandbox.instruments import recorded_calls
from runbook_sandbox.instruments.recorded_calls import Call
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.monitoring import alarms, messages, rules

_CHANGE_ALARMS = frozenset({"kms", "cloudwatch", "sns"})


def after(call: Call) -> None:
    """React to one recorded call, on the thread that recorded it."""
    rules.hear(call)
    if call.service in _CHANGE_ALARMS:
        alarms.evaluate(call.account, call.region)


def catch_up() -> None:
    """Bring every account that has alarms or rules up to the clock."""
    watched_by_rules = rules.everywhere()
    for account, region in dict.fromkeys([*watched_by_rules, *alarms.everywhere()]):
        with dispatch.account_lock(account):
            if (account, region) in watched_by_rules:
                kms_keys.all_keys(account, region)
            alarms.evaluate(account, region)


def install() -> None:
    """Install the handlers in moto, and listen to the recorded calls."""
    messages.install()
    alarms.install()
    recorded_calls.listen(after)
