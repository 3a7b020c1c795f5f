"""Step 06: the evidence that cluster, instances, secret and snapshot are encrypted, and with which key.

Read-only, except for an optional snapshot. Writes report.json and report.html.
"""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.aws import cloudtrail, rds
from runbook_lib.aws.answers import REFUSALS, refusal_text
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.aws.waiting import poll_interval, statuses, wait_until_available
from runbook_lib.checks import Checks
from runbook_lib.errors import WaitFailed
from runbook_lib.files import utc_stamp
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.pages.progress import interruptible
from runbook_lib.pages.report import table_json
from runbook_lib.plan import Change, Plan
from runbook_lib.run.clusters import finished_clusters
from runbook_lib.run.expiry import in_words as expiry_in_words
from runbook_lib.run.expiry import seconds_left
from runbook_lib.run.materials import Material, current_id, permanent_materials
from runbook_lib.run.records import ImportRecord, KeyRecord, MaterialRecord, VerificationRecord
from runbook_lib.steps import ownership, report_facts, reports
from runbook_lib.steps.evidence import gather
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.reports import mark_not_verified
from runbook_lib.tables import Table

__all__ = ["apply", "mark_not_verified", "plan", "show_cloudtrail", "verify"]

SNAPSHOT = "snapshot"


# Plan and apply ----------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: VerifyEncryptionInputs) -> Plan:
    """Plan the verification: reads only, or one manual snapshot as well."""
    names = [record.db_cluster_identifier for record in finished_clusters(step.run)]
    if not asked.take_snapshot:
        return step.plan(asked, [Change("keep", "DB cluster", name, "is read, not changed") for name in names])
    return step.plan(asked, [_snapshot(step, names[0])])


def _snapshot(step: OpenStep, cluster: str) -> Change:
    name = f"{cluster}-evidence"[:63].rstrip("-")
    request = {"DBClusterIdentifier": cluster, "DBClusterSnapshotIdentifier": name, "Tags": step.tag_list()}
    found = rds.find_snapshot(step.session, name)
    if found is None:
        detail = "a manual snapshot as evidence; it is kept"
        return Change("create", SNAPSHOT, name, detail, "rds:CreateDBClusterSnapshot", request)
    one = ownership.of_snapshot(found)
    if ownership.is_ours(step, one):
        made = f"created by this run{ownership.by_tags(step, one)}"
        return Change("keep", SNAPSHOT, name, made, "", request, one.identity)
    return Change(
        "refuse", SNAPSHOT, name, "exists, and this run did not create it; delete it, or set take_snapshot: false"
    )


def apply(step: OpenStep, plan: Plan) -> Table:
    """Wait until cluster and instances are available, take the planned snapshot, and return the statuses as a table.

    A status that cannot become `available`, or a refusal by AWS, ends the wait and is printed; `verify` then fails, and
    the reports show it. Raises `WaitTimedOut`.
    """
    asked, found = plan.inputs, dict[str, str]()
    with step.applying(plan), interruptible(), reports.taken_back_unless_written(step.run):
        try:
            for record in finished_clusters(step.run):
                name = record.db_cluster_identifier
                found |= wait_until_available(
                    step.session,
                    name,
                    instances=len(record.db_instance_identifiers),
                    timeout_minutes=float(asked.wait_timeout_minutes),
                    poll_seconds=poll_interval(step.session.target, asked.poll_seconds),
                )
        except WaitFailed as error:
            print(f"not available: {error}")
            return _statuses(statuses(step.session, name))
        except REFUSALS as error:
            print(f"not available: {refusal_text(error)}")
            return _statuses({})
        for change in plan.changes:
            if change.resource == SNAPSHOT:
                if change.action == "create" and not _take_snapshot(step, change):
                    continue
                if change.action == "keep":
                    ownership.record(step, ownership.SNAPSHOT, change.name, change.identity)
                step.run.note(step.name, db_cluster_snapshot_identifier=change.name)
    return _statuses(found)


def _statuses(found: dict[str, str]) -> Table:
    return Table("Cluster and instances", ("resource", "status"), found.items())


