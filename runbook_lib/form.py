"""The form of a step: an ipywidgets view of its inputs model, or a plain table when nobody is there to type.

A form only shows and reads: it calls nothing and changes nothing. The cell after it takes `form.value`, which
is checked by the model, so that wrong input never reaches a plan. It knows `inputs` and nothing else.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from runbook_lib.inputs import Inputs
from runbook_lib.report import Table
from runbook_lib.step import is_attended


class Form:
    """A step's choices, starting from its parameters.

    `given` holds the parameters by name (a notebook passes `locals()`); `choices` offers values for a field that
    come from the account. `value` is the checked model.
    """

    def __init__(
        self,
        model: type[Inputs],
        *,
        given: Mapping[str, Any],
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._model = model
        self._start = {name: given.get(name, field.default) for name, field in model.model_fields.items()}
        self._choices = dict(choices or {})
        self._widgets: dict[str, Any] = {}
        self._view: Any = None
        if is_attended():
            self._build()

    @property
    def value(self) -> Inputs:
        """The choices as they stand now, checked. Raises `InputError`, naming each wrong field."""
        now = {name: self._read(name) for name in self._start}
        inputs = self._model.check(now)
        inputs._edited.update({name: (self._start[name], now[name]) for name in now if now[name] != self._start[name]})
        return inputs

    def _read(self, name: str) -> Any:
        if name not in self._widgets:
            return self._start[name]
        shown, start = self._widgets[name].value, self._start[name]
        if isinstance(start, list) and isinstance(shown, str):
            return [item.strip() for item in shown.split(",") if item.strip()]
        if isinstance(start, dict) and isinstance(shown, str):
            return _mapping(shown)
        return shown.strip() if isinstance(shown, str) else shown

    # Views --------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        fields = self._model.model_fields
        rows = [(fields[name].title, value, fields[name].description) for name, value in self._start.items()]
        return Table("Choices: starting values", ("", "value", ""), rows)

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._table()._repr_html_()}
        if self._view is not None:
            bundle |= self._view._repr_mimebundle_()
            bundle["text/plain"] = repr(self)
        return bundle

    def _build(self) -> None:
        import ipywidgets

        rows = []
        for name, field in self._model.model_fields.items():
            widget = self._widget(name, field)
            self._widgets[name] = widget
            label = ipywidgets.Label(field.title or name, layout={"width": "16em"})
            help_text = ipywidgets.HTML(
                f"<span style='opacity:0.7;font-size:12px'>{_escaped(field.description or '')}</span>"
            )
            rows.append(ipywidgets.HBox([label, widget, help_text], layout={"align_items": "center"}))
        hint = ipywidgets.HTML(
            "<span style='opacity:0.7;font-size:12px'>Change what you like, then click the next cell and press Shift+Enter.</span>"
        )
        self._view = ipywidgets.VBox([*rows, hint])

    def _widget(self, name: str, field: Any) -> Any:
        import ipywidgets

        start, wide = self._start[name], {"width": "22em"}
        if typing.get_origin(field.annotation) is typing.Literal:
            return ipywidgets.Dropdown(options=typing.get_args(field.annotation), value=start, layout=wide)
        if isinstance(start, bool):
            return ipywidgets.Checkbox(value=start, indent=False, layout=wide)
        if isinstance(start, int):
            return ipywidgets.IntText(value=start, layout=wide)
        if isinstance(start, float):
            return ipywidgets.FloatText(value=start, step=0.5, layout=wide)
        if isinstance(start, dict):
            return ipywidgets.Text(
                value=", ".join(f"{k}={v}" for k, v in start.items()), placeholder="key=value, …", layout=wide
            )
        text = ", ".join(start) if isinstance(start, list) else str(start)
        if options := self._choices.get(name):
            return ipywidgets.Combobox(value=text, options=list(options), layout=wide)
        return ipywidgets.Text(value=text, layout=wide)


def _mapping(text: str) -> Any:
    """Read `key=value, key=value`; text that is not so is left for the model to refuse."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if any(not sign for _, sign, _ in pairs):
        return text
    return {key.strip(): value.strip() for key, _, value in pairs}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
