"""KMS keys for the whole sandbox: create and find a key, derive its state, add a grant.

A key's state is derived only here. moto stores the state separately from the material, so that the two can disagree;
here the state follows, at each read, from the disabled flag, the deletion date, the materials that are present and
not expired, and the clock. There are no timers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from moto.kms.models import Alias, Grant, Key, kms_backends
from moto.kms.utils import RESERVED_ALIASES

from runbook_sandbox.instruments import clock, ids, recorded_calls
from runbook_sandbox.kms.extension import LONGEST_ROTATION, KeyExtension
from runbook_sandbox.kms.materials import Material

KEY_ID = re.compile(r"(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)
_ARN = re.compile(r"arn:(aws(?:-[a-z]+)*):kms:([a-z0-9-]+):(\d{12}):(key/.+|alias/.+)")


def extension_of(key: Key) -> KeyExtension:
    """Return a key's extension, created here for a key that moto created by itself."""
    found: KeyExtension | None = getattr(key, "runbook", None)
    if found is None:
        found = KeyExtension(disabled=not key.enabled)
        if key.key_spec == "SYMMETRIC_DEFAULT" and key.origin == "AWS_KMS":
            found.materials.append(Material.generated(key.id, key.key_material))
        vars(key)["runbook"] = found
    return found


def refresh(key: Key) -> KeyExtension:
    """Bring a key up to the clock: delete expired material, and update moto's own fields."""
    state = extension_of(key)
    if state.rotation is not None and clock.now() >= state.rotation.started + LONGEST_ROTATION:
        complete_rotation(key, state.rotation.started + LONGEST_ROTATION)
    for material in state.materials:
        if material.expire():
            if material.state in ("CURRENT", "NON_CURRENT"):
                state.disabled = False
            recorded_calls.record_service_event(
                key.account_id, key.region, name="DeleteExpiredKeyMaterial", key_arn=key.arn,
                details={"keyId": key.id, "keyMaterialId": material.id}, at=material.valid_to or clock.now(),
            )  # fmt: skip
    if key.key_spec == "SYMMETRIC_DEFAULT":
        current = state.current
        key.key_material = (current.value or b"") if current else b""
    if state.pending is not None and state.pending.value is None:
        state.materials.remove(state.pending)  # never used, so no ciphertext depends on it
    if key.multi_region:
        _refresh_multi_region(key, state)
    key.key_state = _derive(key, state)
    key.enabled = key.key_state == "Enabled"
    key.deletion_date = state.deletion.replace(tzinfo=None) if state.deletion else None
    return state


def complete_rotation(key: Key, when: datetime) -> None:
    """Carry out the rotation on demand that is in progress, of this key and its replicas."""
    state = extension_of(key)
    pending, state.rotation = state.pending, None
    if pending is None:
        return
    for one in (key, *replicas_of(key)):
        if (own := material_of(one, pending.id)) is not None:
            make_current(one, own, "ON_DEMAND", when)


def make_current(key: Key, successor: Material, kind: str, when: datetime) -> None:
    """Make `successor` the current material; the previous one only decrypts."""
    state = extension_of(key)
    previous = state.current
    if previous is not None:
        previous.state = "NON_CURRENT"
    successor.state, successor.rotation_date, successor.rotation_type = "CURRENT", when, kind
    if successor not in state.materials:
        state.materials.append(successor)
    recorded_calls.record_service_event(
        key.account_id, key.region, name="RotateKey", key_arn=key.arn, at=when,
        details={
            "rotationType": kind, "keyOrigin": key.origin, "keyId": key.id,
            "previousKeyMaterialId": previous.id if previous else "", "currentKeyMaterialId": successor.id,
        },
    )  # fmt: skip


def _refresh_multi_region(key: Key, state: KeyExtension) -> None:
    """Update what a multi-Region primary key and its replicas share."""
    primary = primary_of(key)
    if primary is None:
        return
    primary_state = extension_of(primary)
    replicas = replicas_of(primary)
    if (pending := primary_state.pending) is not None and pending.value is not None:
        copies = [own for own in (material_of(replica, pending.id) for replica in replicas) if own is not None]
        complete = len(copies) == len(replicas) and all(own.value is not None for own in copies)
        for material in (pending, *copies):
            material.state = "PENDING_ROTATION" if complete else "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
    if key is primary and state.awaits_replicas and not replicas:
        state.awaits_replicas = False
        state.deletion = (state.last_replica_gone or clock.now()) + timedelta(days=state.window_days)


