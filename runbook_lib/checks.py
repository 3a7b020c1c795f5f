"""Checks: claims about resources and files, each with expected value, actual value and the call it was read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.errors import VerificationFailed
from runbook_lib.tables import TEMPLATES, Table, as_text

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Check:
    """One claim, with the values that it compares and their source."""

    claim: str
    expected: str
    actual: str
    source: str
    passed: bool

    @property
    def outcome(self) -> str:
        """`passed` or `FAILED`."""
        return "passed" if self.passed else "FAILED"


class Checks:
    """Claims about `about`, each with expected value, actual value and the call or file that it was read from."""

    def __init__(self, about: str) -> None:
        self.about = about
        self._checks: list[Check] = []

    @classmethod
    def from_json(cls, about: str, rows: Iterable[Mapping[str, Any]]) -> Checks:
        """Return the checks whose `to_json` these rows are."""
        checks = cls(about)
        for row in rows:
            claim, expected, actual, source = (str(row[name]) for name in ("claim", "expected", "actual", "source"))
            checks._checks.append(Check(claim, expected, actual, source, row["passed"] is True))
        return checks

    def to_json(self) -> list[dict[str, Any]]:
        """Return one mapping for each claim: claim, expected, actual, source and passed."""
        return [asdict(check) for check in self._checks]

    def equal(self, claim: str, expected: object, actual: object, *, source: str) -> None:
        """Add a claim that holds when `actual` equals `expected`."""
        self._checks.append(Check(claim, as_text(expected), as_text(actual), source, expected == actual))

    def holds(self, claim: str, expected: str, actual: object, test: Callable[[Any], bool], *, source: str) -> None:
        """Add a claim that holds when `test(actual)` is true; `expected` states the condition in words."""
        self._checks.append(Check(claim, expected, as_text(actual), source, bool(test(actual))))

    @property
    def rows(self) -> tuple[Check, ...]:
        """The claims, in order."""
        return tuple(self._checks)

    @property
    def failed_first(self) -> list[Check]:
        """The claims as they are shown: those that do not hold first, otherwise in order."""
        return sorted(self._checks, key=lambda check: check.passed)

    @property
    def passed(self) -> bool:
        """Whether there is at least one claim and all hold."""
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
                f"{self.summary}: {'; '.join(failed) or 'nothing was checked'}; find out what changed it, then run the step again",
                findings=failed,
            )

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame, one row per claim: claim, expected, actual and source (str), passed (bool)."""
        rows = [(c.claim, c.expected, c.actual, c.source, c.passed) for c in self._checks]
        frame = Table(self.about, ("claim", "expected", "actual", "source", "passed"), rows).to_frame()
        return frame.astype({"passed": bool})

    def __repr__(self) -> str:
        return repr(
            Table(
                f"{self.about}: {self.summary}.",
                ("", "claim", "expected", "actual", "source"),
                [(c.outcome, c.claim, c.expected, c.actual, c.source) for c in self.failed_first],
            )
        )

    def _repr_html_(self) -> str:
        return TEMPLATES.get_template("checks.html").render(checks=self)
