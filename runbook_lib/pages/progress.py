"""Progress of a long wait: one line per change of status and, in an attended session, a progress table.

The table is updated in place. A saved notebook keeps its last state, which says how the wait ended: done, interrupted or
stopped.
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
from runbook_lib.errors import WaitInterrupted
from runbook_lib.texts import visible

_CELL = "padding:2px 14px 2px 0;text-align:left"


class Progress:
    """A wait: what for, since when, and the last statuses."""

    def __init__(self, waiting_for: str) -> None:
        self.waiting_for = waiting_for
        self._began = time.monotonic()
        self._handle: Any = None
        self._attended = is_attended()
        self._statuses: dict[str, str] = {}
        self._ended = False
        _current.set(self)

    def say(self, line: str) -> None:
        """Print a line for a change of status."""
        print(line)

    def show(self, statuses: dict[str, str], *, done: bool = False) -> None:
        """Update the progress table with statuses by name."""
        self._statuses, self._ended = dict(statuses), done
        self._show("✓ done" if done else "… waiting")

    def end(self, word: str) -> None:
        """Show that the wait ended early, as `word`, with the last statuses."""
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
            f"<td style='{_CELL}'>{'✓' if status == 'available' else '…'} {escape(visible(status))}</td></tr>"
            for name, status in self._statuses.items()
        )
        polled = f"Last polled {datetime.now(UTC):%H:%M:%S} UTC."
        hint = (
            ""
            if word.startswith("✓")
            else f"<div>{polled} It is safe to interrupt (■): run the cell again to resume.</div>"
        )
        return f"<div style='font-size:13px'><b>{escape(head)}</b><table>{rows}</table>{hint}</div>"

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02}"


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a person interrupt a wait: the progress table shows it, and one line says how to resume.

    Raises `WaitInterrupted` instead of KeyboardInterrupt in an attended session.
    """
    token = _current.set(None)
    try:
        yield
    except KeyboardInterrupt:
        progress = _current.get()
        if progress is None or not is_attended():
            raise
        progress.end("interrupted")
        raise WaitInterrupted(
            f"you interrupted the wait for {progress.waiting_for}; run this cell again to resume it"
        ) from None
    finally:
        if (progress := _current.get()) is not None:
            progress.end("stopped")
        _current.reset(token)
