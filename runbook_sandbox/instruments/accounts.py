"""What each account contains from the start: the role Admin, and the AWS managed policies that the runbook attaches.

moto gap: it has no assumed caller (GetCallerIdentity returns a user that IAM does not have), and loads either all
1,300 managed policies into each account (70 ms and 10 MB each) or none.
"""

from __future__ import annotations

import functools
import json
import threading
from typing import Any

from moto.iam import aws_managed_policies
from moto.iam.models import AWSManagedPolicy, iam_backends
from moto.sts.models import sts_backends

from runbook_lib.aws import sandbox_accounts
from runbook_sandbox import partitions
from runbook_sandbox.instruments import clock, ids

_POLICIES = ("AdministratorAccess", "AmazonRDS", "AWSKeyManagement", "PowerUserAccess", "ReadOnlyAccess",
             "SecretsManagerReadWrite", "SecurityAudit")  # fmt: skip
_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)
_lock = threading.Lock()


@functools.cache
def _managed_policies() -> dict[str, Any]:
    everything = json.loads(aws_managed_policies.aws_managed_policies_data)
    return {name: data for name, data in everything.items() if name.startswith(_POLICIES)}


def iam_of(account: str) -> Any:
    """Return moto's IAM of an account, prepared with the initial role and policies; also after a reset."""
    backend: Any = iam_backends[account]["aws"]
    if getattr(backend, "runbook_prepared", False):
        return backend
    with _lock:
        if getattr(backend, "runbook_prepared", False):
            return backend
        for name, data in _managed_policies().items():
            policy = AWSManagedPolicy.from_data(name, account, "aws", data)
            if policy.arn not in backend.managed_policies:
                backend.aws_managed_policies.append(policy)
                backend.managed_policies[policy.arn] = policy
        role = backend.create_role(
            sandbox_accounts.ROLE_NAME, _TRUST, "/", None, "The default caller of the sandbox", [], "3600"
        )
        del backend.roles[role.id]
        role.id = "AROA" + ids.text_for("role", account, 17)
        role.create_date = clock.now().replace(tzinfo=None)
        backend.roles[role.id] = role
        backend.managed_policies["arn:aws:iam::aws:policy/AdministratorAccess"].attach_to(role)
        # One IAM for all partitions: moto keeps one of each, and the sandbox has callers of partition aws only.
        for partition in partitions.names():
            dict.__setitem__(iam_backends[account], partition, backend)
        backend.runbook_prepared = True
    return backend


def caller(account: str, access_key: str) -> tuple[str, str]:
    """Return UserId and ARN of a caller: the user or role with this access key, or else the assumed role Admin."""
    backend = iam_of(account)
    if access_key in backend.access_keys or backend.get_user_from_access_key_id(access_key):
        user_id, arn, _ = sts_backends[account]["aws"].get_caller_identity(access_key, "us-east-1")
        return user_id, arn
    return (
        f"{backend.get_role(sandbox_accounts.ROLE_NAME).id}:{sandbox_accounts.SESSION_NAME}",
        sandbox_accounts.caller_arn(account),
    )


def principal_exists(principal: str) -> bool:
    """Return whether a principal exists: an account's root, or a role or user that IAM has.

    Every account id and `*` exist; an assumed-role session exists if its role does.
    """
    if principal == "*":
        return True
    if principal.isascii() and principal.isdigit() and len(principal) == 12:
        return True
    principal = partitions.in_aws(principal)
    parts = principal.split(":", 5)
    if len(parts) != 6 or parts[:2] != ["arn", "aws"]:
        return False
    _, _, service, region, account, name = parts
    if region or len(account) != 12 or not account.isdigit():
        return False
    if service == "iam" and name == "root":
        return True
    backend = iam_of(account)
    if service == "iam" and name.startswith("role/"):
        return any(role.arn == principal for role in list(backend.roles.values()))
    if service == "iam" and name.startswith("user/"):
        return any(user.arn == principal for user in list(backend.users.values()))
    if service == "sts" and name.startswith("assumed-role/") and name.count("/") == 2:
        return any(role.name == name.split("/")[1] for role in list(backend.roles.values()))
    return service == "sts" and name.startswith("federated-user/")
