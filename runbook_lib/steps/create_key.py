"""Step 01: the KMS key, its policy and its alias; plan, apply and verify."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms
from runbook_lib.aws.create_once import create_once, look, settled, until_seen
from runbook_lib.aws.kms import SERVICE_LINKED_ROLE
from runbook_lib.aws.session import Session, error_code
from runbook_lib.checks import Checks
from runbook_lib.errors import AccessDenied, KeyNotUsable, PreflightFailed, StepMissing
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.plan import Change, Plan
from runbook_lib.policies import key_policy as policy_builder
from runbook_lib.policies import reading
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table, Text

CREATE_KEY = "kms:CreateKey"


def find_by_run(step: OpenStep) -> str | None:
    """Return the id of the key that carries this run's tag, looking at every key of the account and Region.

    Raises `AccessDenied` when no such key is found but the tags of one may not be read that could be it: taking it
    for somebody else's would make a second key.
    """
    denied = None
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
            if step.is_ours(tags) and tags.get("runbook:step") == "01_create_key":
                return str(key["KeyId"])
    if denied is not None:
        raise denied
    return None


def _may_be_new(step: OpenStep, key_id: str) -> bool:
    """Say whether a key may have been created since the run began; yes where it may not be looked at.

    The run's beginning is by this machine's clock, the key's by AWS's: a day between them is allowed for.
    """
    try:
        metadata = kms.describe(step.session, key_id)
    except AccessDenied:
        return True
    return metadata is not None and metadata["CreationDate"] >= datetime.fromisoformat(step.run.created) - timedelta(
        days=1
    )


def wait_for_state(step: OpenStep, key_id: str, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Return the key's metadata once its state is `wanted`, or as it is after some seconds."""
    metadata: dict[str, Any] = {}

    def find() -> dict[str, Any] | None:
        metadata.update(kms.describe(step.session, key_id) or {})
        return metadata if metadata and wanted(metadata["KeyState"]) else None

    look(find, target=step.session.target)
    return metadata


# 01 create key -----------------------------------------------------------------------------------------------


def principals(session: Session, given: list[str]) -> list[str]:
    """Return the ARNs of the named roles and users, or of the caller's own role when none is named.

    Raises `PreflightFailed` for one that does not exist: KMS refuses a policy with an unknown principal.
    """
    if not given:
        return [session.principal_arn()]
    arns = []
    for text in given:
        arn = policy_builder.principal_arn(text, account_id=session.account_id, partition=session.partition)
        kind, _, path = arn.split(":", 5)[5].partition("/")
        name = path.rpartition("/")[2]
        if arn.split(":")[4] == session.account_id:
            iam = session.client("iam")
            try:
                found = iam.get_role(RoleName=name)["Role"] if kind == "role" else iam.get_user(UserName=name)["User"]
            except ClientError as error:
                if error_code(error) != "NoSuchEntity":
                    raise
                raise PreflightFailed(
                    f"{text!r}: there is no {kind} {name} in account {session.account_id}; create it or name another"
                ) from error
            if found["Arn"] != arn and text.startswith("arn:"):
                raise PreflightFailed(f"{text!r}: the {kind} {name} is {found['Arn']}; write that ARN, path included")
            arn = found["Arn"]
        arns.append(arn)
    return arns


def key_policy(session: Session, inputs: CreateKeyInputs) -> dict[str, Any]:
    """Return the key policy that the inputs ask for, checked."""
    document = policy_builder.key_policy(
        account_id=session.account_id,
        region=session.region,
        partition=session.partition,
        key_administrators=principals(session, inputs.key_administrators),
        allow_key_deletion=inputs.allow_key_deletion,
        key_users=principals(session, inputs.key_users),
        rds_service_linked_role=inputs.grant_rds_service_linked_role,
    )
    reading.validate(document)
    return document


def show_policy(document: dict[str, Any]) -> Text:
    """Return a key policy as indented JSON for review."""
    return Text("Key policy", json.dumps(document, indent=2))


