"""Which sandbox account a run lives in."""

from __future__ import annotations

import pytest

from runbook_lib.aws.sandbox_accounts import account_of_seat
from runbook_lib.aws.sandbox_process import Sandbox
from runbook_lib.aws.seats import sandbox_account
from runbook_lib.aws.session import sandbox_session
from runbook_lib.errors import InputError
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.run import Run

SANDBOX = Sandbox("http://127.0.0.1:1", "this-one")


def begun(folder, run_id, *, account, sandbox_id="this-one", **names):
    """Make a run that stands in `account` with the names given."""
    target = {"target": "sandbox", "account_id": account, "region": "eu-west-2", "sandbox_id": sandbox_id}
    run = Run.create(run_id, runs_dir=folder, target=target)
    run.begin("00_start", inputs=StartInputs(run_id=run_id, **names).model_dump())
    return run


def test_a_first_run_lives_in_the_default_account(tmp_path):
    """What anybody sees who looks with plain boto3."""
    assert sandbox_account(StartInputs(run_id="a"), SANDBOX, runs_dir=tmp_path) == "123456789012"


def test_a_run_with_the_names_of_another_gets_an_account_of_its_own(tmp_path):
    """`make run` twice does not collide with itself; a run that exists keeps its account."""
    begun(tmp_path, "a", account="123456789012")
    begun(tmp_path, "b", account="200000005001")
    assert sandbox_account(StartInputs(run_id="c"), SANDBOX, runs_dir=tmp_path) == "200000005002"
    assert sandbox_account(StartInputs(run_id="b"), SANDBOX, runs_dir=tmp_path) == "200000005001"


def test_runs_with_names_of_their_own_share_the_default_account(tmp_path):
    """Only a collision moves a run elsewhere; so does not one that was cleaned up, or that was in another sandbox."""
    begun(tmp_path, "a", account="123456789012")
    other = StartInputs(run_id="b", key_alias="alias/other", db_cluster_identifier="other")
    assert sandbox_account(other, SANDBOX, runs_dir=tmp_path) == "123456789012"
    half = StartInputs(run_id="b", key_alias="alias/other")
    assert sandbox_account(half, SANDBOX, runs_dir=tmp_path) == "200000005001"


@pytest.mark.parametrize("past", ["cleaned up", "elsewhere"])
def test_runs_that_are_over_take_no_names(tmp_path, past):
    """A run that was cleaned up, or that stood in a sandbox that has ended, is in nobody's way."""
    run = begun(tmp_path, "a", account="123456789012", sandbox_id="this-one" if past == "cleaned up" else "ended")
    if past == "cleaned up":
        run.begin("90_clean_up", inputs={})
        run.finish("90_clean_up")
    assert sandbox_account(StartInputs(run_id="b"), SANDBOX, runs_dir=tmp_path) == "123456789012"


def test_a_seat_is_an_account_of_its_own(tmp_path, monkeypatch):
    """RUNBOOK_SEAT=7 works in another account, an account given goes before it; what is no seat is refused."""
    monkeypatch.setenv("RUNBOOK_SEAT", "7")
    assert sandbox_account(StartInputs(), SANDBOX, runs_dir=tmp_path) == "200000000007"
    assert sandbox_account(StartInputs(account_id="111122223333"), SANDBOX, runs_dir=tmp_path) == "111122223333"
    monkeypatch.setenv("RUNBOOK_SEAT", "seven")
    with pytest.raises(InputError, match="RUNBOOK_SEAT"):
        sandbox_account(StartInputs(), SANDBOX, runs_dir=tmp_path)


def test_a_seat_that_was_emptied_before_is_open_to_whoever_did_not_sit_there(world):
    """Somebody who names the account, without the seat, knows the sandbox by its first id, and is not told of a reset."""
    account = account_of_seat(7)
    world.ask("/runbook/seats/7/reset", {}, method="POST")
    session = sandbox_session(world.sandbox, region="eu-west-2", account_id=account)
    assert session.client("kms").list_keys()["Keys"] == []
