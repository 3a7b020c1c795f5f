"""Alarms and rules of the sandbox: evaluated against its clock, delivered to SNS, deaf where AWS's would be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from kms_support import ACCOUNT, advance, connect, import_material, now, refusal, reset, sandbox
from moto_gaps_watch import METRIC

from runbook_lib.aws import sandbox_process, trails

OPEN = {"Effect": "Allow", "Principal": {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]}}
MANAGEMENT, KMS_LEFT_OUT = (
    {"Field": "eventCategory", "Equals": ["Management"]},
    {"Field": "eventSource", "NotEquals": [trails.KMS]},
)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """A sandbox for this module."""
    with sandbox() as url:
        yield url


@cache
def client_of(url: str, service: str) -> Any:
    return connect(url, service)


class Scene:
    """A key whose material expires in 60 days, and a topic that both services may publish to."""

    def __init__(self, url: str) -> None:
        reset(url)
        self.url, self.kms = url, client_of(url, "kms")
        self.key_id = str(self.kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"])
        self.material, self.ends = os.urandom(32), now(url) + timedelta(days=60)
        self.bring_in(self.ends)
        self.topic = str(self.client("sns").create_topic(Name="watch")["TopicArn"])
        self.let({**OPEN, "Action": "sns:Publish", "Resource": self.topic})

    def client(self, service: str) -> Any:
        return client_of(self.url, service)

    def bring_in(self, until: datetime) -> None:
        import_material(self.kms, self.key_id, self.material, ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=until)

    def let(self, *statements: dict[str, Any]) -> None:
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self.client("sns").set_topic_attributes(TopicArn=self.topic, AttributeName="Policy", AttributeValue=policy)

    def alarm(self, days: int = 30, **more: Any) -> None:
        asked = {"Period": 3600, "EvaluationPeriods": 1, "ComparisonOperator": "LessThanThreshold", **METRIC,
                 "Threshold": days * 86400.0, "TreatMissingData": "breaching", "AlarmActions": [self.topic], **more}  # fmt: skip
        dimensions = [{"Name": "KeyId", "Value": self.key_id}]
        self.client("cloudwatch").put_metric_alarm(AlarmName=f"in-{days}", Dimensions=dimensions, **asked)

    def state(self) -> str:
        return str(self.client("cloudwatch").describe_alarms(AlarmNames=["in-30"])["MetricAlarms"][0]["StateValue"])

    def rule(self, *names: str, state: str = "ENABLED", **detail: Any) -> None:
        pattern = {"source": ["aws.kms"], "detail": {**({"eventName": list(names)} if names else {}), **detail}}
        self.client("events").put_rule(Name="heard", EventPattern=json.dumps(pattern), State=state)
        self.client("events").put_targets(Rule="heard", Targets=[{"Id": "topic", "Arn": self.topic}])

    def trail(self, **selectors: Any) -> None:
        where = {"LocationConstraint": "eu-west-2"}
        self.client("s3").create_bucket(Bucket="trail-bucket", CreateBucketConfiguration=where)
        self.client("cloudtrail").create_trail(Name="trail", S3BucketName="trail-bucket")
        if selectors:
            self.client("cloudtrail").put_event_selectors(TrailName="trail", **selectors)
        self.client("cloudtrail").start_logging(Name="trail")

    @property
    def messages(self) -> list[dict[str, Any]]:
        found = sandbox_process.call(self.url, f"/runbook/messages?account={ACCOUNT}")["messages"]
        return list(found)

    @property
    def heard(self) -> list[str]:
        """What arrived from EventBridge: the name of a call, or the kind of an event."""
        events = [json.loads(one["message"]) for one in self.messages if not one["problem"]]
        return [event["detail"].get("eventName", event["detail-type"]) for event in events]


@pytest.fixture
def scene(served: str) -> Scene:
    return Scene(served)


def test_an_alarm_goes_off_when_its_threshold_is_crossed_however_far_the_clock_jumps(scene: Scene) -> None:
    """Each alarm is dated with its own crossing, and tells its topic once."""
    scene.alarm(7), scene.alarm(30)
    assert "OK" == scene.state()
    advance(scene.url, days=70)
    expected = [("in-30", scene.ends - timedelta(days=30)), ("in-7", scene.ends - timedelta(days=7))]
    found = [(json.loads(one["message"])["AlarmName"], one["time"]) for one in scene.messages]
    assert [(name, when.isoformat(timespec="seconds")) for name, when in expected] == found


def test_an_alarm_follows_when_the_material_is_extended(scene: Scene) -> None:
    """A reimport of the same material with a later ValidTo ends the alarm by itself."""
    scene.alarm()
    advance(scene.url, days=40)
    assert "ALARM" == scene.state()
    scene.bring_in(scene.ends + timedelta(days=300))
    assert "OK" == scene.state()


def test_missing_data_is_silent_unless_the_alarm_treats_it_as_breaching(scene: Scene) -> None:
    """After the expiry the metric ends: without `breaching`, nobody is told."""
    scene.alarm(TreatMissingData="missing", Threshold=60.0)
    advance(scene.url, days=61)
    assert ("INSUFFICIENT_DATA", []) == (scene.state(), scene.messages)


def test_a_change_of_an_alarm_keeps_its_state(scene: Scene) -> None:
    """PutMetricAlarm on an existing alarm does not send the message again."""
    scene.alarm(90)
    scene.alarm(90, AlarmDescription="changed")
    assert 1 == len(scene.messages)


@pytest.mark.parametrize(
    ("condition", "delivered"),
    [
        pytest.param({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, True, id="this-account"),
        pytest.param({"StringEquals": {"aws:SourceAccount": "111122223333"}}, False, id="another-account"),
        pytest.param(
            {"ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:*:{ACCOUNT}:alarm:in-*"}}, True, id="this-alarm"
        ),
        pytest.param(
            {"ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:*:{ACCOUNT}:alarm:x-*"}}, False, id="another-alarm"
        ),
    ],
)
def test_the_topics_policy_decides_what_is_delivered(scene: Scene, condition: dict[str, Any], delivered: bool) -> None:
    """A message that the topic refuses is not delivered, and the sandbox says why."""
    scene.let({**OPEN, "Action": "sns:Publish", "Resource": scene.topic, "Condition": condition})
    scene.alarm(90)
    assert delivered is (scene.messages[0]["problem"] == "")


def test_a_condition_on_the_source_lets_no_event_through(scene: Scene) -> None:
    """EventBridge's requests to SNS carry neither account nor rule; without the condition the same event arrives."""
    allow = {**OPEN, "Action": "sns:Publish", "Resource": scene.topic}
    scene.let({**allow, "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}})
    scene.rule()
    advance(scene.url, days=61)
    scene.let(allow)
    scene.kms.schedule_key_deletion(KeyId=scene.key_id, PendingWindowInDays=7)
    advance(scene.url, days=8)
    assert [False, True] == [one["problem"] == "" for one in scene.messages]


def test_a_topic_under_the_key_of_aws_gets_nothing(scene: Scene) -> None:
    """`alias/aws/sns` lets neither CloudWatch nor EventBridge use it; a key whose policy names them does."""
    attribute = {"TopicArn": scene.topic, "AttributeName": "KmsMasterKeyId"}
    scene.client("sns").set_topic_attributes(**attribute, AttributeValue="alias/aws/sns")
    scene.alarm(90)
    own = {**OPEN, "Action": "kms:*", "Resource": "*"}
    root = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [root, own]})
    key = scene.kms.create_key(Policy=policy)["KeyMetadata"]["KeyId"]
    scene.client("sns").set_topic_attributes(**attribute, AttributeValue=key)
    scene.alarm(91)
    assert [False, True] == [one["problem"] == "" for one in scene.messages]


