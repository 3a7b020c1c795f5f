"""Read what watches a key: SNS topics, EventBridge rules and CloudWatch alarms, each with its tags. Knows no step."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.session import Session

_GONE = ("NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException")


def find_topic(session: Session, arn: str, *, tags: bool = True) -> dict[str, Any] | None:
    """Return a topic's attributes and, as `Tags`, its tags if asked for; None if it does not exist."""
    client = session.client("sns")
    try:
        found: dict[str, Any] = dict(client.get_topic_attributes(TopicArn=arn)["Attributes"])
        return found | ({"Tags": _by_key(client.list_tags_for_resource(ResourceArn=arn)["Tags"])} if tags else {})
    except ClientError as error:
        if error_code(error) in _GONE:
            return None
        raise


def find_rule(session: Session, name: str) -> dict[str, Any] | None:
    """Return a rule of the default event bus with its `Targets` and `Tags`; None if it does not exist."""
    client = session.client("events")
    try:
        found: dict[str, Any] = dict(client.describe_rule(Name=name))
        found["Targets"] = client.list_targets_by_rule(Rule=name)["Targets"]
        return found | {"Tags": _by_key(client.list_tags_for_resource(ResourceARN=found["Arn"])["Tags"])}
    except ClientError as error:
        if error_code(error) in _GONE:
            return None
        raise


def find_alarm(session: Session, name: str) -> dict[str, Any] | None:
    """Return a metric alarm with its `Tags`; None if it does not exist."""
    client = session.client("cloudwatch")
    alarms = client.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm"])["MetricAlarms"]
    if not alarms:
        return None
    try:
        return {**alarms[0], "Tags": _by_key(client.list_tags_for_resource(ResourceARN=alarms[0]["AlarmArn"])["Tags"])}
    except ClientError as error:
        if error_code(error) in _GONE:
            return None
        raise


def _by_key(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
