"""Steps 01, 02 and 04: the KMS key, its import parameters, the import of its key material.

Plan, apply and verify of each; reading a key for other steps. Where the key is used is `rds`; how material is
made and wrapped is `wrapping`.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib import key_material, policy
from runbook_lib.changes import create_once, look
from runbook_lib.errors import (
    AccessDenied,
    ArtefactsMismatch,
    ImportRefused,
    ImportTokenExpired,
    KeyNotUsable,
    PreflightFailed,
    StepMissing,
)
from runbook_lib.inputs import CreateKeyInputs, GetParametersForImportInputs, ImportKeyMaterialInputs
from runbook_lib.report import Change, Checks, Plan, Table, Text
from runbook_lib.session import Session, error_code, error_text
from runbook_lib.step import OpenStep
from runbook_lib.wrapping import ENCRYPTED, read_custody

SERVICE_LINKED_ROLE = "AWSServiceRoleForRDS"
PUBLIC_KEY, IMPORT_TOKEN, README = "WrappingPublicKey.bin", "ImportToken.bin", "README.txt"
_MARGIN = timedelta(minutes=10)


# Reading a key ---------------------------------------------------------------------------------------------


def describe(session: Session, key_id: str) -> dict[str, Any] | None:
    """Return DescribeKey's KeyMetadata for a key id, ARN or alias; None when there is no such key."""
    try:
        return dict(session.client("kms").describe_key(KeyId=key_id)["KeyMetadata"])
    except ClientError as error:
        if error_code(error) == "NotFoundException":
            return None
        raise


def tags_of(session: Session, key_id: str) -> dict[str, str]:
    """Return the tags of a key."""
    pages = session.client("kms").get_paginator("list_resource_tags").paginate(KeyId=key_id)
    return {tag["TagKey"]: tag["TagValue"] for page in pages for tag in page["Tags"]}


def aliases_of(session: Session, key_id: str) -> list[str]:
    """Return the alias names that point to a key."""
    pages = session.client("kms").get_paginator("list_aliases").paginate(KeyId=key_id)
    return sorted(alias["AliasName"] for page in pages for alias in page["Aliases"])


def find_alias(session: Session, name: str) -> str | None:
    """Return the key id that the alias `name` points to, or None."""
    for page in session.client("kms").get_paginator("list_aliases").paginate():
        for alias in page["Aliases"]:
            if alias["AliasName"] == name:
                return str(alias.get("TargetKeyId", ""))
    return None


def find_by_run(step: OpenStep) -> str | None:
    """Return the id of the key that carries this run's tag, looking at every key of the account and Region."""
    for page in step.client("kms").get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            try:
                tags = tags_of(step.session, key["KeyId"])
            except (AccessDenied, ClientError):  # a key whose tags are not ours to read is not this run's
                continue
            if step.is_ours(tags) and tags.get("runbook:step") == "01_create_key":
                return str(key["KeyId"])
    return None


def require_usable(session: Session, key_id: str, *, region: str) -> dict[str, Any]:
    """Return the key's metadata if Aurora can encrypt a cluster of `region` under it.

    Raises `KeyNotUsable`: the key must exist, be Enabled, symmetric, for encryption, of origin EXTERNAL, and of
    the cluster's Region.
    """
    metadata = describe(session, key_id)
    if metadata is None:
        raise KeyNotUsable(f"there is no key {key_id} in {region}; run notebooks/01_create_key.ipynb first")
    arn, state = metadata["Arn"], metadata["KeyState"]
    if arn.split(":")[3] != region:
        raise KeyNotUsable(f"{arn} is of another Region than the cluster's, {region}; use a key of {region}")
    if (metadata["KeySpec"], metadata["KeyUsage"]) != ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"):
        raise KeyNotUsable(f"{arn} is {metadata['KeySpec']} for {metadata['KeyUsage']}; Aurora needs a symmetric key")
    if metadata["Origin"] != "EXTERNAL":
        raise KeyNotUsable(f"{arn} has origin {metadata['Origin']}, not EXTERNAL; use the key of step 01")
    if state != "Enabled":
        way_out = {
            "PendingImport": "import its material with notebooks/04_import_key_material.ipynb",
            "Disabled": "enable it (kms:EnableKey)",
            "PendingDeletion": "cancel its deletion (kms:CancelKeyDeletion) and enable it",
        }.get(state, "wait until it is Enabled")
        raise KeyNotUsable(f"{arn} is {state}, so nothing can be encrypted under it; {way_out}")
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
        arn = policy.principal_arn(text, account_id=session.account_id, partition=session.partition)
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


