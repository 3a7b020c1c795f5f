"""Progress of a long wait: one line per change for logs and saved pages, and one block kept current for a person.

The block is updated in place only when a person is there. What stays in a saved notebook is its last state, and
that says how the wait ended: done, interrupted or stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from html import escape
from typing import Any

from runbook_lib.attended import is_attended
from runbook_lib.errors import Interrupted

_CELL = "padding:2px 14px 2px 0;text-align:left"


class Progress:
    """What a wait is for, since when, and how it stands."""

    def __init__(self, waiting_for: str) -> None:
        self.waiting_for = waiting_for
        self._began = time.monotonic()
        self._handle: Any = None
        self._attended = is_attended()
        self._statuses: dict[str, str] = {}
        self._ended = False
        _current.set(self)

    def say(self, line: str) -> None:
        """Print a line that stays: a change of state."""
        print(line)

    def show(self, statuses: dict[str, str], *, done: bool = False) -> None:
        """Show how it stands now; for a person only, in place."""
        self._statuses, self._ended = dict(statuses), done
        self._show("✓ done" if done else "… waiting")

    def end(self, word: str) -> None:
        """Say that the wait is over before it was done, and how it stood then."""
        if not self._ended:
            self._ended = True
            self._show(f"■ {word}")

    def _show(self, word: str) -> None:
        if not self._attended:
            return
        from IPython.display import HTML, display

        page = HTML(self._page(word))  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(page, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(page)

    def _page(self, word: str) -> str:
        head = f"{word} · {self.waiting_for} · {self._elapsed()}"
        rows = "".join(
            f"<tr><td style='{_CELL}'>{escape(name)}</td>"
            f"<td style='{_CELL}'>{'✓' if status == 'available' else '…'} {escape(status)}</td></tr>"
            for name, status in self._statuses.items()
        )
        looked = f"Last look {datetime.now(UTC):%H:%M:%S} UTC."
        hint = (
            ""
            if word.startswith("✓")
            else f"<div>{looked} Interrupting (■) does no harm: run the cell again to go on.</div>"
        )
        return f"<div style='font-size:13px'><b>{escape(head)}</b><table>{rows}</table>{hint}</div>"

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02}"


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a person interrupt a wait: its block says so, and one line says how to go on.

    Raises `Interrupted` in place of KeyboardInterrupt when a person is there; a program gets what it sent.
    """
    token = _current.set(None)
    try:
        yield
    except KeyboardInterrupt:
        progress = _current.get()
        if progress is None or not is_attended():
            raise
        progress.end("interrupted")
        raise Interrupted(
            f"you interrupted the wait for {progress.waiting_for}; nothing is lost: run this cell again to go on"
        ) from None
    finally:
        if (progress := _current.get()) is not None:
            progress.end("stopped")
        _current.reset(token)
