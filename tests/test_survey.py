"""The survey of an existing cluster: each blocker is one line with its way out, and nothing that is asked for is ignored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from runbook_lib.aws.cluster_settings import ClusterSettings
from runbook_lib.aws.session import Session
from runbook_lib.inputs.start import StartInputs
from runbook_lib.steps import start, survey

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
NO_AWS = cast(Session, None)


def settings_of(*, instances: int = 2, **changed: Any) -> ClusterSettings:
    cluster = {
        "DBClusterIdentifier": "orders",
        "Engine": "aurora-mysql",
        "EngineVersion": "8.0.mysql_aurora.3.10.0",
        "Status": "available",
        **changed,
    }
    return ClusterSettings(cluster, [{"DBInstanceClass": "db.r8g.large"} for _ in range(instances)])


def blockers_of(settings: ClusterSettings, problem: str = "") -> list[str]:
    return survey.blockers(NO_AWS, settings, survey.Encryption("none", "not encrypted", problem))


def test_an_ordinary_cluster_has_nothing_in_the_way() -> None:
    assert blockers_of(settings_of()) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({"Engine": "neptune"}, "its engine is neptune: this runbook is for", id="engine"),
        pytest.param({"Status": "stopped"}, "it is stopped: start it", id="stopped"),
        pytest.param({"EngineMode": "serverless"}, "its engine mode is serverless: convert it", id="serverless v1"),
        pytest.param({"GlobalClusterIdentifier": "world"}, "the global database world: remove it first", id="global"),
        pytest.param({"ReplicationSourceIdentifier": "arn:x"}, "a replica of arn:x: encrypt the source", id="replica"),
        pytest.param({"LimitlessDatabase": {"Status": "active"}}, "an Aurora Limitless database", id="limitless"),
        pytest.param({"ActivityStreamStatus": "started"}, "stop it (rds:StopActivityStream)", id="activity stream"),
    ],
)
def test_each_blocker_is_one_line_with_the_cluster_and_the_way_out(changed: dict[str, Any], expected: str) -> None:
    [only] = blockers_of(settings_of(**changed))
    assert only.startswith("orders: ")
    assert expected in only
    assert "\n" not in only


def test_no_instance_an_unusable_key_and_a_refused_read_are_each_in_the_way() -> None:
    settings = settings_of(instances=0)
    settings.unread["rds:DescribeDBProxies"] = "AccessDenied"
    assert [one.split(";")[0] for one in blockers_of(settings, "the key arn:k is Disabled")] == [
        "orders: it has no instance: create one, so that its class is known",
        "orders: its own key cannot be used: the key arn:k is Disabled",
        "orders: rds:DescribeDBProxies was refused (AccessDenied): what it lists would be lost",
    ]


def asked(**given: Any) -> StartInputs:
    return StartInputs(run_id="r", source_db_cluster_identifier="orders", **given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, [], id="nothing given"),
        pytest.param({"db_instance_class": "db.r8g.large"}, [], id="as the source has it"),
        pytest.param(
            {"reader_count": 3}, ["reader_count is 3, but orders has 1; leave it out"], id="another number of readers"
        ),
        pytest.param(
            {"engine": "aurora-postgresql"},
            ["engine is 'aurora-postgresql', but orders has 'aurora-mysql'; leave it out"],
            id="another engine",
        ),
    ],
)
def test_a_value_that_differs_from_the_source_is_refused_by_name(given: dict[str, Any], expected: list[str]) -> None:
    assert survey.given_otherwise(asked(**given), settings_of()) == expected


@pytest.mark.parametrize(
    ("left", "refused"),
    [
        pytest.param(None, False, id="does not expire"),
        pytest.param(timedelta(minutes=361), False, id="long enough"),
        pytest.param(timedelta(minutes=360), True, id="too soon"),
    ],
)
def test_material_that_expires_before_the_work_is_done_is_in_the_way(left: timedelta | None, refused: bool) -> None:
    problem = survey.expiry_problem(NOW + left if left else None, NOW, minutes=360)
    assert bool(problem) is refused
    assert "runbook recover RUN_ID --valid-to" in problem or not refused


def test_the_steps_shown_are_those_that_the_run_takes() -> None:
    existing = [row[0] for row in start.steps_table(asked()).rows]
    new = [row[0] for row in start.steps_table(StartInputs(run_id="r")).rows]
    assert (existing[5], new[5]) == ("10", "05")
    assert len(existing) == len(new)
