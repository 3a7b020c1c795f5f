"""21: one set of topic, rules and alarms for each key; deaf rules are named, another's resources are left alone."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner

from runbook_cli.main import main
from runbook_lib.aws import sandbox_process
from runbook_lib.errors import InputError, KeyNotUsable, PlanRefused, VerificationFailed
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.inputs.recovery import RecoverInputs
from runbook_lib.inputs.watch import WatchKeyInputs
from runbook_lib.run.records import WatchRecord
from runbook_lib.steps import clean_up, recover, watch_key

SERVICES = ["cloudwatch.amazonaws.com", "events.amazonaws.com"]


def plan_of(walk, **given):
    return watch_key.plan(walk.step("21"), WatchKeyInputs.check(given))


def watched(walk, **given):
    step = walk.step("21")
    watch_key.apply(step, watch_key.plan(step, WatchKeyInputs.check(given)))
    return watch_key.verify(step)


def messages(walk):
    return sandbox_process.call(walk.endpoint, "/runbook/messages")["messages"]


def changing_calls(walk):
    found = sandbox_process.call(walk.endpoint, "/runbook/calls")["calls"]
    reads = ("Describe", "Get", "List")
    return [call["operation"] for call in found if not call["operation"].startswith(reads)]


def trail(walk, **selectors):
    walk.client("s3").create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": "eu-west-2"})
    walk.client("cloudtrail").create_trail(Name="audit", S3BucketName="logs", IsMultiRegionTrail=True)
    if selectors:
        walk.client("cloudtrail").put_event_selectors(TrailName="audit", **selectors)
    walk.client("cloudtrail").start_logging(Name="audit")


def change_policy(walk):
    text = walk.client().get_key_policy(KeyId=walk.key_id, PolicyName="default")["Policy"]
    walk.client().put_key_policy(KeyId=walk.key_id, PolicyName="default", Policy=text)


def key_for_topics(walk, *, services=SERVICES):
    root = {"AWS": f"arn:aws:iam::{walk.run.target['account_id']}:root"}
    allow = {"Effect": "Allow", "Resource": "*"}
    statements = [{**allow, "Principal": root, "Action": "kms:*"}]
    if services:
        actions = ["kms:Decrypt", "kms:GenerateDataKey*"]
        statements.append({**allow, "Principal": {"Service": services}, "Action": actions})
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return walk.client().create_key(Policy=policy)["KeyMetadata"]["KeyId"]


@pytest.fixture
def keyed(walk):
    """A run that has its key, without material: it is watched all the same."""
    return walk.start()


@pytest.fixture
def expiring(walk):
    """A run whose key material expires in 60 days."""
    walk.start().pair().encrypt()
    ends = (walk.step("04").now() + timedelta(days=60)).isoformat(timespec="seconds")
    walk.bring_in(expiration_model="KEY_MATERIAL_EXPIRES", valid_to=ends)
    return walk


def test_the_set_is_created_once_and_then_kept(keyed):
    """One topic, three rules, two alarms and one test message; the second time nothing is sent that changes anything."""
    watched(keyed)
    assert ["Test: KMS key is watched"] == [one["subject"] for one in messages(keyed)]
    before, again = changing_calls(keyed), plan_of(keyed)
    assert {"keep"} == {change.action for change in again.changes}
    watched(keyed)
    assert before == changing_calls(keyed)


def test_alarms_go_off_below_their_threshold_and_after_the_expiry(expiring):
    """A class sees both messages in time, and the one of the expiry."""
    watched(expiring)
    names = {30: "ALARM", 7: "ALARM"}
    sandbox_process.call(expiring.endpoint, "/runbook/clock", body={"advance_seconds": 61 * 86400}, method="POST")
    subjects = [one["subject"] for one in messages(expiring) if one["sender"] == SERVICES[0]]
    assert list(names) == [days for days in names for subject in subjects if f"expires-in-{days}-days" in subject]
    [expired] = [one for one in messages(expiring) if one["sender"] == SERVICES[1]]
    assert ("", True) == (expired["problem"], "KMS Imported Key Material Expiration" in expired["message"])
    assert {"keep"} == {change.action for change in plan_of(expiring).changes}  # breaching as before, until it is back


@pytest.mark.slow
def test_missing_data_is_breaching_only_while_there_is_an_expiry(keyed):
    """Without an expiry the metric has no data, and an alarm that treats this as breaching would never end."""
    watched(keyed)
    alarms = keyed.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {("notBreaching", "OK")} == {(one["TreatMissingData"], one["StateValue"]) for one in alarms}


@pytest.mark.parametrize(
    ("selectors", "deaf"),
    [
        pytest.param(None, ["changed", "in-use"], id="no-trail"),
        pytest.param({}, [], id="all-events"),
        pytest.param({"EventSelectors": [{"ReadWriteType": "WriteOnly"}]}, ["in-use"], id="writes-only"),
        pytest.param(
            {"EventSelectors": [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]}, ["changed", "in-use"],
            id="not-kms", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_the_plan_and_the_record_name_the_rules_that_hear_nothing(keyed, selectors, deaf):
    """What the trail leaves out is what the rules do not hear: the sandbox delivers accordingly."""
    if selectors is not None:
        trail(keyed, **selectors)
    words = plan_of(keyed).change("CloudTrail trail").detail
    assert [kind in words for kind in ("'changed'", "'in use'")] == [kind in deaf for kind in ("changed", "in-use")]
    watched(keyed)
    assert deaf == [name.removeprefix(f"runbook-{keyed.key_id}-") for name in WatchRecord.so_far(keyed.run).deaf]
    change_policy(keyed)
    heard = [one for one in messages(keyed) if "PutKeyPolicy" in one["message"]]
    assert ("changed" not in deaf) is (len(heard) == 1)


def test_use_of_the_key_while_it_is_pending_deletion_is_told(keyed):
    """By whom and when; another key's use is not."""
    trail(keyed)
    watched(keyed)
    other = keyed.client().create_key()["KeyMetadata"]["KeyId"]
    for key in (keyed.key_id, other):
        keyed.client().schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        with pytest.raises(keyed.client().exceptions.KMSInvalidStateException):
            keyed.client().encrypt(KeyId=key, Plaintext=b"x")
    told = [one["message"] for one in messages(keyed) if "in use while pending deletion" in one["message"]]
    assert (1, True) == (len(told), keyed.key_id in told[0])


