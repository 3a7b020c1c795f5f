"""Tasks on keys: who may use one (01), the pair (02), the backup (03), an expiry (04), a rotation (20)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws import kms
from runbook_lib.aws.answers import error_code
from runbook_lib.checks import Checks
from runbook_lib.errors import AccessDenied
from runbook_lib.policies.evaluate import Decision, Request, decide
from runbook_lib.steps.tasks.practice import Practice, Scene, Task, key_is_usable, suffix

# 01 -----------------------------------------------------------------------------------------------------------------


def _open_key(practice: Practice) -> Scene:
    n = suffix()
    return {"n": n, "key": practice.key(f"alias/task-rds-only{n}"), "role": practice.role(f"TaskApplication{n}")}


def _only_through_rds(practice: Practice, scene: Scene, checks: Checks) -> None:
    key_is_usable(checks, practice.key_found(scene["key"]))
    policy = json.loads(practice.client("kms").get_key_policy(KeyId=scene["key"], PolicyName="default")["Policy"])
    account, region = practice.session.account_id, practice.session.region
    through = {"kms:CallerAccount": account}
    for_rds = {**through, "kms:ViaService": f"rds.{region}.amazonaws.com", "kms:GrantIsForAWSResource": "true"}
    another = {**for_rds, "kms:ViaService": f"secretsmanager.{region}.amazonaws.com"}

    def may(action: str, context: dict[str, str], who: str = scene["role"]) -> str:
        """Return whether the key policy allows it: itself, or by leaving it to IAM policies of the account."""
        identities = frozenset() if who == account else frozenset([who])
        decision = decide(policy, Request(action, identities, account, context=context))
        return "refused" if decision in (Decision.DENY, Decision.NONE) else "allowed"

    source = "kms:GetKeyPolicy"
    checks.equal("the role can have RDS create a grant", "allowed", may("kms:CreateGrant", for_rds), source=source)
    for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant"):
        checks.equal(f"nobody uses it directly ({action})", "refused", may(action, through), source=source)
    checks.equal("another service cannot use it", "refused", may("kms:CreateGrant", another), source=source)
    checks.equal(
        "you cannot encrypt with it", "refused", _encrypts(practice, scene["key"]), source="kms:Encrypt, DryRun"
    )
    caller = practice.session.principal_arn()
    checks.equal("you cannot decrypt with it", "refused", may("kms:Decrypt", through, caller), source=source)
    checks.equal("you can still change the policy", "allowed", may("kms:PutKeyPolicy", through, caller), source=source)


def _encrypts(practice: Practice, key_id: str) -> str:
    try:
        practice.client("kms").encrypt(KeyId=key_id, Plaintext=b"a data key", DryRun=True)
    except AccessDenied:
        return "refused"
    except ClientError as error:
        return "allowed" if error_code(error) == "DryRunOperationException" else error_code(error)
    return "allowed"


ONLY_THROUGH_RDS = Task(
    "Make a key usable through RDS only",
    "The key alias/task-rds-only{n} has the policy that KMS gives to every key: whatever IAM allows, the key allows. Replace "
    "it. The role TaskApplication{n} must be able to create an encrypted cluster with the key; nobody, you included, may use "
    "the key directly or through another service; and you must still be able to change the policy.",
    (
        "The statement for the account's root leaves every action to IAM policies. What may it still contain?",
        "Two statements suffice: one for administration, without Encrypt, Decrypt, GenerateDataKey and CreateGrant; one for "
        "the role with kms:CreateGrant and kms:DescribeKey.",
        "The role's statement needs Condition StringEquals kms:ViaService rds.REGION.amazonaws.com and Bool "
        "kms:GrantIsForAWSResource true. In the first, name the actions one by one, kms:PutKeyPolicy and kms:Describe* among them.",
    ),
    _open_key, _only_through_rds,
)  # fmt: skip

# 02 -----------------------------------------------------------------------------------------------------------------


def _key_of_aws(practice: Practice) -> Scene:
    n = suffix()
    return {"n": n, "old": practice.key(f"alias/task-pair{n}")}


def _pair_for_the_alias(practice: Practice, scene: Scene, checks: Checks) -> None:
    found = practice.key_found(f"alias/task-pair{scene['n']}")
    checks.equal(
        "the alias names a key for your material", "EXTERNAL", found.get("Origin", "no key"), source="kms:DescribeKey"
    )
    checks.equal("it has no material yet", "PendingImport", found.get("KeyState", "no key"), source="kms:DescribeKey")
    pair = [event["requestParameters"] for event in _events(practice, found.get("Arn", ""), "GetParametersForImport")]
    wanted = {"wrappingAlgorithm": "RSAES_OAEP_SHA_256", "wrappingKeySpec": "RSA_4096"}
    newest = {name: pair[0].get(name) for name in wanted} if pair else {}
    checks.equal("the newest pair is for RSA_4096 and SHA-256", wanted, newest, source="cloudtrail:LookupEvents")
    old = practice.key_found(scene["old"]).get("KeyState", "does not exist")
    checks.equal("the colleague's key still works", "Enabled", old, source="kms:DescribeKey")


def _events(practice: Practice, key_arn: str, name: str) -> list[dict[str, Any]]:
    """Return the events of a key that succeeded, the newest first."""
    if not key_arn:
        return []
    attributes = [{"AttributeKey": "ResourceName", "AttributeValue": key_arn}]
    pages = practice.client("cloudtrail").get_paginator("lookup_events").paginate(LookupAttributes=attributes)
    found = (json.loads(event["CloudTrailEvent"]) for page in pages for event in page["Events"])
    return [event for event in found if event["eventName"] == name and not event.get("errorCode")]


PAIR_FOR_THE_ALIAS = Task(
    "Get the pair for a name that has the wrong key",
    "A job imports into alias/task-pair{n}, and fails: a colleague created the key in the console with the defaults. Make the "
    "name work for an import, and download the pair that the HSM team asks for: 4096 bits, OAEP with SHA-256. The colleague's "
    "key is in use elsewhere and must keep working.",
    (
        "Which member of DescribeKey says whether a key can take your material? Can it be changed?",
        "A new key is needed. An alias is a name that points to a key, and can point to another one.",
        "CreateKey with Origin EXTERNAL, UpdateAlias, then GetParametersForImport with WrappingKeySpec RSA_4096 and "
        "WrappingAlgorithm RSAES_OAEP_SHA_256 on the new key.",
    ),
    _key_of_aws, _pair_for_the_alias,
)  # fmt: skip

# 03 -----------------------------------------------------------------------------------------------------------------


def _two_deliveries(practice: Practice) -> Scene:
    n = suffix()
    values = {name: practice.make_backup(f"{name}{n}") for name in ("monday", "tuesday")}
    value = practice.client("kms").create_key(
        Origin="EXTERNAL", Description=f"key check value of the material: {values['tuesday']}"
    )["KeyMetadata"]["KeyId"]  # fmt: skip
    practice.client("kms").create_alias(AliasName=f"alias/task-custody{n}", TargetKeyId=value)
    # What KMS shows of the right material can only be known for one key: the proof is that it accepts it again.
    return {"n": n, "key": str(value)}


def _right_delivery(practice: Practice, scene: Scene, checks: Checks) -> None:
    found = practice.key_found(scene["key"])
    key_is_usable(checks, found, what="the key has material and is Enabled")
    model = found.get("ExpirationModel", "none")
    checks.equal("the material does not expire", "KEY_MATERIAL_DOES_NOT_EXPIRE", model, source="kms:DescribeKey")
    accepted = "nothing to compare"
    if found.get("KeyState") == "Enabled":
        try:
            request = {"ImportType": "EXISTING_KEY_MATERIAL", "ExpirationModel": found["ExpirationModel"]}
            request |= {"ValidTo": found["ValidTo"]} if "ValidTo" in found else {}
            practice.import_material(scene["key"], f"tuesday{scene['n']}", **request)
            accepted = "the same"
        except ClientError as error:
            accepted = f"another: {error_code(error)}"
    checks.equal("the key has the material of the custody record", "the same", accepted, source="kms:ImportKeyMaterial")


RIGHT_DELIVERY = Task(
    "Import the delivery that the custody record names",
    "Two backups arrived for alias/task-custody{n}: monday{n} and tuesday{n}. Both have 32 bytes. The custody record's key "
    "check value is in the description of the key. Import the right one, without an expiry: the first import accepts any "
    'material, and then no other. work.check_value("monday{n}") computes the key check value of a backup.',
    (
        "What do two parties compare to see that they hold the same key, without showing it to each other?",
        "DescribeKey shows the description. Compute the key check value of both backups before you import anything.",
        'work.import_material(KEY, backup="NAME", ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE"), with the backup whose value '
        "is in the description. If you have imported the wrong one, work.restart() prepares a new key.",
    ),
    _two_deliveries, _right_delivery,
)  # fmt: skip

# 04 -----------------------------------------------------------------------------------------------------------------


def _empty_key(practice: Practice) -> Scene:
    n = suffix()
    return {"n": n, "key": practice.key(f"alias/task-expiry{n}", Origin="EXTERNAL")}


def _expires_in_30_days(practice: Practice, scene: Scene, checks: Checks) -> None:
    found = practice.key_found(scene["key"])
    key_is_usable(checks, found, what="the key has material and is Enabled")
    model = found.get("ExpirationModel", "none")
    checks.equal("the material expires", "KEY_MATERIAL_EXPIRES", model, source="kms:DescribeKey")
    left = found["ValidTo"] - practice.session.now() if "ValidTo" in found else None
    checks.holds(
        "it expires 30 days from now", "between 29 and 30 days", "no expiry" if left is None else f"{left / _DAY:.1f} days",
        lambda _: left is not None and 29 * _DAY <= left <= 30 * _DAY + timedelta(minutes=5), source="kms:DescribeKey",
    )  # fmt: skip
    named = practice.key_found(f"alias/task-expiry{scene['n']}").get("KeyId", "no key")
    checks.equal("the alias still names this key", scene["key"], named, source="kms:DescribeKey")


_DAY = timedelta(days=1)
EXPIRES_IN_30_DAYS = Task(
    "Import key material that expires in 30 days",
    "A partner may use alias/task-expiry{n} for 30 days. Import new key material into this key so that KMS deletes it 30 days "
    "from now. work.import_material(KEY, ...) wraps new material and sends ImportKeyMaterial with the parameters that you add.",
    (
        "ImportKeyMaterial has a parameter for whether the material expires, and one for when.",
        "ExpirationModel and ValidTo. ValidTo is a datetime with a time zone: the sandbox's clock is work.now().",
        'work.import_material(KEY, ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=work.now() + timedelta(days=30)); KEY is a key '
        "ID: an alias is not accepted here. An import with another expiry replaces it only for the same material: work.restart().",
    ),
    _empty_key, _expires_in_30_days,
)  # fmt: skip

# 20 -----------------------------------------------------------------------------------------------------------------


def _key_in_use(practice: Practice) -> Scene:
    n = suffix()
    key_id = practice.key_with_material(f"alias/task-rotate{n}", f"first{n}")
    name = f"task-rotate{n}"
    resource = practice.cluster(name, StorageEncrypted=True, KmsKeyId=key_id)
    first = str(practice.key_found(key_id)["CurrentKeyMaterialId"])
    return {"n": n, "key": key_id, "first": first, "cluster": name, "resource": resource}


def _rotated(practice: Practice, scene: Scene, checks: Checks) -> None:
    key_is_usable(checks, practice.key_found(scene["key"]))
    found = {one["KeyMaterialId"]: one for one in kms.materials(practice.session, scene["key"])}
    source = "kms:ListKeyRotations"
    first = found.get(scene["first"], {})
    states = [str(one.get("KeyMaterialState")) for name, one in found.items() if name != scene["first"]]
    state = "CURRENT" if "CURRENT" in states else ", ".join(states) or "none"
    checks.equal("new material is current", "CURRENT", state, source=source)
    checks.equal(
        "the first material is not current any more",
        "NON_CURRENT",
        first.get("KeyMaterialState", "none"),
        source=source,
    )
    checks.equal("the first material is still imported", "IMPORTED", first.get("ImportState", "none"), source=source)
    status = practice.found(scene["cluster"]).get("Status", "does not exist")
    checks.equal("the cluster under the key is available", "available", status, source="rds:DescribeDBClusters")


ROTATED = Task(
    "Rotate a key that a cluster needs",
    "The cluster task-rotate{n} is encrypted under alias/task-rotate{n}, whose first material has the backup first{n}. Rotate "
    "the key to new key material. Everything that is encrypted must stay readable.",
    (
        "KMS makes no material for this key. What has to exist before RotateKeyOnDemand, and what may not be lost after it?",
        "ImportKeyMaterial has ImportType. New material is pending until you rotate; the old one stays needed.",
        'work.import_material(KEY, ImportType="NEW_KEY_MATERIAL", ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE"), then '
        "RotateKeyOnDemand, then ListKeyRotations with IncludeKeyMaterial ALL_KEY_MATERIAL until the new one is CURRENT.",
    ),
    _key_in_use, _rotated,
)  # fmt: skip
