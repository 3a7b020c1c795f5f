"""The run folder: whole or not at all, one writer, and clear words for what is damaged."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runbook_lib.errors import (
    ArtefactMissing,
    FileNotWritable,
    RunLocked,
    RunNotFound,
    RunUnreadable,
    StepMissing,
)
from runbook_lib.files import write_whole
from runbook_lib.run import paths
from runbook_lib.run.run import LAST_GOOD, STATE, Run, all_runs
from runbook_lib.run.state_file import FORMAT

TARGET = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}


@pytest.fixture
def run(tmp_path):
    return Run.create("demo", runs_dir=tmp_path, target=TARGET)


def test_what_a_step_leaves_is_there_for_the_next_kernel(run, tmp_path):
    """Each notebook has its own kernel: what one records another reads from the folder."""
    run.begin("01_create_key", inputs={"key_alias": "alias/x"})
    run.finish("01_create_key", key_id="k")
    again = Run.open("demo", runs_dir=tmp_path)
    assert again.record("01_create_key") == {"key_id": "k"}
    assert again.target == TARGET
    assert again.steps["01_create_key"]["inputs"] == {"key_alias": "alias/x"}


def test_a_missing_step_is_named_with_the_notebook_to_run(run):
    """A step that needs another says so, begun or not."""
    with pytest.raises(
        StepMissing, match=r"run 'demo' has no record of 01_create_key; run notebooks/01_create_key.ipynb first"
    ):
        run.record("01_create_key")
    run.begin("01_create_key", inputs={})
    with pytest.raises(StepMissing):
        run.record("01_create_key")


def test_files_are_the_owners_alone_whatever_the_umask(tmp_path):
    """Folders 0700, files 0600."""
    before = os.umask(0)
    try:
        run = Run.create("demo", runs_dir=tmp_path / "runs", target=TARGET)
        run.write("ImportToken.bin", b"t")
    finally:
        os.umask(before)
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700
    assert stat.S_IMODE((run.path / "ImportToken.bin").stat().st_mode) == 0o600
    assert stat.S_IMODE((run.path / STATE).stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    """state.json is the old one or the new one, never a part."""
    file = tmp_path / STATE
    write_whole(file, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(FileNotWritable, match="No space left on device"):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": true}',
        '{"format": 1, "run_id": "x", "created": "", "target": {}, "steps": {}}',
        '{"format": 1, "run_id": "x", "created": "", "target": {}, "steps": {"a": 1}}',
    ],
)
def test_a_damaged_state_is_recognised(run, tmp_path, content):
    """A damaged state.json is refused with what to do, never half read."""
    (run.path / STATE).write_text(content)
    with pytest.raises(RunUnreadable, match="is damaged"):
        Run.open("demo", runs_dir=tmp_path)


def test_the_last_good_state_is_offered_and_is_never_behind(run, tmp_path):
    """Beside a damaged state.json lies a copy of the newest state, and the error says how to go on with it."""
    run.intend("01_create_key", "kms:CreateKey")
    (run.path / STATE).write_bytes((run.path / STATE).read_bytes()[:-9])
    with pytest.raises(RunUnreadable, match=r"the last good copy is state\.last-good\.json .0 steps finished") as told:
        Run.open("demo", runs_dir=tmp_path)
    subprocess.run(str(told.value).rpartition("to resume from it, run: ")[2].split(), check=True)
    assert Run.open("demo", runs_dir=tmp_path).is_unclear("01_create_key", "kms:CreateKey")


def test_without_a_good_copy_the_account_is_to_be_searched(run, tmp_path):
    """When both are damaged nothing is offered: the tags lead to what was made."""
    for name in (STATE, LAST_GOOD):
        (run.path / name).write_text("{")
    with pytest.raises(RunUnreadable, match="tagged runbook:run-id = demo"):
        Run.open("demo", runs_dir=tmp_path)


DIE_WRITING = """
import os, resource, signal, sys
from pathlib import Path
from runbook_lib.run import run as module
run = module.Run.open("demo", runs_dir=Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system kills the process that writes past the limit
write = module.write_whole

def limited(path, content, **more):
    if path.name == sys.argv[3]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    write(path, content, **more)

module.write_whole = limited
for size in range(0, int(sys.argv[2]), 7):
    if os.fork() == 0:
        run.note("01_create_key", key_id="x" * 300)
        os._exit(0)
    _, status = os.wait()
    assert os.WIFSIGNALED(status), size
    for name in (module.STATE, module.LAST_GOOD):  # each is whole: the copy may be the newer one
        made = module.read_state((run.path / name).read_text())["steps"]["01_create_key"]["record"]["key_id"]
        assert made == "old" or (name == module.LAST_GOOD != sys.argv[3] and made == "x" * 300), (name, size)
"""


@pytest.mark.parametrize("name", [STATE, LAST_GOOD])
@pytest.mark.slow
def test_a_process_killed_at_any_byte_leaves_the_whole_old_state(run, tmp_path, name):
    """Killed by the system in the middle of the write, at every seventh byte of it: each file is the old one, whole."""
    run.note("01_create_key", key_id="old")
    size = (run.path / STATE).stat().st_size + 297  # of the state that would be written
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_LOCK_TOKEN"}
    done = subprocess.run(
        [sys.executable, "-c", DIE_WRITING, str(tmp_path), str(size), name],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    with run.locked(what="the next"):
        assert [] == [path.name for path in run.path.iterdir() if path.name.startswith(".writing-")]


def test_what_a_killed_process_left_half_written_is_swept_in_every_folder(run):
    """Temporary files, also of key material folders, are gone once the run is locked again; others stay."""
    folder = run.path / "materials" / "1a2b3c"
    folder.mkdir(parents=True)
    for path in (run.path, folder.parent, folder):
        (path / ".writing-ImportToken.bin.x").write_bytes(b"half")
    (folder / "ImportToken.bin").write_bytes(b"whole")
    with run.locked(what="the next"):
        assert [] == list(run.path.rglob(".writing-*"))
    assert b"whole" == (folder / "ImportToken.bin").read_bytes()


def test_a_newer_format_is_refused(run, tmp_path):
    """An older version never writes over a newer state."""
    state = json.loads((run.path / STATE).read_text()) | {"format": FORMAT + 1}
    (run.path / STATE).write_text(json.dumps(state))
    with pytest.raises(RunUnreadable, match="update"):
        Run.open("demo", runs_dir=tmp_path)


def test_a_run_that_is_not_there_is_named(tmp_path):
    """A deleted run folder is told apart from a damaged one."""
    with pytest.raises(RunNotFound, match="'gone'"):
        Run.open("gone", runs_dir=tmp_path)


def test_a_missing_artefact_is_named(run):
    """A file that an earlier step left and somebody removed is named."""
    with pytest.raises(ArtefactMissing, match=r"ImportToken\.bin"):
        run.read("ImportToken.bin")


HOLD = """
import sys, time
from pathlib import Path
from runbook_lib.run.run import Run
with Run.open("demo", runs_dir=Path(sys.argv[1])).locked(what="the other"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_holds_the_run_and_a_dead_one_holds_nothing(run, tmp_path):
    """One writer per run; the lock of a killed process is taken over."""
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_LOCK_TOKEN"}
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert other.stdout
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(RunLocked, match=f"the other .process {other.pid}"), run.locked(what="me"):
        pass
    other.kill()
    other.wait()
    began = time.monotonic()
    with run.locked(what="me"):
        run.note("01_create_key", key_id="k")
    assert time.monotonic() - began < 1


def test_the_lock_is_lent_to_the_processes_that_its_holder_starts(run, tmp_path):
    """The runner's kernels write to the run that the runner holds."""
    code = HOLD.replace("time.sleep(60)", "pass")
    with run.locked(what="runner"):
        lent = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert lent.stdout == "held\n", lent.stderr


def test_runs_are_listed_oldest_first_and_damaged_ones_left_out(run, tmp_path):
    """`runbook status` is not stopped by one damaged folder."""
    other = Run.create("broken", runs_dir=tmp_path, target=TARGET)
    (other.path / STATE).write_text("{")
    assert [one.run_id for one in all_runs(tmp_path)] == ["demo"]


def test_setting_aside_keeps_everything(run, tmp_path):
    """runs/demo becomes runs/demo-1, then demo-2; nothing is lost."""
    run.write("a", b"1")
    assert run.set_aside().name == "demo-1"
    again = Run.create("demo", runs_dir=tmp_path, target=TARGET)
    assert again.set_aside().name == "demo-2"
    assert (tmp_path / "demo-1" / "a").read_bytes() == b"1"


def test_a_folder_that_vanished_is_told_in_one_line(run):
    """The next write names the file that cannot be written."""
    run.path.rename(run.path.with_name("elsewhere"))
    with pytest.raises(FileNotWritable, match="cannot write"):
        run.intend("01_create_key", "kms:CreateKey")


def test_outside_a_checkout_runs_lie_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package needs no option: ./runs, as in a checkout; RUNBOOK_RUNS_DIR and the option go before."""
    monkeypatch.delenv("RUNBOOK_RUNS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert paths.runs_folder() == tmp_path / "runs"
    assert paths.runs_folder("other") == tmp_path / "other"
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(tmp_path / "named"))
    assert paths.runs_folder() == tmp_path / "named"
