"""The sandbox supports every moto in the range of pyproject.toml; tested here with the oldest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITES = ("kms_import", "kms_states", "kms_use", "rds_encryption", "rds_states", "rds_snapshots", "rds_requests")


def oldest() -> str:
    """Return the lowest version that pyproject.toml allows, with three parts."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["sandbox"]
    bound = next(match[1] for line in declared if (match := re.match(r"moto\[server\]>=([\d.]+)", line)))
    return ".".join([*bound.split("."), "0", "0"][:3])


@pytest.mark.slow
def test_the_oldest_moto_works(tmp_path: Path) -> None:
    """With the oldest moto ahead of the installed one on the path, the sandbox's tests pass."""
    folder = tmp_path / "moto"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--target", str(folder), f"moto=={oldest()}"], check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    said = subprocess.run(
        [sys.executable, "-c", "import moto; print(moto.__version__)"],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert oldest() == said.stdout.strip()
    suites = [f"tests/test_sandbox_{name}.py" for name in SUITES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", *suites],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout[-4000:]