def who_may(document: dict[str, Any]) -> Table:
    """Return the table of who may do what with the key."""
    rows = reading.who_may(document)
    return Table("Who may do what with the key", list(rows[0]), [list(row.values()) for row in rows])


def plan_create_key(step: OpenStep, inputs: CreateKeyInputs) -> Plan:
    """Plan the key, its alias and, if asked for, the service-linked role of RDS.

    Reads only. An alias that points to a key of someone else is refused; a key of this run is kept if it is as
    asked, and refused, field by field, if it is not.
    """
    session = step.session
    document = key_policy(session, inputs)
    changes = []
    if inputs.grant_rds_service_linked_role:
        there = kms.service_linked_role(session)
        changes.append(
            Change(
                "keep" if there else "create",
                "service-linked role",
                SERVICE_LINKED_ROLE,
                "exists" if there else "AWS would create it with the first DB cluster; the key policy names it now",
                "" if there else "iam:CreateServiceLinkedRole",
                {"AWSServiceName": "rds.amazonaws.com"},
            )
        )
    request = {
        "Origin": "EXTERNAL",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "Description": inputs.key_description,
        "Policy": json.dumps(document),
        "Tags": [{"TagKey": key, "TagValue": value} for key, value in step.tags(inputs.tags).items()],
    }
    alias_target = kms.find_alias(session, inputs.key_alias)
    made = step.made().get("key_id", "")
    if not made and alias_target and step.is_ours(kms.tags_of(session, alias_target)):
        made = alias_target
    if not made and step.run.was_sent(step.name, CREATE_KEY):  # it died before it could note what it had made
        made = look(lambda: find_by_run(step), target=session.target) or ""
    if made and (metadata := kms.describe(session, made)):
        differs = _key_differences(step, made, metadata, inputs, document)
        changes.append(
            Change(
                "refuse" if differs else "keep",
                "KMS key",
                made,
                "; ".join(differs) or f"made by this run, {metadata['KeyState']}, as asked",
                "",
                request,
            )
        )
    else:
        detail = f"origin EXTERNAL, {inputs.key_description!r}, ends in PendingImport"
        changes.append(Change("create", "KMS key", inputs.key_alias, detail, "kms:CreateKey", request))
    if alias_target and alias_target != made:
        detail = (
            f"already points to key {alias_target}, and {step.whose(kms.tags_of(session, alias_target))}; choose another "
            "key_alias, or move that alias away"
        )
        changes.append(Change("refuse", "alias", inputs.key_alias, detail))
    else:
        action, calls = ("keep", "") if alias_target else ("create", "kms:CreateAlias")
        detail = "points to the key of this run" if alias_target else "a name for the key that can be moved later"
        changes.append(Change(action, "alias", inputs.key_alias, detail, calls))  # type: ignore[arg-type]
    return step.plan(inputs, changes)


def _key_differences(
    step: OpenStep, key_id: str, metadata: dict[str, Any], inputs: CreateKeyInputs, document: dict[str, Any]
) -> list[str]:
    """Say field by field how this run's key differs from what is asked."""
    there = json.loads(step.client("kms").get_key_policy(KeyId=key_id, PolicyName="default")["Policy"])
    differs = []
    if metadata["Description"] != inputs.key_description:
        differs.append(
            f"description is {metadata['Description']!r}, asked {inputs.key_description!r} (kms:UpdateKeyDescription)"
        )
    if not reading.same(there, document):
        differs.append("its key policy is not the one asked for (compare, then kms:PutKeyPolicy)")
    if metadata["KeyState"] == "PendingDeletion":
        differs.append(f"its deletion is scheduled for {metadata['DeletionDate']:%Y-%m-%d} (kms:CancelKeyDeletion)")
    return differs


