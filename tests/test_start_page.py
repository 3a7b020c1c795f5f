"""The start page: what is done, what is next, and where the evidence lies."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from runbook_cli.lab.start_page import start_page
from runbook_cli.run_state import next_step
from runbook_lib.aws.seat_file import Seat
from runbook_lib.run.materials import permanent_materials
from runbook_lib.run.run import Run
from runbook_lib.run.steps import all_steps, chain

SANDBOX = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}
STEPS = [step.name for step in chain()]


@pytest.fixture
def run_with(tmp_path):
    """Make a run in which these steps have finished."""

    def make(*finished, run_id="demo", target=SANDBOX):
        run = Run.create(run_id, runs_dir=tmp_path, target=target)
        for name in finished:
            run.begin(name, inputs={})
            run.finish(name)
        return run

    return make


def test_without_a_run_the_page_says_where_to_begin_and_links_every_step():
    """A new user needs one link, and sees the whole way."""
    page = start_page([], target="sandbox", notebooks="../notebooks")
    assert "**Start with [00 start](../notebooks/00_start.ipynb).**" in page
    for name in all_steps():
        assert f"(../notebooks/{name}.ipynb)" in page
    assert "**SANDBOX.**" in page
    assert "REAL AWS" not in page


def test_the_page_says_in_red_and_in_words_that_this_is_real_aws():
    """Colour alone would not reach everybody."""
    page = start_page([], target="aws", notebooks="n")
    assert '<b style="color:#dc3e46">⚠ REAL AWS.</b>' in page
    assert "costs money" in page
    assert "SANDBOX" not in page


def test_a_run_on_the_way_shows_what_is_done_and_links_what_is_next(run_with):
    """Coming back tomorrow begins here."""
    run = run_with(*STEPS[:3])
    run.begin(STEPS[3], inputs={})
    page = start_page([run], target="sandbox", notebooks="n")
    assert 3 == page.count("✓ done")
    assert 1 == page.count("**▶ next, started**")
    assert f"Continue run `demo`: [03 encrypt key material](n/{STEPS[3]}.ipynb)" in page


def test_a_run_shows_how_long_its_material_lives_and_what_extends_it(walk):
    """With its date, not with the days left: the page is read later, and a sandbox has a clock of its own."""
    walk.start().pair().encrypt()
    ends = (walk.step("04").now() + timedelta(days=60)).replace(microsecond=0)
    walk.bring_in(expiration_model="KEY_MATERIAL_EXPIRES", valid_to=ends.isoformat())
    page = start_page([walk.run], target="sandbox", notebooks="n")
    value = permanent_materials(walk.run)[0].shown_check_value
    expected = f"Key material: key check value `{value}` expires at {ends:%Y-%m-%d %H:%M} UTC. To extend it: "
    assert f"{expected}`runbook recover demo --valid-to TIME`." in page


def test_a_finished_run_links_its_evidence(run_with):
    """The report and the executed notebooks are one click away."""
    run = run_with(*STEPS)
    run.write("report.html", b"<html>")
    (run.path / "notebooks" / "06_verify_encryption.ipynb").write_bytes(b"{}")
    page = start_page([run], target="sandbox", notebooks="n")
    assert "" == next_step(run)
    assert "Run `demo` is finished" in page
    assert "[report.html](demo/report.html)" in page
    assert "[06](demo/notebooks/06_verify_encryption.ipynb)" in page


def test_the_walk_of_the_current_run_comes_first_and_other_runs_are_listed_below(run_with):
    """The page leads to the run that the notebooks work on, not to the newest; the others are listed, newest first."""
    runs = [run_with("00_start", run_id=f"run-{number}") for number in range(4)]
    page = start_page(runs, target="sandbox", notebooks="n", current="run-1")
    assert "**Continue run `run-1`: [01 create key](n/01_create_key.ipynb).**" in page
    assert "| step | what it does | time | run `run-1` |" in page
    walk, others = page.split("## Other runs")
    assert not any(f"run-{number}" in walk for number in (0, 2, 3))
    assert ["run-3", "run-2", "run-0"] == re.findall(r"^\| `(.+?)` \|", others, re.MULTILINE)


def test_with_runs_but_no_current_one_the_page_begins_with_00(run_with):
    """The notebooks would work on no run that exists yet, so the page does not promise to continue one."""
    page = start_page([run_with("00_start", run_id="nightly")], target="sandbox", notebooks="n", current="")
    assert "**Start with [00 start](n/00_start.ipynb).**" in page
    assert "Continue" not in page
    assert "| `nightly` |" in page


def test_a_run_on_aws_says_so_in_words(run_with):
    """Whoever looks at a list of runs sees which of them are real."""
    run = run_with("00_start", target={**SANDBOX, "target": "aws"})
    assert "**REAL AWS** 123456789012" in start_page([run], target="sandbox", notebooks="n")


def test_in_a_room_the_page_names_seat_and_room():
    """Where calls go, and how to come back; no token. Without a room it speaks of this machine."""
    seat = Seat("http://10.0.0.5:5000", 7, "onee-onee-onee-onee")
    page = start_page([], target="sandbox", notebooks="n", room=seat)
    assert "**SANDBOX · seat 7.**" in page
    assert "<http://10.0.0.5:5000/room>" in page
    assert ["on this machine" in page, "onee" in page] == [False, False]
    assert "on this machine" in start_page([], target="sandbox", notebooks="n")
