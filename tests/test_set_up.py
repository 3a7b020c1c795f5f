"""`make run` sets up .venv: it says what it does, names what is wrong, and leaves nothing half made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path):
    """What the set-up reads, in a folder without a .venv."""
    (tmp_path / "tools").mkdir()
    for name in ("tools/set_up.sh", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up, without a network."""
    return subprocess.run(
        ["sh", "tools/set_up.sh"], cwd=checkout, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout), **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_a_failed_set_up_leaves_no_venv(checkout):
    """Without the packages it says so, and the next attempt begins from nothing."""
    done = set_up(checkout)
    assert done.returncode != 0
    assert "Setting up .venv with Python 3." in done.stdout
    assert "The set-up failed; .venv was removed again." in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_a_failed_update_keeps_the_venv_and_is_tried_again(checkout):
    """A .venv that worked stays; without `ready` the next call sets it up again."""
    subprocess.run([sys.executable, "-m", "venv", checkout / ".venv"], check=True)
    done = set_up(checkout)
    assert done.returncode != 0
    assert (checkout / ".venv/bin/pip").exists()
    assert not (checkout / ".venv/ready").exists()


@pytest.mark.parametrize(("name", "told"), [("none", "there is no folder none"), ("a b", "a blank in its name")])
def test_a_wheelhouse_that_cannot_be_used_is_named(checkout, name, told):
    """One line, and what to do; nothing is installed from elsewhere."""
    (checkout / "a b").mkdir()
    done = set_up(checkout, WHEELHOUSE=name)
    assert (1, True) == (done.returncode, told in done.stderr)
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
@pytest.mark.by_command
def test_a_wheelhouse_is_enough(tmp_path):
    """A checkout elsewhere is set up with every index unreachable, and runs; with an empty folder it is not."""
    subprocess.run(["make", "wheelhouse"], cwd=ROOT, check=True, capture_output=True)
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "empty").mkdir()
    nowhere = {
        "PIP_NO_INDEX": "",
        "PIP_FIND_LINKS": "",
        "HOME": str(tmp_path / "home"),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
    }
    nowhere |= dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    assert set_up(tmp_path, WHEELHOUSE="empty", **nowhere).returncode != 0
    done = set_up(tmp_path, WHEELHOUSE=str(ROOT / "wheelhouse"), **nowhere)
    assert 0 == done.returncode, done.stderr
    subprocess.run([tmp_path / ".venv/bin/runbook", "plan"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([tmp_path / ".venv/bin/runbook", "sandbox", "--stop"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("echo 3.10.1; case $2 in *sys*) exit 1; esac", "is Python 3.10.1, and 3.11 or later is needed"),
        (None, "not found; install Python 3.11 or later"),
    ],
)
def test_an_unsuitable_python_is_named(checkout, python, told):
    """The line has the command, its version, and how to name another one."""
    path = checkout / "python3.10"
    if python:
        path.write_text(f"#!/bin/sh\n{python}\n")
        path.chmod(0o755)
    done = set_up(checkout, PYTHON=str(path))
    assert done.returncode == 1
    assert f"{path} {told}" in done.stderr
    assert "make PYTHON=python3.12" in done.stderr
    assert not (checkout / ".venv").exists()