@pytest.mark.parametrize("kind", ["rule", "alarm"])
def test_what_another_created_is_refused_if_it_differs(keyed, kind):
    """PutRule and PutMetricAlarm would replace it without asking."""
    name = f"runbook-{keyed.key_id}-" + ("changed" if kind == "rule" else "expires-in-7-days")
    if kind == "rule":
        keyed.client("events").put_rule(Name=name, EventPattern='{"source": ["aws.rds"]}')
    else:
        keyed.client("cloudwatch").put_metric_alarm(
            AlarmName=name, Namespace="x", MetricName="y", Statistic="Minimum", Period=60, EvaluationPeriods=1, Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
        )  # fmt: skip
    with pytest.raises(PlanRefused, match=f"{name}: exists with another .* this run did not create it"):
        watch_key.apply(keyed.step("21"), plan_of(keyed))


@pytest.mark.slow
def test_what_this_run_created_and_somebody_changed_is_set_right(keyed):
    """An alarm whose actions were switched off, a rule that was disabled: verify fails, and a new plan changes them back."""
    watched(keyed)
    name = f"runbook-{keyed.key_id}-expires-in-7-days"
    keyed.client("cloudwatch").disable_alarm_actions(AlarmNames=[name])
    keyed.client("events").disable_rule(Name=f"runbook-{keyed.key_id}-changed")
    with pytest.raises(VerificationFailed, match=r"differs: State.*differs: ActionsEnabled"):
        watch_key.verify(keyed.step("21"))
    assert 2 == sum(change.action == "change" for change in plan_of(keyed).changes)
    assert watched(keyed).passed


@pytest.mark.slow
def test_a_second_run_of_the_key_uses_the_set_and_owns_none_of_it(keyed, tmp_path):
    """Its rows keep what is as it should be; what differs then is refused, as the first run created it."""
    watched(keyed)
    state = keyed.path / "state.json"
    content = json.loads(state.read_text())
    del content["steps"]["21_watch_key"]
    state.write_text(json.dumps(content))
    kept = [
        change for change in plan_of(keyed).changes if change.action == "keep" and change.resource != "CloudTrail trail"
    ]
    assert (6, {""}) == (len(kept), {change.identity for change in kept})
    keyed.client("events").disable_rule(Name=f"runbook-{keyed.key_id}-changed")
    assert 1 == sum(change.action == "refuse" for change in plan_of(keyed).changes)


