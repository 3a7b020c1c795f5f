"""One field of a form: the widget for its type, the value that it reads, and the message beside it.

An invalid starting value is shown unchanged and marked, never adjusted. Knows ipywidgets and nothing of runs.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

_WIDE = {"width": "37em", "min_width": "27em", "flex": "0 1 auto"}
_MOST_FILES = 50


class FieldView:
    """A labelled widget for one field, its message beside it, and both in one row."""

    def __init__(self, name: str, field: Any, start: Any, *, note: str = "", looking: bool = False) -> None:
        self.name = name
        self._field = field
        self._note = note
        self._hint = "Looking up what the account offers …" if looking else ""
        self._extra = field.json_schema_extra or {}
        self._start = start
        self._options: Sequence[str] | None = None
        self.widget = self._fitting(start, looking)
        self.widget.description = field.title or name
        self.widget.style.description_width = "16em"
        self.message = ipywidgets.HTML(
            layout={"flex": "1 1 0%", "min_width": "12em", "max_width": "34em", "margin": "0 0 0 1em"}
        )
        self.row = ipywidgets.HBox(
            [self.widget, self.message], layout={"align_items": "center", "flex_flow": "row nowrap", "margin": "3px 0"}
        )
        self._changed: Any = lambda: None
        self._quiet = False
        self._listen()

    # Reading ------------------------------------------------------------------------------------------

    def read(self) -> Any:
        """Return the widget's value, in the field's type where possible; the model validates it."""
        shown = self.widget.value
        if isinstance(self.widget, ipywidgets.DatetimePicker):
            return shown.astimezone(UTC).isoformat(timespec="seconds") if shown else ""
        if isinstance(shown, tuple):
            return list(shown)
        if not isinstance(shown, str):
            return shown
        text, kind = shown.strip(), _kind(self._field)
        if kind is list:
            return [item.strip() for item in text.split(",") if item.strip()]
        if kind is dict:
            return _mapping(text)
        return _number(text, kind) if kind in (int, float) else text

    def on_change(self, callback: Any) -> None:
        """Call `callback` without arguments whenever the value changes."""
        self._changed = callback

    def _listen(self) -> None:
        if self._extra.get("format") == "path" and isinstance(self.widget, ipywidgets.Combobox):
            self._complete()
            self.widget.observe(lambda _: self._complete(), names="value")
        self.widget.observe(lambda _: self._quiet or self._changed(), names="value")

    # Showing ------------------------------------------------------------------------------------------

    def show_message(self, problem: str = "") -> None:
        """Show `problem`, or else the help, beside the widget."""
        if problem:
            words = [problem, self._reading() if isinstance(self.widget, ipywidgets.DatetimePicker) else "", self._note]
            text = f"<b style='color:#dc3e46'>✗ not valid:</b> {escape(' '.join(word for word in words if word))}"
        else:
            words = [self._field.description or "", self._limits(), self._reading(), self._hint, self._note]
            text = f"<span style='opacity:0.8'>{escape(' '.join(word for word in words if word))}</span>"
        content = f"<div style='font-size:12px;line-height:1.4;white-space:normal'>{text}</div>"
        if self.message.value != content:
            self.message.value = content

    def _limits(self) -> str:
        """Return the limits of a number, unless its help names them."""
        bounds = {
            name: getattr(rule, name) for rule in self._field.metadata for name in ("ge", "le") if hasattr(rule, name)
        }
        words = f"{bounds.get('ge', '')} to {bounds.get('le', '')}"
        help_text = self._field.description or ""
        return "" if not bounds or all(str(bound) in help_text for bound in bounds.values()) else f"{words}."

    def _reading(self) -> str:
        """Return how a time or a path is read, and which options are selected."""
        if isinstance(self.widget, ipywidgets.SelectMultiple):
            return f"Selected: {', '.join(self.widget.value) or 'none'}. Ctrl+click selects several."
        if isinstance(self.widget, ipywidgets.DatetimePicker):
            return f"In UTC: {self.read()}." if self.widget.value else "In your time zone; stored in UTC."
        if self._extra.get("format") == "path" and self.widget.value:
            return "The file exists." if Path(self.widget.value).expanduser().is_file() else "The file does not exist."
        return ""

    def show(self, visible: bool) -> None:
        """Show or hide the whole row; a hidden field keeps its value."""
        display = None if visible else "none"
        if self.row.layout.display != display:
            self.row.layout.display = display

    def narrow(self, options: Sequence[str]) -> None:
        """Offer only `options` in a list, and what is selected."""
        if isinstance(self.widget, ipywidgets.SelectMultiple):
            kept = self.widget.value
            offered = tuple(dict.fromkeys([*options, *kept]))
            if offered != tuple(self.widget.options):
                self._quiet = True  # new options first deselect all, which nobody chose
                self.widget.options = offered
                self.widget.rows = max(2, min(6, len(offered)))
                self.widget.value = kept
                self._quiet = False

    def start_again(self, start: Any, note: str) -> None:
        """Show another starting value, with the note that belongs to it."""
        self._start, self._note = start, note
        self._swap(self._fitting(start, bool(self._options)))
        if self._options:
            self.offer(self._options)

    def offer(self, options: Sequence[str] | None) -> None:
        """Offer `options` for selection; without any (None: the look-up failed), accept typed text."""
        self._options = options
        if not options:
            self._hint = "The look-up failed: type a value." if options is None else "The account has none."
        else:
            self._hint = f"{len(options)} to choose from."
        if isinstance(self.widget, ipywidgets.SelectMultiple):
            if options:
                kept = self.widget.value
                self.widget.options = list(dict.fromkeys([*options, *self._start]))
                self.widget.rows = max(2, min(6, len(self.widget.options)))
                self.widget.value = kept
            else:
                self._swap(self._text(self._start))
            self.widget.disabled = False
        elif options:
            self.widget.options = list(options)

    def _swap(self, widget: Any) -> None:
        widget.description = self.widget.description
        widget.style.description_width = "16em"
        self.widget = widget
        self.row.children = (widget, self.message)
        self._listen()

    # The widget that fits -------------------------------------------------------------------------------

    def _fitting(self, start: Any, looking: bool) -> Any:
        kind = _kind(self._field)
        closed = typing.get_args(self._field.annotation) if _is_literal(self._field) else self._extra.get("choices")
        if kind is list and isinstance(start, list) and (closed or looking):
            options = list(dict.fromkeys([*(closed or ()), *start]))
            rows = max(2, min(6, len(options)))
            return ipywidgets.SelectMultiple(
                options=options, value=start, rows=rows, disabled=looking and not closed, layout=_WIDE
            )
        if closed and kind is not list:
            return ipywidgets.Dropdown(options=list(dict.fromkeys([*closed, start])), value=start, layout=_WIDE)
        if kind is bool and isinstance(start, bool):
            return ipywidgets.Checkbox(value=start, indent=True, layout=_WIDE)
        if kind is int and type(start) is int:
            return ipywidgets.IntText(value=start, continuous_update=True, layout=_WIDE)
        if kind is float and type(start) in (int, float):
            return ipywidgets.FloatText(value=start, step=0.5, continuous_update=True, layout=_WIDE)
        if self._extra.get("format") == "date-time" and (moment := _moment(start)) is not False:
            return ipywidgets.DatetimePicker(value=moment, layout=_WIDE)
        if kind is str and (looking or self._extra.get("format") == "path"):
            return ipywidgets.Combobox(value=str(start), continuous_update=True, layout=_WIDE)
        return self._text(start)

    def _text(self, start: Any) -> Any:
        kind, hint = _kind(self._field), ""
        if kind is list:
            start, hint = ", ".join(map(str, start)) if isinstance(start, list) else start, "one, another"
        if kind is dict:
            hint = "key=value, key=value"
            start = ", ".join(f"{key}={value}" for key, value in start.items()) if isinstance(start, dict) else start
        return ipywidgets.Text(value=str(start), placeholder=hint, layout=_WIDE)

    def _complete(self) -> None:
        """Offer the files and folders that begin with the typed path; nothing is opened."""
        typed = Path(self.widget.value or ".").expanduser()
        folder = typed if self.widget.value.endswith("/") or not self.widget.value else typed.parent
        try:
            found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))[:_MOST_FILES]
        except OSError:
            found = []
        self.widget.options = [f"{path}/" if path.is_dir() else str(path) for path in found]


def _is_literal(field: Any) -> bool:
    return typing.get_origin(field.annotation) is typing.Literal


def _kind(field: Any) -> Any:
    return str if _is_literal(field) else typing.get_origin(field.annotation) or field.annotation


def _moment(start: Any) -> Any:
    """Return the instant, None for an empty text, False for an invalid one."""
    try:
        moment = datetime.fromisoformat(start) if start else None
    except (TypeError, ValueError):
        return False
    return moment if moment is None or moment.tzinfo else False


def _mapping(text: str) -> Any:
    """Read `key=value, key=value`; return other text unchanged, for the model to refuse."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if any(not sign for _, sign, _ in pairs):
        return text
    return {key.strip(): value.strip() for key, _, value in pairs}


def _number(text: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(text)
    except ValueError:
        return text
