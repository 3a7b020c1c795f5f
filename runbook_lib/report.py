"""What a step shows: tables, plans, checks, and the report of a run, each with a text and an HTML face.

The text face is stable and plain, the HTML face carries its styles inline, so that both survive in a saved
notebook that is opened without a kernel and untrusted. All values are escaped. Nothing here calls AWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from runbook_lib.errors import PlanOutdated, PlanRefused, VerificationFailed

if TYPE_CHECKING:
    from runbook_lib.drawing import Picture

Action = Literal["create", "keep", "change", "delete", "refuse"]
FORMAT = 1
_LONGEST_NAME = 38  # rds:DescribeDBClusterParameterGroups and names like it are never broken

_SIGN = {"create": "+", "keep": "=", "change": "~", "delete": "-", "refuse": "!"}
# Words carry the meaning, colours only repeat it; each has a contrast of at least 4 to 1 on white and on JupyterLab's dark grey.
_COLOUR = {
    "create": "#238a43",
    "keep": "#727a83",
    "change": "#a06b00",
    "delete": "#dc3e46",
    "refuse": "#dc3e46",
    "passed": "#238a43",
    "FAILED": "#dc3e46",
}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _wrapping(text: str) -> str:
    """Return how a cell breaks its lines: between words, and only what is longer than a name within one."""
    longest = max(map(len, text.split()), default=0)
    breaking = "overflow-wrap:anywhere;min-width:11em" if longest > _LONGEST_NAME else "overflow-wrap:normal"
    return f"{breaking};min-width:11em" if len(text) > 40 and longest <= _LONGEST_NAME else breaking


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("runbook_lib", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["colour"] = _COLOUR
    environment.globals["wbr"] = Markup(":<wbr>")  # a name of an IAM action may break after its service
    environment.filters["wrapping"] = _wrapping
    environment.filters["as_text"] = _text
    return environment


_TEMPLATES = _environment()


def load_templates() -> None:
    """Read and compile the templates, which is otherwise done when each is first used."""
    for name in _TEMPLATES.list_templates():
        _TEMPLATES.get_template(name)


class Table:
    """Rows under headings, with a caption; `rows` holds the values for programs."""

    def __init__(self, caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self.caption = caption
        self.columns = tuple(columns)
        self.rows = [tuple(row) for row in rows]

    @property
    def frame(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.rows, columns=list(self.columns), dtype=object)

    def __repr__(self) -> str:
        cells = [[_text(value) for value in row] for row in self.rows]
        width = [max(len(row[i]) for row in [list(self.columns), *cells]) for i in range(len(self.columns))]
        lines = ["  ".join(value.ljust(n) for value, n in zip(row, width, strict=True)).rstrip() for row in cells]
        heading = "  ".join(value.ljust(n) for value, n in zip(self.columns, width, strict=True)).rstrip()
        return "\n".join([self.caption, heading, *lines])

    def _repr_html_(self) -> str:
        rows = [[_text(value) for value in row] for row in self.rows]
        return _TEMPLATES.get_template("table.html").render(caption=self.caption, columns=self.columns, rows=rows)


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
            f"{who}: {name}: {_text(old) or '(empty)'} → {_text(new) or '(empty)'}"
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
        return _TEMPLATES.get_template("plan.html").render(plan=self, sign=_SIGN)


@dataclass(frozen=True)
class Check:
    """One claim held against what AWS says."""

    claim: str
    expected: str
    actual: str
    source: str
    passed: bool

    @property
    def outcome(self) -> str:
        """The word for `passed`."""
        return "passed" if self.passed else "FAILED"


class Checks:
    """Claims about what was made, each with the expected value, the actual one and the call that told it."""

    def __init__(self, about: str) -> None:
        self.about = about
        self._checks: list[Check] = []

    def equal(self, claim: str, expected: object, actual: object, *, source: str) -> None:
        """Add a claim that holds when `actual` equals `expected`."""
        self._checks.append(Check(claim, _text(expected), _text(actual), source, expected == actual))

    def holds(self, claim: str, expected: str, actual: object, test: Callable[[Any], bool], *, source: str) -> None:
        """Add a claim that holds when `test(actual)` is true; `expected` says in words what it asks."""
        self._checks.append(Check(claim, expected, _text(actual), source, bool(test(actual))))

    @property
    def rows(self) -> tuple[Check, ...]:
        """The claims, in order."""
        return tuple(self._checks)

    @property
    def passed(self) -> bool:
        """True when there is at least one claim and all hold."""
        return bool(self._checks) and all(check.passed for check in self._checks)

    @property
    def summary(self) -> str:
        """Such as `11 of 11 checks passed`."""
        return f"{sum(check.passed for check in self._checks)} of {len(self._checks)} checks passed"

    def require_passed(self) -> None:
        """Raise `VerificationFailed`, naming each claim that does not hold."""
        if not self.passed:
            failed = [
                f"{c.claim} (expected {c.expected}, found {c.actual}, by {c.source})"
                for c in self._checks
                if not c.passed
            ]
            raise VerificationFailed(
                f"{self.summary}: {'; '.join(failed) or 'nothing was checked'}; find out who changed it before going on"
            )

    def __repr__(self) -> str:
        return repr(
            Table(
                f"{self.about}: {self.summary}.",
                ("", "claim", "expected", "actual", "source"),
                [(c.outcome, c.claim, c.expected, c.actual, c.source) for c in self._checks],
            )
        )

    def _repr_html_(self) -> str:
        return _TEMPLATES.get_template("checks.html").render(checks=self)


class Text:
    """Plain text, such as a policy or commands, shown with its line breaks; escaped."""

    def __init__(self, caption: str, text: str) -> None:
        self.caption = caption
        self.text = text

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.text}"

    def _repr_html_(self) -> str:
        return _TEMPLATES.get_template("text.html").render(caption=self.caption, text=self.text)


def report_json(facts: Mapping[str, Any], checks: Checks) -> bytes:
    """Return report.json: `format`, `verified`, the facts of the run, and `checks`.

    Each check has `claim`, `expected`, `actual`, `source` and `passed`.
    """
    rows = [
        {"claim": c.claim, "expected": c.expected, "actual": c.actual, "source": c.source, "passed": c.passed}
        for c in checks.rows
    ]
    return (
        json.dumps({"format": FORMAT, "verified": checks.passed, **facts, "checks": rows}, indent=1) + "\n"
    ).encode()


def report_html(
    facts: Mapping[str, Any],
    checks: Checks,
    *,
    tables: Sequence[Table] = (),
    pictures: Mapping[str, Picture] | None = None,
) -> bytes:
    """Return report.html: one file for an auditor, without scripts and without anything from the network.

    `pictures` stand under their headings, inside the page.
    """
    page = _TEMPLATES.get_template("report.html").render(
        facts=facts, checks=checks, tables=tables, pictures=pictures or {}
    )
    return page.encode()
