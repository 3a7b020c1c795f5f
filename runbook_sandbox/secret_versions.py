"""Secrets Manager: under which key each version of a secret is encrypted.

moto gap: ListSecretVersionIds has no KmsKeyIds. A version stays under the key that the secret had when the version was
made; another key of the secret applies to new versions (docs.aws.amazon.com/secretsmanager: UpdateSecret, KmsKeyId).
"""

from __future__ import annotations

import json
from typing import Any

from moto.secretsmanager.responses import SecretsManagerResponse

_STAMP = "runbook_kms_key_id"
_DEFAULT = "DefaultEncryptionKey"


def _stamp(secret: Any) -> None:
    """Note the secret's key on each version that has none noted."""
    for version in secret.versions.values():
        version.setdefault(_STAMP, secret.kms_key_id or _DEFAULT)


class VersionKeys(SecretsManagerResponse):
    """moto's handler, with the key of each version."""

    def update_secret(self) -> str:
        """moto gap: see the module."""
        name = self._get_param("SecretId")
        if name in self.backend.secrets:
            _stamp(self.backend.secrets[name])
        return str(super().update_secret())

    def list_secret_version_ids(self) -> str:
        """moto gap: no KmsKeyIds."""
        answer = json.loads(super().list_secret_version_ids())
        secret = self.backend.secrets[self._get_param("SecretId")]
        _stamp(secret)
        for version in answer["Versions"]:
            key = str(secret.versions[version["VersionId"]][_STAMP])
            version["KmsKeyIds"] = [_DEFAULT if key.endswith("alias/aws/secretsmanager") else key]
        answer.pop("NextToken", None)
        return json.dumps(answer)
