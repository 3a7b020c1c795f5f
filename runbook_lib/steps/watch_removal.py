"""What 90 does with the topic, rules and alarms of 21: its own only, and only when the key goes.

The alarms go as soon as the deletion of the key is scheduled. The rules stay until the key is deleted, as one of them hears who
still uses it meanwhile, and so does the topic: 90 deletes them when it is run again after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from runbook_lib.aws import kms, watch
from runbook_lib.plan import Change
from runbook_lib.run.records import KeyRecord
from runbook_lib.steps import ownership
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import ALARM, KEY, RULE, TOPIC, Found

_CALLS = {ALARM: "cloudwatch:DeleteAlarms", RULE: "events:RemoveTargets, events:DeleteRule", TOPIC: "sns:DeleteTopic"}


def rows(step: OpenStep, others: Iterable[Change]) -> list[Change]:
    """Return the rows of what this run created to watch its key; `others` are the other rows of the plan."""
    key_id = KeyRecord.so_far(step.run).key_id
    found = list(_found(step))
    if not found or not key_id:
        return []
    state = _state(step, key_id)
    scheduled = state == "PendingDeletion" or any(one.resource == KEY and one.action == "delete" for one in others)
    goes = {"": (ALARM, RULE, TOPIC), "scheduled": (ALARM,)}.get("scheduled" if state and scheduled else state, ())
    rows = []
    for one in found:
        if not ownership.is_ours(step, one):
            rows.append(Change("keep", one.resource, one.name, "this run did not create it"))
        elif one.resource in goes:
            rows.append(
                Change("delete", one.resource, one.name, "", _CALLS[one.resource], {"Name": one.name}, one.identity)
            )
        else:
            rows.append(Change("keep", one.resource, one.name, _STAYS if scheduled else _WATCHES))
    return rows


_WATCHES = "it watches the key, which is kept"
_STAYS = "it tells who uses the key until the key is deleted; run this again after that"


def _state(step: OpenStep, key_id: str) -> str:
    """Return the state of the key, "" once it is deleted."""
    return str((kms.describe(step.session, key_id) or {}).get("KeyState", ""))


def _found(step: OpenStep) -> Iterator[Found]:
    """Yield what 21 asked for and exists: alarms, rules, topic; by the names in this run's intents."""
    session, region, account = step.session, step.session.region, step.session.account_id
    partition = KeyRecord.so_far(step.run).key_arn.split(":")[1:2] or ["aws"]
    looks: tuple[tuple[str, Callable[[str], Any], Callable[[Any], Found]], ...] = (
        (ALARM, lambda name: watch.find_alarm(session, name), ownership.of_alarm),
        (RULE, lambda name: watch.find_rule(session, name), ownership.of_rule),
        (
            TOPIC,
            lambda name: watch.find_topic(session, f"arn:{partition[0]}:sns:{region}:{account}:{name}"),
            ownership.of_topic,
        ),
    )
    for resource, find, describe in looks:
        for name in ownership.names_of(step, resource):
            if (one := find(name)) is not None:
                yield describe(one)


def delete(step: OpenStep, change: Change) -> str:
    """Delete an alarm, rule or topic that was looked at again, unless the key stays after all; return the outcome."""
    if _state(step, KeyRecord.so_far(step.run).key_id) not in ("", "PendingDeletion"):
        return f"kept: {_WATCHES}"
    if change.resource == ALARM:
        step.client("cloudwatch").delete_alarms(AlarmNames=[change.name])
    elif change.resource == TOPIC:
        step.client("sns").delete_topic(TopicArn=change.identity)
    else:
        found = watch.find_rule(step.session, change.name) or {"Targets": []}
        if ids := [target["Id"] for target in found["Targets"]]:
            step.client("events").remove_targets(Rule=change.name, Ids=ids)
        step.client("events").delete_rule(Name=change.name)
    return "deleted"
