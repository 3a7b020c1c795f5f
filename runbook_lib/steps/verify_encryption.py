"""Step 06: the evidence that cluster, instances, secret and snapshot are encrypted, and with which key.

Read-only, except for an optional snapshot. Writes report.json and report.html.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from runbook_lib.aws import cloudtrail, kms, rds
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.retry import retry_until_passed
from runbook_lib.aws.session import Session
from runbook_lib.aws.waiting import poll_interval, statuses, wait_until_available
from runbook_lib.checks import Checks
from runbook_lib.errors import WaitFailed
from runbook_lib.files import private_folder, utc_stamp
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.material.key_material import fingerprint
from runbook_lib.pages.progress import interruptible
from runbook_lib.pages.report import report_html, report_json
from runbook_lib.plan import Change, Plan
from runbook_lib.run.expiry import in_words as expiry_in_words
from runbook_lib.run.expiry import seconds_left
from runbook_lib.run.records import ClusterRecord, ImportRecord, KeyRecord, MaterialRecord, VerificationRecord
from runbook_lib.steps import ownership
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table

SNAPSHOT = "snapshot"


# Plan and apply ----------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: VerifyEncryptionInputs) -> Plan:
    """Plan the verification: reads only, or one manual snapshot as well."""
    cluster = ClusterRecord.from_run(step.run).db_cluster_identifier
    if not asked.take_snapshot:
        return step.plan(asked, [Change("keep", "DB cluster", cluster, "is read, not changed")])
    return step.plan(asked, [_snapshot(step, cluster)])


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


def apply(step: OpenStep, plan: Plan) -> dict[str, str]:
    """Wait until cluster and instances are available, take the planned snapshot, and return the statuses by name.

    A status that cannot become `available` ends the wait and is printed; `verify` then fails, and the reports show it.
    Raises `WaitTimedOut`.
    """
    record, asked = ClusterRecord.from_run(step.run), plan.inputs
    with step.applying(plan), interruptible():
        try:
            found = wait_until_available(
                step.session,
                record.db_cluster_identifier,
                instances=len(record.db_instance_identifiers),
                timeout_minutes=float(asked.wait_timeout_minutes),
                poll_seconds=poll_interval(step.session.target, asked.poll_seconds),
            )
        except WaitFailed as error:
            print(f"not available: {error}")
            return statuses(step.session, record.db_cluster_identifier)
        for change in plan.changes:
            if change.resource == SNAPSHOT:
                if change.action == "create" and not _take_snapshot(step, change):
                    continue
                if change.action == "keep":
                    ownership.record(step, ownership.SNAPSHOT, change.name, change.identity)
                step.run.note(step.name, db_cluster_snapshot_identifier=change.name)
    return found


def _take_snapshot(step: OpenStep, change: Change) -> bool:
    """Take the snapshot of the run's cluster; return False, and say why, when another cluster has its name now."""
    client, record = step.client("rds", retry=False), ClusterRecord.from_run(step.run)
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
    checks = retry_until_passed(lambda: gather(step), target=step.session.target) if first else gather(step)
    facts = _facts(step, checks)
    _write_reports(step, checks, facts)
    checks.require_passed()
    step.run.finish(step.name, verified_at=facts["verified_at"], verdict=facts["verdict"], summary=checks.summary)
    return checks


def _write_reports(step: OpenStep, checks: Checks, facts: dict[str, Any]) -> None:
    asked = VerifyEncryptionInputs.check(step.run.steps[step.name]["inputs"])
    events = cloudtrail.events(step.session, step.run) if asked.read_cloudtrail else cloudtrail.not_read()
    tables = [_custody_table(step), events, _times(step)]
    page = report_html(facts, checks, tables=tables, pictures=_pictures(step))
    facts = {name: value for name, value in facts.items() if name != "summary"}
    content = report_json(facts | {"trail": cloudtrail.rows_for_json(events)}, checks)
    stamp = f"{step.now():%Y%m%dT%H%M%SZ}"
    private_folder(step.run.path / "reports")
    for name, data in (("report.json", content), ("report.html", page)):
        step.run.write(f"reports/{stamp}-{name}", data)
        step.run.write(name, data)


