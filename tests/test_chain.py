"""The chain 00 to 06, headless, as a schedule runs it: against the sandbox, with real cryptography."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import nbformat
import pytest

from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.steps import chain

README = (notebooks_folder().parent / "README.md").read_text(encoding="utf-8")
LINE = re.compile(r"^  (\d\d) (.{26}) +\d+\.\d s  (.+)$")
_NEVER_THE_SAME = r"(cluster|db)-[A-Z0-9]+…?|\b[0-9a-f]{6,}…?|[0-9a-fA-F-]*\d[\w:+.-]*|…"
STEPS = [step.name for step in chain()]


def shape(output):
    """Return what is printed without what differs from run to run: names of runs, keys, check values, times."""
    for pattern in (
        r"\d{8}-\d{6}|\bdemo\b",
        r"\d+\.\d s",
        r"[0-9a-f]{8}…",
        r"value [0-9a-f]{6}",
        r"\d{4}-\d\d-\d\d \d\d:\d\d",
    ):
        output = re.sub(pattern, "·", output)
    return [" ".join(line.split()) for line in output.splitlines()]


@pytest.fixture(scope="module")
def finished(shared_world):
    """A world with the finished run `demo`, and what making it printed."""
    shared_world.printed = shared_world.runbook("run", "--run-id", "demo").stdout
    return shared_world


def cluster_of(world, report):
    """Look at the run's cluster with plain boto3, in the account that its ARN names."""
    account = report["db_cluster_arn"].split(":")[4]
    name = report["db_cluster_arn"].split(":")[-1]
    return world.client("rds", account=account).describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]


