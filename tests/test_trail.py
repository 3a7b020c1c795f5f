"""CloudTrail's word: it ties this key to this cluster, and what is missing is said, not hidden."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cells import run_cells, run_steps

from runbook_lib.aws import cloudtrail as module
from runbook_lib.aws.cloudtrail import _words, events
from runbook_lib.aws.session import session_for
from runbook_lib.run.run import Run
from runbook_lib.run.steps import chain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(shared_world):
    """A run up to its cluster, and a session for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNBOOK_RUNS_DIR", str(shared_world.folder))
        patch.setenv("RUNBOOK_SANDBOX_ENDPOINT", shared_world.sandbox.url)
        run_steps(*[step.name for step in chain()][:6], run_id="trail", wrapping_key_spec="RSA_2048")
        run = Run.open("trail")
        yield run, session_for(run.target, runs_dir=shared_world.folder)


def rows_of(table):
    return {row[1]: row for row in table.rows}


def test_the_trail_ties_the_key_to_the_cluster(made):
    """Every step left its event; the data key's encryption context names this very cluster."""
    run, session = made
    rows = rows_of(events(session, run))
    assert {"recorded"} == {row[0] for row in rows.values()}
    assert {"CreateKey", "GetParametersForImport", "ImportKeyMaterial", "CreateGrant", "CreateDBCluster"} < set(rows)
    resource_id = run.record("05_create_cluster")["db_cluster_resource_id"]
    assert f"aws:rds:dbc-id is {resource_id}: this cluster" == rows["GenerateDataKeyWithoutPlaintext"][3]
    assert "through rds.amazonaws.com" in rows["CreateGrant"][2]
    assert "kmsKeyId " + run.record("01_create_key")["key_arn"] == rows["CreateDBCluster"][3]


def test_the_context_of_another_cluster_is_called_that():
    """The twin: a data key for another cluster proves nothing for this one."""
    asked = {"encryptionContext": {"aws:rds:dbc-id": "cluster-OTHER"}}
    assert "aws:rds:dbc-id is cluster-OTHER: ANOTHER cluster" == _words(asked, "cluster-THIS")


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_the_events_are_found_wherever_the_clock_of_aws_stands(shared_world, monkeypatch, when):
    """Their dates are AWS's: the window is too, and not that of this machine's clock, which may be 25 hours away."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(shared_world.folder))
    monkeypatch.setenv("RUNBOOK_SANDBOX_ENDPOINT", shared_world.sandbox.url)
    names = [step.name for step in chain()]
    given = {"run_id": f"clock-{when}", "wrapping_key_spec": "RSA_2048", "key_alias": f"alias/clock-{when}",
             "db_cluster_identifier": f"clock-{when}"}  # fmt: skip
    advance = lambda: shared_world.ask("/runbook/clock", {"advance_seconds": 25 * 3600})  # noqa: E731
    advance() if when == "before" else None
    run_steps(*names[:5], **given)
    advance() if when == "between" else None
    run_steps(names[5], **given)
    advance() if when == "after" else None
    run = Run.open(given["run_id"])
    table = events(session_for(run.target, runs_dir=shared_world.folder), run)
    assert {"recorded"} == {row[0] for row in table.rows}


def test_status_counts_by_the_clock_of_the_sandbox(world):
    """A run whose material expires in two days of the sandbox has expired when its clock has moved three."""
    end = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="seconds")
    world.runbook(
        "run", "--run-id", "a", "-p", "expiration_model", "KEY_MATERIAL_EXPIRES", "-p", "valid_to", end, "--quiet"
    )
    assert 0 < json.loads(world.runbook("status", "a", "--json").stdout)["seconds_until_expiry"] < 2 * 86400
    world.runbook("sandbox", "advance", "3d")
    assert json.loads(world.runbook("status", "a", "--json").stdout)["seconds_until_expiry"] < -86000
    assert "expired at" in world.runbook("status", "a").stdout


def test_what_has_not_arrived_is_pending(made, monkeypatch):
    """Delivery takes up to a quarter of an hour: nothing there is not a failure, and not a proof."""
    monkeypatch.setattr(module, "_events", lambda *_: iter(()))
    table = events(made[1], made[0])
    assert {"pending"} == {row[0] for row in table.rows}
    assert 6 == len(table.rows)


def test_a_verification_that_was_told_not_to_read_it_says_so(made, monkeypatch):
    """Not reading is a choice that the report shows, not a silence."""
    monkeypatch.setattr(module, "_events", lambda *_: pytest.fail("asked"))
    run_cells("06_verify_encryption", run_id="trail", read_cloudtrail=False)
    report = json.loads(made[0].read("report.json"))
    assert [("not read", "read_cloudtrail is false")] == [(row["outcome"], row["says"]) for row in report["trail"]]
    assert "read_cloudtrail is false" in made[0].read("report.html").decode()


def test_after_ninety_days_nothing_is_asked(made, monkeypatch):
    """The event history ends; a nightly verification of an old run does not page through nothing."""
    run, session = made
    monkeypatch.setattr(session, "now", lambda now=session.now: now() + timedelta(days=91))
    monkeypatch.setattr(module, "_events", lambda *_: pytest.fail("asked"))
    assert "expired" == events(session, run).rows[0][0]
