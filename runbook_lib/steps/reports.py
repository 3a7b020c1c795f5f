"""The reports of a run on disk: written by 06, again by later steps with their results, and taken back after a failure.

"Verified" never stands on a report that is older than the last verification that failed, whatever state the files are in.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.checks import Checks
from runbook_lib.files import private_folder, utc_stamp
from runbook_lib.pages.report import FORMAT, html_of, report_json
from runbook_lib.run.clusters import clusters
from runbook_lib.run.records import ClusterRecord, KeyRecord, VerificationRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CLEAN_UP, RECOVERY_DRILL, VERIFY_ENCRYPTION
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.report_facts import NOT_OPENED
from runbook_lib.tables import Table

JSON, HTML = "report.json", "report.html"
_NEEDED = {"verified", "verified_at", "verdict", "summary", "checks", "db_cluster_identifier", "run_id", "account_id"}


def write(run: Run, facts: Mapping[str, Any], checks: Checks, *, moment: datetime, by: str) -> None:
    """Write report.json and report.html, and a dated copy of each under reports/; `by` is the step that writes them.

    A report that is not verified first removes the one before, so that a crash between two files leaves no old verdict.
    """
    content = report_json(facts, checks)
    report = json.loads(content)
    page = html_of(report, more=[_times(run, by)], pictures=_pictures(run))
    if not report["verified"]:
        _remove(run)
    stamp = _dated(private_folder(run.path / "reports"), f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}")
    for name, data in ((JSON, content), (HTML, page)):
        run.write(f"reports/{stamp}-{name}", data)
        run.write(name, data)


def _dated(folder: Path, second: str) -> str:
    """Return the first of `second`, `second-2`, … that no report has: a dated copy is never overwritten."""
    stamp, number = second, 1
    while any(os.path.lexists(folder / f"{stamp}-{name}") for name in (JSON, HTML)):
        number += 1
        stamp = f"{second}-{number}"
    return stamp


def _remove(run: Run) -> None:
    for name in (HTML, JSON):
        with suppress(FileNotFoundError):
            os.unlink(run.path / name)


def _pictures(run: Run) -> dict[str, Any]:
    from runbook_lib.pages.pictures import timeline, who_holds_which_key

    return {
        "Timeline of the run": timeline(run.steps, until=datetime.now(UTC)),
        "Who holds which key": who_holds_which_key(),
    }


def _times(run: Run, by: str) -> Table:
    rows = [
        (name, part["started"], "this report" if name == by else part.get("finished", "in progress"))
        for name, part in sorted(run.steps.items())
    ]
    return Table("Start and end of each step (UTC)", ("step", "started", "finished"), rows)


def current(run: Run) -> dict[str, Any]:
    """Return report.json; empty if there is none, or if it is damaged or of an older version."""
    try:
        found = json.loads((run.path / JSON).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and set(found) >= _NEEDED and found.get("format") == FORMAT else {}


def other_results(run: Run) -> list[dict[str, Any]]:
    """Return the results of other steps in report.json, oldest first: step, at, about, summary, passed and checks."""
    found = current(run).get("other_steps", [])
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


# After a verification -------------------------------------------------------------------------------------------------


def add_result(step: OpenStep, checks: Checks) -> None:
    """Write the reports again with the result of another step, if there are reports.

    A failed result takes the verdict back until 06 verifies again; that of 90, after which there is no cluster, does not.
    """
    report = current(step.run)
    if not report:
        return
    now = step.now()
    one: dict[str, Any] = {"step": step.name, "at": utc_stamp(now), "about": checks.about, "summary": checks.summary}
    one |= {"passed": checks.passed, "checks": checks.to_json()}
    report["other_steps"] = [*(other for other in other_results(step.run) if other["step"] != step.name), one]
    if checks.passed and step.name == RECOVERY_DRILL:
        report["not_looked_at"] = [line for line in report.get("not_looked_at", []) if line != NOT_OPENED]
    if not checks.passed and step.name != CLEAN_UP:
        report |= {"verified": False, "verdict": f"{step.name} failed after the verification: {checks.summary}."}
    facts = {name: value for name, value in report.items() if name not in ("format", "checks")}
    write(step.run, facts, Checks.from_json("", report["checks"]), moment=now, by=step.name)


# A verification without evidence ----------------------------------------------------------------------------------------


@contextmanager
def taken_back_unless_written(run: Run) -> Iterator[None]:
    """Replace reports that say verified if the block ends by an exception before it wrote its own."""
    before = _stamp(run)
    try:
        yield
    except BaseException:
        if _stamp(run) == before:
            error = sys.exc_info()[1]
            mark_not_verified(run, f"{type(error).__name__}: {error}".removesuffix(": "))
        raise


def _stamp(run: Run) -> list[int]:
    return [(run.path / name).stat().st_mtime_ns if (run.path / name).is_file() else 0 for name in (JSON, HTML)]


def mark_not_verified(run: Run, reason: str) -> None:
    """Replace the reports of a run after a verification that ended before it had evidence.

    Calls nothing: without credentials, say, there is no session. What the reports cannot tell, state.json does. The dated
    copies of earlier reports stay. A run that has no report, or says already that it is not verified, stays as it is.
    """
    if not any(os.path.lexists(run.path / name) for name in (JSON, HTML)):
        return
    before = current(run)
    if before and not before["verified"] and _page_agrees(run):
        return
    facts = before or _from_state(run)
    last = facts.get("verified_at", "") or "unknown"
    checks = Checks(f"Encryption of {facts['db_cluster_identifier']}")
    checks.equal("the verification ran to its end", "yes", f"no: {reason}", source="runbook run")
    now = datetime.now(UTC)
    facts = {
        name: value for name, value in facts.items() if name not in ("format", "checks", "tables", "not_looked_at")
    }
    facts |= {"verified": False, "verified_at": utc_stamp(now), "verdict": f"Not verified: {reason}", "trail": []}
    facts["summary"] = {
        "DB cluster": facts["db_cluster_arn"], "KMS key": facts["key_arn"], "Last verified": last,
    }  # fmt: skip
    write(run, facts, checks, moment=now, by=VERIFY_ENCRYPTION)


def _page_agrees(run: Run) -> bool:
    try:
        return b"<b>NOT verified.</b>" in (run.path / HTML).read_bytes()
    except OSError:
        return True  # there is no page that could say otherwise


def _from_state(run: Run) -> dict[str, Any]:
    """Return the facts of a report that cannot be read, from state.json."""
    key, target = KeyRecord.so_far(run), run.target
    cluster = next(iter(clusters(run)), ClusterRecord.so_far(run))
    words = "SANDBOX (a simulation, not AWS)" if target["target"] == "sandbox" else "AWS"
    return {
        "run_id": run.run_id, "target": target["target"], "target_words": words, "account_id": target["account_id"],
        "region": target["region"], "key_arn": key.key_arn, "key_alias": key.key_alias,
        "db_cluster_identifier": cluster.db_cluster_identifier, "db_cluster_arn": cluster.db_cluster_arn,
        "verified_at": VerificationRecord.so_far(run).verified_at if VERIFY_ENCRYPTION in run.steps else "",
    }  # fmt: skip
