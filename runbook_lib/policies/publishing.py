"""Who may publish to an SNS topic, and use its key: the statements that CloudWatch and EventBridge need, and their check. Pure.

CloudWatch is limited to the account and to these alarms. EventBridge is not: its requests to SNS and KMS carry neither
`aws:SourceAccount` nor `aws:SourceArn`, so that a statement with such a condition lets nothing through. Sources: EventBridge user
guide, eb-use-resource-based ("You can't use Condition blocks in Amazon SNS topic policies for EventBridge"); SNS developer guide,
sns-key-management (the same of key policies); CloudWatch user guide, Notify_Users_Alarm_Changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook_lib.policies.evaluate import Decision, Request, decide

CLOUDWATCH, EVENTS = "cloudwatch.amazonaws.com", "events.amazonaws.com"
KEY_ACTIONS = ("kms:Decrypt", "kms:GenerateDataKey*")

# For each service, the ARNs of the alarms or rules that publish.
Publishers = Mapping[str, Sequence[str]]


def topic_statements(topic_arn: str, account_id: str, publishers: Publishers) -> list[dict[str, Any]]:
    """Return one statement for each service: CloudWatch may publish for these alarms of this account, EventBridge for any rule."""
    return [
        {
            "Sid": f"Publish{'Alarms' if service == CLOUDWATCH else 'Events'}",
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sns:Publish",
            "Resource": topic_arn,
            **_condition(service, account_id, ArnEquals={"aws:SourceArn": list(arns)}),
        }
        for service, arns in publishers.items()
    ]


def _condition(service: str, account_id: str, **more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Condition element of a statement for a service; none for EventBridge."""
    if service == EVENTS:
        return {}
    return {"Condition": {"StringEquals": {"aws:SourceAccount": account_id}, **more}}


def topic_policy(topic_arn: str, account_id: str, publishers: Publishers) -> dict[str, Any]:
    """Return the policy of a topic that nobody else may publish to, except by IAM policies of its account."""
    return {"Version": "2012-10-17", "Statement": topic_statements(topic_arn, account_id, publishers)}


def key_statements(account_id: str, publishers: Publishers) -> list[dict[str, Any]]:
    """Return the statements that a topic's key needs in its key policy, one for each service."""
    return [
        {
            "Sid": f"Publish{'Alarms' if service == CLOUDWATCH else 'Events'}ToEncryptedTopics",
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": list(KEY_ACTIONS),
            "Resource": "*",
            **_condition(service, account_id),
        }
        for service in publishers
    ]


def cannot(
    policy: Any,
    resource_arn: str,
    account_id: str,
    publishers: Publishers,
    *,
    actions: Sequence[str] = ("sns:Publish",),
) -> list[str]:
    """Return the alarms and rules for which a topic's policy, or its key's, does not allow `actions`.

    Raises `PolicyInvalid` for a document that is not a policy.
    """
    refused = []
    for service, arns in publishers.items():
        for arn in arns:
            context: dict[str, Any] = {"aws:PrincipalIsAWSService": True}
            if service == CLOUDWATCH:
                context |= {"aws:SourceAccount": account_id, "aws:SourceArn": arn, "aws:SourceOwner": account_id}
            requests = [
                Request(one.rstrip("*"), service=service, key_arn=resource_arn, context=context) for one in actions
            ]
            if any(decide(policy, request) is not Decision.ALLOW for request in requests):
                refused.append(arn)
    return refused
