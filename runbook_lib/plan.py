"""A plan: the changes that a step will make, in order; `apply` takes this same value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runbook_lib.attended import is_attended, while_connected
from runbook_lib.errors import PlanNotConfirmed, PlanRefused
from runbook_lib.tables import TEMPLATES, Table, as_text
from runbook_lib.texts import visible

if TYPE_CHECKING:
    import pandas

Action = Literal["create", "keep", "change", "delete", "refuse"]

_SIGN = {"create": "+", "keep": "=", "change": "~", "delete": "-", "refuse": "!"}


@dataclass(frozen=True)
class Change:
    """One row of a plan: what will be done to one resource, by which calls and with which request parameters.

    `identity` is what identifies an existing resource beside its name, such as its resource id: apply acts on that resource
    and on no other of the name. Raises `ValueError` for a row with action `keep` that names calls.
    """

    action: Action
    resource: str
    name: str
    detail: str = ""
    calls: str = ""
    request: Mapping[str, Any] = field(default_factory=dict, repr=False)
    identity: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.action == "keep" and self.calls:
            raise ValueError(
                f"a row that keeps {self.resource!r} names the calls {self.calls!r}; use the action that they perform"
            )


@dataclass(frozen=True)
class Edit:
    """One value that differs from the parameter: field, who changed it, value before, value now."""

    name: str
    who: str
    before: object
    now: object


@dataclass(frozen=True)
class Scope:
    """Where a plan may be applied: one run folder, with the target, account and Region that its run is fixed to."""

    run_folder: str
    target: str
    account_id: str
    region: str


@dataclass
class Confirmation:
    """Whether a person has confirmed a plan; the only part of a plan that changes after it was shown."""

    given: bool = False


@dataclass(frozen=True)
class Plan:
    """What a step will change, in order. `apply` takes this same value; nothing has changed yet.

    `inputs` is the model that the plan is based on. `made_for` holds fingerprints of the steps' records at the time of
    planning: the plan applies to that state of that run only. `of_later_steps`: the rows announce what later steps change,
    and applying this plan changes nothing in the account.
    """

    step: str
    changes: tuple[Change, ...]
    inputs: Any = None
    edits: tuple[Edit, ...] = ()
    scope: Scope | None = None
    cost: str = ""
    made_for: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    of_later_steps: bool = False
    confirmation: Confirmation = field(default_factory=Confirmation, repr=False, compare=False)

    @property
    def values(self) -> dict[str, Any]:
        """The inputs by name, as the notebook shows them; empty for a plan without inputs."""
        return dict(self.inputs.model_dump()) if self.inputs is not None else {}

    def change(self, resource: str) -> Change:
        """Return the first row of `resource`. Raises `StopIteration` if there is none."""
        return next(change for change in self.changes if change.resource == resource)

    def require_applicable(self) -> None:
        """Raise `PlanRefused`, naming each row with action `refuse`."""
        refused = [
            f"{change.resource} {change.name}: {change.detail}" for change in self.changes if change.action == "refuse"
        ]
        if refused:
            raise PlanRefused("nothing was changed: " + "; ".join(refused))

    @property
    def needs_confirmation(self) -> bool:
        """Whether a person must confirm this plan before it is applied: it changes something in an AWS account."""
        rows = () if self.of_later_steps else self.changes
        changes = any(change.action in ("create", "change", "delete") for change in rows)
        return changes and self.scope is not None and self.scope.target == "aws" and is_attended()

    def require_confirmed(self) -> None:
        """Raise `PlanNotConfirmed` unless the plan needs no confirmation, or a person has given it."""
        if self.needs_confirmation and not self.confirmation.given:
            raise PlanNotConfirmed(
                "nothing was changed: this plan makes changes in your AWS account and is not confirmed; read it, select "
                "the checkbox below it, then run this cell again"
            )

    @property
    def summary(self) -> str:
        """The number of rows of each action, such as `2 to create, 1 to keep`."""
        counts = {action: sum(change.action == action for change in self.changes) for action in _SIGN}
        return ", ".join(f"{number} to {action}" for action, number in counts.items() if number) or "nothing to do"

    @property
    def edits_in_words(self) -> list[str]:
        """One line per edit: who changed which field, from which value to which."""
        return [
            visible(f"{edit.who}: {edit.name}: {as_text(edit.before) or '(empty)'} → {as_text(edit.now) or '(empty)'}")
            for edit in self.edits
        ]

    def edit_of(self, name: str) -> Edit | None:
        """Return the edit of the field `name`, or None."""
        return next((edit for edit in self.edits if edit.name == name), None)

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows as a pandas DataFrame with the columns action, resource, name, detail and calls, all texts."""
        rows = [(c.action, c.resource, c.name, c.detail, c.calls) for c in self.changes]
        return Table(self.step, ("action", "resource", "name", "detail", "calls"), rows).to_frame()

    def __repr__(self) -> str:
        table = Table(
            f"Plan of {self.step}: {self.summary}. Nothing has changed yet.",
            ("", "resource", "name", "detail", "calls"),
            [(f"{_SIGN[c.action]} {c.action}", c.resource, c.name, c.detail, c.calls) for c in self.changes],
        )
        cost = [f"Cost: {self.cost}"] if self.cost else []
        return "\n".join([repr(table), *self.edits_in_words, *cost])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Return a widget with the table and the checkbox where a person must confirm, else nothing of its own."""
        if not self.needs_confirmation:
            return {}
        import ipywidgets

        where = f"account {self.scope.account_id}, {self.scope.region}" if self.scope else ""
        box = ipywidgets.Checkbox(
            value=self.confirmation.given,
            description=f"I have read this plan. Apply may make these changes in {where}.",
            indent=False,
            layout={"width": "auto"},
        )
        box.observe(lambda change: setattr(self.confirmation, "given", bool(change["new"])), names="value")
        rows = [ipywidgets.HTML(self._repr_html_()), box, ipywidgets.HTML(while_connected([]))]
        view: dict[str, Any] = ipywidgets.VBox(rows)._repr_mimebundle_()
        return {**view, "text/plain": repr(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        return TEMPLATES.get_template("plan.html").render(plan=self, sign=_SIGN)