def material_of(key: Key, identifier: str) -> Material | None:
    """Return a key's material with this id, present or not."""
    return next((material for material in extension_of(key).materials if material.id == identifier), None)


def _derive(key: Key, state: KeyExtension) -> str:
    if state.awaits_replicas:
        return "PendingReplicaDeletion"
    if state.deletion is not None:
        return "PendingDeletion"
    if key.origin == "EXTERNAL" and (
        not state.permanent or any(material.value is None for material in state.permanent)
    ):
        return "PendingImport"
    return "Disabled" if state.disabled else "Enabled"


def state_of(key: Key) -> str:
    """Return "Enabled", "Disabled", "PendingImport", "PendingDeletion" or "PendingReplicaDeletion", as of now."""
    refresh(key)
    return str(key.key_state)


def is_symmetric(key: Key) -> bool:
    """Return whether this is a symmetric encryption key, the only type that RDS accepts."""
    return bool(key.key_spec == "SYMMETRIC_DEFAULT" and key.key_usage == "ENCRYPT_DECRYPT")


def is_replica(key: Key) -> bool:
    """Return whether this is a replica of a multi-Region key."""
    return bool(key.multi_region and key.multi_region_configuration["MultiRegionKeyType"] == "REPLICA")


def primary_of(key: Key) -> Key | None:
    """Return the primary key of a multi-Region key."""
    region = key.multi_region_configuration["PrimaryKey"]["Region"]
    return kms_backends[key.account_id][region].keys.get(key.id)


def replicas_of(key: Key) -> list[Key]:
    """Return the replicas of a multi-Region primary key; an empty list for any other key."""
    if not key.multi_region or is_replica(key):
        return []
    regions = [replica["Region"] for replica in key.multi_region_configuration["ReplicaKeys"]]
    found = [kms_backends[key.account_id][region].keys.get(key.id) for region in regions]
    return [replica for replica in found if replica is not None and not _is_gone(replica)]


def resolve(account: str, region: str, key_id_or_alias_or_arn: str) -> Key | None:
    """Return the key for a key id, key ARN, alias name or alias ARN, or None.

    A key in another Region is None; a key in another account is found only by ARN. The alias of an AWS managed key
    (`alias/aws/rds`) creates that key on first use, as on AWS. A key is None once its waiting period is over.
    """
    name = key_id_or_alias_or_arn
    if (match := _ARN.fullmatch(name)) is not None:
        if match[2] != region:
            return None
        account, name = match[3], match[4].removeprefix("key/")
    backend = kms_backends[account][region]
    if name.startswith("alias/"):
        for key in list(backend.keys.values()):
            if name in key.aliases:
                return _unless_gone(key)
        return default_service_key(account, region, name[10:]) if name in RESERVED_ALIASES else None
    found = backend.keys.get(name) or backend.keys.get(name.lower())
    return _unless_gone(found) if found is not None else None


def _unless_gone(key: Key) -> Key | None:
    refresh(key)
    return None if _is_gone(key) else key


def _is_gone(key: Key) -> bool:
    """Return whether a key's waiting period is over; if so remove it, its aliases and its entry in the primary."""
    deletion = extension_of(key).deletion
    if deletion is None or clock.now() < deletion:
        return False
    if kms_backends[key.account_id][key.region].keys.pop(key.id, None) is not None:
        recorded_calls.record_service_event(
            key.account_id, key.region, name="DeleteKey", key_arn=key.arn, details={"keyId": key.id}, at=deletion
        )
    if is_replica(key):
        others = key.multi_region_configuration["ReplicaKeys"]
        others[:] = [replica for replica in others if replica["Region"] != key.region]
        if (primary := primary_of(key)) is not None:
            extension_of(primary).last_replica_gone = deletion
    return True


def all_keys(account: str, region: str) -> list[Key]:
    """Return the keys of an account in a Region, except those whose waiting period is over."""
    backend = kms_backends[account][region]
    return [key for key in list(backend.keys.values()) if _unless_gone(key) is not None]


