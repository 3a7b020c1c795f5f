"""What docs/schedule.md promises: the unit's rating, the lines of a failure's mail, and scripts that are Python."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import World

ROOT = Path(__file__).parent.parent
UNITS = sorted((ROOT / "examples" / "systemd").iterdir())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_the_unit_is_not_root_and_rated_4_or_better() -> None:
    """By systemd's own rating, from the file alone."""
    unit = ROOT / "examples" / "systemd" / "aurora-byok.service"
    assert "\nUser=runbook\n" in unit.read_text()
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=False
    )  # fmt: skip
    [rated] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", told.stdout)
    assert float(rated) <= 4.0


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_each_option_of_runbook_in_a_unit_exists(unit: Path) -> None:
    """The command line that a unit executes is one that the command takes."""
    from runbook_cli.main import main

    for line in re.findall(r"^ExecStart=\S*/runbook (.*)$", unit.read_text(), re.MULTILINE):
        name, *words = line.split()
        known = {option for one in main.commands[name].params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.slow
def test_the_mail_of_a_failure_says_where_it_happened(world: World) -> None:
    """What, target, account and Region, the notebook, and the command that resumes; nothing on standard output."""
    world.runbook("run", "--run-id", "nightly", "--quiet", "--keep-reports", "1")
    [key] = world.client("kms").list_keys()["Keys"][:1]
    world.client("kms").disable_key(KeyId=key["KeyId"])
    told = world.runbook("run", "--run-id", "nightly", "--quiet", code=1)
    assert told.stdout == ""
    lines = told.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert "  run nightly: sandbox, account 123456789012, eu-west-2" in lines
    assert "resume with: runbook run --run-id nightly" in lines[-1]


def test_a_notebook_converts_to_a_python_script(tmp_path: Path) -> None:
    """nbconvert asks the notebook's own metadata for the ending."""
    from nbconvert import ScriptExporter

    text, found = ScriptExporter().from_filename(str(ROOT / "notebooks" / "01_create_key.ipynb"))
    assert ".py" == found["output_extension"]
    compile(text, "01_create_key.py", "exec")
