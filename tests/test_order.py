"""Tests run in a new order each time, whose seed is shown; a notebook's cells run in theirs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SEEDS = ("1", "2")


def _collected(*words: str) -> str:
    """Return what pytest says of the tests that it would run, in order, with this project's own settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "RUNBOOK_"))}
    command = [sys.executable, "-m", "pytest", "--collect-only", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_tests_are_shuffled_and_the_seed_is_shown() -> None:
    """Other seeds, other orders; the header says which it was, and with it the same order comes again."""
    said = [_collected("-p", "no:nbval", "tests/test_policy.py", f"--randomly-seed={seed}") for seed in SEEDS]
    assert all(f"Using --randomly-seed={seed}" in text for seed, text in zip(SEEDS, said, strict=True))
    orders = {tuple(re.findall(r"<Function (.+)>", text)) for text in said}
    assert 1 < len(orders)
    assert 1 == len({frozenset(order) for order in orders})


@pytest.mark.slow
def test_the_cells_of_a_notebook_are_never_shuffled() -> None:
    """Whatever the seed: a cell reads what the cells before it left."""
    said = _collected("--nbval", "notebooks/90_clean_up.ipynb", f"--randomly-seed={SEEDS[0]}")
    cells = [int(number) for number in re.findall(r"Cell (\d+)", said)]
    assert 3 < len(cells)
    assert sorted(cells) == cells
