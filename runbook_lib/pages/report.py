"""The reports of a run: report.json for programs, report.html for auditors.

All values are escaped. Nothing here calls AWS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runbook_lib.pages.drawing import Picture
from runbook_lib.checks import Checks
from runbook_lib.tables import TEMPLATES, Table

FORMAT = 1


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
    """Return report.html: one file for an auditor, without scripts and without network access.

    `pictures` are embedded in the page, each under its heading.
    """
    page = TEMPLATES.get_template("report.html").render(
        facts=facts, checks=checks, tables=tables, pictures=pictures or {}
    )
    return page.encode()