def apply_create_key(step: OpenStep, plan: Plan) -> str:
    """Make what the plan says, once; return the key's ARN.

    Raises what `create_once` raises, and `PlanRefused`.
    """
    client = step.client("kms", retry=False)
    with step.applying(plan):
        role = [change for change in plan.changes if change.resource == "service-linked role"]
        if role and role[0].action == "create":
            _create_service_linked_role(step, role[0])
        key = plan.change("KMS key")
        key_id = (
            key.name
            if key.action == "keep"
            else create_once(
                step.run,
                step.name,
                CREATE_KEY,
                find=lambda: find_by_run(step),
                create=lambda: _create_key(client, dict(key.request), new_role=bool(role)),
            )
        )
        metadata = look(lambda: kms.describe(step.session, key_id), target=step.session.target)
        if metadata is None:
            raise KeyNotUsable(f"key {key_id} was created but cannot be seen yet; run this step again in a minute")
        alias = plan.change("alias")
        step.run.note(
            step.name,
            key_id=key_id,
            key_arn=metadata["Arn"],
            key_alias=alias.name,
            key_policy=json.loads(key.request["Policy"]),
        )
        if alias.action == "create":
            create_once(
                step.run,
                step.name,
                "kms:CreateAlias",
                find=lambda: True if kms.find_alias(step.session, alias.name) == key_id else None,
                create=lambda: until_seen(
                    lambda: bool(client.create_alias(AliasName=alias.name, TargetKeyId=key_id)),
                    codes=("NotFoundException",),
                    target=step.session.target,
                ),
            )
    return str(metadata["Arn"])


def _create_service_linked_role(step: OpenStep, change: Change) -> None:
    """Create the role of RDS unless RDS, used for the first time meanwhile, has made it itself."""
    iam = step.client("iam", retry=False)

    def create() -> str:
        try:
            return str(iam.create_service_linked_role(**change.request)["Role"]["Arn"])
        except ClientError as error:
            if error_code(error) != "InvalidInput":  # InvalidInput: it exists by now, which is what was wanted
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
    """Send CreateKey; wait while KMS does not see a role that was just created."""
    for seconds in (2, 4, 8, 16, 0) if new_role else (0,):
        try:
            return str(client.create_key(**request)["KeyMetadata"]["KeyId"])
        except ClientError as error:
            if error_code(error) != "MalformedPolicyDocumentException" or not seconds:
                raise
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def verify_create_key(step: OpenStep) -> Checks:
    """Hold the key against what the plan asked, and finish the step.

    Raises `VerificationFailed`.
    """
    made = step.made()
    if "key_arn" not in made:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks = settled(lambda: _gather_key(step, made), target=step.session.target, codes=("NotFoundException",))
    checks.require_passed()
    state = _state_at_rest(step)
    step.run.finish(step.name, key_state=state, summary=f"{made['key_alias']} → {made['key_id'][:8]}… {state}")
    return checks


def _state_at_rest(step: OpenStep) -> str:
    return "Enabled" if step.run.is_finished("04_import_key_material") else "PendingImport"


def _gather_key(step: OpenStep, made: dict[str, Any]) -> Checks:
    metadata = kms.describe(step.session, made["key_id"]) or {}
    there = json.loads(step.client("kms").get_key_policy(KeyId=made["key_id"], PolicyName="default")["Policy"])
    checks = Checks("The key")
    source = "kms:DescribeKey"
    checks.equal("its material comes from outside", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("it is a symmetric key", "SYMMETRIC_DEFAULT", metadata.get("KeySpec"), source=source)
    checks.equal("it is for encryption", "ENCRYPT_DECRYPT", metadata.get("KeyUsage"), source=source)
    checks.equal("it is managed by you", "CUSTOMER", metadata.get("KeyManager"), source=source)
    state = _state_at_rest(step)
    claim = "its material was imported" if state == "Enabled" else "it waits for its material"
    checks.equal(claim, state, metadata.get("KeyState"), source=source)
    checks.equal(
        "the alias points to it",
        made["key_id"],
        kms.find_alias(step.session, made["key_alias"]),
        source="kms:ListAliases",
    )
    checks.holds(
        "its policy is the one reviewed",
        "identical",
        "identical" if reading.same(there, made["key_policy"]) else "different",
        lambda word: word == "identical",
        source="kms:GetKeyPolicy",
    )
    return checks