def test_a_given_topic_is_used_if_it_lets_both_services_publish(keyed):
    """Until then the plan refuses it, with the statements to add; it is never changed."""
    sns = keyed.client("sns")
    topic = sns.create_topic(Name="security")["TopicArn"]
    refused = plan_of(keyed, sns_topic_arn=topic).change("SNS topic")
    statements = json.loads(refused.detail.partition(": ")[2])
    assert ("refuse", SERVICES) == (refused.action, [one["Principal"]["Service"] for one in statements])
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    assert watched(keyed, sns_topic_arn=topic).passed
    assert json.loads(policy) == json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    assert topic == messages(keyed)[-1]["topic"]


def test_a_topic_that_limits_eventbridge_by_a_condition_is_refused(keyed):
    """Its requests carry no source, so that nothing would arrive, and only a metric of AWS would say so."""
    topic = keyed.client("sns").create_topic(Name="security")["TopicArn"]
    policy = json.loads(open_policy(topic))
    policy["Statement"][0]["Condition"] = {"StringEquals": {"aws:SourceAccount": keyed.run.target["account_id"]}}
    keyed.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy))
    change = plan_of(keyed, sns_topic_arn=topic).change("SNS topic")
    statements = json.loads(change.detail.partition(": ")[2])
    assert ("refuse", [True, False]) == (change.action, ["Condition" in one for one in statements])


@pytest.mark.slow
def test_a_given_topic_that_is_gone_or_elsewhere_is_refused(keyed):
    """An alarm publishes in its own Region only."""
    account = keyed.run.target["account_id"]
    for region, words in (("eu-west-2", "does not exist"), ("eu-west-1", "in its own Region")):
        change = plan_of(keyed, sns_topic_arn=f"arn:aws:sns:{region}:{account}:nowhere").change("SNS topic")
        assert ("refuse", True) == (change.action, words in change.detail)


def test_the_key_of_the_topic_must_let_both_services_use_it(keyed):
    """The statement to add is in the refusal; with it, the messages arrive under the key."""
    closed, key = key_for_topics(keyed, services=[]), key_for_topics(keyed)
    refused = plan_of(keyed, sns_kms_key_id=closed).change("SNS topic")
    statements = json.loads(refused.detail.partition("statements: ")[2])
    assert ("refuse", SERVICES) == (refused.action, [one["Principal"]["Service"] for one in statements])
    assert watched(keyed, sns_kms_key_id=key).passed
    change_policy(keyed)
    assert {""} == {one["problem"] for one in messages(keyed)}


def test_the_watched_key_and_aws_own_key_cannot_encrypt_the_topic(keyed):
    """Nothing would arrive when it matters: the watched key fails with its material, AWS's own lets no service publish."""
    own = keyed.client().describe_key(KeyId="alias/aws/rds")["KeyMetadata"]["KeyId"]
    for key, words in ((keyed.key_id, "the one that is watched"), (own, "AWS's own"), (OTHER_KEY, "not found")):
        change = plan_of(keyed, sns_kms_key_id=key).change("SNS topic")
        assert ("refuse", True) == (change.action, words in change.detail), change.detail
    topic = keyed.client("sns").create_topic(Name="closed", Attributes={"KmsMasterKeyId": "alias/aws/sns"})["TopicArn"]
    assert "name that key in sns_kms_key_id" in plan_of(keyed, sns_topic_arn=topic).change("SNS topic").detail


