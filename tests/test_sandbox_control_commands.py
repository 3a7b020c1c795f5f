"""Control commands for a running sandbox: `runbook sandbox advance`, `states`, `fault` and `reset-seat`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click import Group
from click.testing import CliRunner, Result
from kms_support import connect, now, refusal, sandbox
from rds_support import Aws

from runbook_cli import sandbox_control
from runbook_cli.main import main
from runbook_lib.aws import sandbox_process
from runbook_lib.aws.sandbox_accounts import account_of_seat
from runbook_lib.errors import InputError
from runbook_sandbox.server import control_commands

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A sandbox for this module."""
    with sandbox() as served:
        yield served


@pytest.fixture
def command(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command, on that sandbox; clock, faults and states are reset afterwards."""
    monkeypatch.setenv("RUNBOOK_SANDBOX_ENDPOINT", url)
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(tmp_path))
    yield lambda *words: CliRunner().invoke(main, ["sandbox", *words])
    sandbox_process.call(url, "/runbook/clock", method="POST", body={"reset": True})
    sandbox_process.call(url, "/runbook/faults", method="DELETE")
    sandbox_process.call(url, "/runbook/progression", method="DELETE")


def test_the_clock_is_advanced(url: str, command: Command) -> None:
    """`advance 25h` advances it by 25 hours and prints the new time."""
    before = now(url)
    done = command("advance", "25h")
    assert (0, True) == (done.exit_code, "clock is now" in done.output)
    assert timedelta(hours=25) <= now(url) - before < timedelta(hours=25, minutes=1)


def test_states_last_as_long_as_asked(url: str, command: Command) -> None:
    """`states 3` is describe calls, `states 20s` seconds, `states 0` at once."""
    for pace, expected in (
        ("3", {"progression": "manual", "times": 3}), ("20s", {"progression": "time", "seconds": 20}),
        ("0", {"progression": "immediate"}),
    ):  # fmt: skip
        assert 0 == command("states", pace).exit_code
        assert expected == sandbox_process.call(url, "/runbook/progression")["rds::cluster"]


def test_faults_are_injected(url: str, command: Command) -> None:
    """`fault kms:ListKeys throttle --count 2`: two calls are throttled, the third is not."""
    assert 0 == command("fault", "kms:ListKeys", "throttle", "--count", "2").exit_code
    kms = connect(url)
    assert ["ThrottlingException"] * 2 == [refusal(kms.list_keys) for _ in range(2)]
    kms.list_keys()


def test_one_seat_is_emptied(url: str, command: Command) -> None:
    """`reset-seat 7` empties that account and no other."""
    seven, eight = (Aws(url, account_of_seat(seat)) for seat in (7, 8))
    seven.key(), eight.key()
    done = command("reset-seat", "7")
    assert (0, True) == (done.exit_code, account_of_seat(7) in done.output)
    assert (0, 1) == (len(seven("kms").list_keys()["Keys"]), len(eight("kms").list_keys()["Keys"]))


@pytest.mark.parametrize(
    "words",
    [("advance", "soon"), ("advance", "7"), ("states", "quickly"), ("fault", "ListKeys", "throttle"),
     ("fault", "kms:ListKeys", "explode"), ("reset-seat", "-3"), ("reset-seat", "100000"), ("fly",)],
)  # fmt: skip
def test_invalid_commands_are_refused(command: Command, words: tuple[str, ...]) -> None:
    """Exit 2 and no traceback."""
    done = command(*words)
    assert 2 == done.exit_code
    assert "Traceback" not in done.output


def test_without_a_sandbox_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1, with the command that starts one; a control command does not start one."""
    monkeypatch.delenv("RUNBOOK_SANDBOX_ENDPOINT", raising=False)
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(tmp_path))
    done = CliRunner().invoke(main, ["sandbox", "advance", "7d"])
    assert (1, True) == (done.exit_code, "no sandbox is running" in done.output)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("span", "expected"), [("45s", 45), ("30m", 1800), ("25h", 90_000), ("7d", 604_800)])
def test_durations(span: str, expected: int) -> None:
    """A duration is given in seconds, minutes, hours or days."""
    assert expected == sandbox_control.seconds(span)


@pytest.mark.parametrize("span", ["", "d", "1.5h", "7 d", "٣d", "1w"])
def test_invalid_spans(span: str) -> None:
    """Anything else is refused, with examples."""
    with pytest.raises(InputError, match="not a time span"):
        sandbox_control.seconds(span)


def test_the_page_lists_every_command() -> None:
    """Every command and control path in docs/sandbox.md exists, and every command is on the page."""
    page = (Path(__file__).parent.parent / "docs" / "sandbox.md").read_text(encoding="utf-8")
    group = main.commands["sandbox"]
    assert isinstance(group, Group)
    assert set(group.commands) == set(re.findall(r"`runbook sandbox ([a-z-]+) ", page)) - {"--port", "--stop"}
    paths = {path.replace("/7/", "/0/") for path in re.findall(r"(/runbook/[a-z0-9/]+)", page)}
    assert {"/runbook/clock", "/runbook/progression", "/runbook/faults"} < paths
    assert set() == {path for path in paths if control_commands.answer("HEAD", path, {}, None)[0] == 404}
