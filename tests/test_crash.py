"""Killed anywhere, run again, it converges: a sample of the crash matrix, and real runs that are stopped from outside.

The whole matrix is `make crash-matrix` (tools/crash_matrix.py says what each point is and what must hold after it).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cells import run_cells, run_steps

from runbook_lib import errors, files
from runbook_lib.aws import sandbox_process
from runbook_lib.aws import session as session_module
from runbook_lib.run.run import Run
from runbook_lib.run.steps import chain
from runbook_lib.steps import reports

ROOT = Path(__file__).parent.parent
STEPS = [step.name for step in chain()]
QUICK = ("-p", "wrapping_key_spec", "RSA_2048")


def matrix(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the crash matrix."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNBOOK_")}
    return subprocess.run(
        [sys.executable, "tools/crash_matrix.py", "--jobs", "2", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_sample_of_all_points_converges():
    """Killed, interrupted, dropped, throttled, refused and unseen: some points of each, over the whole chain."""
    done = matrix("--sample", "28")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"28 of \d{4} points tried .* 0 failed", done.stdout), done.stdout


@pytest.mark.slow
def test_a_rotation_that_is_broken_anywhere_is_one_new_material_with_its_backups():
    """Killed, interrupted, dropped, refused, a second folder, a pending material of somebody else: a sample over 20."""
    done = matrix("--point", " rotation ", "--sample", "10")
    assert 0 == done.returncode, done.stdout + done.stderr
    others = matrix("--point", " rotation ", "--mode", "replaced", "--mode", "rival")
    assert 0 == others.returncode, others.stdout + others.stderr
    assert re.search(r"4 of \d+ points tried .* 0 failed", others.stdout), others.stdout


@pytest.mark.slow
def test_somebody_else_who_acts_meanwhile_is_neither_harmed_nor_harms():
    """Credentials of another account, a resource that was replaced, a second folder with the same run id: some points of each."""
    done = matrix("--mode", "account", "--mode", "replaced", "--mode", "rival", "--sample", "8")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"8 of \d{2,3} points tried .* 0 failed", done.stdout), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guard", "mode", "point", "words"),
    [
        ("retries", "drop", "CreateKey", "'CreateKey': 2"),
        ("intents", "kill-after", "CreateKey", "'CreateKey': 2"),
        ("patience", "invisible", "CreateAlias", "the alias points to it"),
        ("account", "account", "CreateDBSubnetGroup", "reached the other account"),
        ("look", "replaced", "DeleteDBCluster", "the colleague's cluster"),
        ("marks", "rival", "CreateDBClusterSnapshot", "the last attempt was stopped"),
    ],
)
def test_the_matrix_notices_when_a_guard_is_taken_away(guard, mode, point, words):
    """With the SDK's retries on creates, without intents, patience, account check, second look or marks, it fails and says how."""
    done = matrix("--unsafe", guard, "--mode", mode, "--point", point)
    assert 1 == done.returncode, done.stdout + done.stderr
    assert re.search(words, done.stdout), done.stdout


# Real runs, stopped from outside -----------------------------------------------------------------------------------------


def start(world: Any, run_id: str) -> subprocess.Popen[str]:
    """Start `runbook run` and return when its key is there."""
    url = world.sandbox.url
    started = subprocess.Popen(
        [sys.executable, "-m", "runbook_cli.main", "run", "--run-id", run_id, *QUICK],
        cwd=ROOT, env={**os.environ, "RUNBOOK_RUNS_DIR": str(world.folder)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not [c for c in sandbox_process.call(url, "/runbook/calls")["calls"] if c["operation"] == "CreateAlias"]:
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return started


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_stopped_by_a_signal_leaves_a_readable_ledger_and_no_lock(world, number):
    """state.json can be read, the lock is free, and the same command finishes the run with one key."""
    started = start(world, "stopped")
    os.killpg(started.pid, number) if number == signal.SIGINT else started.send_signal(number)
    started.communicate(timeout=60)
    assert 0 != started.returncode
    run = Run.open("stopped", runs_dir=world.folder)
    deadline = time.monotonic() + 30
    while True:  # a kernel that the killed runner had lent the lock may take a moment to notice
        try:
            with run.locked(what="the test"):
                break
        except errors.RunLocked:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    done = world.runbook("run", "--run-id", "stopped", *QUICK)
    assert "Verified" in done.stdout
    assert 1 == world.calls().count("kms:CreateKey")
    assert 1 == world.calls().count("rds:CreateDBCluster")


def test_two_runs_of_one_id_at_once_the_second_is_told_who_holds_it(world):
    """Exit 1, naming the command and process that hold the run; nothing is done twice."""
    folder = world.folder / "twice"
    run = Run.create("twice", runs_dir=world.folder, target={"target": "sandbox", "account_id": "123456789012",
                     "region": "eu-west-2", "sandbox_id": world.sandbox.sandbox_id})  # fmt: skip
    with run.locked(what="runbook run"):
        before = os.environ.pop("RUNBOOK_LOCK_TOKEN")
        try:
            done = world.runbook("run", "--run-id", "twice", *QUICK, code=1)
        finally:
            os.environ["RUNBOOK_LOCK_TOKEN"] = before
    assert f"is held by runbook run (process {os.getpid()} on " in done.stderr
    assert "kms:CreateKey" not in world.calls()
    assert folder.is_dir()


# Files and clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_new_needs_to_be_seen_at_once():
    """Whatever was just made, and cannot be seen for a second, does not even stop the run."""
    done = matrix("--mode", "invisible")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"(\d+) of \1 points tried", done.stdout), done.stdout


@pytest.mark.slow
def test_a_disk_that_is_full_in_the_middle_stops_it_resumably(world):
    """No file may grow beyond 40 kB: executed notebooks do. One line says which; with room again the run ends verified."""
    url = world.sandbox.url
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 80; exec "$@"', "sh", sys.executable, "-m", "runbook_cli.main", "run", "--run-id", "full",
         "--kernel", "plain", *QUICK],
        cwd=ROOT, env={**os.environ, "RUNBOOK_RUNS_DIR": str(world.folder), "RUNBOOK_SANDBOX_ENDPOINT": url},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert 1 == done.returncode
    assert re.search(r"^error: .*cannot write \S+ \(File too large\); free disk space", done.stderr, re.M), done.stderr
    assert "Traceback" not in done.stderr
    again = world.runbook("run", "--run-id", "full", *QUICK)
    assert "Verified" in again.stdout
    assert 1 == world.calls().count("kms:CreateKey")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder where not even root can make one")
