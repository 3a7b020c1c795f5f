"""The files around the code: workflow, git attributes, and what pytest refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def test_the_workflow_calls_make_targets_that_exist():
    """It has not been run on GitHub, so at least its commands and triggers are checked."""
    text = (ROOT / ".github/workflows/check.yml").read_text()
    assert "never run" in text
    workflow = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - YAML 1.1 reads `on` as true
    assert {"push", "pull_request"} == set(workflow["on"])
    assert {"contents": "read"} == workflow["permissions"]
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    made = {command.removeprefix("make ") for command in commands if command.startswith("make ")}
    assert {"lint", "test"} == made
    assert made <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_notebooks_never_pass_a_git_filter():
    """`*.ipynb filter=nbstripout` in somebody's own attributes has no effect here."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    asked = ["git", "check-attr", "filter", "diff", "--", "notebooks/00_start.ipynb"]
    found = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "filter: unset" in found
    assert "diff: jupyternotebook" in found


def test_notebooks_are_not_compared_in_parallel():
    """`pytest -n 2 --nbval` would execute the steps of one run out of order: refused in one line."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--nbval", "notebooks"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert pytest.ExitCode.USAGE_ERROR == done.returncode
    assert ["ERROR: --nbval: the notebooks build on each other and run in one process; omit -n"] == [
        line for line in done.stderr.splitlines() if line.strip()
    ]
