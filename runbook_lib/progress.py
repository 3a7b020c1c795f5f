"""Progress of a long wait: one line per change for logs and saved pages, and one line kept current for a person.

The live line is updated in place only when a person is there; what stays in a saved notebook is its last state.
"""

from __future__ import annotations

import time
from html import escape
from typing import Any

from runbook_lib.step import is_attended


class Progress:
    """What a wait is for, since when, and how it stands."""

    def __init__(self, waiting_for: str) -> None:
        self.waiting_for = waiting_for
        self._began = time.monotonic()
        self._handle: Any = None
        self._attended = is_attended()

    def say(self, line: str) -> None:
        """Print a line that stays: a change of state."""
        print(line)

    def show(self, statuses: dict[str, str], *, done: bool = False) -> None:
        """Show how it stands now; for a person only, in place."""
        if not self._attended:
            return
        from IPython.display import HTML, display

        page = HTML(self._page(statuses, done))  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(page, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(page)

    def _page(self, statuses: dict[str, str], done: bool) -> str:
        seconds = int(time.monotonic() - self._began)
        head = f"{'✓ done' if done else '… waiting'} · {self.waiting_for} · {seconds // 60}:{seconds % 60:02}"
        rows = "".join(
            f"<tr><td style='padding:2px 14px 2px 0;text-align:left'>{escape(name)}</td>"
            f"<td style='padding:2px 14px 2px 0;text-align:left'>{'✓' if status == 'available' else '…'} {escape(status)}</td></tr>"
            for name, status in statuses.items()
        )
        hint = (
            ""
            if done
            else "<div style='opacity:0.75'>Interrupting (■) does no harm: run the cell again to go on.</div>"
        )
        return f"<div style='font-size:13px'><b>{escape(head)}</b><table>{rows}</table>{hint}</div>"