def show_cloudtrail(step: OpenStep) -> Table:
    """Return the CloudTrail events in the reports, one row per event."""
    return cloudtrail.from_json(json.loads(step.run.read("report.json"))["trail"])


def gather(step: OpenStep) -> Checks:
    """Read everything and return the checks, passed or not. Raises `StepMissing`."""
    record, key = ClusterRecord.from_run(step.run), KeyRecord.from_run(step.run)
    checks = Checks(f"Encryption of {record.db_cluster_identifier}")
    cluster = rds.find_cluster(step.session, record.db_cluster_identifier) or {}
    _cluster(checks, record, cluster, key.key_arn)
    _instances(checks, step.session, record, key.key_arn)
    if snapshot := VerificationRecord.so_far(step.run).db_cluster_snapshot_identifier:
        found = rds.find_snapshot(step.session, snapshot) or {}
        _encrypted(checks, "the snapshot", found, key.key_arn, "rds:DescribeDBClusterSnapshots")
    _copies(checks, step)
    _secret(checks, step.session, cluster)
    _key(checks, step, key, cluster)
    return checks


def _cluster(checks: Checks, record: ClusterRecord, cluster: dict[str, Any], key_arn: str) -> None:
    name, source = f"cluster {record.db_cluster_identifier}", "rds:DescribeDBClusters"
    _encrypted(checks, name, cluster, key_arn, source)
    claim, found = f"{name} is the one that the run created", cluster.get("DbClusterResourceId")
    checks.equal(claim, record.db_cluster_resource_id, found, source=source)
    checks.equal(f"{name} is available", "available", cluster.get("Status"), source=source)


def _instances(checks: Checks, session: Session, record: ClusterRecord, key_arn: str) -> None:
    instances, source = rds.instances_of(session, record.db_cluster_identifier), "rds:DescribeDBInstances"
    names = [instance["DBInstanceIdentifier"] for instance in instances]
    expected = list(record.db_instance_identifiers)
    checks.equal("the instances are those that the run created", expected, names, source=source)
    for instance in instances:
        name = f"instance {instance['DBInstanceIdentifier']}"
        _encrypted(checks, name, instance, key_arn, source)
        public = instance.get("PubliclyAccessible")
        checks.equal(f"{name} is not publicly accessible", False, public, source=source)


def _encrypted(checks: Checks, name: str, resource: dict[str, Any], key_arn: str, source: str) -> None:
    checks.equal(f"{name} is encrypted with a KMS key", "sse-kms", rds.storage_encryption_type(resource), source=source)
    checks.equal(f"{name} is encrypted with your key", key_arn, resource.get("KmsKeyId"), source=source)


def _copies(checks: Checks, step: OpenStep) -> None:
    """Check that the imported set's files are unchanged; files moved elsewhere are not missed."""
    files = MaterialRecord.from_run(step.run).files
    present = [name for name in files if (step.run.path / name).is_file()]
    others = [name for name in present if fingerprint(step.run.read(name)) != files[name]]
    words = "none" if not others else ", ".join(others)
    checks.equal(
        "files in the run folder that differ from the imported set", "none", words, source="SHA-256 of each file"
    )


def _secret(checks: Checks, session: Session, cluster: dict[str, Any]) -> None:
    """Check that RDS manages the master password in Secrets Manager, encrypted and rotated."""
    secret = cluster.get("MasterUserSecret") or {}
    source = "secretsmanager:DescribeSecret"
    described = session.client("secretsmanager").describe_secret(SecretId=secret["SecretArn"]) if secret else {}
    checks.equal("the master password is managed by RDS", "rds", described.get("OwningService"), source=source)
    checks.equal("the master password is rotated automatically", True, described.get("RotationEnabled"), source=source)
    named = secret.get("KmsKeyId", "")
    checks.holds(
        "the master password is encrypted under a KMS key",
        "the cluster's key for it, or aws/secretsmanager",
        described.get("KmsKeyId", "aws/secretsmanager"),
        lambda found: found in ("aws/secretsmanager", named),
        source=source,
    )