OTHER_KEY = "12345678-1234-1234-1234-123456789012"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"sns_kms_key_id": "alias/aws/sns"}, id="alias"),
        pytest.param({"sns_topic_arn": "security"}, id="name"),
        pytest.param({"sns_topic_arn": "arn:aws:sns:eu-west-2:123456789012:x.fifo"}, id="fifo"),
        pytest.param(
            {
                "sns_topic_arn": "arn:aws:sns:eu-west-2:123456789012:x",
                "sns_kms_key_id": f"arn:aws:kms:eu-west-1:123456789012:key/{OTHER_KEY}",
            },
            id="regions",
        ),
    ],
)
def test_places_that_cannot_work_are_refused_before_any_call(given):
    """Each with the value and the rule."""
    with pytest.raises(InputError, match="sns_"):
        WatchKeyInputs.check(given)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        pytest.param("sns:CreateTopic", "drop_after", id="topic"),
        pytest.param("events:PutRule", "drop_after", id="rule"),
        pytest.param("events:PutTargets", "drop_before", id="target"),
        pytest.param("cloudwatch:PutMetricAlarm", "drop_after", id="alarm"),
    ],
)
def test_a_lost_answer_doubles_nothing_and_the_next_attempt_completes(keyed, operation, kind):
    """What was sent is recognised as this run's own; the set is whole, and there is one of each."""
    command = {"operation": operation, "kind": kind, "count": 1}
    sandbox_process.call(keyed.endpoint, "/runbook/faults", body=command, method="POST")
    try:
        watched(keyed)
    except Exception:  # noqa: BLE001 - whatever stopped it, the next attempt has to complete
        watched(keyed)
    assert {"keep"} == {change.action for change in plan_of(keyed).changes}
    assert all(change.identity for change in plan_of(keyed).changes if change.resource != "CloudTrail trail")


@pytest.mark.slow
def test_a_deleted_key_is_not_watched(keyed):
    """There is nothing to be told of."""
    keyed.client().schedule_key_deletion(KeyId=keyed.key_id, PendingWindowInDays=7)
    assert "create" in {change.action for change in plan_of(keyed).changes}
    sandbox_process.call(keyed.endpoint, "/runbook/clock", body={"advance_seconds": 8 * 86400}, method="POST")
    with pytest.raises(KeyNotUsable, match="is deleted"):
        plan_of(keyed)


def recovered(walk, **given):
    step = walk.step("04")
    recover.apply(step, recover.plan(step, RecoverInputs.check({"run_id": "demo", **given})))


@pytest.mark.slow
def test_a_later_expiry_ends_the_alarm_by_itself_and_an_end_of_expiry_is_followed(expiring):
    """Without an expiry the metric ends: an alarm with breaching missing data would go off for ever."""
    watched(expiring)
    move_clock(expiring, 40)
    states = expiring.client("cloudwatch").describe_alarms
    assert {"ALARM", "OK"} == {one["StateValue"] for one in states()["MetricAlarms"]}
    recovered(expiring, valid_to=(expiring.step("04").now() + timedelta(days=300)).isoformat(timespec="seconds"))
    assert [] == watch_key.follow(expiring.step("21"))
    assert {"OK"} == {one["StateValue"] for one in states()["MetricAlarms"]}
    recovered(expiring, does_not_expire=True)
    assert {"ALARM"} == {one["StateValue"] for one in states()["MetricAlarms"]}
    assert 2 == len(watch_key.follow(expiring.step("21")))
    assert {("OK", "notBreaching")} == {
        (one["StateValue"], one["TreatMissingData"]) for one in states()["MetricAlarms"]
    }
    assert watch_key.verify(expiring.step("21")).passed


@pytest.mark.slow
def test_an_unwatched_run_has_nothing_to_follow(expiring):
    """Nothing is asked of CloudWatch."""
    assert [] == watch_key.follow(expiring.step("21"))


# The command --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "name", "meant"), [("watch", "sns_topic", "sns_topic_arn"), ("rotate", "custodi", "custody")],
    ids=["watch", "rotate"],
)  # fmt: skip
def test_a_misspelt_parameter_is_an_error_before_anything_is_called(command, name, meant):
    """Exit 2, with the name that was meant."""
    done = CliRunner().invoke(main, [command, "demo", "-p", name, "x"])
    assert (2, True) == (done.exit_code, f"did you mean {meant}?" in done.output)


@pytest.mark.slow
def test_the_command_watches_and_names_what_is_deaf(keyed):
    """It executes the notebook; what was applied before is asked for again, so that a schedule can repeat it."""
    topic = keyed.client("sns").create_topic(Name="security")["TopicArn"]
    keyed.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=open_policy(topic))
    command = ["watch", "demo", "--runs-dir", str(keyed.folder)]
    first = CliRunner().invoke(main, [*command, "-p", "sns_topic_arn", topic])
    assert (0, 2) == (first.exit_code, first.output.count("hears nothing")), first.output
    assert 0 == CliRunner().invoke(main, command).exit_code
    assert topic == WatchRecord.so_far(keyed.run).topic_arn


