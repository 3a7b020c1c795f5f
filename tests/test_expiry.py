"""How long imported material lives: told from the run's record, in words that fit the distance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from runbook_lib.run import expiry
from runbook_lib.run.run import Run

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def run_with(tmp_path, **record):
    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}
    run = Run.create("demo", runs_dir=tmp_path, target=target)
    run.note("04_import_key_material", **record)
    return run


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=217, hours=3), "expires at 2027-06-29 15:00 UTC, in 217 days"),
        (timedelta(hours=47), "expires at 2026-11-26 11:00 UTC, in 47 hours"),
        (timedelta(minutes=119), "expires at 2026-11-24 13:59 UTC, in 119 minutes"),
        (timedelta(seconds=90), "expires at 2026-11-24 12:01 UTC, in 90 seconds"),
        (timedelta(days=-3), "expired at 2026-11-21 12:00 UTC, 3 days ago"),
        (timedelta(0), "expired at 2026-11-24 12:00 UTC, 0 seconds ago"),
    ],
)
def test_how_long_is_left_in_words_and_seconds(tmp_path, left, words):
    """Days, hours, minutes, seconds; and after it, since when."""
    run = run_with(tmp_path, key_material_id="a" * 64, valid_to=(NOW + left).isoformat())
    assert words == expiry.in_words(run, now=NOW)
    assert left.total_seconds() == expiry.seconds_left(run, now=NOW)


def test_what_does_not_expire_and_what_was_never_imported(tmp_path):
    """No date, no seconds; nothing at all before step 04."""
    run = run_with(tmp_path, key_material_id="a" * 64, valid_to="")
    assert ("does not expire", None) == (expiry.in_words(run, now=NOW), expiry.seconds_left(run, now=NOW))
    other = Run.create("other", runs_dir=tmp_path, target={"target": "sandbox"})
    assert ("", None) == (expiry.in_words(other), expiry.seconds_left(other))
