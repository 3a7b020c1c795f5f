"""Several runs at once, as a platform team has them: each its own folder, none in the way of another."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runbook_cli.runner.jobs import Job, check_jobs
from runbook_cli.runner.progress_table import ProgressTable
from runbook_lib.errors import InputError
from runbook_lib.run.steps import chain

ACCOUNT = 'account_id: "123456789012"\n'
ROW = re.compile(r"^  (\S+) +(verified|FAILED) +\d+\.\d s  (.+)$")


def files(folder: Path, *names: str, ids: bool = True, more: str = "") -> list[Path]:
    """Write one parameter file for each name, all in one account; return their paths."""
    folder.mkdir(exist_ok=True)
    for name in names:
        text = f"key_alias: alias/{name}\ndb_cluster_identifier: {name}\n{ACCOUNT}{more}"
        (folder / f"{name}.yaml").write_text(text + (f"run_id: {name}\n" if ids else ""))
    return [folder / f"{name}.yaml" for name in names]


def rows(output: str) -> dict[str, str]:
    """Return the summary: run to outcome."""
    table = output[output.index(" runs verified") :]
    return {match[1]: match[2] for line in table.splitlines() if (match := ROW.match(line))}


def created(world: Any) -> list[str]:
    return sorted(call for call in world.calls() if re.match(r"(kms|rds):Create(Key|DBCluster|DBInstance)$", call))


@pytest.mark.slow
def test_a_folder_of_files_is_as_many_runs(world: Any, tmp_path: Path) -> None:
    """Each file is a run with a folder and a report of its own; one line each, one table, exit 0."""
    files(tmp_path / "all", "one", "two", "three", ids=False)
    done = world.runbook("run", str(tmp_path / "all"), "--jobs", "2")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("3 runs, 2 at a time")
    assert "3 of 3 runs verified" in lines
    found = rows(done.stdout)
    assert ["verified"] * 3 == list(found.values())
    assert ["one", "three", "two"] == sorted(name.rpartition("-")[2] for name in found)
    assert len(lines) == 1 + 3 + 1 + 3
    for name in found:
        assert world.report(name)["verified"] is True
        assert world.report(name)["db_cluster_arn"].endswith(":" + name.rpartition("-")[2])
        assert len(list((world.folder / name / "notebooks").iterdir())) == len(chain())


@pytest.mark.slow
def test_one_that_fails_keeps_no_other_from_finishing(world: Any, tmp_path: Path) -> None:
    """Exit 1, the failed one with its reason and the command that goes on, which does."""
    world.ask("/runbook/faults", {"operation": "rds:CreateDBCluster", "kind": "error", "status": 400, "count": 1,
                                  "code": "InsufficientStorageClusterCapacity"})  # fmt: skip
    paths = files(tmp_path, "one", "two")
    done = world.runbook("run", *map(str, paths), code=1)
    assert ["FAILED", "verified"] == sorted(rows(done.stdout).values())
    (failed,) = (name for name, state in rows(done.stdout).items() if state == "FAILED")
    error, place, advice = done.stderr.strip().splitlines()
    assert place == f"  run {failed}: sandbox, account 123456789012, eu-west-2"
    assert error.startswith(f"error: run {failed}: 05_create_cluster: ")
    assert "InsufficientStorageClusterCapacity" in error
    words = advice.partition("resume with: runbook ")[2].split()
    assert ["run", str(tmp_path / f"{failed}.yaml"), "--run-id", failed] == words
    assert world.runbook(*words).stdout.splitlines()[-2].startswith("Verified: ")
    assert 2 == created(world).count("kms:CreateKey")


@pytest.mark.slow
def test_quiet_says_nothing_unless_something_fails(world: Any, tmp_path: Path) -> None:
    """With --quiet a schedule gets no mail; a failure still comes on standard error."""
    paths = [str(path) for path in files(tmp_path, "one", "two")]
    done = world.runbook("run", *paths, "--quiet")
    assert ("", "") == (done.stdout, done.stderr)
    world.client("kms").disable_key(KeyId=world.report("two")["key_arn"])
    done = world.runbook("run", *paths, "--quiet", code=1)
    assert "" == done.stdout
    assert done.stderr.startswith("error: run two: 06_verify_encryption: ")


@pytest.mark.slow
def test_all_that_wait_are_asked_for_together_and_hold_no_kernel(world: Any, tmp_path: Path) -> None:
    """While three clusters are being created: one call for each look, no worker and no kernel process."""
    world.ask("/runbook/progression", {"mode": "seconds", "seconds": 600})
    paths = files(tmp_path, "one", "two", "three", more="poll_seconds: 1\n")
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    with _started(world, paths, XDG_RUNTIME_DIR=str(runtime)) as running:
        _until(lambda: created(world).count("rds:CreateDBInstance") == 3)
        _until(lambda: not _workers(running.pid))
        began, since = time.monotonic(), len(world.ask("/runbook/calls")["calls"])

        def asked() -> list[str]:
            return [call for call in world.calls(since) if call.startswith("rds:")]

        _until(lambda: [] == _kernels(runtime) and len(asked()) >= 2)
        looks = 1 + (time.monotonic() - began) // 1  # one a second, or fewer on a slow machine
        assert ["rds:DescribeDBClusters"] * min(len(asked()), int(looks)) == asked()
        assert [] == _workers(running.pid)
        world.ask("/runbook/progression", {"mode": "immediate"})
        assert 0 == running.wait(120)


@pytest.mark.slow
def test_killed_while_waiting_all_of_them_go_on(world: Any, tmp_path: Path) -> None:
    """SIGKILL, and the same command again: every run verified, nothing made twice."""
    world.ask("/runbook/progression", {"mode": "seconds", "seconds": 600})
    paths = files(tmp_path, "one", "two")
    with _started(world, paths) as running:
        _until(lambda: created(world).count("rds:CreateDBInstance") == 2)
        _until(lambda: not _workers(running.pid))
        running.kill()
    world.ask("/runbook/progression", {"mode": "immediate"})
    done = world.runbook("run", *map(str, paths))
    assert {"one": "verified", "two": "verified"} == rows(done.stdout)
    assert ["kms:CreateKey"] * 2 + ["rds:CreateDBCluster"] * 2 + ["rds:CreateDBInstance"] * 2 == created(world)


@pytest.mark.slow
def test_killed_at_work_no_worker_stays(world: Any, tmp_path: Path) -> None:
    """Workers and kernels end with the process that started them, so that the same command can go on at once."""
    world.ask(
        "/runbook/faults", {"operation": "kms:GetParametersForImport", "kind": "latency", "seconds": 50, "count": 2}
    )
    paths = files(tmp_path, "one", "two")
    with _started(world, paths) as running:
        _until(lambda: created(world).count("kms:CreateKey") == 2)
        workers = _workers(running.pid)
        running.kill()
    world.ask("/runbook/faults", method="DELETE")
    assert 2 == len(workers)
    _until(lambda: not any(_alive(pid) for pid in workers), seconds=20)
    done = world.runbook("run", *map(str, paths))
    assert {"one": "verified", "two": "verified"} == rows(done.stdout)
    assert 2 == created(world).count("rds:CreateDBCluster")


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_run_only(world: Any, tmp_path: Path) -> None:
    """Out of memory, say: that run has failed and can go on, the other is verified."""
    paths = files(tmp_path, "one", "two")
    with _started(world, paths) as running:
        _until(lambda: len(_workers(running.pid)) == 2)
        os.kill(min(_workers(running.pid)), signal.SIGKILL)
        output, errors = running.communicate(timeout=120)
    assert 1 == running.returncode
    assert ["FAILED", "verified"] == sorted(rows(output).values())
    assert "its worker process ended unexpectedly (exit status -9)" in errors


def test_two_runs_of_one_name_are_refused(world: Any, tmp_path: Path) -> None:
    """Exit 2, one line that names both files; nothing is called, no sandbox is started."""
    one, two = files(tmp_path, "one", "two")
    two.write_text(two.read_text().replace("run_id: two", "run_id: one"))
    done = world.runbook("run", str(one), str(two), code=2)
    assert f"error: run_id: 'one' is used by both {one} and {two}; give each its own\n" == done.stderr
    for words in (("--run-id", "x"), ("-p", "run_id", "x")):
        done = world.runbook("run", str(one), str(two), *words, code=2)
        assert "would name 2 runs" in done.stderr
    assert [] == list(world.folder.iterdir())


def test_on_aws_two_runs_that_would_make_the_same_things_are_refused(tmp_path: Path) -> None:
    """The second would stop half way, with a key made; in another account or Region they are other things."""
    aws = {"target": "aws", "account_id": "123456789012", "region": "eu-west-2", "recovery_public_keys": ["a.pem"]}
    one, two = Job(tmp_path / "one", aws), Job(tmp_path / "two", {**aws, "key_alias": "alias/two"})
    with pytest.raises(InputError, match=r"db_cluster_identifier: 'aurora-byok' is used by both .*one and .*two"):
        check_jobs([one, two])
    check_jobs([one, Job(tmp_path / "two", {**aws, "region": "eu-west-1"})])
    check_jobs([one, Job(tmp_path / "two", {**aws, "db_cluster_identifier": "two", "key_alias": "alias/two"})])


def test_wrong_parameters_name_their_file(world: Any, tmp_path: Path) -> None:
    """Exit 2 before anything is called, whichever of the files is wrong; all problems at once."""
    one, two = files(tmp_path, "one", "two")
    two.write_text("key_alais: alias/x\nreader_count: 99\n")
    one.write_text("engine: oracle\n")
    done = world.runbook("run", str(one), str(two), code=2)
    assert f"error: {one}: engine: " in done.stderr
    assert f"error: {two}: key_alais: " in done.stderr
    assert [] == list(world.folder.iterdir())


def test_an_empty_folder_is_no_success(world: Any, tmp_path: Path) -> None:
    """A schedule whose folder is empty has verified nothing: exit 2."""
    assert "no parameter file" in world.runbook("run", str(tmp_path / "runs"), code=2).stderr


@pytest.mark.slow
def test_a_parameter_that_changed_is_refused_before_anything_is_called(world: Any, tmp_path: Path) -> None:
    """Exit 2 and the field's name; the other run is not begun either."""
    one, two = files(tmp_path, "one", "two")
    world.runbook("run", str(one))
    before = len(world.calls())
    one.write_text(one.read_text().replace("alias/one", "alias/other"))
    done = world.runbook("run", str(one), str(two), code=2)
    assert "error: key_alias: 00_start of run 'one' ran with 'alias/one'" in done.stderr
    assert before == len(world.calls())
    assert not (world.folder / "two").exists()


