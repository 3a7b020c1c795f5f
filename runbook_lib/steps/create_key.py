"""Step 01: the KMS key, its policy and its alias; plan, apply and verify."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms
from runbook_lib.aws.answers import error_code
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.kms import SERVICE_LINKED_ROLE
from runbook_lib.aws.retry import find_until_visible, retry_until_passed, retry_until_visible
from runbook_lib.checks import Checks
from runbook_lib.errors import AccessDenied, KeyNotUsable, OutcomeUnclear, StepMissing
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.plan import Change, Plan
from runbook_lib.policies import reading
from runbook_lib.run.records import KeyRecord
from runbook_lib.run.steps import CREATE_KEY, IMPORT_KEY_MATERIAL
from runbook_lib.steps import ownership, review_policy
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import ALIAS, KEY, Found
from runbook_lib.tables import Result

CALL = "kms:CreateKey"
ROLE = "service-linked role"
_ROLE_REQUEST = {"AWSServiceName": "rds.amazonaws.com"}


def find_by_run(step: OpenStep) -> str | None:
    """Return the id of this run's key, or None: the recorded one, else the one with its mark in the account and Region.

    Raises `OutcomeUnclear` for two keys with its mark, and `AccessDenied` when no key has it but one that may be the run's
    cannot be read: CreateKey is not idempotent, so that treating it as somebody else's would create a second key.
    """
    for key_id in step.run.intent(CREATE_KEY, CALL).resources:
        if kms.describe(step.session, key_id) is not None:
            return key_id
    denied, found = None, []
    for page in step.client("kms").get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            try:
                tags = kms.tags_of(step.session, key["KeyId"])
            except AccessDenied as error:
                denied = denied or (error if _may_be_new(step, key["KeyId"]) else None)
                continue
            except ClientError as error:
                if error_code(error) != "NotFoundException":
                    raise
                continue
            if ownership.is_ours(step, Found(KEY, key["KeyId"], key["KeyId"], tags)):
                found.append(str(key["KeyId"]))
    if denied is not None and not found:
        raise denied
    if len(found) > 1:
        raise OutcomeUnclear(
            f"keys {' and '.join(found)} both have the mark of run {step.run.run_id!r}; only one copy of the run folder may "
            "work: schedule the deletion of the key that has no key material, then run the cell or command again"
        )
    return found[0] if found else None


def _may_be_new(step: OpenStep, key_id: str) -> bool:
    """Return whether a key may have been created since the run began; True for a key that cannot be read.

    The run's start is by this machine's clock, the key's creation by AWS's: they may differ by a day.
    """
    try:
        metadata = kms.describe(step.session, key_id)
    except AccessDenied:
        return True
    return metadata is not None and metadata["CreationDate"] >= datetime.fromisoformat(step.run.created) - timedelta(
        days=1
    )


def plan(step: OpenStep, asked: CreateKeyInputs) -> Plan:
    """Plan the key, its alias and, if requested, the service-linked role of RDS; read only.

    Refuse an alias that points to another key. Keep a key of this run that is as requested; refuse, field by field, one
    that is not. Raises what `review_policy.build` raises.
    """
    document = review_policy.build(step, asked)
    target = kms.find_alias(step.session, asked.key_alias) or ""
    key_id = _key_of_this_run(step, target)
    changes = [_role(step)] if asked.grant_rds_service_linked_role else []
    changes += [_key(step, asked, key_id, document), _alias(step, asked, key_id, target)]
    return step.plan(asked, [*changes, *_earlier_aliases(step, asked, key_id)])


def _key_of_this_run(step: OpenStep, alias_target: str) -> str:
    """Return the id of the key that this run created, even if it was not recorded; "" for none."""
    if key_id := KeyRecord.so_far(step.run).key_id:
        return key_id
    if alias_target and ownership.is_ours(step, ownership.of_key(step, alias_target)):
        return alias_target
    if step.run.was_sent(step.name, CALL):  # interrupted before the key was recorded
        return find_until_visible(lambda: find_by_run(step), target=step.session.target) or ""
    return ""


def _role(step: OpenStep) -> Change:
    if kms.service_linked_role(step.session):
        return Change("keep", ROLE, SERVICE_LINKED_ROLE, "exists", request=_ROLE_REQUEST)
    detail = "required because the key policy names it; without this step, RDS creates it with the first DB cluster"
    return Change("create", ROLE, SERVICE_LINKED_ROLE, detail, "iam:CreateServiceLinkedRole", _ROLE_REQUEST)


def _key(step: OpenStep, asked: CreateKeyInputs, key_id: str, document: dict[str, Any]) -> Change:
    request = {
        "Origin": "EXTERNAL",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "Description": asked.key_description,
        "Policy": json.dumps(document),
        "Tags": [{"TagKey": key, "TagValue": value} for key, value in step.tags(asked.tags).items()],
    }
    if key_id and (metadata := kms.describe(step.session, key_id)):
        if differs := _key_differences(step, key_id, metadata, asked, document):
            return Change("refuse", KEY, key_id, "; ".join(differs), "", request)
        return Change("keep", KEY, key_id, f"created by this run, {metadata['KeyState']}, as asked", "", request)
    detail = f"origin EXTERNAL, {asked.key_description!r}, ends in PendingImport"
    detail += "".join(f"; {one}" for one in reading.warnings(document, account_id=step.session.account_id))
    return Change("create", KEY, asked.key_alias, detail, CALL, request)


def _alias(step: OpenStep, asked: CreateKeyInputs, key_id: str, target: str) -> Change:
    if not target:
        return Change("create", ALIAS, asked.key_alias, "display name of the key", "kms:CreateAlias")
    if target == key_id:
        return Change("keep", ALIAS, asked.key_alias, "points to the key of this run")
    whose = step.whose(kms.tags_of(step.session, target))
    detail = f"already points to key {target}, and {whose}; choose another key_alias, or delete that alias"
    return Change("refuse", ALIAS, asked.key_alias, detail)


def _earlier_aliases(step: OpenStep, asked: CreateKeyInputs, key_id: str) -> list[Change]:
    """Return a row for each alias that an earlier apply of this step gave the key, and that still points to it."""
    record = KeyRecord.so_far(step.run)
    named = {record.key_alias, *record.earlier_aliases} - {"", asked.key_alias}
    if not key_id or not named:
        return []
    detail = "from an earlier apply of this step; still points to the key of this run, until 90 deletes it"
    return [Change("keep", ALIAS, one, detail) for one in kms.aliases_of(step.session, key_id) if one in named]


def _key_differences(
    step: OpenStep, key_id: str, metadata: dict[str, Any], inputs: CreateKeyInputs, document: dict[str, Any]
) -> list[str]:
    """Return how this run's key differs from the inputs, field by field."""
    existing = json.loads(step.client("kms").get_key_policy(KeyId=key_id, PolicyName="default")["Policy"])
    differs = []
    if metadata["Description"] != inputs.key_description:
        differs.append(
            f"description is {metadata['Description']!r}, requested {inputs.key_description!r} (kms:UpdateKeyDescription)"
        )
    if not reading.same(existing, document):
        differs.append("its key policy is not the requested one (compare, then kms:PutKeyPolicy)")
    if metadata["KeyState"] == "PendingDeletion":
        differs.append(f"its deletion is scheduled for {metadata['DeletionDate']:%Y-%m-%d} (kms:CancelKeyDeletion)")
    return differs


