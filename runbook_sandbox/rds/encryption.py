"""Encryption: resolve and check keys, create and retire grants, detect lost keys.

moto gaps: it stores any text as KmsKeyId (aliases, unknown and disabled keys), returns `default_kms_key_id` where
there is no key, creates no grants, and a cluster never notices that its key is unusable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.kms.models import Key

from runbook_lib.policies.evaluate import Decision
from runbook_sandbox.iam import enforcement
from runbook_sandbox.iam.required_action import RequiredAction
from runbook_sandbox.instruments import clock, recorded_calls
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.kms import policy as kms_policy
from runbook_sandbox.kms.base import encryption_context
from runbook_sandbox.rds.errors import bad_combination, raise_error
from runbook_sandbox.rds.resources import INACCESSIBLE, LOST, RECOVERABLE, Cluster, Encryption, Resource, add_event
from runbook_sandbox.rds.states import transition

# Since this day new Aurora clusters are encrypted with an AWS owned key; before, they were not encrypted.
SSE_RDS_SINCE = datetime(2026, 2, 18, tzinfo=UTC)
# How long a cluster that has lost its key can be recovered.
RECOVERABLE_FOR = timedelta(days=7)
# After this time AWS starts a stopped cluster.
STOPPED_FOR = timedelta(days=7)
GRANT_OPERATIONS = ("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom",
                    "ReEncryptTo", "CreateGrant", "RetireGrant", "DescribeKey")  # fmt: skip
# Also required for a secret with a customer managed key.
_FOR_SECRETS = ("kms:Decrypt", "kms:GenerateDataKey")


@dataclass(frozen=True)
class Caller:
    """Who makes a request, as needed to decide about access to a key."""

    account: str
    region: str
    access_key: str
    headers: Mapping[str, Any]


def service_principal(region: str) -> str:
    """Return the service principal that holds RDS's grants and calls KMS."""
    return f"rds.{region}.amazonaws.com"


def not_accessible(name: str) -> Any:
    """Raise KMSKeyNotAccessibleFault."""
    raise_error(
        "KMSKeyNotAccessibleFault",
        f"The specified KMS key [{name}] does not exist, is not enabled or you do not have permissions to access it.",
    )


def usable_key(caller: Caller, name: str, *, service: str = "rds", resource_id: str = "") -> Key:
    """Return the key with this name (id, ARN, alias, alias ARN) for RDS to use on the caller's behalf.

    Raises KMSKeyNotAccessibleFault unless it exists in this Region, is Enabled and symmetric, and the caller has
    kms:DescribeKey and kms:CreateGrant through the service.
    """
    key = kms_keys.resolve(caller.account, caller.region, name)
    if key is None or kms_keys.state_of(key) != "Enabled" or not kms_keys.is_symmetric(key):
        not_accessible(name)
        raise AssertionError  # for the type checker: the line above raises
    needed = ("kms:CreateGrant", "kms:DescribeKey", *(_FOR_SECRETS if service == "secretsmanager" else ()))
    contexts = _condition_keys(caller, service, resource_id)
    if not all(_may(caller, key, action, contexts.get(action, contexts[""])) for action in needed):
        not_accessible(name)
    return key


def _condition_keys(caller: Caller, service: str, resource_id: str) -> dict[str, dict[str, Any]]:
    """Return the condition keys of the requests that a service sends for the caller, by action; "": any other.

    Sources: KMS developer guide, conditions-kms, services-secrets-manager (the encryption context SecretARN).
    """
    through = f"{service}.{caller.region}.amazonaws.com"
    secret = f"arn:aws:secretsmanager:{caller.region}:{caller.account}:secret:rds!cluster-new"
    pairs = {"SecretARN": secret} if service == "secretsmanager" else {"aws:rds:dbc-id": resource_id}
    other: dict[str, Any] = {"kms:ViaService": through}
    use = {**other, **encryption_context(pairs)}
    grant = {
        **use, "kms:GrantIsForAWSResource": True, "kms:GranteePrincipal": through,
        "kms:GrantOperations": list(GRANT_OPERATIONS), "kms:GrantConstraintType": "EncryptionContextSubset",
    }  # fmt: skip
    return {"kms:CreateGrant": grant, **dict.fromkeys(_FOR_SECRETS, use), "": other}


