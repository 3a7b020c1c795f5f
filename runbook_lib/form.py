"""The form of a step: an ipywidgets view of its inputs model, or a plain table when nobody is there to type.

A form only shows and reads: it calls nothing and changes nothing. The cell after it takes `form.value`, which
is checked by the model, so that wrong input never reaches a plan. It knows `inputs` and nothing else.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from runbook_lib.errors import InputError
from runbook_lib.inputs import Inputs
from runbook_lib.report import Table
from runbook_lib.step import is_attended

Choices = Mapping[str, Sequence[str]]
_SMALL = "font-size:12px;line-height:1.4"


class Form:
    """A step's choices, starting from its parameters.

    `given` holds the parameters by name (a notebook passes `locals()`). `choices` is asked, when a person is
    there, for the values that an account offers for a field. `value` is the checked model.
    """

    def __init__(
        self, model: type[Inputs], *, given: Mapping[str, Any], choices: Callable[[], Choices] | None = None
    ) -> None:
        self._model = model
        self._start = {name: given.get(name, field.default) for name, field in model.model_fields.items()}
        self._widgets: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._summary: Any = None
        self._view: Any = None
        if is_attended():
            self._build(choices() if choices else {})

    @property
    def value(self) -> Inputs:
        """The choices as they stand now, checked. Raises `InputError`, naming each wrong field."""
        now = self._now()
        inputs = self._model.check(now)
        inputs._edited.update({name: (self._start[name], now[name]) for name in now if now[name] != self._start[name]})
        return inputs

    def _now(self) -> dict[str, Any]:
        return {name: self._read(name) for name in self._start}

    def _read(self, name: str) -> Any:
        if name not in self._widgets:
            return self._start[name]
        shown, start = self._widgets[name].value, self._start[name]
        if isinstance(shown, datetime):
            return shown.astimezone(UTC).isoformat(timespec="seconds")
        if shown is None:
            return ""
        if isinstance(shown, tuple):
            return list(shown)
        if isinstance(start, list) and isinstance(shown, str):
            return [item.strip() for item in shown.split(",") if item.strip()]
        if isinstance(start, dict) and isinstance(shown, str):
            return _mapping(shown)
        return shown.strip() if isinstance(shown, str) else shown

    # Views --------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        fields = self._model.model_fields
        rows = [(fields[name].title, value, fields[name].description) for name, value in self._start.items()]
        return Table("Choices: starting values", ("choice", "value", "what it is"), rows)

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._table()._repr_html_()}
        if self._view is not None:
            bundle |= self._view._repr_mimebundle_()
            bundle["text/plain"] = repr(self)
        return bundle

    def _build(self, choices: Choices) -> None:
        import ipywidgets

        rows = []
        for name, field in self._model.model_fields.items():
            widget = self._widget(name, field, choices.get(name, ()))
            widget.description = field.title or name
            widget.style.description_width = "15em"
            self._widgets[name] = widget
            self._messages[name] = ipywidgets.HTML(layout={"max-width": "38em", "margin": "0 0 0 1em"})
            rows.append(ipywidgets.HBox([widget, self._messages[name]], layout={"align_items": "center"}))
            widget.observe(lambda _: self._tell(), names="value")
        self._summary = ipywidgets.HTML()
        self._view = ipywidgets.VBox([*rows, self._summary])
        self._tell()

    def _tell(self) -> None:
        """Put each problem beside its field, help beside the others, and the sum of it below."""
        try:
            self._model.check(self._now())
            problems: dict[str, str] = {}
        except InputError as error:
            problems = dict(reversed(error.problems))
        for name, message in self._messages.items():
            if name in problems:
                text = f"<b style='color:#cf222e'>✗ wrong:</b> {escape(problems[name])}"
            else:
                text = f"<span style='opacity:0.75'>{escape(self._model.model_fields[name].description or '')}</span>"
            message.value = f"<div style='{_SMALL}'>{text}</div>"
        number = len(problems)
        if number:
            words = "1 value is wrong" if number == 1 else f"{number} values are wrong"
            told = f"<b style='color:#cf222e'>✗ {words}</b>; the next cell refuses them."
        else:
            told = "<b style='color:#1a7f37'>✓ all values can be used.</b> Click the next cell, then press Shift+Enter."
        self._summary.value = f"<div style='{_SMALL};margin-top:6px'>{told}</div>"

    def _widget(self, name: str, field: Any, offered: Sequence[str]) -> Any:
        import ipywidgets

        start, wide = self._start[name], {"width": "36em", "flex": "0 0 auto"}
        if typing.get_origin(field.annotation) is typing.Literal:
            return ipywidgets.Dropdown(options=typing.get_args(field.annotation), value=start, layout=wide)
        if isinstance(start, bool):
            return ipywidgets.Checkbox(value=start, layout=wide)
        if isinstance(start, int):
            return ipywidgets.IntText(value=start, layout=wide)
        if isinstance(start, float):
            return ipywidgets.FloatText(value=start, step=0.5, layout=wide)
        if (field.json_schema_extra or {}).get("format") == "date-time":
            return ipywidgets.DatetimePicker(value=datetime.fromisoformat(start) if start else None, layout=wide)
        if isinstance(start, list) and offered:
            rows = min(6, len(offered))
            kept = [item for item in start if item in offered]
            return ipywidgets.SelectMultiple(options=list(offered), value=kept, rows=rows, layout=wide)
        if isinstance(start, dict):
            text = ", ".join(f"{key}={value}" for key, value in start.items())
            return ipywidgets.Text(value=text, placeholder="key=value, key=value", layout=wide)
        if isinstance(start, list):
            return ipywidgets.Text(value=", ".join(start), placeholder="one, another", layout=wide)
        if offered:
            return ipywidgets.Combobox(value=str(start), options=list(offered), layout=wide)
        return ipywidgets.Text(value=str(start), layout=wide)


def _mapping(text: str) -> Any:
    """Read `key=value, key=value`; text that is not so is left for the model to refuse."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if any(not sign for _, sign, _ in pairs):
        return text
    return {key.strip(): value.strip() for key, _, value in pairs}
