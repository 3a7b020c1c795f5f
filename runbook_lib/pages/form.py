"""The form of a step: a view of its inputs model, or a plain table in an unattended session.

A form only shows and reads; it changes nothing. The next cell takes `form.value`, which the model validates, so that
wrong input never reaches a plan; `apply` refuses a plan whose form was edited afterwards. It knows `inputs`, not AWS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from runbook_lib.attended import is_attended, while_connected
from runbook_lib.errors import FileNotWritable, InputError, PlanOutdated
from runbook_lib.inputs.base import Inputs
from runbook_lib.pages.form_files import problems_now
from runbook_lib.pages.form_groups import GROUPS, belongs, options
from runbook_lib.plan import Edit
from runbook_lib.tables import Table


@dataclass(frozen=True)
class Offer:
    """What an account offers for a field: how to fetch it (None: not allowed), and the fields that it depends on."""

    fetch: Callable[[Mapping[str, Any]], Sequence[str] | None]
    depends_on: tuple[str, ...] = ()


DRAFT = "Draft, not applied yet"


@dataclass(frozen=True)
class Known:
    """What is known of the fields before a person chooses: values with their source, and the draft above them."""

    earlier: Mapping[str, tuple[Any, str]]
    draft: Mapping[str, Any] = field(default_factory=dict)


class Form:
    """A step's choices, starting from its parameters.

    `given` holds the parameters by name (a notebook passes `locals()`). In an attended session, a parameter at its
    default starts from what is `known` instead, `offers` are fetched in the background, and each valid reading passes
    what was chosen to `keep`. `value` is the validated model.

    `known` is called with None, and again with the name of the run that a person types into the field `run_id`.
    """

    def __init__(
        self,
        model: type[Inputs],
        *,
        given: Mapping[str, Any],
        earlier: Mapping[str, tuple[Any, str]] | None = None,
        offers: Mapping[str, Offer] | None = None,
        known: Callable[[str | None], Known] | None = None,
        keep: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._model = model
        self._given = {name: given.get(name, declared.default) for name, declared in model.model_fields.items()}
        self._start = dict(self._given)
        self._base = dict(self._given)
        self._sources: dict[str, str] = {}
        self._known = known or (lambda _: Known(earlier or {}))
        self._keep = keep
        self.failed = False
        self._views: dict[str, Any] = {}
        self._offers = offers or {}
        self._summary: Any = None
        self._headings: list[tuple[Any, list[str]]] = []
        self._view: Any = None
        self._lookups: list[threading.Thread] = []
        if is_attended():
            self._start_from(self._known(None))
            self._build()

    def _start_from(self, known: Known) -> None:
        """Start from the recorded values, and from the draft, where a parameter has its default."""
        for name, declared in self._model.model_fields.items():
            self._base[name] = self._start[name] = self._given[name]
            self._sources.pop(name, None)
            if name in self._model.not_in_form or self._given[name] != declared.default:
                continue
            if name in known.earlier:
                self._base[name], source = known.earlier[name]
                self._set_start(name, self._base[name], source)
            if name in known.draft:
                self._set_start(name, known.draft[name], DRAFT)

    def _set_start(self, name: str, value: Any, source: str) -> None:
        if value != self._start[name]:
            self._start[name], self._sources[name] = value, source

    @property
    def value(self) -> Inputs:
        """The current choices, validated. Raises `InputError`, naming each invalid field."""
        self.failed = True
        values = self._now()
        edits = [
            Edit(name, self._who_changed(name, value), self._given[name], value)
            for name, value in values.items()
            if value != self._given[name]
        ]
        inputs = self._model.check(values).with_edits(edits)
        self.failed = False
        self.keep_draft()
        return inputs

    def keep_draft(self, keep: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Pass what differs from the parameters and the recorded values to `keep`; print if it cannot be written."""
        keep = keep or self._keep
        if keep is None or not self._views:
            return
        now = self._now()
        try:
            keep({name: now[name] for name in self._views if name != "run_id" and now[name] != self._base[name]})
        except FileNotWritable as error:
            print(f"the draft of this form is not kept: {error}")

    def require_read(self, inputs: Inputs | None = None) -> None:
        """Raise `PlanOutdated` if the form could not be read, or shows other values than `inputs`."""
        if self.failed:
            raise PlanOutdated(
                "nothing was done: the form above was not read; correct it, then run the cell that reads it again"
            )
        if inputs is not None and (changed := self.differs_from(inputs)):
            raise PlanOutdated(
                f"nothing was done: the form was edited after it was read ({', '.join(changed)}); run the cells again from "
                "the one that reads the form"
            )

    def _who_changed(self, name: str, value: Any) -> str:
        kept = name in self._sources and value == self._start[name]
        return self._sources[name] if kept else "Changed in the form"

    def differs_from(self, inputs: Inputs) -> list[str]:
        """Return the fields of the form whose value differs from `inputs` or is invalid."""
        try:
            shown = self._model.check(self._now())
        except InputError as error:
            return [name for name, _ in error.problems]
        fields = [name for name in self._model.model_fields if name not in self._model.not_in_form]
        return [name for name in fields if getattr(shown, name) != getattr(inputs, name)]

    def _now(self) -> dict[str, Any]:
        return {name: self._views[name].read() if name in self._views else start for name, start in self._start.items()}

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

    def _build(self) -> None:
        import ipywidgets

        from runbook_lib.pages.form_fields import FieldView

        names = [name for name in self._start if name not in self._model.not_in_form]
        for name in names:
            view = FieldView(
                name,
                self._model.model_fields[name],
                self._start[name],
                note=self._note(name),
                looking=name in self._offers,
            )
            view.on_change(lambda name=name: self._edited(name))
            self._views[name] = view
        grouped = {name for group in GROUPS.values() for name in group}
        self._in_order = [name for name in names if name not in grouped]
        self._in_order += [name for group in GROUPS.values() for name in group if name in self._views]
        rows = [self._views[name].row for name in names if name not in grouped]
        for heading, group in GROUPS.items():
            inside = [name for name in group if name in self._views]
            if len(inside) > 1 and rows:
                words = f"<div style='font-weight:600;margin:6px 0 0 0'>{escape(heading)}</div>"
                self._headings.append((ipywidgets.HTML(words), inside))
                rows.append(self._headings[-1][0])
            rows += [self._views[name].row for name in inside]
        self._summary = ipywidgets.HTML()
        self._view = ipywidgets.VBox([*rows, self._summary])
        self._show_problems()
        self._look_up(list(self._offers))

    def _edited(self, name: str) -> None:
        if name == "run_id":
            self._start_again()
        self._show_problems()
        self._look_up([other for other, offer in self._offers.items() if name in offer.depends_on])

    def _start_again(self) -> None:
        """Start from what is known of the run that is typed now; fields that were edited keep their value."""
        untouched = [name for name, view in self._views.items() if view.read() == self._start[name]]
        typed = self._views["run_id"].read()
        self._start_from(self._known(typed))
        self._base["run_id"] = self._start["run_id"] = typed
        self._sources.pop("run_id", None)
        for name in untouched:
            if name != "run_id":
                self._views[name].start_again(self._start[name], self._note(name))

    def _note(self, name: str) -> str:
        source = self._sources.get(name, "")
        return f"{source}; the parameter is {self._given[name]!r}." if source else ""

    def _show_problems(self) -> None:
        """Show each problem beside its field, help beside the others, and a summary below."""
        now = self._now()
        try:
            self._model.check(now)
            problems = problems_now(self._model, now)
        except InputError as error:
            problems = dict(reversed(error.problems))
        for name, view in self._views.items():
            view.show_message(problems.get(name, ""))
        self._arrange(now, problems)
        changed = sum(value != self._given[name] for name, value in now.items())
        parts = [f"{_counted(changed, 'value differs', 'values differ')} from the parameters."] if changed else []
        if problems:
            head = f"<b style='color:#dc3e46'>✗ {_counted(len(problems), 'value is', 'values are')} not valid:</b>"
            lines = (f"<div style='margin-left:1em'>{escape(line)}</div>" for line in self._by_label(problems))
            parts.insert(0, f"{head}{''.join(lines)}")
        else:
            parts.insert(0, "<b style='color:#238a43'>✓ All values are valid.</b>")
            parts.append("Click the next cell, then press Shift+Enter.")
        self._summary.value = (
            f"<div style='font-size:13px;line-height:1.5;margin-top:6px'>{while_connected(parts)}</div>"
        )

    def _arrange(self, now: Mapping[str, Any], problems: Mapping[str, str]) -> None:
        """Show the fields that belong to the choices made, and each one that has a value of its own or a problem."""
        shown = set()
        for name, view in self._views.items():
            if name in problems or belongs(name, now) or now[name] != self._model.model_fields[name].default:
                shown.add(name)
            view.show(name in shown)
            if (offered := options(name, now)) is not None:
                view.narrow(offered)
        for heading, names in self._headings:
            heading.layout.display = None if shown.intersection(names) else "none"

    def _by_label(self, problems: Mapping[str, str]) -> list[str]:
        """Return `label: problem` for each problem, in the order of the form; fields that it does not show come last."""
        order = [name for name in self._in_order if name in problems]
        order += [name for name in problems if name not in order]
        titles = {name: declared.title or name for name, declared in self._model.model_fields.items()}
        return [f"{titles.get(name, name)}: {problems[name]}" for name in order]

    # Looking up -----------------------------------------------------------------------------------------

    def _look_up(self, names: Sequence[str]) -> None:
        """Fetch offers in the background."""
        if names := [name for name in names if name in self._views]:
            thread = threading.Thread(target=self._fetch, args=(names, self._now()), daemon=True)
            self._lookups.append(thread)
            thread.start()

    def _fetch(self, names: Sequence[str], now: Mapping[str, Any]) -> None:
        for name in names:
            offer = self._offers[name]
            found = offer.fetch(now)
            if all(self._now()[other] == now[other] for other in offer.depends_on):  # else a later look-up follows
                self._views[name].offer(found)
                self._show_problems()


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
