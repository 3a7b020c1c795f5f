"""Tasks on what surrounds a key: its name (00), an alarm (21), its end (90)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from runbook_lib.aws import kms, rds
from runbook_lib.checks import Checks
from runbook_lib.steps.tasks.practice import Practice, Scene, Task, cluster_is_the_same, key_is_usable, suffix

_DAY = 86_400

# 00 -----------------------------------------------------------------------------------------------------------------


def _taken_name(practice: Practice) -> Scene:
    n = suffix()
    key_id, name = practice.key_with_material(f"alias/task-taken{n}"), f"task-taken{n}"
    resource = practice.cluster(name, StorageEncrypted=True, KmsKeyId=f"alias/task-taken{n}")
    return {"n": n, "key": key_id, "cluster": name, "resource": resource}


def _name_is_free(practice: Practice, scene: Scene, checks: Checks) -> None:
    points_to = kms.find_alias(practice.session, f"alias/task-taken{scene['n']}")
    found = "free" if points_to is None else f"names {points_to}"
    checks.equal("the alias is free", "free", found, source="kms:ListAliases")
    key_is_usable(checks, practice.key_found(scene["key"]), what="the key that it named is Enabled")
    cluster_is_the_same(checks, practice.found(scene["cluster"]), scene)


NAME_IS_FREE = Task(
    "Free a name that is taken",
    "A run wants to create alias/task-taken{n}, and its first check finds the name taken. The key behind it encrypts the cluster "
    "task-taken{n}, which was created with that alias and must stay available. Free the name.",
    (
        "What does the cluster know of its key: the alias, or something else? DescribeDBClusters shows it.",
        "A cluster keeps the ARN of its key. An alias is a name only, and KMS has an operation for it alone.",
        'work.client("kms").delete_alias(AliasName=...). Neither DisableKey nor ScheduleKeyDeletion frees a name.',
    ),
    _taken_name, _name_is_free,
)  # fmt: skip

# 21 -----------------------------------------------------------------------------------------------------------------


def _expiring_key(practice: Practice) -> Scene:
    n = suffix()
    ends = practice.session.now() + timedelta(days=90)
    key_id = practice.key_with_material(f"alias/task-watch{n}", ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=ends)
    return {"n": n, "key": key_id, "topic": practice.client("sns").create_topic(Name=f"task-watch{n}")["TopicArn"]}


def _alarm_in_time(practice: Practice, scene: Scene, checks: Checks) -> None:
    key_is_usable(checks, practice.key_found(scene["key"]))
    pages = practice.client("cloudwatch").get_paginator("describe_alarms").paginate()
    of_key = [{"Name": "KeyId", "Value": scene["key"]}]
    alarms = [one for page in pages for one in page["MetricAlarms"] if one.get("Dimensions") == of_key]
    found: dict[str, Any] = alarms[0] if len(alarms) == 1 else {}
    source = "cloudwatch:DescribeAlarms"
    checks.equal("one alarm names the key ID", 1, len(alarms), source=source)
    metric = f"{found.get('Namespace', '')} {found.get('MetricName', '')}".strip()
    checks.equal("it watches the expiry", "AWS/KMS SecondsUntilKeyMaterialExpiration", metric, source=source)
    below = found.get("ComparisonOperator", "none").startswith("LessThan")
    checks.equal("it alarms when less time is left", True, below, source=source)
    threshold = found.get("Threshold", 0)
    checks.equal("its threshold is 14 days, in the unit of the metric", 14.0 * _DAY, threshold, source=source)
    lowest = found.get("Statistic", "none")
    checks.equal("it takes the lowest value of a period", "Minimum", lowest, source=source)
    topics = found.get("AlarmActions", []) if found.get("ActionsEnabled") else []
    checks.equal("it reports to the topic, and its actions are on", [scene["topic"]], topics, source=source)


ALARM_IN_TIME = Task(
    "Be warned 14 days before key material expires",
    "The material of alias/task-watch{n} expires in 90 days. Create one CloudWatch alarm that sends a message to the topic "
    "task-watch{n} when 14 days are left, and that is quiet until then.",
    (
        "KMS publishes one metric about imported key material. Its name says the unit.",
        "Namespace AWS/KMS, metric SecondsUntilKeyMaterialExpiration, dimension KeyId: the key ID, not the alias. It counts down.",
        "put_metric_alarm(..., Statistic='Minimum', Period=3600, EvaluationPeriods=1, Threshold=14 * 86400, "
        "ComparisonOperator='LessThanThreshold', TreatMissingData='breaching', AlarmActions=[TOPIC_ARN]).",
    ),
    _expiring_key, _alarm_in_time,
)  # fmt: skip

# 90 -----------------------------------------------------------------------------------------------------------------


def _two_old_keys(practice: Practice) -> Scene:
    n = suffix()
    needed, unused = (practice.key_with_material(f"alias/task-old-{letter}{n}") for letter in "ab")
    name, client = f"task-last{n}", practice.client("rds")
    practice.cluster(name, StorageEncrypted=True, KmsKeyId=needed)
    practice.until(name, "available")
    practice.snapshot(name, name)
    client.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    practice.until(name, "")
    return {"n": n, "needed": needed, "unused": unused, "snapshot": name}


def _one_key_goes(practice: Practice, scene: Scene, checks: Checks) -> None:
    needed, unused = practice.key_found(scene["needed"]), practice.key_found(scene["unused"])
    source = "kms:DescribeKey"
    state = unused.get("KeyState", "does not exist")
    checks.equal("the key that nothing needs is pending deletion", "PendingDeletion", state, source=source)
    days = (unused["DeletionDate"] - practice.session.now()).total_seconds() / _DAY if "DeletionDate" in unused else 0.0
    checks.holds(
        "its deletion can be cancelled as long as possible", "more than 29 days", f"{days:.1f} days", lambda _: days > 29,
        source=source,
    )  # fmt: skip
    key_is_usable(checks, needed, what="the other key is Enabled")
    snapshot = rds.find_snapshot(practice.session, scene["snapshot"]) or {}
    under = snapshot.get("KmsKeyId", "does not exist")
    checks.equal("what needs that key still exists", needed.get("Arn"), under, source="rds:DescribeDBClusterSnapshots")


ONE_KEY_GOES = Task(
    "Delete the key that nothing needs, and only that",
    "alias/task-old-a{n} and alias/task-old-b{n} are old keys. No cluster uses either, and somebody wants to save two dollars a "
    "month. Something in this account still needs one of them. Schedule the deletion of the other "
    "one, with the longest waiting period.",
    (
        "A cluster is not the only thing that stays encrypted under a key.",
        "Manual snapshots outlive their cluster: DescribeDBClusterSnapshots shows the KmsKeyId of each.",
        "schedule_key_deletion(KeyId=..., PendingWindowInDays=30) for the key that no snapshot names. CancelKeyDeletion, then "
        "EnableKey, undoes it.",
    ),
    _two_old_keys, _one_key_goes,
)  # fmt: skip
