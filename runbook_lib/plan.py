"""A plan: the changes that a step will make, in order; `apply` takes this very value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runbook_lib.errors import PlanOutdated, PlanRefused

if TYPE_CHECKING:
    pass
from runbook_lib.tables import TEMPLATES, Table, as_text

Action = Literal["create", "keep", "change", "delete", "refuse"]

_SIGN = {"create": "+", "keep": "=", "change": "~", "delete": "-", "refuse": "!"}


@dataclass(frozen=True)
class Change:
    """One row of a plan: what will be done to one resource, and the request that does it."""

    action: Action
    resource: str
    name: str
    detail: str = ""
    calls: str = ""
    request: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Plan:
    """What a step will change, in order. `apply` takes this very value; nothing has changed yet.

    `made_for` are fingerprints of what the run's steps had done when it was made: it is for that run and no other.
    """

    step: str
    changes: tuple[Change, ...]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    edited: Mapping[str, tuple[str, object, object]] = field(default_factory=dict)
    changed_since: Callable[[], list[str]] = field(default=list, repr=False, compare=False)
    cost: str = ""
    made_for: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def change(self, resource: str) -> Change:
        """Return the row of `resource`."""
        return next(change for change in self.changes if change.resource == resource)

    def require_applicable(self) -> None:
        """Raise `PlanRefused`, naming each row that must not be made, or `PlanOutdated` when the form says otherwise now."""
        if changed := self.changed_since():
            raise PlanOutdated(
                f"nothing was changed: the form was edited after this plan was shown ({', '.join(changed)}); "
                "run the cells from the one that reads the form"
            )
        refused = [
            f"{change.resource} {change.name}: {change.detail}" for change in self.changes if change.action == "refuse"
        ]
        if refused:
            raise PlanRefused("nothing was changed: " + "; ".join(refused))

    @property
    def summary(self) -> str:
        """The number of rows of each action, such as `2 to create, 1 to keep`."""
        counts = {action: sum(change.action == action for change in self.changes) for action in _SIGN}
        return ", ".join(f"{number} to {action}" for action, number in counts.items() if number) or "nothing to do"

    @property
    def edits(self) -> list[str]:
        """What was changed against the parameters, and by whom."""
        return [
            f"{who}: {name}: {as_text(old) or '(empty)'} → {as_text(new) or '(empty)'}"
            for name, (who, old, new) in self.edited.items()
        ]

    def __repr__(self) -> str:
        table = Table(
            f"Plan of {self.step}: {self.summary}. Nothing has changed yet.",
            ("", "resource", "name", "detail", "calls"),
            [(f"{_SIGN[c.action]} {c.action}", c.resource, c.name, c.detail, c.calls) for c in self.changes],
        )
        cost = [f"Cost: {self.cost}"] if self.cost else []
        return "\n".join([repr(table), *self.edits, *cost])

    def _repr_html_(self) -> str:
        return TEMPLATES.get_template("plan.html").render(plan=self, sign=_SIGN)