@pytest.mark.parametrize(
    ("words", "engine", "instances", "spec"),
    [
        ((), "aurora-mysql", 1, "RSA_4096"),
        pytest.param(("parameters/london.yaml",), "aurora-mysql", 2, "RSA_2048", marks=pytest.mark.slow),
        pytest.param(
            ("-p", "engine", "aurora-postgresql", "-p", "wrapping_key_spec", "RSA_3072"), "aurora-postgresql", 1, "RSA_3072",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["default", "london", "postgresql"],
)  # fmt: skip
def test_the_chain_ends_with_a_cluster_under_the_imported_key(world, words, engine, instances, spec):
    """Exit 0 means: AWS says, to somebody who asks it directly, that the cluster is under the imported key."""
    done = world.runbook("run", *words, "--run-id", "demo")
    lines = [match.groups() for line in done.stdout.splitlines() if (match := LINE.match(line))]
    assert [name[:2] for name in STEPS] == [number for number, _, _ in lines]
    assert "run demo · SANDBOX · account 123456789012 · eu-west-2" == done.stdout.splitlines()[0]
    assert "Verified: aurora-byok is encrypted under your key" in done.stdout

    report = world.report("demo")
    assert report["verified"] is True
    assert {"claim", "expected", "actual", "source", "passed"} <= set(report["checks"][0])
    cluster = cluster_of(world, report)
    assert ("sse-kms", report["key_arn"]) == (cluster["StorageEncryptionType"], cluster["KmsKeyId"])
    assert (engine, instances) == (cluster["Engine"], len(cluster["DBClusterMembers"]))
    key = world.client("kms").describe_key(KeyId=report["key_arn"])["KeyMetadata"]
    assert ("EXTERNAL", "Enabled") == (key["Origin"], key["KeyState"])
    record = world.state("demo")["steps"]["02_get_parameters_for_import"]["inputs"]
    assert spec == record["wrapping_key_spec"]


def test_the_readme_shows_what_a_run_prints(finished):
    """The first screen of the README is what `make run` prints, but for names and times."""
    shown = re.search(r"\$ make run\n(.+?)\n\$", README, re.S)[1]
    printed = finished.printed.replace(str(finished.folder), "runs")
    assert shape(shown) == shape(printed)


def test_every_executed_notebook_is_kept_and_readable_as_evidence(finished):
    """Each step's notebook lies in the run folder, complete, in order, without an error or widget state."""
    for name in STEPS:
        notebook = nbformat.read(finished.folder / "demo" / "notebooks" / f"{name}.ipynb", as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert list(range(1, len(code) + 1)) == [cell.execution_count for cell in code]
        assert "widgets" not in notebook.metadata
    page = (finished.folder / "demo" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_a_finished_run_is_verified_again_and_changes_nothing(finished):
    """The nightly verification: 06 alone, reads only, a dated report of its own."""
    before = len(finished.ask("/runbook/calls")["calls"])
    folder = finished.folder / "demo"
    reports = len(list((folder / "reports").glob("*.json")))
    done = finished.runbook("run", "--run-id", "demo")
    assert ["06"] == [match[1] for line in done.stdout.splitlines() if (match := LINE.match(line))]
    changing = [name for name in finished.calls(before) if not re.match(r"\w+:(Describe|Get|List|Lookup)", name)]
    assert [] == changing
    assert reports + 1 == len(list((folder / "reports").glob("*.json")))


@pytest.mark.slow
def test_drift_is_found_at_night(world):
    """A key that somebody disabled turns the nightly verification red, and report.json with it."""
    world.runbook("run", "--run-id", "night")
    world.client("kms").disable_key(KeyId=world.report("night")["key_arn"])
    done = world.runbook("run", "--run-id", "night", code=1)
    assert "06_verify_encryption" in done.stderr
    assert "Disabled" in done.stderr
    assert world.report("night")["verified"] is False


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_where_it_stopped(world):
    """Exit 1 with the step, the reason, the notebook and the command; that command finishes the run."""
    world.ask("/runbook/faults", {"operation": "rds:CreateDBCluster", "kind": "error", "status": 400, "count": 1,
                                  "code": "InsufficientStorageClusterCapacity"})  # fmt: skip
    stopped = world.runbook("run", "--run-id", "half", code=1)
    error, place, notebook, advice = stopped.stderr.strip().splitlines()
    assert "run half: sandbox, account 123456789012, eu-west-2" in place
    assert error.startswith("error: 05_create_cluster: ")
    assert "InsufficientStorageClusterCapacity" in error
    assert notebook.endswith("half/notebooks/05_create_cluster.ipynb")
    assert advice.endswith("runbook run --run-id half")
    before = len(world.ask("/runbook/calls")["calls"])
    done = world.runbook("run", "--run-id", "half")
    assert ["05", "06"] == [match[1] for line in done.stdout.splitlines() if (match := LINE.match(line))]
    assert "kms:CreateKey" not in world.calls(before)
    assert (world.folder / "half/notebooks/05_create_cluster.attempt-2.ipynb").is_file()


def test_a_parameter_that_changed_in_between_is_refused(finished):
    """Finished steps were made with other values: the field is named, nothing is called."""
    before = len(finished.ask("/runbook/calls")["calls"])
    done = finished.runbook("run", "--run-id", "demo", "-p", "key_alias", "alias/other", code=2)
    assert "error: key_alias: 00_start of run 'demo' ran with 'alias/aurora-byok'" in done.stderr
    changing = [name for name in finished.calls(before) if not re.match(r"\w+:(Describe|Get|List|Lookup)", name)]
    assert [] == changing


@pytest.mark.slow
def test_a_run_stops_before_a_step_and_keeps_its_values(world):
    """`--before 02`, then `--before 04` without the values: they are those of the finished steps; without it, exit 2."""
    done = world.runbook("run", "--run-id", "half", "--before", "02", "-p", "key_alias", "alias/mine")
    assert done.stdout.splitlines()[-1].startswith("Stopped before 02: ")
    assert {"00_start", "01_create_key"} == set(world.state("half")["steps"])
    assert "key_alias" in world.runbook("run", "--run-id", "half", code=2).stderr
    world.runbook("run", "--run-id", "half", "--before", "04")
    assert {"02", "03"} <= {name[:2] for name in world.state("half")["steps"]}
    assert not any(name.startswith("04") for name in world.state("half")["steps"])
    world.runbook("run", "--run-id", "half", "--before", "20")
    assert world.report("half")["verified"] is True
    assert "10 is for a run with an existing cluster" in world.runbook("run", "--before", "10", code=2).stderr
    several = world.runbook("run", "parameters/sandbox.yaml", "parameters/london.yaml", "--before", "02", code=2)
    assert "--before: stops one run, and 2 were given" in several.stderr


@pytest.mark.slow
def test_a_run_whose_sandbox_has_ended_is_set_aside(world):
    """Its resources ended with the sandbox: started anew under its name, the old folder is kept beside."""
    world.runbook("run", "--run-id", "demo")
    world.runbook("sandbox", "--stop")
    done = world.runbook("run", "--run-id", "demo")
    assert "renamed to 'demo-1'" in done.stdout.splitlines()[0]
    assert (world.folder / "demo-1" / "report.json").is_file()
    assert world.report("demo")["verified"] is True


@pytest.mark.slow
def test_clean_up_shows_its_plan_then_deletes_what_the_run_made(world):
    """Without confirmation exit 3 and nothing gone; with the wrong name exit 2; with the right one only the key is pending."""
    world.runbook("run", "--run-id", "gone")
    plan = world.runbook("clean-up", "gone", code=3)
    assert "Nothing was deleted" in plan.stdout
    world.runbook("clean-up", "gone", "--confirm", "another", code=2)
    assert 1 == len(world.client("rds").describe_db_clusters()["DBClusters"])
    key_arn = world.report("gone")["key_arn"]
    world.runbook("clean-up", "gone", "--confirm", "aurora-byok")
    assert [] == world.client("rds").describe_db_clusters()["DBClusters"]
    assert "PendingDeletion" == world.client("kms").describe_key(KeyId=key_arn)["KeyMetadata"]["KeyState"]
    assert "cleaned up" in world.runbook("status").stdout
    assert "was cleaned up" in world.runbook("run", "--run-id", "gone", code=2).stderr


@pytest.mark.slow
def test_plain_papermill_works_on_a_single_notebook(world, tmp_path):
    """No runner of ours is needed: papermill with a parameter file, against the running sandbox."""
    for name in STEPS[:2]:
        done = subprocess.run(
            [sys.executable, "-m", "papermill", str(notebooks_folder() / f"{name}.ipynb"), str(tmp_path / "out.ipynb"),
             "-f", "parameters/sandbox.yaml", "--no-progress-bar"],
            env={**__import__("os").environ, "RUNBOOK_RUNS_DIR": str(world.folder)},
            cwd=notebooks_folder().parent, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert 0 == done.returncode, done.stderr
    assert "finished" == world.state("demo")["steps"]["01_create_key"]["status"]


@pytest.mark.slow
def test_plain_and_forked_kernels_leave_the_same(world):
    """`--kernel plain` and the default: the same lines, the same verdict, the same outputs in every notebook but for
    what is never the same twice."""
    told, outputs = {}, {}
    for number, kind in enumerate(("plain", "forked"), 1):
        run_id, account = f"run-{number}", f"20000000000{number}"
        done = world.runbook("run", "--run-id", run_id, "--kernel", kind, "-p", "account_id", account)
        told[kind] = [match[1] for line in done.stdout.splitlines() if (match := LINE.match(line))]
        outputs[kind] = []
        for name in STEPS:
            notebook = nbformat.read(world.folder / run_id / "notebooks" / f"{name}.ipynb", as_version=4)
            cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
            outputs[kind].append([[(one.output_type, *_shape(one)) for one in cell.outputs] for cell in cells])
    assert STEPS == [f"{number}{name[2:]}" for number, name in zip(told["plain"], STEPS, strict=True)]
    assert told["plain"] == told["forked"]
    for plain, forked in zip(outputs["plain"], outputs["forked"], strict=True):
        for one, other in zip(plain, forked, strict=True):
            assert one == other
    assert sum(len(cell) for notebook in outputs["forked"] for cell in notebook) > 40


def _shape(output):
    """Return an output's text without ids, times and numbers: what remains is the same in every run."""
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return sorted(output.get("data", {})), re.sub(_NEVER_THE_SAME, "#", text).split()


@pytest.mark.slow
def test_runs_begun_one_after_the_other_do_not_collide(finished):
    """`make run` again begins a new run, in an account of its own when the names are taken."""
    done = finished.runbook("run", "--quiet")
    assert "" == done.stdout
    newest = json.loads(finished.runbook("status", "--json").stdout)[-1]
    assert "demo" != newest["run_id"]
    assert "123456789012" != newest["account_id"]
    assert finished.report(newest["run_id"])["verified"] is True