def service_linked_role(session: Session) -> str | None:
    """Return the ARN of AWSServiceRoleForRDS, or None where RDS was never used."""
    try:
        return str(session.client("iam").get_role(RoleName=SERVICE_LINKED_ROLE)["Role"]["Arn"])
    except ClientError as error:
        if error_code(error) == "NoSuchEntity":
            return None
        raise


def key_policy(session: Session, inputs: CreateKeyInputs) -> dict[str, Any]:
    """Return the key policy that the inputs ask for, checked."""
    document = policy.key_policy(
        account_id=session.account_id,
        region=session.region,
        partition=session.partition,
        key_administrators=principals(session, inputs.key_administrators),
        allow_key_deletion=inputs.allow_key_deletion,
        key_users=principals(session, inputs.key_users),
        rds_service_linked_role=inputs.grant_rds_service_linked_role,
    )
    policy.validate(document)
    return document


def show_policy(document: dict[str, Any]) -> Text:
    """Return a key policy as indented JSON for review."""
    return Text("Key policy", json.dumps(document, indent=2))


def who_may(document: dict[str, Any]) -> Table:
    """Return the table of who may do what with the key."""
    rows = policy.who_may(document)
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
        there = service_linked_role(session)
        changes.append(
            Change("keep" if there else "create", "service-linked role", SERVICE_LINKED_ROLE,
                   "exists" if there else "AWS would create it with the first DB cluster; the key policy names it now",
                   "" if there else "iam:CreateServiceLinkedRole", {"AWSServiceName": "rds.amazonaws.com"})
        )  # fmt: skip
    request = {
        "Origin": "EXTERNAL",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "Description": inputs.key_description,
        "Policy": json.dumps(document),
        "Tags": [{"TagKey": key, "TagValue": value} for key, value in step.tags(inputs.tags).items()],
    }
    alias_target = find_alias(session, inputs.key_alias)
    made = step.made().get("key_id", "")
    if not made and alias_target and step.is_ours(tags_of(session, alias_target)):
        made = alias_target
    if made and (metadata := describe(session, made)):
        differs = _key_differences(step, made, metadata, inputs, document)
        changes.append(
            Change("refuse" if differs else "keep", "KMS key", made,
                   "; ".join(differs) or f"made by this run, {metadata['KeyState']}, as asked", "", request)
        )  # fmt: skip
    else:
        detail = f"origin EXTERNAL, {inputs.key_description!r}, ends in PendingImport"
        changes.append(Change("create", "KMS key", inputs.key_alias, detail, "kms:CreateKey", request))
    if alias_target and alias_target != made:
        detail = (
            f"already points to key {alias_target}, which this run did not make; choose another key_alias, or move that "
            "alias away"
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
        differs.append(f"description is {metadata['Description']!r}, asked {inputs.key_description!r} (kms:UpdateKeyDescription)")
    if there != document:
        differs.append("its key policy is not the one asked for (compare, then kms:PutKeyPolicy)")
    if metadata["KeyState"] == "PendingDeletion":
        differs.append(f"its deletion is scheduled for {metadata['DeletionDate']:%Y-%m-%d} (kms:CancelKeyDeletion)")
    return differs


def apply_create_key(step: OpenStep, plan: Plan) -> str:
    """Make what the plan says, once; return the key's ARN.

    Raises what `create_once` raises, and `PlanRefused`.
    """
    kms = step.client("kms", retry=False)
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
                "kms:CreateKey",
                find=lambda: find_by_run(step),
                create=lambda: _create_key(kms, dict(key.request), new_role=bool(role)),
            )
        )
        metadata = look(lambda: describe(step.session, key_id), target=step.session.target)
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
                find=lambda: True if find_alias(step.session, alias.name) == key_id else None,
                create=lambda: bool(kms.create_alias(AliasName=alias.name, TargetKeyId=key_id)),
            )
    return str(metadata["Arn"])