def test_a_place_where_nothing_can_be_written_is_refused_in_one_line(world):
    """Exit 1 with the path, the system's reason and the way out; AWS was not asked for anything."""
    url = world.sandbox.url
    done = world.runbook(
        "run", "--run-id", "nowhere", "--runs-dir", "/sys/kernel/runs", code=1, RUNBOOK_SANDBOX_ENDPOINT=url
    )
    rule = (
        r"error: cannot create /sys/kernel/runs \(.+\); free disk space or fix the permissions, or give --runs-dir DIR"
    )
    assert re.fullmatch(rule, done.stderr.strip())
    assert [] == world.calls()


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["forked", "plain"])
def test_a_service_account_without_a_home_can_run_it(world, kernel):
    """Jupyter, IPython and the SDK look for folders below it; none of them is needed."""
    nothing = {"HOME": "/dev/null/home", "XDG_RUNTIME_DIR": "", "TMPDIR": str(world.folder.parent)}
    done = world.runbook("run", "--run-id", "homeless", "--kernel", kernel, *QUICK, **nothing)
    assert "Verified" in done.stdout


# What stops a run, and how it goes on --------------------------------------------------------------------------------------


@pytest.fixture
def desk(world, monkeypatch):
    """The notebooks' cells in this process, against a sandbox of its own."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(world.folder))
    monkeypatch.setenv("RUNBOOK_SANDBOX_ENDPOINT", world.sandbox.url)
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))
    return world


def go(*names: str, times: int = 1) -> None:
    run_steps(*names, times=times, run_id="desk", wrapping_key_spec="RSA_2048", db_cluster_identifier="desk")


@pytest.mark.parametrize(
    ("operation", "step", "error", "words"),
    [
        ("kms:CreateKey", "01_create_key", errors.AwsCallFailed, "AWS keeps throttling"),
        ("rds:CreateDBCluster", "05_create_cluster", errors.AwsCallFailed, "AWS keeps throttling"),
        ("kms:GetParametersForImport", "02_get_parameters_for_import", errors.AwsCallFailed, "AWS keeps throttling"),
        ("rds:DescribeDBEngineVersions", "05_create_cluster", errors.AwsCallFailed, "AWS keeps throttling"),
    ],
)
@pytest.mark.slow
def test_throttling_beyond_the_budget_stops_and_says_what_to_do(desk, operation, step, error, words):
    """In one line; the run goes on when AWS does."""
    go(*STEPS[: STEPS.index(step)])
    desk.ask("/runbook/faults", {"operation": operation, "kind": "throttle", "count": 99})
    with pytest.raises(error, match=words):
        go(step)
    desk.ask("/runbook/faults", method="DELETE")
    go(*STEPS[STEPS.index(step) :])
    assert desk.report("desk")["verified"]
    assert 1 == len([c for c in desk.ask("/runbook/calls")["calls"]
                     if c["operation"] == "CreateKey" and c["outcome"]["status"] == 200])  # fmt: skip


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ExpiredToken", "RequestExpired"])
@pytest.mark.slow
def test_credentials_that_expire_in_the_middle_stop_it_resumably(desk, code):
    """The import was about to be sent: sign in again, run again, and it is there once."""
    go(*STEPS[:4])
    desk.ask("/runbook/faults", {"operation": "kms:ImportKeyMaterial", "kind": "error", "status": 400, "code": code})
    with pytest.raises(errors.CredentialsMissing, match="sign in again, then repeat the command"):
        go("04_import_key_material")
    go(*STEPS[4:])
    assert desk.report("desk")["verified"]


@pytest.mark.slow
def test_a_token_that_runs_out_between_02_and_04_is_fetched_again(world):
    """The pair is fetched again and the material wrapped anew for it; the custody copy is of what was imported."""
    world.ask("/runbook/faults", {"operation": "kms:ImportKeyMaterial", "kind": "error", "status": 500, "count": 99})
    world.runbook("run", "--run-id", "late", *QUICK, code=1)
    world.ask("/runbook/faults", method="DELETE")
    world.ask("/runbook/clock", {"advance_seconds": timedelta(hours=25).total_seconds()})
    done = world.runbook("run", "--run-id", "late", *QUICK)
    assert ["02", "03", "04", "05", "06"] == re.findall(r"^  (\d\d) ", done.stdout, re.M)
    assert world.report("late")["verified"]


def test_a_foreign_resource_of_the_same_name_is_never_touched(desk):
    """A subnet group that another run made: it says so and stops; nothing of it changed, nothing was made beside it."""
    go(*STEPS[:5])
    rds = desk.client("rds")
    subnets = [one["SubnetId"] for one in desk.client("ec2").describe_subnets()["Subnets"]]
    tags = [{"Key": "runbook:run-id", "Value": "somebody"}]
    rds.create_db_subnet_group(
        DBSubnetGroupName="runbook-desk", DBSubnetGroupDescription="theirs", SubnetIds=subnets, Tags=tags
    )
    before = len(desk.ask("/runbook/calls")["calls"])
    with pytest.raises(errors.PlanRefused, match=r"subnet group runbook-desk: exists, and run 'somebody' created it"):
        go("05_create_cluster")
    assert [] == [call for call in desk.calls(before) if not re.match(r"\w+:(Describe|Get|List|Lookup)", call)]


@pytest.mark.slow
def test_a_finished_run_asked_again_step_by_step_only_reads(desk):
    """Every notebook once more: everything is kept, and every call is a read."""
    go(*STEPS)
    before = len(desk.ask("/runbook/calls")["calls"])
    go(*STEPS)
    assert [] == [call for call in desk.calls(before) if not re.match(r"\w+:(Describe|Get|List|Lookup)", call)]


@pytest.mark.slow
def test_the_key_stays_while_anything_needs_it(desk):
    """A snapshot that somebody took of the cluster keeps the key: named in the plan, and the key is not scheduled."""
    go(*STEPS)
    desk.client("rds").create_db_cluster_snapshot(DBClusterIdentifier="desk", DBClusterSnapshotIdentifier="theirs")
    left = run_cells("90_clean_up", run_id="desk", confirm_db_cluster_identifier="desk")
    kept = left["plan"].change("KMS key")
    assert ("keep", "still needed by cluster snapshot theirs") == (kept.action, kept.detail)
    key_id = json.loads((desk.folder / "desk" / "state.json").read_text())["steps"]["01_create_key"]["record"]["key_id"]
    assert "Enabled" == desk.client("kms").describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"]
    assert [] == desk.client("rds").describe_db_clusters()["DBClusters"]


@pytest.mark.parametrize("whose", ["the machine's", "AWS's"])
@pytest.mark.slow
def test_a_clock_that_is_set_back_in_the_middle_spoils_nothing(desk, monkeypatch, whose):
    """Two days back after 03: what was valid stays valid, the wait ends, and the report can be drawn."""
    go(*STEPS[:4])
    if whose == "AWS's":
        desk.ask("/runbook/clock", {"advance_seconds": -timedelta(days=2).total_seconds()})
    else:

        class Back(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) - timedelta(days=2)

        for module in (files, session_module, reports):
            monkeypatch.setattr(module, "datetime", Back)
    go(*STEPS[4:])
    assert desk.report("desk")["verified"]
    assert "Timeline of the run" in (desk.folder / "desk" / "report.html").read_text()
    go("06_verify_encryption")


@pytest.mark.slow
def test_a_run_whose_folder_was_deleted_is_not_taken_up_by_a_new_one_of_its_name(desk):
    """What carries the same run id is not the new run's: refused in the plan, before anything is changed."""
    go(*STEPS[:5])
    shutil.rmtree(desk.folder / "desk")
    before = len(desk.ask("/runbook/calls")["calls"])
    with pytest.raises(
        errors.PreflightFailed, match=r"a run of the same name, 'desk', created it, but not the run in this folder"
    ):
        go("00_start")
    assert [] == [call for call in desk.calls(before) if not re.match(r"\w+:(Describe|Get|List|Lookup)", call)]


@pytest.mark.slow
def test_a_cell_that_is_run_twice_makes_nothing_twice(desk):
    """Shift+Enter, and again because nothing seemed to happen, at every cell of every step."""
    go(*STEPS, times=2)
    assert desk.report("desk")["verified"]
    made = [call for call in desk.calls() if ":Create" in call]
    assert sorted(set(made)) == sorted(made)
    assert {"kms:CreateKey", "kms:CreateAlias", "rds:CreateDBCluster", "rds:CreateDBInstance"} <= set(made)