@pytest.mark.slow
def test_a_run_that_another_process_holds_fails_alone(world: Any, tmp_path: Path) -> None:
    """One lock for each run; whoever holds it is named, the others finish."""
    from runbook_lib.run.lock import run_lock

    paths = files(tmp_path, "held", "free")
    (world.folder / "held").mkdir()
    with run_lock(world.folder / "held", what="a test"):
        os.environ.pop("RUNBOOK_LOCK_TOKEN", None)
        done = world.runbook("run", *map(str, paths), code=1)
    assert {"held": "FAILED", "free": "verified"} == rows(done.stdout)
    assert "error: run held: run 'held' is held by a test" in done.stderr


class _Terminal:
    """A terminal that notes what is written to it."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Nothing is held back."""


def test_on_a_terminal_each_run_has_one_line_that_is_kept_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is at work is shown below what has ended, and wiped before it is shown anew."""
    terminal = _Terminal()
    table = ProgressTable(terminal, lambda line: terminal.write(line + "\n"))  # type: ignore[arg-type]
    jobs = [Job(Path("a.yaml"), {}), Job(Path("b.yaml"), {})]
    for job in jobs:
        job.began, job.state, job.line = 1.0, "running", "00 start"
    table.show(jobs)
    assert 2 == terminal.text.count("running")
    jobs[0].state, jobs[0].line = "verified", "all well"
    terminal.text = ""
    table.show(jobs)
    assert terminal.text.startswith("\x1b[2F\x1b[J  a  verified")
    assert terminal.text.splitlines()[-1].startswith("  b  running")


# Processes ------------------------------------------------------------------------------------------------------


def _started(world: Any, paths: list[Path], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runbook_cli.main", "run", *map(str, paths)],
        env={**os.environ, "RUNBOOK_RUNS_DIR": str(world.folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until(holds: Any, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def _parents() -> dict[int, int]:
    """Return every living process and its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if rest[0] != "Z":
            found[int(path.parent.name)] = int(rest[1])
    return found


def _alive(pid: int) -> bool:
    return pid in _parents()


def _workers(pid: int) -> list[int]:
    """Return the workers of a runner: its forks."""

    def command(one: int) -> str:
        try:
            return Path(f"/proc/{one}/cmdline").read_text()
        except OSError:
            return ""

    return [child for child, parent in _parents().items() if parent == pid and command(child) == command(pid) != ""]


def _kernels(runtime: Path) -> list[int]:
    """Return the kernels forked by the parents whose sockets lie in `runtime`."""
    parents = set()
    for pid in _parents():
        try:
            opened = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
        if str(runtime / "fork-kernel") in opened:
            parents.add(pid)
    return [pid for pid, parent in _parents().items() if parent in parents]