def _take_snapshot(step: OpenStep, change: Change) -> bool:
    """Take the snapshot of the run's cluster; return False, and say why, when another cluster has its name now."""
    client, record = step.client("rds", retry=False), finished_clusters(step.run)[0]
    now = rds.find_cluster(step.session, record.db_cluster_identifier) or {}
    if now.get("DbClusterResourceId") != record.db_cluster_resource_id:
        print(f"no snapshot was taken: {record.db_cluster_identifier} is not the cluster that this run created")
        return False

    def find() -> dict[str, Any] | None:
        found = rds.find_snapshot(step.session, change.name)
        return found if found and ownership.is_ours(step, ownership.of_snapshot(found)) else None

    create_once(
        step.run,
        step.name,
        f"rds:CreateDBClusterSnapshot {change.name}",
        find=find,
        create=lambda: dict(client.create_db_cluster_snapshot(**step.marked(change.request))["DBClusterSnapshot"]),
        identity=lambda made: ownership.of_snapshot(made).identity,
    )
    return True


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Check every claim against AWS, write report.json and report.html, and finish the step.

    The reports are written whatever the outcome; a dated copy of each is kept under reports/. Raises
    `VerificationFailed`, naming each failed claim.
    """
    first = not VerificationRecord.so_far(step.run).verified_at  # later, every resource is old enough to be visible
    with reports.taken_back_unless_written(step.run):
        step.session.requests.clear()
        checks = retry_until_passed(lambda: gather(step), target=step.session.target) if first else gather(step)
        events, policy = _events(step, checks), report_facts.key_policy(step, checks)
        facts = _facts(step, checks) | policy | {"trail": cloudtrail.rows_for_json(events)}
        facts |= _about_itself(step, facts)
        lives = report_facts.lives(step.run, step.now())
        tables = [report_facts.by_whom(facts), _custody_table(step), lives, events, *report_facts.tables(facts)]
        reports.write(
            step.run, facts | {"tables": [table_json(one) for one in tables]}, checks, moment=step.now(), by=step.name
        )
    checks.require_passed()
    step.run.finish(step.name, verified_at=facts["verified_at"], verdict=facts["verdict"], summary=checks.summary)
    return checks


def _about_itself(step: OpenStep, facts: dict[str, Any]) -> dict[str, Any]:
    """Return who verified, with what, the parameters, files and requests, and what was not verified."""
    run, snapshot = step.run, VerificationRecord.so_far(step.run).db_cluster_snapshot_identifier
    return {
        "who": report_facts.who(step.session),
        "software": report_facts.software(),
        "parameters": report_facts.parameters(run),
        "sha256": report_facts.file_digests(run),
        "requests": report_facts.requests(step.session),
        "other_steps": reports.other_results(run),
        "not_looked_at": report_facts.not_looked_at(run, trail=facts["trail"], snapshot=snapshot),
    }


def _events(step: OpenStep, checks: Checks) -> Table:
    """Return what CloudTrail recorded; a refusal is a failed claim."""
    if not VerifyEncryptionInputs.check(step.run.steps[step.name]["inputs"]).read_cloudtrail:
        return cloudtrail.not_read()
    try:
        return cloudtrail.events(step.session, step.run)
    except REFUSALS as error:
        reason = refusal_text(error)
        checks.equal("the CloudTrail events can be read", "AWS answers", reason, source="cloudtrail:LookupEvents")
        return cloudtrail.not_read(reason)


def show_cloudtrail(step: OpenStep) -> Table:
    """Return the CloudTrail events in the reports, one row per event."""
    return cloudtrail.from_json(json.loads(step.run.read("report.json"))["trail"])


def _custody(step: OpenStep) -> dict[str, str]:
    """Return the later events of custody: the end of a plaintext file, and a recovery."""
    imported = ImportRecord.so_far(step.run)
    facts = {"plaintext_file": imported.plaintext_file, "recovered_at": imported.recovered_at}
    return {name: value for name, value in facts.items() if value}


def _custody_table(step: OpenStep) -> Table:
    later = [(name.replace("_", " "), value) for name, value in _custody(step).items()]
    rows = MaterialRecord.from_run(step.run).custody.rows()
    for one in permanent_materials(step.run)[1:]:
        rows += [("rotated to", f"key check value {one.shown_check_value}, {one.folder}"), *one.custody.rows()]
    return Table("Who keeps the key material", ("", ""), [*rows, *later])


def _material_facts(one: Material) -> dict[str, Any]:
    """Return what report.json says of one key material that the key needs."""
    names = [one.path(holder.file) for holder in one.custody.holders]
    facts = {"key_material_id": one.key_material_id, "key_check_value": one.custody.key_check_value}
    return facts | {"valid_to": one.valid_to or None, "custody": one.custody.kind, "backups": names}


def _facts(step: OpenStep, checks: Checks) -> dict[str, Any]:
    """Return the facts of the run that the reports hold beside the checks, by name."""
    run, now = step.run, step.now()
    key, record, target = KeyRecord.from_run(run), finished_clusters(run)[0], run.target
    needed, material = permanent_materials(run), MaterialRecord.from_run(run)
    expiry = expiry_in_words(run, now=now)
    verdict = (
        f"{record.db_cluster_identifier} is encrypted under your key {key.key_alias}; its material was imported and {expiry}."
        if checks.passed
        else f"{checks.summary}: see the rows marked FAILED."
    )
    return {
        "run_id": run.run_id,
        "target": target["target"],
        "target_words": "SANDBOX (a simulation, not AWS)" if target["target"] == "sandbox" else "AWS",
        "account_id": target["account_id"],
        "region": target["region"],
        "verified_at": utc_stamp(now),
        "verdict": verdict,
        "key_arn": key.key_arn,
        "key_alias": key.key_alias,
        "key_material_id": current_id(run),
        "key_check_value": needed[-1].custody.key_check_value,
        "key_materials": [_material_facts(one) for one in needed],
        "custody": material.custody.to_json() | _custody(step),
        "valid_to": min((one.valid_to for one in needed if one.valid_to), default=None),
        "seconds_until_expiry": seconds_left(run, now=now),
        "db_cluster_identifier": record.db_cluster_identifier,
        "db_cluster_arn": record.db_cluster_arn,
        "summary": {
            "DB cluster": record.db_cluster_arn,
            "Instances": ", ".join(record.db_instance_identifiers),
            "KMS key": key.key_arn,
            "Alias": key.key_alias,
            "Key material": f"imported, {expiry}; KeyMaterialId {current_id(run)}",
            "Key check value": needed[-1].custody.key_check_value or "unknown: wrapped elsewhere",
        },
    }
