"""Step 06: the evidence that cluster, instances, secret and snapshot are encrypted, and with which key.

Reads only, but for the snapshot that may be asked for. Writes report.json and report.html.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from runbook_lib.aws import kms, rds
from runbook_lib.aws.cloudtrail import from_json, not_read, rows_for_json, trail
from runbook_lib.aws.create_once import create_once, settled
from runbook_lib.aws.kms import grants_for
from runbook_lib.aws.rds import find_snapshot, storage_encryption_type
from runbook_lib.aws.session import Session
from runbook_lib.aws.waiting import seconds_between_looks, statuses, wait_until_available
from runbook_lib.checks import Checks
from runbook_lib.errors import StepMissing, WaitFailed
from runbook_lib.files import private_folder, utc_stamp
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.material.key_material import fingerprint
from runbook_lib.material.recovery_copies import rows as custody_rows
from runbook_lib.pages.progress import interruptible
from runbook_lib.pages.report import report_html, report_json
from runbook_lib.plan import Change, Plan
from runbook_lib.run.expiry import in_words as expiry_in_words
from runbook_lib.run.expiry import seconds_left
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table


def plan_verify_encryption(step: OpenStep, inputs: VerifyEncryptionInputs) -> Plan:
    """Plan the verification: nothing, or one manual snapshot."""
    cluster = step.run.record("05_create_cluster")["db_cluster_identifier"]
    if not inputs.take_snapshot:
        return step.plan(inputs, [Change("keep", "DB cluster", cluster, "is looked at, not changed")])
    name = f"{cluster}-evidence"[:63].rstrip("-")
    request = {"DBClusterIdentifier": cluster, "DBClusterSnapshotIdentifier": name, "Tags": step.tag_list()}
    if (there := find_snapshot(step.session, name)) is None:
        change = Change(
            "create",
            "snapshot",
            name,
            "a manual snapshot as evidence; it is kept",
            "rds:CreateDBClusterSnapshot",
            request,
        )
    elif step.is_ours(rds.rds_tags(there)):
        change = Change("keep", "snapshot", name, "made by this run", "", request)
    else:
        change = Change("refuse", "snapshot", name, "exists, and this run did not make it; rename or delete it")
    return step.plan(inputs, [change])


def apply_verify_encryption(step: OpenStep, plan: Plan) -> dict[str, str]:
    """Wait until all is available, then take the snapshot if one is planned; return the statuses.

    A state that cannot become available ends the wait at once and is said; judging it is the verification's, so
    that the reports show it. Raises `WaitTimedOut`.
    """
    made = step.run.record("05_create_cluster")
    with step.applying(plan), interruptible():
        try:
            found = wait_until_available(
                step.session,
                made["db_cluster_identifier"],
                instances=len(made["db_instance_identifiers"]),
                timeout_minutes=float(plan.inputs["wait_timeout_minutes"]),
                poll_seconds=seconds_between_looks(step.session.target, plan.inputs["poll_seconds"]),
            )
        except WaitFailed as error:
            print(f"not available: {error}")
            return statuses(step.session, made["db_cluster_identifier"])
        for change in plan.changes:
            if change.resource == "snapshot":
                if change.action == "create":
                    _take_snapshot(step, change)
                step.run.note(step.name, db_cluster_snapshot_identifier=change.name)
    return found


def _our_snapshot(step: OpenStep, name: str) -> dict[str, Any] | None:
    found = find_snapshot(step.session, name)
    return found if found and step.is_ours(rds.rds_tags(found)) else None


def _take_snapshot(step: OpenStep, change: Change) -> None:
    client = step.client("rds", retry=False)
    create_once(
        step.run,
        step.name,
        f"rds:CreateDBClusterSnapshot {change.name}",
        find=lambda: _our_snapshot(step, change.name),
        create=lambda: dict(client.create_db_cluster_snapshot(**change.request)["DBClusterSnapshot"]),
    )


def verify_encryption(step: OpenStep) -> Checks:
    """Hold every claim against what AWS says, write report.json and report.html, and finish the step.

    The reports are written whatever the outcome; a dated copy of each is kept under reports/. Raises
    `VerificationFailed`, naming each claim that does not hold.
    """
    first = "verified_at" not in step.made()  # later ones judge what is there at once: nothing is new any more
    checks = settled(lambda: gather(step), target=step.session.target) if first else gather(step)
    facts = _facts(step, checks)
    asked = step.run.steps[step.name]["inputs"].get("read_cloudtrail", True)
    recorded = trail(step.session, step.run) if asked else not_read()
    tables = [_custody_table(step), recorded, _times(step)]
    page = report_html(facts, checks, tables=tables, pictures=_pictures(step))
    facts = {name: value for name, value in facts.items() if name != "summary"} | {"trail": rows_for_json(recorded)}
    content = report_json(facts, checks)
    stamp = f"{step.now():%Y%m%dT%H%M%SZ}"
    private_folder(step.run.path / "reports")
    for name, data in (("report.json", content), ("report.html", page)):
        step.run.write(f"reports/{stamp}-{name}", data)
        step.run.write(name, data)
    checks.require_passed()
    step.run.finish(step.name, verified_at=facts["verified_at"], verdict=facts["verdict"], summary=checks.summary)
    return checks


def show_trail(step: OpenStep) -> Table:
    """Return what CloudTrail said when the reports were written, an event a row."""
    return from_json(json.loads(step.run.read("report.json"))["trail"])


def gather(step: OpenStep) -> Checks:
    """Read everything and return the checks, without judging them together."""
    if "05_create_cluster" not in step.run.steps:
        raise StepMissing(
            f"run {step.run.run_id!r} has no record of 05_create_cluster; run notebooks/05_create_cluster.ipynb first"
        )
    session = step.session
    key = step.run.record("01_create_key")
    imported = step.run.record("04_import_key_material")
    launched = step.run.record("05_create_cluster")
    identifier, arn = launched["db_cluster_identifier"], key["key_arn"]
    checks = Checks(f"Encryption of {identifier}")

    cluster = rds.find_cluster(session, identifier) or {}
    _encrypted(checks, f"cluster {identifier}", cluster, arn, "rds:DescribeDBClusters")
    checks.equal(
        f"cluster {identifier} is the one that the run made",
        launched["db_cluster_resource_id"],
        cluster.get("DbClusterResourceId"),
        source="rds:DescribeDBClusters",
    )
    checks.equal(
        f"cluster {identifier} is available",
        "available",
        cluster.get("Status"),
        source="rds:DescribeDBClusters",
    )

    instances = rds.instances_of(session, identifier)
    names = [instance["DBInstanceIdentifier"] for instance in instances]
    checks.equal(
        "the instances are those that the run made",
        launched["db_instance_identifiers"],
        names,
        source="rds:DescribeDBInstances",
    )
    for instance in instances:
        name = f"instance {instance['DBInstanceIdentifier']}"
        _encrypted(checks, name, instance, arn, "rds:DescribeDBInstances")
        checks.equal(
            f"{name} cannot be reached from the internet",
            False,
            instance.get("PubliclyAccessible"),
            source="rds:DescribeDBInstances",
        )
    if "db_cluster_snapshot_identifier" in step.made():
        snapshot = find_snapshot(session, step.made()["db_cluster_snapshot_identifier"]) or {}
        _encrypted(checks, "the snapshot", snapshot, arn, "rds:DescribeDBClusterSnapshots")
    _copies(checks, step)
    _secret(checks, session, cluster)
    _key(checks, session, key, imported, cluster, run_id=step.run.run_id)
    return checks


def _encrypted(checks: Checks, name: str, resource: dict[str, Any], key_arn: str, source: str) -> None:
    checks.equal(f"{name} is encrypted with a KMS key", "sse-kms", storage_encryption_type(resource), source=source)
    checks.equal(f"{name} is encrypted with your key", key_arn, resource.get("KmsKeyId"), source=source)


def _copies(checks: Checks, step: OpenStep) -> None:
    """Check that what lies in the folder of the set that was imported is of that set; what was moved away is not missed."""
    files = step.run.record("03_encrypt_key_material")["files"]
    there = [name for name in files if (step.run.path / name).is_file()]
    others = [name for name in there if fingerprint(step.run.read(name)) != files[name]]
    words = "none" if not others else ", ".join(others)
    checks.equal("copies in the run's folder that are not of this material", "none", words, source="the run's folder")


def _secret(checks: Checks, session: Session, cluster: dict[str, Any]) -> None:
    """Check that the master password is kept by RDS in Secrets Manager, and encrypted."""
    secret = cluster.get("MasterUserSecret") or {}
    source = "secretsmanager:DescribeSecret"
    described = session.client("secretsmanager").describe_secret(SecretId=secret["SecretArn"]) if secret else {}
    checks.equal("the master password is kept by RDS", "rds", described.get("OwningService"), source=source)
    checks.equal("the master password is rotated by RDS", True, described.get("RotationEnabled"), source=source)
    asked = secret.get("KmsKeyId", "")
    checks.holds(
        "the master password is encrypted with",
        "a KMS key; none named means aws/secretsmanager",
        described.get("KmsKeyId", "aws/secretsmanager"),
        lambda told: told == "aws/secretsmanager" or told == asked,
        source=source,
    )


def _key(
    checks: Checks,
    session: Session,
    key: dict[str, Any],
    imported: dict[str, Any],
    cluster: dict[str, Any],
    *,
    run_id: str,
) -> None:
    """Check the key itself: state, origin, material, expiry, and the grant that RDS works by."""
    metadata = kms.describe(session, key["key_id"]) or {}
    source = "kms:DescribeKey"
    state = metadata.get("KeyState")
    gone = f"{state}: its material is gone, bring it back with: runbook recover {run_id}"
    checks.equal("the key can be used", "Enabled", gone if state == "PendingImport" else state, source=source)
    checks.equal("the key's material was imported", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("the key is managed by you", "CUSTOMER", metadata.get("KeyManager"), source=source)
    current = [entry for entry in kms.materials(session, key["key_id"]) if entry.get("KeyMaterialState") == "CURRENT"]
    checks.equal(
        "the material in the key is the one that this run imported",
        [imported["key_material_id"]],
        [entry["KeyMaterialId"] for entry in current],
        source="kms:ListKeyRotations",
    )
    expires = metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "never"
    checks.equal("the material expires", imported["valid_to"] or "never", expires, source=source)
    checks.equal(
        "the alias points to the key",
        key["key_id"],
        kms.find_alias(session, key["key_alias"]),
        source="kms:ListAliases",
    )
    checks.holds(
        "RDS holds a grant on the key for this cluster",
        "a grant to RDS",
        grants_for(session, key["key_id"], cluster),
        lambda grantees: len(grantees) > 0,
        source="kms:ListGrants",
    )


def custody_record(step: OpenStep) -> dict[str, Any]:
    """Return who keeps the original, and what became of a file in clear; no secret in it."""
    record = dict(step.run.made("03_encrypt_key_material").get("custody", {}))
    imported = step.run.made("04_import_key_material")
    return record | {name: imported[name] for name in ("plaintext_file", "recovered_at") if imported.get(name)}


def _custody_table(step: OpenStep) -> Table:
    return Table("Who keeps the original key material", ("", ""), custody_rows(custody_record(step)))


def _times(step: OpenStep) -> Table:
    rows = [
        (name, part["started"], part.get("finished", "being written")) for name, part in sorted(step.run.steps.items())
    ]
    return Table("When each step began and ended (UTC)", ("step", "began", "ended"), rows)


def _pictures(step: OpenStep) -> dict[str, Any]:
    from runbook_lib.pages.pictures import timeline, who_holds_which_key

    return {
        "Timeline of the run": timeline(step.run.steps, until=datetime.now(UTC)),
        "Who holds which key": who_holds_which_key(),
    }


def _facts(step: OpenStep, checks: Checks) -> dict[str, Any]:
    run = step.run
    key, launched = run.record("01_create_key"), run.record("05_create_cluster")
    imported, material = run.record("04_import_key_material"), run.record("03_encrypt_key_material")
    target = run.target
    expiry = expiry_in_words(run, now=step.now())
    identifier = launched["db_cluster_identifier"]
    verdict = (
        f"{identifier} is encrypted under your key {key['key_alias']}; its material was imported and {expiry}."
        if checks.passed
        else f"{checks.summary}: see the rows marked FAILED."
    )
    now: datetime = step.now()
    return {
        "run_id": run.run_id,
        "target": target["target"],
        "target_words": "SANDBOX (a simulation, not AWS)" if target["target"] == "sandbox" else "AWS",
        "account_id": target["account_id"],
        "region": target["region"],
        "verified_at": utc_stamp(now),
        "verdict": verdict,
        "key_arn": key["key_arn"],
        "key_alias": key["key_alias"],
        "key_material_id": imported["key_material_id"],
        "key_check_value": material["key_check_value"],
        "custody": custody_record(step),
        "valid_to": imported["valid_to"] or None,
        "seconds_until_expiry": seconds_left(run, now=now),
        "db_cluster_identifier": identifier,
        "db_cluster_arn": launched["db_cluster_arn"],
        "summary": {
            "DB cluster": launched["db_cluster_arn"],
            "Instances": ", ".join(launched["db_instance_identifiers"]),
            "KMS key": key["key_arn"],
            "Alias": key["key_alias"],
            "Key material": f"imported, {expiry}; KeyMaterialId {imported['key_material_id']}",
            "Key check value": material["key_check_value"] or "not known here: wrapped elsewhere",
        },
    }