@pytest.mark.slow
def test_clean_up_says_until_when_the_watch_stays(keyed):
    """Whoever deletes headless is asked to come back, and not again once nothing is left."""
    watched(keyed)
    command = [
        "clean-up",
        "demo",
        "--confirm",
        "aurora-byok",
        "--pending-window-in-days",
        "7",
        "--runs-dir",
        str(keyed.folder),
    ]
    told = "what watches the key stays until it is deleted on "
    assert told in CliRunner().invoke(main, command).output
    move_clock(keyed, 8)
    done = CliRunner().invoke(main, command)
    assert (0, False) == (done.exit_code, told in done.output), done.output
    assert [0, 0, 0] == what_watches(keyed)


# 90 -----------------------------------------------------------------------------------------------------------------


def cleaned_up(walk, **given):
    step = walk.step("90")
    asked = CleanUpInputs.check({"confirm_db_cluster_identifier": "aurora-byok", "pending_window_in_days": 7, **given})
    clean_up.apply(step, clean_up.plan(step, asked))
    clean_up.verify(step)


def what_watches(walk):
    """Return how many alarms, rules and topics there are."""
    found = walk.client("cloudwatch").describe_alarms()["MetricAlarms"], walk.client("events").list_rules()["Rules"]
    return [*map(len, found), len(walk.client("sns").list_topics().get("Topics", []))]


def move_clock(walk, days):
    sandbox_process.call(walk.endpoint, "/runbook/clock", body={"advance_seconds": days * 86400}, method="POST")


@pytest.mark.slow
def test_90_deletes_the_alarms_first_and_the_rest_once_the_key_is_deleted(keyed):
    """Until then a rule hears who still uses the key; afterwards nothing of the set is left."""
    watched(keyed)
    cleaned_up(keyed)
    assert [0, 3, 1] == what_watches(keyed)
    move_clock(keyed, 8)
    cleaned_up(keyed)
    assert [0, 0, 0] == what_watches(keyed)


def test_90_keeps_the_set_while_the_key_is_kept(keyed):
    """A grant of somebody else keeps the key, so everything that watches it stays; also if it comes after the plan."""
    watched(keyed)
    step, asked = keyed.step("90"), CleanUpInputs.check({"confirm_db_cluster_identifier": "aurora-byok"})
    plan = clean_up.plan(step, asked)
    assert {"delete"} == {change.action for change in plan.changes if change.resource == "CloudWatch alarm"}
    secret = keyed.client("secretsmanager")
    secret.create_secret(Name="theirs", KmsKeyId=keyed.key_id, SecretString="x")
    clean_up.apply(step, plan)
    assert [2, 3, 1] == what_watches(keyed)
    assert {"keep"} == {
        change.action for change in clean_up.plan(keyed.step("90"), asked).changes if change.resource != "alias"
    }


@pytest.mark.slow
def test_90_leaves_what_another_created_and_a_topic_that_was_given(keyed):
    """An alarm that was deleted and created again by somebody has the same ARN, and not the mark of this run."""
    topic = keyed.client("sns").create_topic(Name="security")["TopicArn"]
    keyed.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=open_policy(topic))
    watched(keyed, sns_topic_arn=topic)
    [alarm] = [
        one for one in keyed.client("cloudwatch").describe_alarms()["MetricAlarms"] if "in-7-days" in one["AlarmName"]
    ]
    keyed.client("cloudwatch").delete_alarms(AlarmNames=[alarm["AlarmName"]])
    kept = (
        "AlarmName",
        "MetricName",
        "Namespace",
        "Statistic",
        "Period",
        "EvaluationPeriods",
        "Threshold",
        "ComparisonOperator",
    )
    keyed.client("cloudwatch").put_metric_alarm(**{name: alarm[name] for name in kept})
    keyed.client("cloudwatch").untag_resource(ResourceARN=alarm["AlarmArn"], TagKeys=["runbook:run", "runbook:step"])
    cleaned_up(keyed)
    move_clock(keyed, 8)
    cleaned_up(keyed)
    assert [1, 0, 1] == what_watches(keyed)


def open_policy(topic):
    allow = {"Effect": "Allow", "Principal": {"Service": SERVICES}, "Action": "sns:Publish", "Resource": topic}
    return json.dumps({"Version": "2012-10-17", "Statement": [allow]})
