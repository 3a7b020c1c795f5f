"""AWS Backup: recovery points of clusters, and the key of a vault.

moto gap: recovery points are not implemented, and a new vault has no EncryptionKeyArn unless it was given. A recovery
point of a cluster is a cluster snapshot of type `awsbackup`, under the cluster's key
(docs.aws.amazon.com/aws-backup: Encryption for backups in AWS Backup).
"""

from __future__ import annotations

import json
from typing import Any

import moto.backup.urls
from moto.backup.models import backup_backends
from moto.backup.responses import BackupResponse
from moto.core.exceptions import JsonRESTError
from moto.rds.models import rds_backends

from runbook_sandbox.instruments import clock, ids
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.rds.resources import Cluster
from runbook_sandbox.rds.snapshots import take_snapshot


class SandboxBackupResponse(BackupResponse):
    """moto's handler, with recovery points."""

    @property
    def _vaults(self) -> dict[str, Any]:
        found: dict[str, Any] = backup_backends[self.current_account][self.region].vaults
        return found

    def _vault(self, name: str) -> Any:
        if name not in self._vaults:
            raise JsonRESTError("ResourceNotFoundException", f"Backup vault {name} was not found.")
        return self._vaults[name]

    def create_backup_vault(self) -> str:
        """moto gap: a vault without EncryptionKeyArn has no key; AWS takes aws/backup."""
        answer = super().create_backup_vault()
        vault = self._vault(json.loads(answer)["BackupVaultName"])
        if vault.encryption_key_arn is None:
            key = kms_keys.default_service_key(self.current_account, self.region, "backup")
            vault.encryption_key_arn = str(key.arn)
        return answer

    def start_backup_job(self) -> str:
        """moto gap: not implemented. Done at once."""
        given = json.loads(self.body)
        vault = self._vault(str(given["BackupVaultName"]))
        name = str(given["ResourceArn"]).rpartition(":cluster:")[2]
        cluster = rds_backends[self.current_account][self.region].clusters.get(name)
        if not isinstance(cluster, Cluster):
            raise JsonRESTError("InvalidParameterValueException", "The sandbox backs up DB clusters only.")
        job = ids.uuid_for("backup-job", self.current_account)
        snapshot = take_snapshot(cluster, f"awsbackup:job-{job}", kind="awsbackup")
        point = {
            "RecoveryPointArn": snapshot.arn, "BackupVaultName": vault.backup_vault_name,
            "BackupVaultArn": vault.backup_vault_arn, "ResourceArn": cluster.arn, "ResourceType": "Aurora",
            "IamRoleArn": given["IamRoleArn"], "Status": "COMPLETED", "CreationDate": clock.now().timestamp(),
            "IsEncrypted": cluster.encryption.type == "sse-kms", "EncryptionKeyArn": cluster.encryption.key_arn,
        }  # fmt: skip
        vault.__dict__.setdefault("runbook_points", []).append(point)
        vault.num_of_recovery_points += 1
        return json.dumps({"BackupJobId": job, "CreationDate": point["CreationDate"]})

    def list_recovery_points_by_backup_vault(self) -> str:
        """moto gap: not implemented."""
        vault = self._vault(self.path.split("/backup-vaults/")[1].split("/")[0])
        points = vault.__dict__.get("runbook_points", [])
        shown = [{name: value for name, value in point.items() if value is not None} for point in points]
        return json.dumps({"RecoveryPoints": shown})


def install() -> None:
    """Put the handler in moto's place before the first request; repeated calls have no further effect."""
    dispatch = SandboxBackupResponse.dispatch
    paths = dict.fromkeys(moto.backup.urls.url_paths, dispatch)
    paths |= {
        "{0}/backup-vaults/(?P<name>[^/]+)/recovery-points/$": dispatch,
        "{0}/backup-jobs$": dispatch,
    }
    moto.backup.urls.url_paths = paths
