"""The SNS topic of 21: its row in the plan, its creation, the check of its policy and key, and the test message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runbook_lib.aws import kms, watch
from runbook_lib.aws.create_once import create_once
from runbook_lib.inputs.watch import WatchKeyInputs
from runbook_lib.plan import Change
from runbook_lib.policies import publishing
from runbook_lib.steps import ownership
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import TOPIC
from runbook_lib.steps.watch_set import WatchSet


def rows(step: OpenStep, asked: WatchKeyInputs, wanted: WatchSet) -> list[Change]:
    """Return the row of the topic: an existing one must let CloudWatch and EventBridge publish, and use its key."""
    arn, name = wanted.topic_arn, wanted.topic_arn.rpartition(":")[2]
    given = bool(asked.sns_topic_arn)
    if given and arn.split(":")[3] != step.session.region:
        why = f"is in {arn.split(':')[3]}, and an alarm publishes in its own Region, {step.session.region}; name a topic there"
        return [Change("refuse", TOPIC, name, why)]
    found = watch.find_topic(step.session, arn, tags=not given)
    if found is None and given:
        return [Change("refuse", TOPIC, name, f"{arn} does not exist; create it, or leave sns_topic_arn empty")]
    if problem := key_problem(step, wanted, asked, found or {}):
        return [Change("refuse", TOPIC, name, problem)]
    if found is None:
        return [Change("create", TOPIC, name, _subscribe(arn), "sns:CreateTopic", _request(step, asked, wanted))]
    if publishing.cannot(json.loads(found["Policy"]), arn, wanted.account_id, wanted.publishers):
        statements = publishing.topic_statements(arn, wanted.account_id, wanted.publishers)
        why = f"its policy does not let the alarms and rules publish; add these statements to it: {json.dumps(statements)}"
        return [Change("refuse", TOPIC, name, why)]
    if given:
        return [Change("keep", TOPIC, name, f"yours, not changed; subscriptions: {_count(found)}")]
    one = ownership.of_topic(found)
    ours = ownership.is_ours(step, one)
    words = f"{'created by this run' if ours else 'exists, and is used by every run of this key'}; {_count(found)} subscribed"
    return [Change("keep", TOPIC, name, words, "", {}, one.identity if ours else "")]


def _count(found: Mapping[str, Any]) -> int:
    return int(found.get("SubscriptionsConfirmed") or 0)


def _subscribe(arn: str) -> str:
    return f"nobody is subscribed; do it with: aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint ADDRESS"


def _request(step: OpenStep, asked: WatchKeyInputs, wanted: WatchSet) -> dict[str, Any]:
    policy = publishing.topic_policy(wanted.topic_arn, wanted.account_id, wanted.publishers)
    attributes = {"Policy": json.dumps(policy)} | (
        {"KmsMasterKeyId": asked.sns_kms_key_id} if asked.sns_kms_key_id else {}
    )
    return {"Name": wanted.name, "Attributes": attributes, "Tags": step.tag_list()}


def key_problem(step: OpenStep, wanted: WatchSet, asked: WatchKeyInputs, found: Mapping[str, Any]) -> str:
    """Return why messages could not be published under the topic's key, and the way out; "" if they can.

    AWS's own key, `alias/aws/sns`, lets no service publish (SNS developer guide, sns-key-management).
    """
    used, named = str(found.get("KmsMasterKeyId") or ""), asked.sns_kms_key_id
    if used and not named:
        return (
            f"it is encrypted under {used}; name that key in sns_kms_key_id, so that its policy is checked. With alias/aws/sns, "
            "nothing would arrive: choose a customer managed key"
        )
    if not named:
        return ""
    metadata = kms.describe(step.session, named)
    arn = str(metadata["Arn"]) if metadata else ""
    if arn == wanted.key_arn:
        return "its key is the one that is watched, so that nothing arrives when that key fails; name another key"
    if metadata is None or metadata["KeyState"] != "Enabled":
        return f"its key {named} is {metadata['KeyState'] if metadata else 'not found'}; name an Enabled key"
    if metadata["KeyManager"] != "CUSTOMER":
        return f"its key {named} is AWS's own, under which CloudWatch cannot publish; name a customer managed key"
    if found and (not used or str((kms.describe(step.session, used) or {}).get("Arn")) != arn):
        return f"it is encrypted under {used or 'no KMS key'}, not under {named}; name the topic's own key in sns_kms_key_id"
    text = step.client("kms").get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
    refused = publishing.cannot(
        json.loads(text), arn, wanted.account_id, wanted.publishers, actions=publishing.KEY_ACTIONS
    )
    if not refused:
        return ""
    statements = json.dumps(publishing.key_statements(wanted.account_id, wanted.publishers))
    return f"the policy of its key {named} does not let CloudWatch and EventBridge use it; add these statements: {statements}"


def create(step: OpenStep, change: Change) -> None:
    """Create the topic at most once."""
    client = step.client("sns", retry=False)

    def find() -> str | None:
        arn = json.loads(change.request["Attributes"]["Policy"])["Statement"][0]["Resource"]
        found = watch.find_topic(step.session, arn)
        return arn if found is not None and ownership.is_ours(step, ownership.of_topic(found)) else None

    create_once(
        step.run, step.name, f"sns:CreateTopic {change.name}", find=find,
        create=lambda: str(client.create_topic(**step.marked(change.request))["TopicArn"]), identity=str,
    )  # fmt: skip


def send_test(step: OpenStep, wanted: WatchSet) -> str:
    """Publish the test message; return its MessageId."""
    text = (
        f"Test message of run {step.run.run_id}: alarms and rules for KMS key {wanted.key_arn} publish to this topic. "
        "Nothing is wrong with the key."
    )
    answer = step.client("sns").publish(TopicArn=wanted.topic_arn, Subject="Test: KMS key is watched", Message=text)
    return str(answer["MessageId"])
