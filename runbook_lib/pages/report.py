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
    content = {"format": FORMAT, "verified": checks.passed, **facts, "checks": checks.to_json()}
    return (json.dumps(content, indent=1) + "\n").encode()


def table_json(table: Table) -> dict[str, Any]:
    """Return a table for report.json, its values as texts."""
    return {
        "caption": table.caption,
        "columns": list(table.columns),
        "rows": [[str(value) for value in row] for row in table.rows],
    }


def html_of(
    report: Mapping[str, Any], *, more: Sequence[Table] = (), pictures: Mapping[str, Picture] | None = None
) -> bytes:
    """Return report.html for the content of a report.json. Raises `KeyError` or `TypeError` for one of another version."""
    checks = Checks.from_json(f"Encryption of {report['db_cluster_identifier']}", report["checks"])
    tables = [Table(one["caption"], one["columns"], one["rows"]) for one in report.get("tables", [])]
    return report_html(report, checks, tables=[*tables, *more], pictures=pictures)


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
    others = [
        (one, Checks.from_json(f"{one['about']}, finished {one['at']}", one["checks"]))
        for one in facts.get("other_steps", [])
    ]
    page = TEMPLATES.get_template("report.html").render(
        facts=facts, checks=checks, tables=tables, others=others, pictures=pictures or {},
        verified=bool(facts.get("verified", checks.passed)) and checks.passed,
    )  # fmt: skip
    return page.encode()
