"""The practice account of a learner, and what the tasks find in it: keys, clusters, snapshots, roles and backups.

It is the account of the sandbox in which the exercises make their mistakes, and never the run's own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms, rds
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.errors import ArtefactMissing
from runbook_lib.files import private_folder, write_whole
from runbook_lib.material import recovery_keys
from runbook_lib.material.key_material import KeyMaterial, encrypt_key_material
from runbook_lib.material.recovery_copies import open_copy, seal

Scene = dict[str, str]
FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
OAEP, _PRIVATE = "RSAES_OAEP_SHA_256", "TRAINING-recovery-private.pem"
_FIRST_PAUSE, _LONGEST_PAUSE, _WAIT = 0.05, 2.0, 180.0  # seconds; a trainer may let each state take 20


@dataclass(frozen=True)
class Task:
    """A task: what to reach, three hints, what is prepared for it, and the check of the account.

    `{n}` in the texts is what the names of this learner's resources end with. `check` looks at the account only: its claims
    say what is missing. It changes nothing, except that 03 imports the same material again: only KMS can compare it.
    """

    title: str
    ask: str
    hints: tuple[str, str, str]
    prepare: Callable[[Practice], Scene]
    check: Callable[[Practice, Scene, Checks], None]


class Practice:
    """A session in the practice account, with the folder of its key material backups."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, self.folder = session, folder

    def client(self, service: str) -> Any:
        """Return the client of `service` in the practice account."""
        return self.session.client(service)

    # Keys and their material ------------------------------------------------------------------------------------------

    def key(self, alias: str = "", **asked: Any) -> str:
        """Create a key, with an alias if one is given; return its key ID."""
        key_id = str(self.client("kms").create_key(**asked)["KeyMetadata"]["KeyId"])
        if alias:
            self.client("kms").create_alias(AliasName=alias, TargetKeyId=key_id)
        return key_id

    def key_with_material(self, alias: str = "", backup: str = "", **expiry: Any) -> str:
        """Create a key of origin EXTERNAL and import key material, kept as `backup` if that is named; return its key ID."""
        key_id = self.key(alias, Origin="EXTERNAL")
        if backup:
            self.make_backup(backup)
        self.import_material(key_id, backup, **(expiry or FOREVER))
        return key_id

    def import_material(self, key_id: str, backup: str = "", **request: Any) -> dict[str, Any]:
        """Import the key material of a backup, or new material without one; `request` is sent as it is.

        Raises `ArtefactMissing` for a backup that does not exist.
        """
        with self._material(backup) as material:
            pair = self.client("kms").get_parameters_for_import(
                KeyId=key_id, WrappingAlgorithm=OAEP, WrappingKeySpec="RSA_2048"
            )
            wrapped = encrypt_key_material(material, wrapping_public_key=pair["PublicKey"], wrapping_algorithm=OAEP)
        answer: dict[str, Any] = self.client("kms").import_key_material(
            KeyId=key_id, ImportToken=pair["ImportToken"], EncryptedKeyMaterial=wrapped, **request
        )
        return answer

    def make_backup(self, name: str) -> str:
        """Generate key material and keep a backup of it, encrypted to the training key; return its key check value."""
        private_folder(self.folder)
        file = self.folder / _PRIVATE
        if not file.is_file():
            write_whole(file, recovery_keys.make_training_recovery_key()[0])
        public = recovery_keys.load_recovery_private_key(file.read_bytes()).public_key()
        with KeyMaterial.generate() as material:
            (copy,) = seal(material, [public], label=name)
            write_whole(self.folder / f"{name}.bin", copy.content)
            return material.key_check_value

    def check_value(self, backup: str) -> str:
        """Return the key check value of a backup."""
        with self._material(backup) as material:
            return material.key_check_value

    def _material(self, backup: str) -> KeyMaterial:
        if not backup:
            return KeyMaterial.generate()
        try:
            content = (self.folder / f"{Path(backup).name}.bin").read_bytes()
            private = recovery_keys.load_recovery_private_key((self.folder / _PRIVATE).read_bytes())
        except OSError:
            known = ", ".join(sorted(path.stem for path in self.folder.glob("*.bin"))) or "none"
            raise ArtefactMissing(f"there is no backup {backup!r}; the task has: {known}; give one of these") from None
        return open_copy(content, private)

    # Clusters and snapshots -------------------------------------------------------------------------------------------

    def cluster(self, name: str, **asked: Any) -> str:
        """Create a cluster, without waiting until it is available; return its resource ID."""
        made = self.client("rds").create_db_cluster(
            DBClusterIdentifier=name, Engine="aurora-mysql", MasterUsername="dbadmin", ManageMasterUserPassword=True, **asked
        )  # fmt: skip
        return str(made["DBCluster"]["DbClusterResourceId"])

    def until(self, name: str, status: str) -> dict[str, Any]:
        """Wait until a cluster has a status; return its description as it is then, empty for a cluster that does not exist."""
        return _wait(lambda: self.found(name), status)

    def found(self, name: str) -> dict[str, Any]:
        """Return a cluster's description; empty if it does not exist."""
        return rds.find_cluster(self.session, name) or {}

    def snapshot(self, cluster: str, name: str) -> None:
        """Create a snapshot of a cluster and wait until it is available."""
        self.client("rds").create_db_cluster_snapshot(DBClusterIdentifier=cluster, DBClusterSnapshotIdentifier=name)
        _wait(lambda: rds.find_snapshot(self.session, name) or {}, "available")

    def key_found(self, key_id: str) -> dict[str, Any]:
        """Return the metadata of a key; empty if it does not exist."""
        return kms.describe(self.session, key_id) or {}

    # Roles --------------------------------------------------------------------------------------------------------------

    def role(self, name: str) -> str:
        """Create an IAM role unless it exists; return its ARN."""
        anyone = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
        iam = self.client("iam")
        try:
            return str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"])
        except ClientError as error:
            if error_code(error) != "EntityAlreadyExists":
                raise
        return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def _wait(read: Callable[[], dict[str, Any]], status: str) -> dict[str, Any]:
    """Describe a resource until it has a status, ever more rarely: a class waits on one sandbox. Return the last description."""
    pause, deadline = _FIRST_PAUSE, time.monotonic() + _WAIT
    while (found := read()).get("Status", "") != status and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return found


def suffix() -> str:
    """Return what the names of a new scene end with, so that it never meets an earlier one."""
    return f"-{secrets.token_hex(2)}"


def key_is_usable(checks: Checks, found: Mapping[str, Any], *, what: str = "the key is Enabled") -> None:
    """Add the claim that a key exists and is Enabled."""
    checks.equal(what, "Enabled", found.get("KeyState", "does not exist"), source="kms:DescribeKey")


def cluster_is_the_same(checks: Checks, found: Mapping[str, Any], scene: Scene) -> None:
    """Add the claims that a cluster is the one that was prepared, and available."""
    found_id = found.get("DbClusterResourceId", "does not exist")
    checks.equal("it is still the cluster of the task", scene["resource"], found_id, source="rds:DescribeDBClusters")
    status = found.get("Status", "does not exist")
    checks.equal("the cluster is available", "available", status, source="rds:DescribeDBClusters")
