"""What CloudTrail, CloudWatch, EventBridge and SNS require for a request.

Sources: the service authorization references of the four; CloudWatch API, PutMetricAlarm, EventBridge API, PutRule, and SNS
API, CreateTopic (tags in a create need the permission to tag).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runbook_sandbox.iam.required_action import Form, Place, Required, RequiredAction, of_resource

Arn = Callable[[Form, Place], str]


def _tagging(action: str, tag: str, arn: Arn) -> Required:
    """Return a function for a create: the action, and tagging if the request has tags."""

    def required(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
        resource, tagged = arn(form, place), bool(form.get("Tags")) or any(name.startswith("Tags.") for name in form)
        return [RequiredAction(action, resource, tags), *([RequiredAction(tag, resource, tags)] if tagged else [])]

    return required


def _named(*names: str) -> Arn:
    """Return the ARN that a request contains."""
    return lambda form, place: str(next((form[name] for name in names if form.get(name)), "*"))


def _new_topic(form: Form, place: Place) -> str:
    return place.arn("sns", str(form.get("Name")))


def _rule(form: Form, place: Place) -> str:
    return place.arn("events", f"rule/{form.get('Name') or form.get('Rule')}")


def _alarm(form: Form, place: Place) -> str:
    return place.arn("cloudwatch", f"alarm:{form.get('AlarmName')}")


def _delete_alarms(form: Form, place: Place, tags: dict[str, Any]) -> list[RequiredAction]:
    names = form.get("AlarmNames") or []
    return [RequiredAction("cloudwatch:DeleteAlarms", place.arn("cloudwatch", f"alarm:{name}")) for name in names]


_ON_TOPICS = ("GetTopicAttributes", "SetTopicAttributes", "DeleteTopic", "Publish", "ListTagsForResource")
_ON_RULES = ("DescribeRule", "DeleteRule", "ListTargetsByRule", "PutTargets", "RemoveTargets")
_ON_TRAILS = ("GetTrailStatus", "GetEventSelectors")

OF_MONITORING: dict[str, Required] = {
    "sns:CreateTopic": _tagging("sns:CreateTopic", "sns:TagResource", _new_topic),
    **{f"sns:{one}": of_resource(f"sns:{one}", _named("TopicArn", "ResourceArn")) for one in _ON_TOPICS},
    "events:PutRule": _tagging("events:PutRule", "events:TagResource", _rule),
    **{f"events:{one}": of_resource(f"events:{one}", _rule) for one in _ON_RULES},
    "events:ListTagsForResource": of_resource("events:ListTagsForResource", _named("ResourceARN")),
    "cloudwatch:PutMetricAlarm": _tagging("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", _alarm),
    "cloudwatch:DeleteAlarms": _delete_alarms,
    "cloudwatch:ListTagsForResource": of_resource("cloudwatch:ListTagsForResource", _named("ResourceARN")),
    **{f"cloudtrail:{one}": of_resource(f"cloudtrail:{one}", _named("Name", "TrailName")) for one in _ON_TRAILS},
}  # fmt: skip