def _create_service_linked_role(step: OpenStep, change: Change) -> None:
    try:
        step.client("iam", retry=False).create_service_linked_role(**change.request)
    except ClientError as error:
        if error_code(error) != "InvalidInput":  # InvalidInput: it exists by now, which is what was wanted
            raise
    step.run.note(step.name, service_linked_role_created=True)


def _create_key(kms: Any, request: dict[str, Any], *, new_role: bool) -> str:
    """Send CreateKey; wait while KMS does not see a role that was just created."""
    for seconds in (2, 4, 8, 16, 0) if new_role else (0,):
        try:
            return str(kms.create_key(**request)["KeyMetadata"]["KeyId"])
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
    metadata = describe(step.session, made["key_id"]) or {}
    there = json.loads(step.client("kms").get_key_policy(KeyId=made["key_id"], PolicyName="default")["Policy"])
    checks = Checks("The key")
    source = "kms:DescribeKey"
    checks.equal("its material comes from outside", "EXTERNAL", metadata.get("Origin"), source=source)
    checks.equal("it is a symmetric key", "SYMMETRIC_DEFAULT", metadata.get("KeySpec"), source=source)
    checks.equal("it is for encryption", "ENCRYPT_DECRYPT", metadata.get("KeyUsage"), source=source)
    checks.equal("it is managed by you", "CUSTOMER", metadata.get("KeyManager"), source=source)
    if step.run.is_finished("04_import_key_material"):
        checks.equal("its material was imported", "Enabled", metadata.get("KeyState"), source=source)
    else:
        checks.equal("it waits for its material", "PendingImport", metadata.get("KeyState"), source=source)
    checks.equal("the alias points to it", made["key_id"], find_alias(step.session, made["key_alias"]), source="kms:ListAliases")
    checks.holds("its policy is the one reviewed", "identical", "identical" if there == made["key_policy"] else "different",
                 lambda word: word == "identical", source="kms:GetKeyPolicy")  # fmt: skip
    checks.require_passed()
    step.run.finish(step.name, key_state=metadata["KeyState"])
    return checks


# 02 get parameters for import --------------------------------------------------------------------------------


def plan_get_parameters_for_import(step: OpenStep, inputs: GetParametersForImportInputs) -> Plan:
    """Plan to fetch a wrapping key and import token, or to keep a pair that is whole, as asked and still valid."""
    key = step.run.record("01_create_key")
    metadata = describe(step.session, key["key_id"])
    if metadata is None:
        raise KeyNotUsable(f"key {key['key_id']} is gone; start a new run")
    name = f"for {key['key_alias']}"
    if metadata["KeyState"] == "PendingDeletion":
        change = Change("refuse", "wrapping key and import token", name, "the key is PendingDeletion; cancel its deletion first")
        return step.plan(inputs, [change])
    request = {
        "KeyId": key["key_id"],
        "WrappingAlgorithm": inputs.wrapping_algorithm,
        "WrappingKeySpec": inputs.wrapping_key_spec,
    }
    made = step.made()
    why = f"{inputs.wrapping_key_spec}, {inputs.wrapping_algorithm}, valid for 24 hours"
    if step.run.is_finished("04_import_key_material"):
        change = Change("keep", "wrapping key and import token", name, "the material is imported: no new pair is needed")
    elif not made or made["request"] != request:
        change = Change("create", "wrapping key and import token", name, why, "kms:GetParametersForImport", request)
    elif (broken := _pair_problem(step, made)) is not None:
        change = Change("create", "wrapping key and import token", name, f"{broken}; fetched again: {why}",
                        "kms:GetParametersForImport", request)  # fmt: skip
    else:
        change = Change("keep", "wrapping key and import token", name, "the pair is whole and valid", "", request)
    return step.plan(inputs, [change])


def _pair_problem(step: OpenStep, made: dict[str, Any]) -> str | None:
    """Say what is wrong with the pair in the run folder, or None."""
    if datetime.fromisoformat(made["parameters_valid_to"]) - _MARGIN <= step.now():
        return "the pair has expired"
    for name, wanted in made["sha256"].items():
        file = step.run.path / name
        if not file.is_file() or key_material.fingerprint(file.read_bytes()) != wanted:
            return f"{name} is missing or changed"
    return None