def apply(step: OpenStep, plan: Plan) -> str:
    """Create what the plan says, at most once; return the key's ARN.

    Raises what `create_once` raises, and `PlanRefused`.
    """
    with step.applying(plan):
        role = next((change for change in plan.changes if change.resource == ROLE), None)
        if role is not None and role.action == "create":
            _create_service_linked_role(step, role)
        key, alias = plan.change(KEY), plan.change(ALIAS)
        key_id = key.name if key.action == "keep" else _create_key_once(step, key, new_role=role is not None)
        ownership.record(step, KEY, key_id, key_id)
        metadata = find_until_visible(lambda: kms.describe(step.session, key_id), target=step.session.target)
        if metadata is None:
            raise KeyNotUsable(f"key {key_id} was created but is not visible yet; run this step again in a minute")
        step.run.note(
            step.name,
            key_id=key_id,
            key_arn=metadata["Arn"],
            key_alias=alias.name,
            earlier_aliases=_renamed(KeyRecord.so_far(step.run), alias.name),
            key_policy=json.loads(key.request["Policy"]),
        )
        if alias.action == "create":
            _create_alias(step, alias.name, key_id)
    return Result(str(metadata["Arn"]), "The KMS key is {}.")


def _create_key_once(step: OpenStep, key: Change, *, new_role: bool) -> str:
    client = step.client("kms", retry=False)
    return create_once(
        step.run,
        step.name,
        CALL,
        find=lambda: find_by_run(step),
        create=lambda: _create_key(client, step.marked(key.request), new_role=new_role),
        identity=str,
    )


