"""The evidence of step 06: every claim about cluster, instances, snapshot, secret, key and backups, checked against AWS.

Reads only. A part that AWS refuses to show is a failed claim, so that the report says what was not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from runbook_lib.aws import kms, rds
from runbook_lib.aws.answers import REFUSALS, refusal_text
from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.material.key_material import fingerprint
from runbook_lib.run.clusters import ExistingClusterRecord, finished_clusters
from runbook_lib.run.materials import current_id, permanent_materials
from runbook_lib.run.records import ClusterRecord, KeyRecord, VerificationRecord
from runbook_lib.steps.open_step import OpenStep


def gather(step: OpenStep) -> Checks:
    """Read everything and return the checks, passed or not. Raises `StepMissing`."""
    records, key = finished_clusters(step.run), KeyRecord.from_run(step.run)
    checks = Checks(f"Encryption of {' and '.join(record.db_cluster_identifier for record in records)}")
    seen: dict[str, dict[str, Any]] = {record.db_cluster_identifier: {} for record in records}

    def cluster(record: ClusterRecord) -> None:
        found = seen[record.db_cluster_identifier]
        found.update(rds.find_cluster(step.session, record.db_cluster_identifier) or {})
        _cluster(checks, record, found, key.key_arn)

    def snapshot() -> None:
        if name := VerificationRecord.so_far(step.run).db_cluster_snapshot_identifier:
            found = rds.find_snapshot(step.session, name) or {}
            _encrypted(checks, "the snapshot", found, key.key_arn, "rds:DescribeDBClusterSnapshots")

    for record in records:
        _read(checks, f"the cluster {record.db_cluster_identifier}", partial(cluster, record))
        _read(checks, "the instances", partial(_instances, checks, step.session, record, key.key_arn))
    _read(checks, "the snapshot", snapshot)
    _copies(checks, step)
    _backups(checks, step)
    for record in records:
        if not isinstance(record, ExistingClusterRecord) or record.password_managed:
            _read(checks, "the secret", partial(_secret, checks, step.session, seen[record.db_cluster_identifier]))
    _read(checks, "the key", lambda: _key(checks, step, key, list(seen.values())))
    return checks


def _read(checks: Checks, what: str, read: Callable[[], None]) -> None:
    """Read one part; what AWS refuses is a failed claim, and the other parts are read all the same."""
    try:
        read()
    except REFUSALS as error:
        checks.equal(f"{what} can be read", "AWS answers", refusal_text(error), source="the answer of AWS")


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
    as_before = record.public_db_instance_identifiers if isinstance(record, ExistingClusterRecord) else ()
    checks.equal("the instances are those that the run created", expected, names, source=source)
    for instance in instances:
        name = f"instance {instance['DBInstanceIdentifier']}"
        _encrypted(checks, name, instance, key_arn, source)
        public = instance.get("PubliclyAccessible")
        if instance["DBInstanceIdentifier"] in as_before:
            checks.equal(
                f"{name} is publicly accessible, as the instance that it replaces", True, public, source=source
            )
        else:
            checks.equal(f"{name} is not publicly accessible", False, public, source=source)


def _encrypted(checks: Checks, name: str, resource: dict[str, Any], key_arn: str, source: str) -> None:
    checks.equal(f"{name} is encrypted with a KMS key", "sse-kms", rds.storage_encryption_type(resource), source=source)
    checks.equal(f"{name} is encrypted with your key", key_arn, resource.get("KmsKeyId"), source=source)


def _copies(checks: Checks, step: OpenStep) -> None:
    """Check that the imported set's files are unchanged; files moved elsewhere are not missed."""
    files = {one.path(name): digest for one in permanent_materials(step.run) for name, digest in one.files.items()}
    present = [name for name in files if (step.run.path / name).is_file()]
    others = [name for name in present if fingerprint(step.run.read(name)) != files[name]]
    words = "none" if not others else ", ".join(others)
    checks.equal(
        "files in the run folder that differ from the imported set", "none", words, source="SHA-256 of each file"
    )


def _backups(checks: Checks, step: OpenStep) -> None:
    """Check that the backups of the key material that 03 wrote are in the run folder, unless they are kept elsewhere."""
    names = [one.path(holder.file) for one in permanent_materials(step.run) for holder in one.custody.holders]
    if not names:
        return  # the key material is in a token, in a file of its own, or elsewhere by choice
    asked = VerifyEncryptionInputs.check(step.run.steps[step.name]["inputs"])
    present = sum((step.run.path / name).is_file() for name in names)
    found = f"{present} of {len(names)}"
    expected = f"{len(names)} of {len(names)}"
    if asked.backups_kept_elsewhere:
        elsewhere = "any number: the operator says that they are kept elsewhere"
        checks.holds("backups of the key material in the run folder", elsewhere, found, bool, source="the run folder")
        return
    advice = "" if found == expected else "; if they are in a safe place, set backups_kept_elsewhere: true"
    checks.equal("backups of the key material in the run folder", expected, f"{found}{advice}", source="the run folder")


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


