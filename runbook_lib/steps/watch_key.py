"""Step 21: alarms and rules that tell when the key's material is about to expire, and who endangers the key.

One SNS topic, three EventBridge rules and two CloudWatch alarms for each key, found by their names (`watch_set`). What has such
a name and differs is changed only if this run created it. Nobody is subscribed: that is the operator's choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runbook_lib.aws import kms, trails, watch
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.checks import Checks
from runbook_lib.errors import KeyNotUsable, StepMissing
from runbook_lib.inputs.watch import WatchKeyInputs
from runbook_lib.plan import Change, Plan
from runbook_lib.policies import publishing
from runbook_lib.run import expiry
from runbook_lib.run.records import KeyRecord, WatchRecord
from runbook_lib.steps import ownership, reports, watch_topic
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import ALARM, RULE, TOPIC, Found
from runbook_lib.steps.watch_set import Rule, WatchSet, alarm_differs, rule_differs
from runbook_lib.tables import Result

TRAIL, TEST = "CloudTrail trail", "test message"
CREATE_TOPIC, PUT_RULE, PUT_ALARM = "sns:CreateTopic", "events:PutRule, events:PutTargets", "cloudwatch:PutMetricAlarm"


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: WatchKeyInputs) -> Plan:
    """Plan what watches the key, and say which rules hear nothing for lack of a trail; only read.

    Raises `KeyNotUsable` if the key is deleted, and `PolicyInvalid`.
    """
    wanted = _wanted(step, asked)
    changes = [_trail_row(step, wanted), *watch_topic.rows(step, asked, wanted)]
    changes += [_rule_row(step, wanted, rule) for rule in wanted.rules]
    changes += [_alarm_row(step, wanted, name) for name in wanted.alarm_names]
    record = WatchRecord.so_far(step.run)
    if asked.send_test_message and (record.topic_arn, bool(record.test_message_id)) != (wanted.topic_arn, True):
        changes.append(Change("create", TEST, wanted.topic_arn.rpartition(":")[2], "published once", "sns:Publish"))
    return step.plan(asked, changes)


def _wanted(step: OpenStep, asked: WatchKeyInputs) -> WatchSet:
    """Return the set of the run's key as it is now: its alarms depend on whether its material expires."""
    key = KeyRecord.from_run(step.run)
    metadata = kms.describe(step.session, key.key_id)
    if metadata is None:
        raise KeyNotUsable(f"key {key.key_id} is deleted, so there is nothing to watch; start a new run")
    needed = [
        one for one in kms.materials(step.session, key.key_id) if not one["KeyMaterialState"].startswith("PENDING")
    ]
    lost = any(one.get("ImportState") == "PENDING_IMPORT" for one in needed) and expiry.valid_to(step.run) is not None
    return WatchSet(
        str(metadata["Arn"]), asked.sns_topic_arn, expires=lost or any(one.get("ValidTo") for one in needed)
    )


def _trail_row(step: OpenStep, wanted: WatchSet) -> Change:
    writes, reads = trails.logging_kms(step.session)
    deaf = _deaf(wanted, writes, reads)
    heard = dict.fromkeys([*writes, *reads])
    if not deaf:
        return Change("keep", TRAIL, ", ".join(heard), "logs the calls of KMS: every rule hears")
    kinds = " and ".join(f"'{rule.kind}'" for rule in wanted.rules if rule.name in deaf)
    calls = "the calls of KMS" if not heard else "all calls of KMS, reads and changes"
    why = f"the rules {kinds} would hear nothing: no trail logs {calls} in this Region; create or change a trail, then plan again"
    return Change(
        "keep", TRAIL, ", ".join(heard) or "none", why if len(deaf) > 1 else why.replace("the rules", "the rule", 1)
    )


def _deaf(wanted: WatchSet, writes: list[str], reads: list[str]) -> list[str]:
    """Return the rules that hear nothing, for lack of a trail."""
    logged = {"": True, "writes": bool(writes), "reads": bool(writes and reads)}
    return [rule.name for rule in wanted.rules if not logged[rule.needs]]


def _rule_row(step: OpenStep, wanted: WatchSet, rule: Rule) -> Change:
    request, found = wanted.rule_request(rule), watch.find_rule(step.session, rule.name)
    if found is None:
        return Change("create", RULE, rule.name, rule.hears, PUT_RULE, request)
    return _row(
        step,
        ownership.of_rule(found),
        rule_differs(found, request, wanted.targets(rule)),
        rule.hears,
        PUT_RULE,
        request,
    )


