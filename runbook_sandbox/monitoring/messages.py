"""SNS topics: what was published to them, by callers and by services, and why something was not.

moto gap: CloudWatch and EventBridge publish to no topic. Here they do where AWS would let them: the topic's policy must
allow the service, and the key of an encrypted topic too (SNS developer guide, sns-key-management: `alias/aws/sns` never does).
On AWS only a metric counts the messages that were not delivered; here `/runbook/messages` shows it with the reason.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import moto.sns.urls
from moto.core.responses import ActionResult
from moto.sns.models import Topic, sns_backends
from moto.sns.responses import SNSResponse

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies.evaluate import Decision, Request, decide
from runbook_sandbox.instruments import clock
from runbook_sandbox.kms import keys as kms_keys

_MOST = 10_000
CLOUDWATCH, EVENTS = "cloudwatch.amazonaws.com", "events.amazonaws.com"


@dataclass(frozen=True)
class Message:
    """One message to a topic; `problem` says why it was not delivered, and is empty if it was."""

    time: str
    account: str
    topic: str
    sender: str
    subject: str
    message: str
    problem: str


_lock = threading.Lock()
_messages: deque[Message] = deque(maxlen=_MOST)


def as_json(account: str | None = None) -> list[dict[str, Any]]:
    """Return the messages, of one account or all, in the order of their times."""
    with _lock:
        found = [asdict(one) for one in _messages if account in (None, one.account)]
    return sorted(found, key=lambda one: str(one["time"]))


def forget(account: str | None = None) -> None:
    """Remove the messages of one account, or all."""
    with _lock:
        kept = [one for one in _messages if account is not None and one.account != account]
        _messages.clear()
        _messages.extend(kept)


def _note(account: str, topic: str, sender: str, subject: str, message: str, problem: str, at: datetime) -> None:
    noted = Message(at.isoformat(timespec="seconds"), account, topic, sender, subject, message, problem)
    with _lock:
        _messages.append(noted)


def deliver(
    account: str, topic_arn: str, *, service: str, source_arn: str, subject: str, message: str, at: datetime
) -> None:
    """Publish a message as a service does, if topic and key allow it; note it in any case."""
    topic = _topic(topic_arn)
    problem = _problem(account, topic, service, source_arn)
    if topic is not None and not problem:
        topic.publish(message, subject=subject or None)
    _note(account, topic_arn, service, subject, message, problem, at)


def _topic(arn: str) -> Topic | None:
    parts = arn.split(":")
    if len(parts) != 6 or parts[2] != "sns":
        return None
    found: Topic | None = sns_backends[parts[4]][parts[3]].topics.get(arn)
    return found


def _problem(account: str, topic: Topic | None, service: str, source_arn: str) -> str:
    if topic is None:
        return "the topic does not exist"
    # CloudWatch publishes on behalf of the alarm's owner, so a topic's default policy lets it. EventBridge's requests to SNS and
    # KMS carry no source, so a statement with a condition on it, the default policy's included, lets nothing through
    # (EventBridge user guide, eb-use-resource-based; SNS developer guide, sns-key-management).
    context: dict[str, Any] = {"aws:PrincipalIsAWSService": True}
    if service == CLOUDWATCH:
        context |= {"aws:SourceAccount": account, "aws:SourceArn": source_arn, "aws:SourceOwner": account}
    if not _allowed(topic.policy, "sns:Publish", topic.arn, service, context):
        return f"the topic's policy does not let {service} publish"
    if not topic.kms_master_key_id:
        return ""
    key = kms_keys.resolve(topic.account_id, topic.sns_backend.region_name, topic.kms_master_key_id)
    needed = ("kms:GenerateDataKey", "kms:Decrypt")
    if key is None or not all(_allowed(key.policy, action, str(key.arn), service, context) for action in needed):
        return f"the topic's key {topic.kms_master_key_id} does not let {service} use it"
    if (state := kms_keys.state_of(key)) != "Enabled":
        return f"the topic's key {topic.kms_master_key_id} is {state}"
    return ""


def _allowed(policy: str, action: str, arn: str, service: str, context: Mapping[str, Any]) -> bool:
    try:
        return (
            decide(json.loads(policy), Request(action, service=service, key_arn=arn, context=context)) is Decision.ALLOW
        )
    except (ValueError, PolicyInvalid):
        return False


class SandboxSnsResponse(SNSResponse):
    """moto's handler, with a note of each message."""

    def publish(self) -> ActionResult:
        answer = super().publish()
        topic = str(self._get_param("TopicArn") or self._get_param("TargetArn") or "")
        subject, message = (str(self._get_param(name) or "") for name in ("Subject", "Message"))
        _note(self.current_account, topic, "a caller", subject, message, "", clock.now())
        return answer


def install() -> None:
    """Install the handler in moto."""
    paths = dict(moto.sns.urls.url_paths)
    paths["{0}/$"] = SandboxSnsResponse.dispatch
    moto.sns.urls.url_paths = paths