def _key(checks: Checks, step: OpenStep, key: KeyRecord, clusters: list[dict[str, Any]]) -> None:
    """Check the key: state, origin, material, expiry, and the grant to RDS."""
    session, needed = step.session, permanent_materials(step.run)
    metadata = kms.describe(session, key.key_id) or {}
    source, state = "kms:DescribeKey", metadata.get("KeyState")
    lost = f"{state}: its material is missing, import it again with: runbook recover {step.run.run_id}"
    checks.equal("the key can be used", "Enabled", lost if state == "PendingImport" else state, source=source)
    checks.equal("the key's origin is external key material", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("the key is customer managed", "CUSTOMER", metadata.get("KeyManager"), source=source)
    listed = kms.materials(session, key.key_id)
    current = [entry["KeyMaterialId"] for entry in listed if entry.get("KeyMaterialState") == "CURRENT"]
    claim = "the current key material is the one that this run imported"
    checks.equal(claim, [current_id(step.run)], current, source="kms:ListKeyRotations")
    if len(needed) > 1:
        older = [entry["KeyMaterialId"] for entry in listed if entry.get("KeyMaterialState") == "NON_CURRENT"]
        claim = "this run has a record of every older key material that the key needs"
        checks.equal(
            claim, sorted(one.key_material_id for one in needed[:-1]), sorted(older), source="kms:ListKeyRotations"
        )
    expires = metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "never"
    earliest = min((one.valid_to for one in needed if one.valid_to), default="never")
    checks.equal("the expiry of the material", earliest, expires, source=source)
    _dates(checks, step, metadata, listed)
    target = kms.find_alias(session, key.key_alias)
    checks.equal("the alias points to the key", key.key_id, target, source="kms:ListAliases")
    for cluster in clusters:
        which = "this cluster" if len(clusters) == 1 else str(cluster.get("DBClusterIdentifier"))
        checks.holds(
            f"RDS holds a grant on the key for {which}",
            "at least one grantee of RDS",
            kms.grants_for(session, key.key_id, cluster),
            lambda grantees: len(grantees) > 0,
            source="kms:ListGrants",
        )


def _dates(checks: Checks, step: OpenStep, metadata: dict[str, Any], listed: list[dict[str, Any]]) -> None:
    """Check that no rotation is due and no key material expires soon, the one that is pending rotation included."""
    asked = VerifyEncryptionInputs.check(step.run.steps[step.name]["inputs"])
    if asked.rotate_every_days and "CreationDate" in metadata:
        last = max((one["RotationDate"] for one in listed if one.get("RotationDate")), default=metadata["CreationDate"])
        found, limit = f"{last:%Y-%m-%d %H:%M} UTC", timedelta(days=asked.rotate_every_days)
        due = step.now() - last >= limit
        found += f"; rotation is due: runbook rotate {step.run.run_id}" if due else ""
        claim, expected = "the key was created or rotated recently enough", f"within {asked.rotate_every_days} days"
        checks.holds(claim, expected, found, lambda _: not due, source="kms:ListKeyRotations")
    again = bool(VerificationRecord.so_far(step.run).verified_at)  # the first time, the expiry was chosen minutes ago
    for one in listed if again and asked.warn_days_before_expiry else []:
        if one.get("ValidTo") and one.get("ImportState") == "IMPORTED":
            _expires_late(checks, step, one, metadata["Arn"], days=asked.warn_days_before_expiry)


def _expires_late(checks: Checks, step: OpenStep, one: dict[str, Any], key_arn: str, *, days: int) -> None:
    soon = one["ValidTo"] - step.now() <= timedelta(days=days)
    claim, found = (
        f"key material {one['KeyMaterialId'][:16]} does not expire soon",
        f"{one['ValidTo']:%Y-%m-%d %H:%M} UTC",
    )
    found += _what_expires(step, one, key_arn) if soon else ""
    checks.holds(claim, f"more than {days} days away", found, lambda _: not soon, source="kms:ListKeyRotations")


def _what_expires(step: OpenStep, one: dict[str, Any], key_arn: str) -> str:
    """Return what stops when this key material expires, and the command that prevents it."""
    if str(one["KeyMaterialState"]).startswith("PENDING"):
        return f"; it is pending rotation, and no cluster needs it yet; rotate to it: runbook rotate {step.run.run_id}"
    clusters = ", ".join(rds.clusters_under(step.session, key_arn)) or "none"
    return f"; the key stops then, with the clusters {clusters}; extend it: runbook recover {step.run.run_id} --valid-to TIME"