def _key(checks: Checks, step: OpenStep, key: KeyRecord, cluster: dict[str, Any]) -> None:
    """Check the key: state, origin, material, expiry, and the grant to RDS."""
    session, imported = step.session, ImportRecord.from_run(step.run)
    metadata = kms.describe(session, key.key_id) or {}
    source, state = "kms:DescribeKey", metadata.get("KeyState")
    lost = f"{state}: its material is missing, import it again with: runbook recover {step.run.run_id}"
    checks.equal("the key can be used", "Enabled", lost if state == "PendingImport" else state, source=source)
    checks.equal("the key's origin is external key material", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("the key is customer managed", "CUSTOMER", metadata.get("KeyManager"), source=source)
    current = [entry["KeyMaterialId"] for entry in kms.current_materials(session, key.key_id)]
    claim = "the current key material is the one that this run imported"
    checks.equal(claim, [imported.key_material_id], current, source="kms:ListKeyRotations")
    expires = metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "never"
    checks.equal("the expiry of the material", imported.valid_to or "never", expires, source=source)
    target = kms.find_alias(session, key.key_alias)
    checks.equal("the alias points to the key", key.key_id, target, source="kms:ListAliases")
    checks.holds(
        "RDS holds a grant on the key for this cluster",
        "at least one grantee of RDS",
        kms.grants_for(session, key.key_id, cluster),
        lambda grantees: len(grantees) > 0,
        source="kms:ListGrants",
    )


def _custody(step: OpenStep) -> dict[str, str]:
    """Return the later events of custody: the end of a plaintext file, and a recovery."""
    imported = ImportRecord.so_far(step.run)
    facts = {"plaintext_file": imported.plaintext_file, "recovered_at": imported.recovered_at}
    return {name: value for name, value in facts.items() if value}


def _custody_table(step: OpenStep) -> Table:
    later = [(name.replace("_", " "), value) for name, value in _custody(step).items()]
    rows = MaterialRecord.from_run(step.run).custody.rows()
    return Table("Who keeps the key material", ("", ""), [*rows, *later])


def _times(step: OpenStep) -> Table:
    rows = [
        (name, part["started"], part.get("finished", "in progress")) for name, part in sorted(step.run.steps.items())
    ]
    return Table("Start and end of each step (UTC)", ("step", "started", "finished"), rows)


def _pictures(step: OpenStep) -> dict[str, Any]:
    from runbook_lib.pages.pictures import timeline, who_holds_which_key

    return {
        "Timeline of the run": timeline(step.run.steps, until=datetime.now(UTC)),
        "Who holds which key": who_holds_which_key(),
    }


def _facts(step: OpenStep, checks: Checks) -> dict[str, Any]:
    """Return the facts of the run that the reports hold beside the checks, by name."""
    run, now = step.run, step.now()
    key, record, target = KeyRecord.from_run(run), ClusterRecord.from_run(run), run.target
    imported, material = ImportRecord.from_run(run), MaterialRecord.from_run(run)
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
        "key_material_id": imported.key_material_id,
        "key_check_value": material.key_check_value,
        "custody": material.custody.to_json() | _custody(step),
        "valid_to": imported.valid_to or None,
        "seconds_until_expiry": seconds_left(run, now=now),
        "db_cluster_identifier": record.db_cluster_identifier,
        "db_cluster_arn": record.db_cluster_arn,
        "summary": {
            "DB cluster": record.db_cluster_arn,
            "Instances": ", ".join(record.db_instance_identifiers),
            "KMS key": key.key_arn,
            "Alias": key.key_alias,
            "Key material": f"imported, {expiry}; KeyMaterialId {imported.key_material_id}",
            "Key check value": material.key_check_value or "unknown: wrapped elsewhere",
        },
    }