def apply_get_parameters_for_import(step: OpenStep, plan: Plan) -> str:
    """Fetch the pair and write its files; return until when it is valid (ISO 8601).

    The console's zip holds the same three files; the token in it stays with the operator.
    """
    change = plan.change("wrapping key and import token")
    with step.applying(plan):
        if change.action == "create":
            answer = step.client("kms").get_parameters_for_import(**change.request)
            valid_to = answer["ParametersValidTo"].astimezone(step.now().tzinfo)
            key_material.load_wrapping_public_key(answer["PublicKey"], wrapping_key_spec=change.request["WrappingKeySpec"])
            archive = f"Import_Parameters_{change.request['KeyId']}_{step.now():%m%d%H%M}.zip"
            contents = {
                PUBLIC_KEY: answer["PublicKey"],
                IMPORT_TOKEN: answer["ImportToken"],
                README: _pair_readme(answer["KeyId"], change.request, valid_to).encode(),
            }
            for name, content in contents.items():
                step.run.write(name, content)
            step.run.write(archive, _zipped(contents))
            old = step.made().get("archive", archive)
            if old != archive:
                (step.run.path / old).unlink(missing_ok=True)
            step.run.note(
                step.name,
                key_arn=answer["KeyId"],
                request=dict(change.request),
                parameters_valid_to=valid_to.isoformat(timespec="seconds"),
                sha256={name: key_material.fingerprint(content) for name, content in contents.items()},
                archive=archive,
            )
    return str(step.made()["parameters_valid_to"])


