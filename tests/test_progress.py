"""Progress of a wait: lines that stay, a block that a person watches, and a last state that is true."""

from __future__ import annotations

import pytest

from runbook_lib.errors import WaitInterrupted, WaitTimedOut
from runbook_lib.pages.progress import Progress, interruptible

COMING = {"cluster c": "creating"}
THERE = {"cluster c": "available"}


def wait_that_ends_with(error):
    """Wait for a cluster until `error` ends it."""
    with interruptible():
        Progress("cluster c").show(COMING)
        raise error


@pytest.fixture
def shown(monkeypatch):
    """A person sits there; what the block shows, newest last."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")
    pages = []

    class Handle:
        def update(self, page):
            pages.append(page.data)

    def display(page, display_id):
        assert [] == pages, "a second block was begun"
        pages.append(page.data)
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    return pages


def test_one_block_is_kept_current_and_ends_as_done(shown):
    """State, elapsed time and what is waited for, for each thing waited for; a single block."""
    with interruptible():
        progress = Progress("cluster c <b>")
        progress.show(COMING)
        assert "… waiting · cluster c &lt;b&gt; · 0:00" in shown[-1]
        assert "… creating" in shown[-1]
        assert "It is safe to interrupt (■)" in shown[-1]
        progress.show(THERE, done=True)
    assert 2 == len(shown)
    assert "✓ done" in shown[-1]
    assert "✓ available" in shown[-1]
    assert "waiting" not in shown[-1].replace("waiting_for", "")


def test_an_interrupted_wait_says_so_where_it_was_shown_and_how_to_go_on(shown):
    """The saved page does not claim to be waiting still, and the error is one line."""
    with pytest.raises(WaitInterrupted, match=r"interrupted the wait for cluster c; run this cell again to resume it"):
        wait_that_ends_with(KeyboardInterrupt())
    assert "■ interrupted · cluster c" in shown[-1]
    assert "… creating" in shown[-1]


def test_a_wait_that_fails_is_shown_as_stopped(shown):
    """Whatever ended it, the block does not go on claiming to wait."""
    with pytest.raises(WaitTimedOut):
        wait_that_ends_with(WaitTimedOut("late"))
    assert "■ stopped · cluster c" in shown[-1]


def test_a_program_that_interrupts_gets_its_own_interrupt(monkeypatch):
    """Under papermill SIGINT stays what it is."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "0")
    with pytest.raises(KeyboardInterrupt):
        wait_that_ends_with(KeyboardInterrupt())


def test_in_a_log_there_are_lines_and_no_block(monkeypatch, capsys):
    """What papermill logs is one line per change, and nothing that would have to be updated."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "0")
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: pytest.fail("a block was shown"))
    progress = Progress("cluster c")
    progress.say("cluster c: creating")
    progress.show(COMING)
    progress.show(THERE, done=True)
    assert "cluster c: creating\n" == capsys.readouterr().out