def test_what_kms_sends_needs_no_trail(scene: Scene) -> None:
    """The expiry arrives, dated when it happened; a call does not arrive without a trail."""
    scene.rule()
    scene.kms.disable_key(KeyId=scene.key_id)
    advance(scene.url, days=61)
    assert ["KMS Imported Key Material Expiration"] == scene.heard
    assert scene.ends.isoformat(timespec="seconds") == scene.messages[0]["time"]


TRAILS = [
    pytest.param({}, True, True, id="all"),
    pytest.param({"EventSelectors": [{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True}]}, True, False, id="writes"),
    pytest.param({"EventSelectors": [{"ReadWriteType": "All", "IncludeManagementEvents": False}]}, False, False, id="data-only"),
    pytest.param(
        {"EventSelectors": [{"IncludeManagementEvents": True, "ExcludeManagementEventSources": [trails.KMS]}]},
        False, False, id="without-kms",
    ),
    pytest.param({"AdvancedEventSelectors": [{"FieldSelectors": [MANAGEMENT]}]}, True, True, id="advanced"),
    pytest.param(
        {"AdvancedEventSelectors": [{"FieldSelectors": [MANAGEMENT, KMS_LEFT_OUT]}]}, False, False, id="advanced-without-kms"
    ),
    pytest.param(
        {"AdvancedEventSelectors": [{"FieldSelectors": [MANAGEMENT, {"Field": "readOnly", "Equals": ["false"]}]}]},
        True, False, id="advanced-writes",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("selectors", "writes", "reads"), TRAILS)
def test_calls_arrive_only_as_far_as_a_trail_logs_them(
    scene: Scene, selectors: dict[str, Any], writes: bool, reads: bool
) -> None:
    """A trail that leaves out management events, or those of KMS, makes the rules deaf."""
    scene.trail(**selectors)
    scene.rule("DisableKey", "Encrypt", state="ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")
    scene.kms.encrypt(KeyId=scene.key_id, Plaintext=b"x")
    scene.kms.disable_key(KeyId=scene.key_id)
    assert (["Encrypt"] if reads else []) + (["DisableKey"] if writes else []) == scene.heard


def test_an_enabled_rule_does_not_hear_what_only_reads(scene: Scene) -> None:
    """Encrypt is a read-only event: a rule in state ENABLED hears DisableKey only."""
    scene.trail()
    scene.rule("DisableKey", "Encrypt")
    scene.kms.encrypt(KeyId=scene.key_id, Plaintext=b"x")
    scene.kms.disable_key(KeyId=scene.key_id)
    assert ["DisableKey"] == scene.heard


def test_use_of_a_key_that_is_being_deleted_is_heard_by_its_error_message(scene: Scene) -> None:
    """The message of the error begins with the key's ARN, so a prefix finds this key's only."""
    scene.trail()
    arn = scene.kms.describe_key(KeyId=scene.key_id)["KeyMetadata"]["Arn"]
    scene.rule(
        state="ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS", errorMessage=[{"prefix": f"{arn} is pending deletion"}]
    )
    other = scene.kms.create_key()["KeyMetadata"]["KeyId"]
    for key in (scene.key_id, other):
        scene.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        assert "KMSInvalidStateException" == refusal(scene.kms.encrypt, KeyId=key, Plaintext=b"x")
    assert ["Encrypt"] == scene.heard
