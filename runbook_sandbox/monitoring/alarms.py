"""CloudWatch alarms on the metric that warns before key material expires, evaluated against the sandbox's clock.

moto gap: alarms are never evaluated and begin as OK, also after each change; on AWS they begin as INSUFFICIENT_DATA, and a
change keeps the state (CloudWatch API, PutMetricAlarm). Missing data counts as the alarm says (CloudWatch user guide,
alarms-and-missing-data). There are no timers: alarms are evaluated when the clock moves, and at each call of KMS,
CloudWatch and SNS. Alarms on other metrics keep their state.
"""

from __future__ import annotations

import json
import operator
from datetime import UTC, datetime, timedelta
from typing import Any

import moto.cloudwatch.urls
from moto.cloudwatch.models import Alarm, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from runbook_sandbox.instruments import clock
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.monitoring import cloudwatch, messages

_COMPARE = {
    "GreaterThanOrEqualToThreshold": operator.ge, "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt, "LessThanOrEqualToThreshold": operator.le,
}  # fmt: skip
_MISSING = {"breaching": "ALARM", "notBreaching": "OK", "missing": "INSUFFICIENT_DATA"}
_NEW = "INSUFFICIENT_DATA"
_evaluating: set[tuple[str, str]] = set()


def everywhere() -> list[tuple[str, str]]:
    """Return each account and Region that has alarms."""
    backends = [(account, list(regions.items())) for account, regions in list(cloudwatch_backends.items())]
    return [(account, region) for account, found in backends for region, backend in found if backend.alarms]


def evaluate(account: str, region: str) -> None:
    """Evaluate the alarms of an account in a Region. The caller holds the account's lock."""
    if account not in cloudwatch_backends or (account, region) in _evaluating:
        return
    backend = dict.get(cloudwatch_backends[account], region)
    if backend is None or not backend.alarms:
        return
    _evaluating.add((account, region))
    try:
        for alarm in list(backend.alarms.values()):
            if alarm.namespace == "AWS/KMS" and alarm.metric_name == cloudwatch.NAME:
                _evaluate(account, region, alarm)
    finally:
        _evaluating.discard((account, region))


def _evaluate(account: str, region: str, alarm: Alarm) -> None:
    named = next((one.value for one in alarm.dimensions if one.name == "KeyId"), "")
    key = kms_keys.resolve(account, region, str(named)) if named else None
    now, ends = clock.now(), cloudwatch.first_expiry(key) if key is not None else None
    if ends is None:
        treated = alarm.treat_missing_data or "missing"
        state = _MISSING.get(treated, alarm.state_value)  # "ignore": it keeps its state
        reason = f"no datapoints were received, and missing data is treated as {treated}"
        gone = [one.valid_to for one in kms_keys.extension_of(key).permanent if one.valid_to] if key is not None else []
        passed = [moment - timedelta(seconds=float(alarm.threshold)) for moment in gone if moment <= now]
        since = min(passed, default=now)
    else:
        left = (ends - now).total_seconds()
        state = "ALARM" if _COMPARE[alarm.comparison_operator](left, float(alarm.threshold)) else "OK"
        reason = f"1 datapoint [{left:.0f}.0] was compared with the threshold {float(alarm.threshold)}: {alarm.comparison_operator}"
        since = ends - timedelta(seconds=float(alarm.threshold)) if state == "ALARM" else now
    if state != alarm.state_value:
        updated = alarm.state_updated_timestamp.replace(tzinfo=UTC)
        _change(account, region, alarm, state, reason, at=min(now, max(since, updated)))


def _change(account: str, region: str, alarm: Alarm, state: str, reason: str, *, at: datetime) -> None:
    """Change an alarm's state, and publish it to the topics that are its actions for this state."""
    before = alarm.state_value
    alarm.update_state(f"Threshold Crossed: {reason}", "{}", state)
    alarm.state_updated_timestamp = at.replace(tzinfo=None)
    if not alarm.actions_enabled:
        return
    actions = {"ALARM": alarm.alarm_actions, "OK": alarm.ok_actions, _NEW: alarm.insufficient_data_actions}[state]
    trigger = {
        "MetricName": alarm.metric_name, "Namespace": alarm.namespace, "Statistic": alarm.statistic, "Period": alarm.period,
        "Threshold": alarm.threshold, "ComparisonOperator": alarm.comparison_operator,
        "EvaluationPeriods": alarm.evaluation_periods, "TreatMissingData": alarm.treat_missing_data,
        "Dimensions": [{"name": one.name, "value": one.value} for one in alarm.dimensions],
    }  # fmt: skip
    message = {
        "AlarmName": alarm.name, "AlarmDescription": alarm.description, "AWSAccountId": account, "NewStateValue": state,
        "NewStateReason": alarm.state_reason, "StateChangeTime": at.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        "Region": region, "AlarmArn": alarm.alarm_arn, "OldStateValue": before, "Trigger": trigger,
    }  # fmt: skip
    for action in actions:
        messages.deliver(
            account, action, service=messages.CLOUDWATCH, source_arn=alarm.alarm_arn,
            subject=f'{state}: "{alarm.name}" in {region}', message=json.dumps(message), at=at,
        )  # fmt: skip


class SandboxCloudWatchResponse(CloudWatchResponse):
    """moto's handler, with alarms that are evaluated."""

    def put_metric_alarm(self) -> ActionResult:
        found: Any = self.cloudwatch_backend.alarms
        name = self._get_param("AlarmName")
        before = found.get(name)
        answer = super().put_metric_alarm()
        alarm, now = found[name], clock.now().replace(tzinfo=None)
        alarm.configuration_updated_timestamp = alarm.state_updated_timestamp = now
        alarm.state_value = _NEW
        if before is not None:
            alarm.state_value, alarm.state_reason = before.state_value, before.state_reason
            alarm.state_updated_timestamp = before.state_updated_timestamp
        return answer

    def describe_alarms(self) -> ActionResult:
        evaluate(self.current_account, self.region)
        return super().describe_alarms()


def install() -> None:
    """Install the handler in moto."""
    moto.cloudwatch.urls.url_paths = {"{0}/$": SandboxCloudWatchResponse.dispatch}
