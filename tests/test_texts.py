"""Texts from files and answers are shown in one line, without control characters: nobody else's words look like ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from runbook_cli.runner.jobs import Job
from runbook_lib.checks import Checks
from runbook_lib.errors import InputError, PlanRefused
from runbook_lib.pages.report import report_html
from runbook_lib.plan import Change, Edit, Plan
from runbook_lib.tables import Table, Text
from runbook_lib.texts import visible, visible_lines

ERASE = "\x1b[2K\x1b[1A"
EVIL = f"aurora{ERASE}\r\nVerified: \u202eall\u2028 is well\x9b31m"


@pytest.mark.parametrize(("text", "shown"), [
    ("arn:aws:kms:eu-west-2:123456789012:key/x", "arn:aws:kms:eu-west-2:123456789012:key/x"),
    ("Zürich · 東京 → 12\u00a0€", "Zürich · 東京 → 12\u00a0€"),
    ("a\x1b[31mb", "a\\x1b[31mb"), ("a\nb\tc", "a b c"), ("a\r\x00\x7f\x9b", "a\\r\\x00\\x7f\\x9b"),
    ("\u202eevil\u2066\u200b\ufeff", "\\u202eevil\\u2066\\u200b\\ufeff"), ("\u2028\ud800", "\\u2028\\ud800"),
])  # fmt: skip
def test_what_cannot_be_seen_is_written_as_its_escape(text, shown):
    """Letters of all scripts stay; escapes, line feeds, bidirectional controls and lone surrogates do not act."""
    assert shown == visible(text)


def test_texts_of_several_lines_keep_their_lines_and_nothing_else():
    """A policy or commands are shown as they are, but for what a terminal would obey."""
    assert "{\n\t\\x1b[1A}\\r" == visible_lines("{\n\t\x1b[1A}\r")


def is_clean(text, *, lines):
    """Return whether a text has this many lines and no control characters."""
    return lines == len(text.splitlines()) and text.replace("\n", "").isprintable()


def test_no_table_plan_check_or_error_passes_a_control_character_on():
    """In words and in HTML, in every field; a value neither adds a row nor colours, hides or reverses one."""
    table, text = Table(EVIL, ("a", "b"), [(EVIL, 1), (EVIL, {EVIL: EVIL})]), Text("c", EVIL.replace("\n", ""))
    plan = Plan("01", (Change("keep", EVIL, EVIL, EVIL),), edits=(Edit("f", "You", EVIL, ""),), cost="none")
    checks = Checks("The key")
    checks.equal(EVIL, "x", EVIL, source=EVIL)
    for shown, lines in ((table, 4), (text, 2), (plan, 5), (checks, 3)):
        assert is_clean(repr(shown), lines=lines), repr(shown)
        assert "\x1b" not in shown._repr_html_()
        assert "\u202e" not in shown._repr_html_()
    for error in (PlanRefused(EVIL), InputError([(EVIL, EVIL)])):
        assert is_clean(str(error), lines=1)
        assert is_clean(error._render_traceback_()[0], lines=1)
    facts = {"db_cluster_identifier": EVIL, "verified_at": "now", "run_id": EVIL, "target_words": "AWS", "account_id": "1",
             "region": EVIL, "verdict": EVIL, "summary": {"a": EVIL}}  # fmt: skip
    page = report_html(facts, checks, tables=[table]).decode()
    assert page.replace("\n", "").isprintable()


def test_the_line_of_a_parallel_run_is_one_line(tmp_path):
    """What a worker reports comes from its notebook: it stays in its line."""
    from runbook_cli.runner.progress_table import line_of

    job = Job(file=tmp_path / "a.yaml", parameters={}, run_id="a")
    job.line = EVIL
    assert is_clean(line_of(job, [job]), lines=1)


def test_status_shows_an_edited_record_without_its_control_characters(world):
    """A summary in state.json that erases lines is shown, not obeyed; JSON has it escaped."""
    folder = world.folder / "edited"
    folder.mkdir(mode=0o700)
    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "gone"}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    section = {
        "status": "finished",
        "started": now,
        "finished": now,
        "inputs": {},
        "intents": {},
        "record": {"summary": EVIL},
    }
    state = {"format": 1, "run_id": "edited", "created": EVIL, "target": target, "steps": {"01_create_key": section}}
    (folder / "state.json").write_text(json.dumps(state))
    shown = world.runbook("status", "edited").stdout
    assert is_clean(shown, lines=2), shown
    assert "\\x1b[2K" in shown
    assert "\x1b" not in world.runbook("status", "edited", "--json").stdout
