"""environment.yml and postBuild: what conda and Binder install is what the lock has."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import environment  # noqa: E402


def listed() -> list[str]:
    """Return what pip is told to install."""
    found = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return next(one["pip"] for one in found if isinstance(one, dict))


def test_it_is_what_make_lock_writes() -> None:
    """Edited by hand, or older than the lock, it fails."""
    assert environment.written() == (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_what_is_listed_has_the_versions_of_the_lock() -> None:
    """By name and version; what is not listed has a marker that does not hold for this Python on Linux or macOS."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([A-Za-z0-9._-]+==\S+)( ;)?", lock, re.M)
    names = [line.partition(" ;")[0] for line in listed()]
    assert len(names) > 100
    assert set(names) <= {name for name, _ in pinned}
    assert [] == [name for name, marker in pinned if not marker and name not in names]


def test_markers_name_the_system_only() -> None:
    """conda-lock's parser takes no others."""
    markers = {line.partition(" ; ")[2] for line in listed()}
    assert markers <= {"", "sys_platform == 'linux'", "sys_platform == 'darwin'"}


def test_python_has_an_upper_end() -> None:
    """A Python that nobody has tried is not taken."""
    found = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert "python=3.12" in found  # 3.12.* for conda


def test_binder_installs_the_package() -> None:
    """postBuild is executable, and one command."""
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK)
    assert ["pip install --no-deps -e ."] == [
        line for line in script.read_text().splitlines() if line and line[0] != "#"
    ]