def _alarm_row(step: OpenStep, wanted: WatchSet, name: str) -> Change:
    request, found = wanted.alarm_request(name), watch.find_alarm(step.session, name)
    words = f"below {wanted.alarm_names[name]} days; without data: {request['TreatMissingData']}"
    if found is None:
        return Change("create", ALARM, name, words, PUT_ALARM, request)
    return _row(step, ownership.of_alarm(found), alarm_differs(found, request), words, PUT_ALARM, request)


def _row(
    step: OpenStep, found: Found, differing: list[str], words: str, calls: str, request: Mapping[str, Any]
) -> Change:
    """Return the row of what exists: kept if it is as it should be, changed if this run created it, else refused."""
    ours = ownership.is_ours(step, found)
    if not differing:
        made = "created by this run" if ours else "exists as it should be; used, and not changed"
        return Change(
            "keep", found.resource, found.name, f"{made}: {words}", "", request, found.identity if ours else ""
        )
    different = ", ".join(differing)
    if ours:
        return Change("change", found.resource, found.name, f"{different}: {words}", calls, request, found.identity)
    why = f"exists with another {different}, and {step.whose(found.tags)}; delete it, or change it yourself"
    return Change("refuse", found.resource, found.name, why)


# Apply ------------------------------------------------------------------------------------------------------------


def apply(step: OpenStep, plan: Plan) -> str:
    """Create or change what the plan lists, each at most once; return the topic's ARN.

    Raises `PlanOutdated`, `AwsCallFailed`, `OutcomeUnclear`.
    """
    asked: WatchKeyInputs = plan.inputs
    with step.applying(plan):
        wanted = _wanted(step, asked)
        rules = {rule.name: rule for rule in wanted.rules}
        for change in plan.changes:
            if change.action == "keep":
                ownership.keep(step, change)
            elif change.resource == TOPIC:
                watch_topic.create(step, change)
            elif change.resource == RULE:
                _put_rule(step, change, wanted.targets(rules[change.name]))
            elif change.resource == ALARM:
                put_alarm(step, change)
        noted = WatchRecord.so_far(step.run)
        step.run.note(
            step.name, topic_arn=wanted.topic_arn, rules=[*rules], alarms=[*wanted.alarm_names],
            test_message_id=noted.test_message_id if noted.topic_arn == wanted.topic_arn else "",
        )  # fmt: skip
        if any(change.resource == TEST for change in plan.changes):
            step.run.note(step.name, test_message_id=watch_topic.send_test(step, wanted))
    return Result(wanted.topic_arn, "Alarms and rules publish to the SNS topic {}.")


def follow(step: OpenStep) -> list[str]:
    """Let the alarms follow an expiry that was set or taken away since; return one line for each that was changed.

    A later expiry needs nothing: the metric counts down to it. Without one, missing data must not be breaching any more.
    """
    if not WatchRecord.so_far(step.run).alarms:
        return []
    with step.run.locked(what=step.name):
        wanted = _wanted(step, WatchKeyInputs.check(step.run.steps[step.name]["inputs"]))
        rows = [_alarm_row(step, wanted, name) for name in wanted.alarm_names]
        changed = [row for row in rows if row.action == "change"]
        for row in changed:
            put_alarm(step, row)
    return [f"alarm {row.name} follows: {row.detail}" for row in changed]


def _put_rule(step: OpenStep, change: Change, targets: list[dict[str, Any]]) -> None:
    client = step.client("events", retry=False)
    if change.action == "change":
        ownership.require_same(step, change)
        client.put_rule(**change.request)
    else:
        create_once(
            step.run, step.name, f"events:PutRule {change.name}",
            find=lambda: _ours(step, watch.find_rule(step.session, change.name), ownership.of_rule),
            create=lambda: str(client.put_rule(**step.marked({**change.request, "Tags": step.tag_list()}))["RuleArn"]),
            identity=str,
        )  # fmt: skip
    step.client("events").put_targets(Rule=change.name, Targets=targets)


