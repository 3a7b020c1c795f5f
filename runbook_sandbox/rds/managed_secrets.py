"""Master passwords that RDS manages in Secrets Manager: create, rotate, and delete with their cluster.

The passwords come from the operating system's random source; they are never seeded and never logged.
"""

from __future__ import annotations

import json
import string
from datetime import datetime, timedelta
from secrets import choice
from typing import Any

import moto.secretsmanager.urls
from moto.core.exceptions import JsonRESTError
from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import FakeSecret, SecretsManagerBackend, secretsmanager_backends

from runbook_sandbox.instruments import clock, ids
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.secret_versions import VersionKeys

ROTATED_EVERY = timedelta(days=7)
_SYMBOLS = "!#$%&()*+-.:<=>?[]^_{|}~"


def _password() -> str:
    return "".join(choice(string.ascii_letters + string.digits + _SYMBOLS) for _ in range(28))


def create(account: str, region: str, *, username: str, resource_arn: str, kms_key_arn: str | None) -> FakeSecret:
    """Create the managed secret of a cluster, by default with aws/secretsmanager.

    moto gap: its managed password is always `P@55w0rd!`.
    """
    backend = secretsmanager_backends[account][region]
    name = f"rds!cluster-{ids.uuid_for('secret-name', account)}"
    secret = backend.create_managed_secret(
        service_name="rds", secret_id=name,
        secret_string=json.dumps({"username": username, "password": _password()}),
        description=f"The secret associated with the primary RDS DB cluster: {resource_arn}",
        kms_key_id=kms_key_arn, tags=[{"Key": "aws:rds:primaryDBClusterArn", "Value": resource_arn}],
        version_id=ids.uuid_for("secret-version", account),
    )  # fmt: skip
    suffix = ids.text_for("secret-suffix", account, 6, string.ascii_letters)
    secret.arn = f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-{suffix}"
    now = int(clock.now().timestamp())
    secret.created_date = secret.last_changed_date = secret.last_rotation_date = now
    secret.rotation_requested = secret.rotation_enabled = True
    secret.auto_rotate_after_days = ROTATED_EVERY.days
    return secret


def rotate(secret: FakeSecret) -> None:
    """Give a managed secret a new password; the old version becomes AWSPREVIOUS."""
    version_id = ids.uuid_for("secret-version", secret.account_id)
    current = secret.versions[str(secret.default_version_id)]
    username = json.loads(current["secret_string"])["username"]
    value = json.dumps({"username": username, "password": _password()})
    now = int(clock.now().timestamp())
    version = {"createdate": now, "version_id": version_id, "version_stages": ["AWSCURRENT"], "secret_string": value}
    secret.reset_default_version(version, version_id)
    secret.secret_string = value
    secret.last_changed_date = secret.last_rotation_date = now


def delete(secret: FakeSecret) -> None:
    """Delete a managed secret immediately, as RDS does with its cluster."""
    backend = secretsmanager_backends[secret.account_id][secret.region]
    for name in [name for name, kept in dict.items(backend.secrets) if kept is secret]:
        dict.pop(backend.secrets, name)


def key_arn(secret: FakeSecret) -> str:
    """Return the ARN of the key that a secret is encrypted with."""
    if secret.kms_key_id and secret.kms_key_id != SecretsManagerBackend.DEFAULT_KMS_KEY_ALIAS:
        return str(secret.kms_key_id)
    return str(kms_keys.default_service_key(secret.account_id, secret.region, "secretsmanager").arn)


class SandboxSecretsManagerResponse(VersionKeys):
    """Secrets Manager's handler, with the restrictions on secrets that a service manages."""

    def _secret(self) -> Any:
        name = str(self._get_param("SecretId") or "")
        return self.backend.secrets.get(name)

    def _refuse_managed(self) -> None:
        owner = getattr(self._secret(), "owning_service", None)
        if owner is not None:
            raise InvalidRequestException(f"You can't perform this operation on a secret that {owner} manages.")

    def describe_secret(self) -> str:
        """moto gap: RotationEnabled, RotationRules and dates are missing for managed secrets."""
        answer: dict[str, Any] = json.loads(super().describe_secret())
        if "OwningService" in answer:
            answer.pop("RotationLambdaARN", None)
            last = datetime.fromtimestamp(float(answer["LastRotatedDate"]), tz=clock.now().tzinfo)
            answer |= {"RotationEnabled": True, "RotationRules": {"AutomaticallyAfterDays": ROTATED_EVERY.days},
                       "NextRotationDate": (last + ROTATED_EVERY).timestamp()}  # fmt: skip
        return json.dumps({name: value for name, value in answer.items() if value is not None})

    def get_secret_value(self) -> str:
        """moto gap: it returns a secret whose KMS key is disabled or deleted."""
        secret = self._secret()
        key_id = getattr(secret, "kms_key_id", None)
        if key_id and key_id != SecretsManagerBackend.DEFAULT_KMS_KEY_ALIAS:
            key = kms_keys.resolve(self.current_account, self.region, key_id)
            if key is None or kms_keys.state_of(key) != "Enabled":
                raise JsonRESTError(
                    "DecryptionFailure",
                    "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
                )
        return super().get_secret_value()

    def delete_secret(self) -> str:
        """moto gap: it deletes a secret that RDS manages."""
        self._refuse_managed()
        return super().delete_secret()

    def update_secret(self) -> str:
        """moto gap: it changes a secret that RDS manages."""
        self._refuse_managed()
        return super().update_secret()

    def put_secret_value(self) -> str:
        """moto gap: it changes a secret that RDS manages."""
        self._refuse_managed()
        return super().put_secret_value()

    def cancel_rotate_secret(self) -> str:
        """moto gap: it allows a managed secret's rotation to be turned off."""
        self._refuse_managed()
        return super().cancel_rotate_secret()

    def rotate_secret(self) -> str:
        """moto gap: rotating a managed secret leaves a version without a value."""
        secret = self._secret()
        if getattr(secret, "owning_service", None) is None:
            return super().rotate_secret()
        if self._get_param("RotationLambdaARN"):
            self._refuse_managed()
        rotate(secret)
        return json.dumps({"ARN": secret.arn, "Name": secret.name, "VersionId": secret.default_version_id})


def install() -> None:
    """Install the handler in moto."""
    moto.secretsmanager.urls.url_paths = {"{0}/$": SandboxSecretsManagerResponse.dispatch}
