"""A command runs, or says in one line why not, whatever stands around it: streams, home folder, open files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, World
from runbook_cli.surroundings import prepare

COMMAND = f"{sys.executable} -m runbook_cli.main"


def shell(world: World, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one line of shell."""
    return subprocess.run(
        ["sh", "-c", line], cwd=ROOT, text=True, timeout=180, check=False, capture_output=True,
        env={**os.environ, "RUNBOOK_RUNS_DIR": str(world.folder), **environment},
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(world: World, closed: str) -> None:
    """Their numbers are not given to other files."""
    done = shell(world, f"{COMMAND} status {closed}")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_whole_run_without_standard_streams(world: World) -> None:
    """Kernels inherit them."""
    assert 0 == shell(world, f"{COMMAND} run --run-id closed <&- >&- 2>&-").returncode
    assert world.report("closed")["verified"]


@pytest.mark.slow
def test_without_a_home_folder_a_quiet_run_is_silent(world: World, tmp_path: Path) -> None:
    """Nothing but failures is printed."""
    done = shell(world, f"unset IPYTHONDIR; {COMMAND} run --quiet --run-id homeless", HOME="/nonexistent")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_too_few_open_files_are_one_line(world: World) -> None:
    """The limit, what is needed, and the command; no run folder is left."""
    done = shell(world, f"ulimit -n 40; {COMMAND} run --run-id few")
    assert 1 == done.returncode
    assert (
        "error: at most 40 files may be open here, and a run needs 64; raise the limit: ulimit -n 1024\n" == done.stderr
    )
    assert not (world.folder / "few").exists()


@pytest.mark.slow
def test_a_soft_limit_is_raised(world: World) -> None:
    """As far as the hard one allows."""
    assert 0 == shell(world, f"ulimit -S -n 40; {COMMAND} run --quiet --run-id soft").returncode


def test_a_user_without_an_entry_and_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs under a number: there is no home folder to ask for."""

    def nobody(_number: int) -> None:
        raise KeyError("no such user")

    monkeypatch.setenv("HOME", "before")  # so that the variable is restored
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("IPYTHONDIR", "before")  # so that the variable is restored
    monkeypatch.delenv("IPYTHONDIR")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    prepare()
    assert Path(os.environ["IPYTHONDIR"]).is_dir()
    assert Path.home().is_dir()


UNKNOWN = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]


@pytest.mark.slow
@pytest.mark.skipif(0 != subprocess.run([*UNKNOWN, "true"], check=False).returncode, reason="no user namespaces here")
@pytest.mark.parametrize("kernel", ["forked", "plain"])
def test_a_whole_run_of_a_user_without_an_entry_and_without_a_home(world: World, tmp_path: Path, kernel: str) -> None:
    """Neither pwd nor HOME knows a home folder; Jupyter asks for one."""
    words = [*UNKNOWN, "env", "-u", "HOME", "-u", "IPYTHONDIR", sys.executable, "-m", "runbook_cli.main"]
    done = subprocess.run(
        [*words, "run", "--quiet", "--run-id", "nobody", "--kernel", kernel, "--runs-dir", str(world.folder)],
        cwd=ROOT, text=True, timeout=180, check=False, capture_output=True,
    )  # fmt: skip
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert world.report("nobody")["verified"]


@pytest.mark.slow
def test_a_home_that_is_not_writable(world: World, tmp_path: Path) -> None:
    """A read-only image: nothing is printed, and nothing is needed there."""
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    done = shell(world, f"unset IPYTHONDIR; {COMMAND} run --quiet --run-id readonly", HOME=str(home))
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
