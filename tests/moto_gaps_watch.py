"""Gaps in moto's CloudWatch, EventBridge and SNS, where a key is watched; see moto_gaps."""

from __future__ import annotations

import json
from typing import Any

from kms_support import ACCOUNT, REGION
from moto_gaps import gap
from rds_support import Aws

METRIC = {"Namespace": "AWS/KMS", "MetricName": "SecondsUntilKeyMaterialExpiration", "Statistic": "Minimum"}


def alarm(aws: Aws, key_id: str, **more: Any) -> str:
    """Put an alarm on the expiry of a key's material, right way round; return its state."""
    name, dimensions = aws.name("alarm"), [{"Name": "KeyId", "Value": key_id}]
    asked = {"ComparisonOperator": "LessThanThreshold", "Threshold": 2592000.0, "Period": 3600, "EvaluationPeriods": 1}
    aws("cloudwatch").put_metric_alarm(AlarmName=name, Dimensions=dimensions, **METRIC, **asked, **more)
    return str(aws("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"])


def topic_with_queue(aws: Aws) -> tuple[str, str]:
    """Create a topic that lets services publish, with a queue that receives what it gets."""
    topic, queue = (
        aws("sns").create_topic(Name=aws.name("topic"))["TopicArn"],
        aws("sqs").create_queue(QueueName=aws.name()),
    )
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": ["events.amazonaws.com", "cloudwatch.amazonaws.com"]},
        "Action": "sns:Publish",
        "Resource": topic,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    aws("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    endpoint = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue['QueueUrl'].rpartition('/')[2]}"
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint)
    return topic, queue["QueueUrl"]


@gap("monitoring.alarms.SandboxCloudWatchResponse.put_metric_alarm")
def an_alarm_without_data_begins_with_insufficient_data(aws: Aws) -> None:
    assert "INSUFFICIENT_DATA" == alarm(aws, aws.key()["KeyId"])


@gap("monitoring.alarms.evaluate")
def missing_data_is_an_alarm_if_it_says_so(aws: Aws) -> None:
    assert "ALARM" == alarm(aws, aws.key()["KeyId"], TreatMissingData="breaching")


@gap("monitoring.rules.hear")
def rules_hear_what_kms_sends(aws: Aws) -> None:
    key, name, (topic, queue) = aws.key(), aws.name("rule"), topic_with_queue(aws)
    pattern = {"source": ["aws.kms"], "detail-type": ["KMS CMK Rotation"], "detail": {"key-id": [key["KeyId"]]}}
    aws("events").put_rule(Name=name, EventPattern=json.dumps(pattern))
    aws("events").put_targets(Rule=name, Targets=[{"Id": "topic", "Arn": topic}])
    aws("kms").rotate_key_on_demand(KeyId=key["KeyId"])
    for _ in range(4):
        aws("kms").list_key_rotations(KeyId=key["KeyId"])
    assert 1 == len(aws("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []))


@gap("monitoring.messages.deliver")
def an_alarm_that_goes_off_publishes_to_its_topic(aws: Aws) -> None:
    topic, queue = topic_with_queue(aws)
    assert "ALARM" == alarm(aws, aws.key()["KeyId"], TreatMissingData="breaching", AlarmActions=[topic])
    assert 1 == len(aws("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []))