def _renamed(record: KeyRecord, alias: str) -> list[str]:
    """Return the names that this step gave the key before `alias`."""
    return sorted({record.key_alias, *record.earlier_aliases} - {"", alias})


def _create_alias(step: OpenStep, alias: str, key_id: str) -> None:
    client = step.client("kms", retry=False)
    create_once(
        step.run,
        step.name,
        "kms:CreateAlias",
        find=lambda: True if kms.find_alias(step.session, alias) == key_id else None,
        create=lambda: retry_until_visible(
            lambda: bool(client.create_alias(AliasName=alias, TargetKeyId=key_id)),
            codes=("NotFoundException",),
            target=step.session.target,
        ),
    )


def _create_service_linked_role(step: OpenStep, change: Change) -> None:
    """Create the service-linked role unless RDS has created it meanwhile."""
    iam = step.client("iam", retry=False)

    def create() -> str:
        try:
            return str(iam.create_service_linked_role(**change.request)["Role"]["Arn"])
        except ClientError as error:
            if error_code(error) != "InvalidInput":  # InvalidInput: the role exists, which is the goal
                raise
            return SERVICE_LINKED_ROLE

    create_once(
        step.run,
        step.name,
        "iam:CreateServiceLinkedRole",
        find=lambda: kms.service_linked_role(step.session),
        create=create,
    )
    step.run.note(step.name, service_linked_role_created=True)


def _create_key(client: Any, request: dict[str, Any], *, new_role: bool) -> str:
    """Send CreateKey; with `new_role`, retry while KMS does not see the role yet (eventual consistency)."""
    for seconds in (2, 4, 8, 16, 0) if new_role else (0,):
        try:
            return str(client.create_key(**request)["KeyMetadata"]["KeyId"])
        except ClientError as error:
            if error_code(error) != "MalformedPolicyDocumentException" or not seconds:
                raise
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def verify(step: OpenStep) -> Checks:
    """Compare the key with the applied plan, and finish the step.

    Raises `StepMissing` when nothing was applied, and `VerificationFailed`.
    """
    record = KeyRecord.so_far(step.run)
    if not record.key_arn:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks = retry_until_passed(lambda: _gather(step, record), target=step.session.target, codes=("NotFoundException",))
    checks.require_passed()
    state = _expected_state(step)
    step.run.finish(step.name, key_state=state, summary=f"{record.key_alias} → {record.key_id[:8]}… {state}")
    return checks


def _expected_state(step: OpenStep) -> str:
    return "Enabled" if step.run.is_finished(IMPORT_KEY_MATERIAL) else "PendingImport"


def _gather(step: OpenStep, record: KeyRecord) -> Checks:
    metadata = kms.describe(step.session, record.key_id) or {}
    checks = Checks("The key")
    source = "kms:DescribeKey"
    checks.equal("its origin is external key material", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("it is a symmetric key", "SYMMETRIC_DEFAULT", metadata.get("KeySpec"), source=source)
    checks.equal("it is used to encrypt and decrypt", "ENCRYPT_DECRYPT", metadata.get("KeyUsage"), source=source)
    checks.equal("it is a customer managed key", "CUSTOMER", metadata.get("KeyManager"), source=source)
    state = _expected_state(step)
    claim = "its key material is imported" if state == "Enabled" else "its key material is not imported yet"
    checks.equal(claim, state, metadata.get("KeyState"), source=source)
    target = kms.find_alias(step.session, record.key_alias)
    checks.equal("the alias points to it", record.key_id, target, source="kms:ListAliases")
    found = json.loads(step.client("kms").get_key_policy(KeyId=record.key_id, PolicyName="default")["Policy"])
    same = "identical" if reading.same(found, record.key_policy) else "different"
    checks.equal("its key policy is the reviewed one", "identical", same, source="kms:GetKeyPolicy")
    return checks