def put_alarm(step: OpenStep, change: Change) -> None:
    """Create or change one alarm. Raises `PlanOutdated` if the one to change is another's now."""
    client = step.client("cloudwatch", retry=False)
    if change.action == "change":
        ownership.require_same(step, change)
        client.put_metric_alarm(**change.request)
        return

    def send() -> str:
        client.put_metric_alarm(**step.marked({**change.request, "Tags": step.tag_list()}))
        found = watch.find_alarm(step.session, change.name)
        return str(found["AlarmArn"]) if found else ""

    create_once(
        step.run, step.name, f"cloudwatch:PutMetricAlarm {change.name}",
        find=lambda: _ours(step, watch.find_alarm(step.session, change.name), ownership.of_alarm), create=send, identity=str,
    )  # fmt: skip


def _ours(step: OpenStep, found: Mapping[str, Any] | None, describe: Any) -> str | None:
    """Return the ARN of what exists, if this run created it."""
    if found is None:
        return None
    one: Found = describe(found)
    return one.identity if ownership.is_ours(step, one) else None


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Compare topic, rules and alarms with what watches this key, and finish the step.

    A rule that hears nothing for lack of a trail is named in the summary and is no failure: whether a trail is kept is
    not this run's decision. Raises `StepMissing` when nothing was applied, and `VerificationFailed`.
    """
    if step.name not in step.run.steps:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    asked = WatchKeyInputs.check(step.run.steps[step.name]["inputs"])
    wanted = _wanted(step, asked)
    checks = retry_until_passed(lambda: _gather(step, wanted, asked), target=step.session.target)
    reports.add_result(step, checks)
    checks.require_passed()
    deaf = _deaf(wanted, *trails.logging_kms(step.session))
    summary = f"{len(wanted.alarm_names)} alarms and {len(wanted.rules)} rules publish to {wanted.topic_arn.rpartition(':')[2]}"
    summary += f"; {len(deaf)} hear nothing, for lack of a trail" if deaf else ""
    step.run.note(step.name, deaf=deaf)
    step.run.finish(step.name, summary=summary)
    return checks


def _gather(step: OpenStep, wanted: WatchSet, asked: WatchKeyInputs) -> Checks:
    checks, topic = Checks("What watches the key"), wanted.topic_arn.rpartition(":")[2]
    found = watch.find_topic(step.session, wanted.topic_arn, tags=not asked.sns_topic_arn)
    policy = json.loads(found["Policy"]) if found else {"Statement": []}
    refused = publishing.cannot(policy, wanted.topic_arn, wanted.account_id, wanted.publishers)
    number = sum(map(len, wanted.publishers.values()))
    names = ", ".join(arn.rpartition(":")[2] for arn in refused)
    may = f"{number - len(refused)} of {number}" + (f"; not {names}" if names else "")
    claim = "the topic lets all alarms and rules publish"
    checks.equal(claim, f"{number} of {number}", may, source="sns:GetTopicAttributes")
    if found and found.get("KmsMasterKeyId"):
        problem = watch_topic.key_problem(step, wanted, asked, found)
        checks.equal("they may use its key", "usable", problem or "usable", source="kms:GetKeyPolicy")
    for rule in wanted.rules:
        actual = _rule_in_words(watch.find_rule(step.session, rule.name), wanted, rule)
        checks.equal(
            f"the rule '{rule.kind}': {rule.hears}", f"{rule.state} to {topic}", actual, source="events:DescribeRule"
        )
    for name, days in wanted.alarm_names.items():
        alarm, request = watch.find_alarm(step.session, name), wanted.alarm_request(name)
        differing = alarm_differs(alarm, request) if alarm else ["does not exist"]
        expected_words = (
            f"{request['ComparisonOperator']} {request['Threshold']:.0f}, missing data {request['TreatMissingData']}"
        )
        actual = f"differs: {', '.join(differing)}" if differing else expected_words
        checks.equal(
            f"the alarm {days} days before an expiry", expected_words, actual, source="cloudwatch:DescribeAlarms"
        )
    return checks


def _rule_in_words(found: dict[str, Any] | None, wanted: WatchSet, rule: Rule) -> str:
    """Return state and topic of a rule that is as it should be, else what differs."""
    if found is None:
        return "does not exist"
    differing = rule_differs(found, wanted.rule_request(rule), wanted.targets(rule))
    return (
        f"differs: {', '.join(differing)}"
        if differing
        else f"{found['State']} to {found['Targets'][0]['Arn'].rpartition(':')[2]}"
    )
