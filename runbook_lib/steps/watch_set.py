"""What watches one key: the names, the patterns of the rules, and the requests of rules and alarms. Pure.

There is one set for each key, found by its names, and used by every run of the key. Sources: KMS developer guide,
monitoring-cloudwatch (the metric) and kms-events; EventBridge user guide, eb-service-event-cloudtrail-management.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.policies.publishing import CLOUDWATCH, EVENTS

ALARM_DAYS = (30, 7)
METRIC = {"Namespace": "AWS/KMS", "MetricName": "SecondsUntilKeyMaterialExpiration", "Statistic": "Minimum"}
CHANGES = ("DeleteImportedKeyMaterial", "DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "RevokeGrant")
_API_CALL = "AWS API Call via CloudTrail"
_TARGET = "topic"


@dataclass(frozen=True)
class Rule:
    """One rule: what it hears, in words; the state and the pattern; and which events a trail must log for it.

    `needs` is empty for the events that KMS sends by itself, `writes` or `reads` for calls.
    """

    name: str
    hears: str
    pattern: Mapping[str, Any]
    input: Mapping[str, Any]
    needs: str = ""
    state: str = "ENABLED"

    @property
    def kind(self) -> str:
        """The end of its name, such as `in use`."""
        return {"": "expired", "writes": "changed", "reads": "in use"}[self.needs]


@dataclass(frozen=True)
class WatchSet:
    """The topic, rules and alarms of one key; `expires`: whether a key material that the key needs expires."""

    key_arn: str
    given_topic_arn: str = ""
    expires: bool = False

    @property
    def key_id(self) -> str:
        return self.key_arn.rpartition("/")[2]

    @property
    def account_id(self) -> str:
        return self.key_arn.split(":")[4]

    @property
    def name(self) -> str:
        """The name of the topic, and the beginning of all others."""
        return f"runbook-{self.key_id}"

    @property
    def topic_arn(self) -> str:
        return self.given_topic_arn or self._arn("sns", self.name)

    def _arn(self, service: str, name: str) -> str:
        _, partition, _, region, account, _ = self.key_arn.split(":")
        return f"arn:{partition}:{service}:{region}:{account}:{name}"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What a rule hears: the key's own events, calls that change it, and use while it is being deleted."""
        own = {"source": ["aws.kms"]}
        events = ["KMS Imported Key Material Expiration", "KMS CMK Deletion"]
        ids = {"keyId": [self.key_id, self.key_arn]}
        called = {**own, "detail-type": [_API_CALL]}
        refused = [{"prefix": f"{self.key_arn} is pending deletion"}, {"prefix": f"{self.key_arn} is pending replica"}]
        by_caller = {"event": "$.detail.eventName", "caller": "$.detail.userIdentity.arn", "time": "$.time"}
        return (
            Rule(
                f"{self.name}-expired", "key material expired, or the key deleted",
                {**own, "detail-type": events, "detail": {"key-id": [self.key_id]}},
                {"InputPathsMap": {"event": "$.detail-type", "time": "$.time"},
                 "InputTemplate": f'"<event> at <time>: KMS key {self.key_arn}"'},
            ),
            Rule(
                f"{self.name}-changed", ", ".join(CHANGES),
                {**called, "detail": {"eventSource": ["kms.amazonaws.com"], "eventName": list(CHANGES), "requestParameters": ids}},
                {"InputPathsMap": {**by_caller, "error": "$.detail.errorCode"},
                 "InputTemplate": f'"<event> by <caller> at <time> on KMS key {self.key_arn} <error>"'},
                needs="writes",
            ),
            Rule(
                f"{self.name}-in-use", "use of the key while it is pending deletion",
                {**called, "detail": {"eventSource": ["kms.amazonaws.com"], "errorMessage": refused}},
                {"InputPathsMap": by_caller,
                 "InputTemplate": f'"<event> by <caller> at <time>: in use while pending deletion, KMS key {self.key_arn}"'},
                needs="reads", state="ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS",
            ),
        )  # fmt: skip

    @property
    def alarm_names(self) -> dict[str, int]:
        """The days before the expiry, by the name of the alarm."""
        return {f"{self.name}-expires-in-{days}-days": days for days in ALARM_DAYS}

    @property
    def publishers(self) -> dict[str, list[str]]:
        """For each service, the ARNs that publish to the topic."""
        return {
            CLOUDWATCH: [self._arn("cloudwatch", f"alarm:{name}") for name in self.alarm_names],
            EVENTS: [self._arn("events", f"rule/{rule.name}") for rule in self.rules],
        }

    def rule_request(self, rule: Rule) -> dict[str, Any]:
        """Return the request of PutRule, without tags."""
        return {
            "Name": rule.name, "EventPattern": json.dumps(rule.pattern), "State": rule.state,
            "Description": f"KMS key {self.key_id}: {rule.hears}",
        }  # fmt: skip

    def targets(self, rule: Rule) -> list[dict[str, Any]]:
        """Return the rule's one target, the topic, with the text that arrives there."""
        return [{"Id": _TARGET, "Arn": self.topic_arn, "InputTransformer": dict(rule.input)}]

    def alarm_request(self, name: str) -> dict[str, Any]:
        """Return the request of PutMetricAlarm, without tags.

        It alarms below the threshold. After an expiry the metric ends, so missing data is breaching while there is one.
        """
        days = self.alarm_names[name]
        return {
            "AlarmName": name, "AlarmDescription": f"Imported key material of KMS key {self.key_id} expires within {days} days",
            **METRIC, "Dimensions": [{"Name": "KeyId", "Value": self.key_id}], "Period": 3600, "EvaluationPeriods": 1,
            "Threshold": days * 86400.0, "ComparisonOperator": "LessThanThreshold",
            "TreatMissingData": "breaching" if self.expires else "notBreaching", "AlarmActions": [self.topic_arn],
        }  # fmt: skip


def rule_differs(found: Mapping[str, Any], wanted: Mapping[str, Any], targets: list[dict[str, Any]]) -> list[str]:
    """Return the names of what a rule has other than it should: pattern, state and targets."""
    differing = (
        [] if json.loads(found.get("EventPattern") or "{}") == json.loads(wanted["EventPattern"]) else ["EventPattern"]
    )
    differing += [] if found.get("State") == wanted["State"] else ["State"]
    return differing + ([] if targets == found["Targets"] else ["Targets"])


def alarm_differs(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the names of what an alarm has other than it should, actions that are switched off included."""
    differing = [name for name, value in wanted.items() if name != "AlarmDescription" and found.get(name) != value]
    return differing + ([] if found.get("ActionsEnabled", True) else ["ActionsEnabled"])
