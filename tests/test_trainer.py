"""The trainer's page: its exercises are the real ones, and its orders are taken by the sandbox as they stand there."""

from __future__ import annotations

import re

import pytest

from runbook_lib.run.paths import notebooks_folder
from runbook_lib.steps.exercises import EXERCISES
from runbook_lib.steps.tasks.incidents import INCIDENTS
from runbook_lib.steps.tasks.work import TASKS

PAGE = (notebooks_folder().parent / "docs" / "trainer.md").read_text(encoding="utf-8")
TAUGHT = [name for name in EXERCISES if re.search(rf"^\| {name[:2]} ", PAGE, re.M)]
ORDERS = re.findall(r"^\$ runbook (sandbox (?!--).+)$", PAGE, re.M)


def test_every_step_of_the_chain_is_taught():
    """00 to 06, and the end."""
    assert {"00", "01", "02", "03", "04", "05", "06", "90"} <= {name[:2] for name in TAUGHT}


@pytest.mark.parametrize("name", TAUGHT)
def test_every_exercise_is_told_as_it_is(name):
    """Its title and the error that comes, so that nobody prepares a lesson that is not there."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {name[:2]} ")]
    assert f"**{EXERCISES[name].title}**: `{EXERCISES[name].error}`" in row


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_told_as_it_is(name):
    """Its title and its step, with what it teaches and what is almost right."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| **{TASKS[name].title}** | {name[:2]} | ")]
    assert 4 == row.count(" | ") + 1


@pytest.mark.parametrize("name", INCIDENTS)
def test_every_incident_is_told_as_it_is(name):
    """Its title and the word that starts it."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| **{INCIDENTS[name].title}** (`{name}`) | ")]
    assert 4 == row.count(" | ") + 1


def test_the_sandbox_takes_every_order_of_the_page(world):
    """Pasted, each works: a wrong one would end with an error."""
    assert ["sandbox states 20s", "sandbox advance 25h", "sandbox fault kms:DescribeKey throttle --count 3",
            "sandbox reset-seat 7"] == ORDERS  # fmt: skip
    assert world.sandbox
    for order in ORDERS:
        world.runbook(*order.split())