def new_key(
    account: str, region: str, *, policy: str | None = None, usage: str = "ENCRYPT_DECRYPT",
    spec: str = "SYMMETRIC_DEFAULT", description: str = "", tags: list[dict[str, str]] | None = None,
    multi_region: bool = False, origin: str = "AWS_KMS", manager: str = "CUSTOMER",
) -> Key:  # fmt: skip
    """Create a key as CreateKey does, with a repeatable id.

    moto gap: its multi-Region ids (`mrk-` and a UUID with hyphens, 40 characters) differ from AWS's and do not fit
    the header of its own ciphertexts, so Decrypt fails; here they are `mrk-` and 32 digits, as documented.
    """
    backend = kms_backends[account][region]
    key = backend.create_key(policy, usage, spec, description, tags, multi_region, origin)
    moto_id = key.id
    new_id = ids.uuid_for("kms-key", account)
    key.id = "mrk-" + new_id.replace("-", "") if multi_region else new_id
    key.arn = key.arn.replace(moto_id, key.id)
    if multi_region:
        key.multi_region_configuration["PrimaryKey"]["Arn"] = key.arn
    key.creation_date = clock.now().timestamp()
    key.key_manager = manager
    del backend.keys[moto_id]
    backend.keys[key.id] = key
    backend.tagger.tags.pop(moto_id, None)
    if tags:
        backend.tagger.tag_resource(key.id, tags)
    refresh(key)
    return key


def set_alias(key: Key, name: str) -> None:
    """Point an alias at a key, and remove it from any other."""
    now = clock.now()
    created = now
    for other in kms_backends[key.account_id][key.region].keys.values():
        if other.aliases.pop(name, None) is not None:
            created = extension_of(other).alias_dates.pop(name, (now, now))[0]
    key.aliases[name] = Alias(account_id=key.account_id, region=key.region, name=name, key=key)  # type: ignore[abstract]
    extension_of(key).alias_dates[name] = (created, now)


def default_service_key(account: str, region: str, service: str) -> Key:
    """Return the AWS managed key of a service ("rds", "secretsmanager"), created on first use.

    moto gap: it creates a customer managed key, with KeyManager CUSTOMER.
    """
    alias = f"alias/aws/{service}"
    backend = kms_backends[account][region]
    for key in list(backend.keys.values()):
        if alias in key.aliases:
            return key
    key = new_key(
        account, region, manager="AWS", policy=_service_policy(account, region, service),
        description=f"Default key that protects my {service} data when no other key is defined",
    )  # fmt: skip
    set_alias(key, alias)
    return key


def _service_policy(account: str, region: str, service: str) -> str:
    condition = {"StringEquals": {"kms:ViaService": f"{service}.{region}.amazonaws.com", "kms:CallerAccount": account}}
    use = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant",
           "kms:ListGrants", "kms:DescribeKey"]  # fmt: skip
    read = ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"]
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    through = {"Sid": f"Allow access through {service}", "Effect": "Allow", "Principal": {"AWS": "*"},
               "Action": use, "Resource": "*", "Condition": condition}  # fmt: skip
    direct = {"Sid": "Allow direct access to key metadata to the account", "Effect": "Allow",
              "Principal": root, "Action": read, "Resource": "*"}  # fmt: skip
    return json.dumps({"Version": "2012-10-17", "Id": f"auto-{service}", "Statement": [through, direct]})


def add_grant(
    account: str,
    region: str,
    key: Key,
    *,
    grantee_principal: str,
    operations: Sequence[str],
    constraints: Mapping[str, Any] | None = None,
    name: str | None = None,
    retiring_principal: str | None = None,
) -> str:
    """Add a grant to a key, issued by `account`; return its id. The caller checks the key's state.

    `constraints` is AWS's structure, `{"EncryptionContextSubset": {"aws:rds:dbc-id": "cluster-…"}}`.
    """
    grant: Any = Grant(
        key.id, name or "", grantee_principal, list(operations), dict(constraints or {}), retiring_principal or ""
    )
    grant.id = ids.hex_for("grant", account, 64)
    grant.runbook_created = clock.now()
    grant.runbook_issuer = account
    key.grants[grant.id] = grant
    return str(grant.id)


def remember_use(key: Key, operation: str, account: str, event_id: str | None = None) -> None:
    """Record a successful cryptographic operation for GetKeyLastUsage; `event_id` is its CloudTrail event."""
    extension_of(key).last_usage = (operation, clock.now(), event_id or ids.uuid_for(f"usage {operation}", account))
