"""The command: bad usage is answered in one line before anything is called; exit codes as promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from runbook_lib.run.run import Run

BAD = {
    "misspelt parameter": (("-p", "key_alais", "alias/x"), "key_alais", "did you mean key_alias?"),
    "alias without prefix": (("-p", "key_alias", "aurora"), "key_alias", "alias/"),
    "reserved alias": (("-p", "key_alias", "alias/aws/rds"), "key_alias", "alias/aws/"),
    "bad identifier": (("-p", "db_cluster_identifier", "-x-"), "db_cluster_identifier", "letter"),
    "bad database name": (("-p", "database_name", "my-db"), "database_name", "letter"),
    "not a number": (("-p", "reader_count", "many"), "reader_count", "many"),
    "out of range": (("-p", "backup_retention_period", "0"), "backup_retention_period", "1"),
    "unknown choice": (("-p", "wrapping_algorithm", "RSAES_PKCS1_V1_5"), "wrapping_algorithm", "2023-10-10"),
    "hybrid wrapping": (("-p", "wrapping_algorithm", "RSA_AES_KEY_WRAP_SHA_256"), "wrapping_algorithm", "private keys"),
    "a run id that climbs": (("--run-id", "../../etc"), "run_id", "letters"),
    "an empty run id": (("--run-id", ""), "--run-id", "empty"),
    "aws without account": (("-p", "target", "aws"), "account_id", "12 digits"),
}


@pytest.mark.parametrize(("words", "field", "hint"), BAD.values(), ids=BAD)
def test_bad_parameters_are_refused_before_anything_is_called(world, words, field, hint):
    """Exit 2, one line that names the field and the way out; no sandbox is started, no run is made."""
    done = world.runbook("run", *words, code=2)
    assert 1 == len(done.stderr.strip().splitlines()), done.stderr
    assert field in done.stderr
    assert hint in done.stderr
    assert [] == list(world.folder.iterdir())


FILES = {
    "not a mapping": ("- a\n- b\n", "mapping"),
    "nested": ("tags:\n  a: {b: c}\n", "tags"),
    "an account id as a number": ("target: aws\naccount_id: 123456789012\n", "12 digits in quotes"),
    "a YAML tag": ("key_alias: !!python/object/apply:os.system [ls]\n", "YAML"),
    "twice": ("region: eu-west-2\nregion: eu-west-1\n", "region"),
    "not YAML": ("key_alias: [\n", "YAML"),
}


@pytest.mark.parametrize(("text", "hint"), FILES.values(), ids=FILES)
def test_bad_parameter_files_are_refused(world, tmp_path, text, hint):
    """Exit 2 and one line that says what is wrong with the file."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = world.runbook("run", str(path), code=2)
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_parameter_file_is_named(world):
    """Exit 2 and the path."""
    assert "nowhere.yaml" in world.runbook("run", "nowhere.yaml", code=2).stderr


def test_outside_a_checkout_runs_lie_in_the_current_folder(tmp_path):
    """As in a checkout, the folder is called runs, and a command that only looks names it."""
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_RUNS_DIR"}
    script = "import runbook_lib.run.paths as p; p.checkout = lambda: None; from runbook_cli.main import main; main(['status'])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    assert done.stdout.startswith("no runs in runs;")


def test_status_tells_folders_apart_and_says_which_sandbox_has_ended(world):
    """A run that was set aside has a folder of another name; what a sandbox held is gone with it."""
    for name, sandbox in (("demo-1", "gone"), ("demo", world.sandbox.sandbox_id)):
        run = Run.create("demo", runs_dir=world.folder, target={
            "target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": sandbox,
        })  # fmt: skip
        run.begin("00_start", inputs={})
        if name != "demo":
            run.set_aside()
    lines = sorted(world.runbook("status").stdout.splitlines())
    assert [line.partition("  ")[0] for line in lines] == ["demo", "demo-1 (run demo, set aside)"]
    assert "next 00_start" in lines[0]
    assert "its sandbox has ended" in lines[1]
    rows = {row["folder"]: row["sandbox_has_ended"] for row in json.loads(world.runbook("status", "--json").stdout)}
    assert {"demo": False, "demo-1": True} == rows


def test_status_of_nothing_and_of_an_unknown_run(world):
    """Nothing is no error; a run that is not there is."""
    assert "no runs in" in world.runbook("status").stdout
    assert [] == json.loads(world.runbook("status", "--json").stdout)
    assert "there is no run 'other'" in world.runbook("status", "other", code=1).stderr


def test_clean_up_of_an_unknown_run(world):
    """Exit 1, in one line."""
    assert "there is no run 'other'" in world.runbook("clean-up", "other", code=1).stderr


def test_a_damaged_state_file_is_recognised(world):
    """state.json that is not JSON stops everything, with what to do."""
    folder = world.folder / "bad"
    folder.mkdir()
    (folder / "state.json").write_text('{"format": 1, "run_id"')
    for words in (("run", "--run-id", "bad"), ("status", "bad"), ("clean-up", "bad")):
        done = world.runbook(*words, code=1)
        assert "is damaged" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc/self"), reason="needs a path nobody can write")
def test_an_unwritable_runs_folder_is_named(world):
    """Exit 1 and the folder, no traceback."""
    done = world.runbook("run", "--runs-dir", "/proc/self/runs", code=1)
    assert "/proc" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_runner_is_told_who_holds_the_run(world):
    """One lock per run folder, named with its holder."""
    from runbook_lib.run.lock import run_lock

    (world.folder / "held").mkdir(mode=0o700)
    with run_lock(world.folder / "held", what="a test"):
        os.environ.pop("RUNBOOK_LOCK_TOKEN", None)
        done = world.runbook("run", "--run-id", "held", code=1)
    assert "held by a test" in done.stderr


def test_the_first_line_of_the_sandbox_holds_its_url(world):
    """`runbook sandbox --port 0` says where it listens, answers there, and ends on an interrupt."""
    import signal

    from runbook_lib.aws import sandbox_process

    command = [sys.executable, "-u", "-m", "runbook_cli.main", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
        assert url == sandbox_process.identify(url).url
        started.send_signal(signal.SIGINT)
        assert 0 == started.wait(10)


def test_the_choice_of_kernel_ends_with_the_command(monkeypatch):
    """`--kernel plain` holds for this command only: the variable is as it was before."""
    from click.testing import CliRunner

    from runbook_cli.main import main

    monkeypatch.delenv("RUNBOOK_KERNEL", raising=False)
    assert 2 == CliRunner().invoke(main, ["run", "--kernel", "plain", "--run-id", ""]).exit_code
    assert "RUNBOOK_KERNEL" not in os.environ


def test_environment_variables_are_restored(monkeypatch):
    """Those that were set, and those that were not."""
    from runbook_cli.environment import environment_variables

    monkeypatch.setenv("RUNBOOK_OLD", "before")
    monkeypatch.setenv("RUNBOOK_UNSET", "before")
    monkeypatch.delenv("RUNBOOK_NEW", raising=False)
    values = {"RUNBOOK_OLD": "within", "RUNBOOK_NEW": "within", "RUNBOOK_UNSET": None}
    with environment_variables(values):
        assert ("within", "within", None) == tuple(map(os.environ.get, values))
    assert ("before", None, "before") == tuple(map(os.environ.get, values))