def _zipped(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _pair_readme(arn: str, request: dict[str, str] | Any, valid_to: datetime) -> str:
    return (
        "Parameters for importing key material into AWS KMS\n\n"
        f"KMS key             {arn}\n"
        f"Wrapping key spec   {request['WrappingKeySpec']}\n"
        f"Wrapping algorithm  {request['WrappingAlgorithm']}\n"
        f"Valid until         {valid_to:%Y-%m-%d %H:%M:%S} UTC\n\n"
        f"{PUBLIC_KEY}  the wrapping key: an RSA public key, DER (SubjectPublicKeyInfo)\n"
        f"{IMPORT_TOKEN}        the import token; it belongs to this wrapping key and to no other\n\n"
        "Encrypt 32 bytes of key material with the wrapping key, then import the result with this token before the\n"
        "pair expires. The token never needs to leave the operator's machine.\n"
    )


def verify_get_parameters_for_import(step: OpenStep) -> Checks:
    """Hold the pair against what was asked, and finish the step. Raises `VerificationFailed`."""
    made = step.made()
    if "request" not in made:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    size = key_material.WRAPPING_KEY_SPECS[made["request"]["WrappingKeySpec"]]
    public_key = key_material.load_wrapping_public_key(step.run.read(PUBLIC_KEY))
    checks = Checks("The wrapping key and import token")
    checks.equal("they are for the key of this run", step.run.record("01_create_key")["key_arn"], made["key_arn"],
                 source="kms:GetParametersForImport")  # fmt: skip
    checks.equal("the wrapping key has the size asked for", f"{size} bits", f"{public_key.key_size} bits", source=PUBLIC_KEY)
    checks.holds("the token is within AWS's limit", "1 to 6144 bytes", len(step.run.read(IMPORT_TOKEN)),
                 lambda length: 1 <= length <= 6144, source=IMPORT_TOKEN)  # fmt: skip
    if not step.run.is_finished("04_import_key_material"):
        checks.holds("the pair is valid now", "in the future", made["parameters_valid_to"],
                     lambda text: datetime.fromisoformat(text) > step.now(), source="kms:GetParametersForImport")  # fmt: skip
    checks.require_passed()
    step.run.finish(step.name)
    return checks


# 04 import key material ----------------------------------------------------------------------------------------


def plan_import_key_material(step: OpenStep, inputs: ImportKeyMaterialInputs) -> Plan:
    """Plan the import after checking everything that can be checked before calling.

    Raises `ArtefactsMismatch` for files of different sets, `EncryptedKeyMaterialInvalid` for a wrong size,
    `ImportTokenExpired` for an old pair, and `KeyNotUsable` for a key that takes no material.
    """
    key, pair, material = (step.run.record(name) for name in ("01_create_key", "02_get_parameters_for_import", "03_encrypt_key_material"))
    metadata = describe(step.session, key["key_id"])
    if metadata is None or metadata["Origin"] != "EXTERNAL" or metadata["KeyState"] == "PendingDeletion":
        found = f"{metadata['Origin']}, {metadata['KeyState']}" if metadata else "gone"
        raise KeyNotUsable(f"key {key['key_id']} is {found}; only an EXTERNAL key that is not being deleted takes material")
    name = f"key check value {material['key_check_value'] or 'unknown here'}"
    detail = (
        f"expires at {inputs.valid_to}: on that day every cluster under the key becomes inaccessible unless it is "
        "imported again"
        if inputs.valid_to
        else "does not expire"
    )
    made = step.made()
    if metadata["KeyState"] != "PendingImport" and (made.get("key_material_id") or step.run.is_unclear(step.name, "kms:ImportKeyMaterial")):
        differs = _import_differences(metadata, inputs)
        action = "refuse" if differs else "keep"
        return step.plan(inputs, [Change(action, "key material", name, differs or f"imported, {detail}")])  # type: ignore[arg-type]
    if metadata["KeyState"] != "PendingImport":
        change = Change("refuse", "key material", name, f"the key is {metadata['KeyState']}: somebody else imported material")
        return step.plan(inputs, [change])
    _check_set(step, pair, material)
    if inputs.valid_to and not step.now() < datetime.fromisoformat(inputs.valid_to) <= step.now() + timedelta(days=365):
        raise PreflightFailed(f"valid_to {inputs.valid_to} is past or more than 365 days away; choose a time within a year")
    request: dict[str, Any] = {"KeyId": key["key_id"], "ExpirationModel": inputs.expiration_model}
    if inputs.valid_to:
        request["ValidTo"] = inputs.valid_to
    if inputs.key_material_description:
        request["KeyMaterialDescription"] = inputs.key_material_description
    return step.plan(inputs, [Change("create", "key material", name, detail, "kms:ImportKeyMaterial", request)])


def _import_differences(metadata: dict[str, Any], inputs: ImportKeyMaterialInputs) -> str:
    """Say how the expiry of the imported material differs from what is asked, or nothing."""
    model, valid_to = metadata.get("ExpirationModel"), metadata.get("ValidTo")
    asked = datetime.fromisoformat(inputs.valid_to) if inputs.valid_to else None
    if model == inputs.expiration_model and (valid_to is None) == (asked is None) and (not asked or abs(valid_to - asked) < timedelta(seconds=2)):
        return ""
    there = f"{model}{f' at {valid_to:%Y-%m-%d %H:%M} UTC' if valid_to else ''}"
    return f"imported as {there}; an expiry is changed by importing the same material again"


def _check_set(step: OpenStep, pair: dict[str, Any], material: dict[str, Any]) -> None:
    """Raise unless token, wrapping key, encrypted material and custody are one set that is still valid."""
    again = "run notebooks/02_get_parameters_for_import.ipynb and notebooks/03_encrypt_key_material.ipynb again"
    for name in (PUBLIC_KEY, IMPORT_TOKEN):
        if key_material.fingerprint(step.run.read(name)) != pair["sha256"][name]:
            raise ArtefactsMismatch(f"{name} is not the file that 02 left (its SHA-256 differs); {again}")
    if material["wrapping_public_key_sha256"] != pair["sha256"][PUBLIC_KEY]:
        raise ArtefactsMismatch(
            "EncryptedKeyMaterial.bin was made with another wrapping key than the one that belongs to the import token; "
            "run notebooks/03_encrypt_key_material.ipynb again"
        )
    read_custody(step.run, material)
    key_material.check_encrypted_key_material(step.run.read(ENCRYPTED), wrapping_key_spec=pair["request"]["WrappingKeySpec"])
    if datetime.fromisoformat(pair["parameters_valid_to"]) <= step.now():
        raise ImportTokenExpired(f"the import token expired at {pair['parameters_valid_to']}; {again}")


_REFUSALS: dict[str, str] = {
    "ExpiredImportTokenException": "the import token is older than 24 hours; run 02 and 03 again",
    "InvalidImportTokenException": "the import token is not of this key or is damaged; run 02 and 03 again",
    "InvalidCiphertextException": "KMS cannot open EncryptedKeyMaterial.bin: it was made with another wrapping key, "
    "hash or MGF1 hash than 02 asked for; run 03 again, or have it wrapped again with the algorithm of README.txt",
    "IncorrectKeyMaterialException": "this is not the material that the key had, or not 32 bytes; bring the original material",
}


def apply_import_key_material(step: OpenStep, plan: Plan) -> str:
    """Import the material; return the key's state.

    Sending it twice is harmless: the same material is taken again. Raises `ImportRefused` in KMS's own terms.
    """
    change = plan.change("key material")
    key_id = step.run.record("01_create_key")["key_id"]
    with step.applying(plan):
        if change.action == "create":
            request = dict(change.request)
            if "ValidTo" in request:
                request["ValidTo"] = datetime.fromisoformat(request["ValidTo"])
            step.run.intend(step.name, "kms:ImportKeyMaterial")
            try:
                step.client("kms").import_key_material(
                    **request, ImportToken=step.run.read(IMPORT_TOKEN), EncryptedKeyMaterial=step.run.read(ENCRYPTED)
                )
            except ClientError as error:
                step.run.settle(step.name, "kms:ImportKeyMaterial", "refused")
                if (reason := _REFUSALS.get(error_code(error))) is not None:
                    raise ImportRefused(f"{error_code(error)}: {reason}") from error
                raise ImportRefused(f"{error_text(error)}; nothing was imported") from error
            step.run.settle(step.name, "kms:ImportKeyMaterial", "made")
        metadata = wait_for_state(step, key_id, lambda state: state != "PendingImport")
        step.run.note(
            step.name,
            key_material_id=metadata.get("CurrentKeyMaterialId", ""),
            expiration_model=metadata.get("ExpirationModel", ""),
            valid_to=metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "",
        )
    return str(metadata["KeyState"])


def wait_for_state(step: OpenStep, key_id: str, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Return the key's metadata once its state is `wanted`, or as it is after some seconds."""
    metadata: dict[str, Any] = {}

    def find() -> dict[str, Any] | None:
        metadata.update(describe(step.session, key_id) or {})
        return metadata if metadata and wanted(metadata["KeyState"]) else None

    look(find, target=step.session.target)
    return metadata


def materials(session: Session, key_id: str) -> list[dict[str, Any]]:
    """Return every key material of a key (kms:ListKeyRotations with ALL_KEY_MATERIAL)."""
    pages = session.client("kms").get_paginator("list_key_rotations")
    return [entry for page in pages.paginate(KeyId=key_id, IncludeKeyMaterial="ALL_KEY_MATERIAL") for entry in page["Rotations"]]


def verify_import_key_material(step: OpenStep) -> Checks:
    """Hold the key and its material against what was asked, and finish the step. Raises `VerificationFailed`."""
    made = step.made()
    if "key_material_id" not in made:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    key = step.run.record("01_create_key")
    asked = step.run.steps[step.name]["inputs"]
    metadata = describe(step.session, key["key_id"]) or {}
    current = [entry for entry in materials(step.session, key["key_id"]) if entry.get("KeyMaterialState") == "CURRENT"]
    valid_to = metadata["ValidTo"].isoformat(timespec="seconds") if metadata.get("ValidTo") else "never"
    checks = Checks("The key and its material")
    checks.equal("the key can be used", "Enabled", metadata.get("KeyState"), source="kms:DescribeKey")
    checks.equal("its material came from outside", "EXTERNAL", metadata.get("Origin"), source="kms:DescribeKey")
    checks.equal("the expiration model is the one asked for", asked["expiration_model"], metadata.get("ExpirationModel"),
                 source="kms:DescribeKey")  # fmt: skip
    checks.equal("the material expires", asked["valid_to"] or "never", valid_to, source="kms:DescribeKey")
    checks.equal("one material is current, and it is this one", [made["key_material_id"]],
                 [entry["KeyMaterialId"] for entry in current], source="kms:ListKeyRotations")  # fmt: skip
    checks.equal("the material is in KMS", ["IMPORTED"], [entry.get("ImportState") for entry in current],
                 source="kms:ListKeyRotations")  # fmt: skip
    checks.require_passed()
    step.run.finish(step.name, key_state=metadata["KeyState"])
    return checks