def _may(caller: Caller, key: Key, action: str, context: Mapping[str, Any]) -> bool:
    if enforcement.is_enforced(caller.account):
        required = RequiredAction(action, str(key.arn), context)
        return enforcement.may(caller.account, caller.access_key, required, region=caller.region, key=key)
    if not kms_policy.caller_may(key, caller.account, caller.access_key, action, context):
        return False
    if ActionAuthenticatorMixin.request_count < settings.INITIAL_NO_AUTH_ACTION_COUNT:
        return True
    by_identity = _identity_verdict(caller, action, str(key.arn))
    if by_identity is not None:
        return by_identity
    return kms_policy.key_decision(key, caller.account, caller.access_key, action, context) is Decision.ALLOW


def _identity_verdict(caller: Caller, action: str, resource: str) -> bool | None:
    """Return the decision of the caller's own IAM policies when moto enforces IAM; None if none matches."""
    from moto.iam.access_control import IAMPolicy, PermissionResult, create_access_key

    policies = create_access_key(
        account_id=caller.account, partition="aws", access_key_id=caller.access_key, headers=dict(caller.headers)
    ).collect_policies()
    results = [IAMPolicy(policy).is_action_permitted(action, resource) for policy in policies]
    if PermissionResult.DENIED in results:
        return False
    return True if PermissionResult.PERMITTED in results else None


def unencrypted_by_default() -> bool:
    """Return whether the clock was moved back to before clusters were encrypted by default."""
    return clock.now() < SSE_RDS_SINCE and datetime.now(UTC) - clock.now() > timedelta(hours=1)


def default_encryption() -> Encryption:
    """Return the encryption of a cluster when the request does not choose one."""
    return Encryption("none" if unencrypted_by_default() else "sse-rds")


def for_new_cluster(
    caller: Caller, storage_encrypted: bool | None, kms_key_id: str | None, resource_id: str
) -> Encryption:
    """Return the encryption for CreateDBCluster's two parameters, with the key's ARN."""
    if kms_key_id is not None:
        if storage_encrypted is False:
            bad_combination("You can specify KmsKeyId only with StorageEncrypted set to true.")
        return Encryption("sse-kms", str(usable_key(caller, kms_key_id, resource_id=resource_id).arn))
    if storage_encrypted:
        return Encryption("sse-kms", str(kms_keys.default_service_key(caller.account, caller.region, "rds").arn))
    return default_encryption()


def add_grant(caller: Caller, cluster: Cluster) -> None:
    """Create RDS's grant on the cluster's key, for this cluster only, and generate its data key."""
    arn = cluster.encryption.key_arn
    key = kms_keys.resolve(caller.account, caller.region, arn) if arn else None
    if key is None:
        return
    principal = service_principal(caller.region)
    subset = {"aws:rds:dbc-id": cluster.resource_id}
    cluster.grant_id = kms_keys.add_grant(
        caller.account, caller.region, key, grantee_principal=principal, operations=list(GRANT_OPERATIONS),
        constraints={"EncryptionContextSubset": subset}, retiring_principal=principal,
    )  # fmt: skip
    resources = [("AWS::KMS::Key", str(key.arn))]
    recorded_calls.record_event(
        caller.account, caller.region, name="CreateGrant", source="kms.amazonaws.com", resources=resources,
        invoked_by="rds.amazonaws.com",
        request_parameters={
            "keyId": key.arn, "granteePrincipal": principal, "retiringPrincipal": principal,
            "operations": list(GRANT_OPERATIONS), "constraints": {"encryptionContextSubset": subset},
        },
    )  # fmt: skip
    recorded_calls.record_event(
        caller.account, caller.region, name="GenerateDataKeyWithoutPlaintext", source="kms.amazonaws.com",
        resources=resources, invoked_by="rds.amazonaws.com",
        request_parameters={"keyId": key.arn, "keySpec": "AES_256", "encryptionContext": subset},
    )  # fmt: skip
    kms_keys.remember_use(key, "GenerateDataKeyWithoutPlaintext", caller.account)


