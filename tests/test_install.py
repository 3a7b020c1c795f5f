"""The install without extras runs headless against an endpoint: no moto, no JupyterLab."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow
ABSENT = ("moto", "jupyterlab", "flask", "nbval", "pytest")


def test_the_plain_install_runs_the_chain_against_an_endpoint(world, tmp_path):
    """`pip install aurora-byok-runbook` is enough: the wheel carries notebooks and parameters."""
    folder = tmp_path / "plain"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wheels = tmp_path / "wheels"
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT], check=True)
    wheel = next(wheels.glob("aurora_byok_runbook-*.whl"))
    assert "runbook_lib/py.typed" in zipfile.ZipFile(wheel).namelist()  # its types are for its users, too
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True, capture_output=True)
    probe = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    found = subprocess.run([python, "-c", probe, *ABSENT], check=True, capture_output=True, text=True).stdout
    assert "[]" == found.strip()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "PYTHON"))}
    environment |= {"RUNBOOK_SANDBOX_ENDPOINT": world.sandbox.url, "RUNBOOK_ATTENDED": "0"}
    done = subprocess.run(
        [folder / "bin" / "runbook", "run", "--run-id", "plain"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    assert "Verified: aurora-byok is encrypted" in done.stdout
    assert "runs/plain/report.html" in done.stdout
    assert (tmp_path / "runs" / "plain" / "report.html").is_file()
    clock = subprocess.run(
        [folder / "bin" / "runbook", "run", "--runs-dir", tmp_path / "none"],
        env=environment | {"RUNBOOK_SANDBOX_ENDPOINT": ""}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 1 == clock.returncode
    assert "pip install 'aurora-byok-runbook[sandbox]'" in clock.stderr