def _key_of(resource: Resource) -> Key | None:
    arn = resource.encryption.key_arn
    return kms_keys.resolve(resource.account, resource.region, arn) if arn else None


def retire_grant(cluster: Cluster) -> None:
    """Retire the cluster's grant after the cluster was deleted."""
    key = _key_of(cluster)
    grant_id, cluster.grant_id = cluster.grant_id, None
    if key is None or grant_id not in key.grants:
        return
    del key.grants[grant_id]
    recorded_calls.record_event(
        cluster.account, cluster.region, name="RetireGrant", source="kms.amazonaws.com",
        resources=[("AWS::KMS::Key", str(key.arn))], invoked_by="rds.amazonaws.com",
        request_parameters={"keyId": key.arn, "grantId": grant_id},
    )  # fmt: skip


def key_lost(resource: Resource) -> bool:
    """Return whether the storage key cannot be used: not Enabled, deleted, or the cluster's grant revoked."""
    if resource.encryption.type != "sse-kms":
        return False
    key = _key_of(resource)
    if key is None or kms_keys.state_of(key) != "Enabled":
        return True
    return isinstance(resource, Cluster) and resource.grant_id is not None and resource.grant_id not in key.grants


def require_key(resource: Resource) -> None:
    """Raise KMSKeyNotAccessibleFault if the resource's key cannot be used."""
    if key_lost(resource):
        not_accessible(str(resource.encryption.key_arn))


def check_key_access(cluster: Cluster) -> None:
    """Detect that a cluster's key became unusable or usable again; called before each poll of the cluster.

    An available cluster needs its key at each poll. Recovery requires StartDBCluster within seven days.
    """
    if cluster.status == RECOVERABLE and cluster.lost_at and clock.now() >= cluster.lost_at + RECOVERABLE_FOR:
        lose_key(cluster, INACCESSIBLE)
    if cluster.status == "stopped" and cluster.stopped_at and clock.now() >= cluster.stopped_at + STOPPED_FOR:
        if key_lost(cluster):
            lose_key(cluster, RECOVERABLE)
        else:
            start(cluster)
    if cluster.status != "available":
        return
    lost, on_the_way = key_lost(cluster), bool(cluster.path) and cluster.path[0] in LOST
    if lost and not cluster.path:
        # Members of a global database and clusters with replicas cannot stop, so the loss is terminal at once.
        tied = cluster.fields.get("GlobalClusterIdentifier") or cluster.fields.get("ReplicationSourceIdentifier")
        transition(cluster, "available", INACCESSIBLE if tied else RECOVERABLE)
    elif on_the_way and not lost:
        cluster.path = []


def start(cluster: Cluster) -> None:
    """Start a cluster and its instances."""
    cluster.lost_at = cluster.stopped_at = None
    transition(cluster, "starting", "available")
    for instance in cluster.instances:
        if instance.status != "deleting":
            transition(instance, "starting", "available")
    add_event(cluster, "DB cluster started", "notification")


def lose_key(resource: Resource, status: str | None = None) -> None:
    """Take a cluster that has lost its key out of service, with its instances."""
    if not isinstance(resource, Cluster):
        return
    if status is not None:
        transition(resource, status)
    if resource.status not in LOST:
        return
    if resource.status == RECOVERABLE:
        resource.lost_at = clock.now()
    for instance in resource.instances:
        if instance.status != "deleting":
            transition(instance, resource.status)
    add_event(
        resource,
        f"The DB cluster is in the state {resource.status}: its KMS key {resource.encryption.key_arn} can't be "
        "accessed.",
        "failure",
    )
