"""IAM enforcement per account: do the caller's own policies allow a request and everything it requires.

Used instead of moto's own enforcement, which is for all accounts or none, ignores Condition, and does not know which
other actions a call requires. Off by default; `POST /runbook/iam {"account": "…", "enforce": true}` turns it on for
one account. It evaluates the inline and attached policies of the caller's role or user, with the statement and
condition evaluator of `runbook_lib.policies`. Each evaluated action is recorded, so that tests and learners can see
what a step requires.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from moto.ec2.models import ec2_backends
from moto.kms.models import Key
from moto.rds.models import rds_backends

from runbook_lib.errors import PolicyInvalid
from runbook_lib.policies.evaluate import Decision, permitted
from runbook_sandbox import wire
from runbook_sandbox.iam import required_actions
from runbook_sandbox.iam.required_action import Place, RequiredAction
from runbook_sandbox.instruments import accounts
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.kms import policy as kms_policy

_evaluated: dict[str, list[str]] = {}
_ON_ALIASES = ("kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias")
_DENIALS = {
    "ec2": (403, "UnauthorizedOperation"), "kms": (400, "AccessDeniedException"),
    "secretsmanager": (400, "AccessDeniedException"),
}  # fmt: skip


def set_enforcement(body: Any) -> dict[str, Any]:
    """Turn enforcement on or off for an account. Raises ValueError for an invalid command."""
    if (
        not isinstance(body, dict)
        or not isinstance(body.get("account"), str)
        or not isinstance(body.get("enforce"), bool)
    ):
        raise ValueError('send {"account": "123456789012", "enforce": true} or false')
    _evaluated.pop(body["account"], None)
    if body["enforce"]:
        _evaluated[body["account"]] = []
    return as_json()


def as_json() -> dict[str, Any]:
    """Return, for each account with enforcement, the actions evaluated since it was turned on, each once, in order."""
    return {"enforced": {account: list(dict.fromkeys(actions)) for account, actions in _evaluated.items()}}


def disable(account: str | None = None) -> None:
    """Turn enforcement off, for one account or for all."""
    for one in [one for one in _evaluated if account in (None, one)]:
        del _evaluated[one]


def is_enforced(account: str) -> bool:
    """Return whether IAM is enforced in this account."""
    return account in _evaluated


def refusal(response: Any, service: str, operation: str) -> tuple[int, str, str] | None:
    """Return status, code and message if the caller is not allowed to make this request, else None."""
    account, region, access_key = response.current_account, response.region, response.get_access_key()
    for required in required_actions.required_actions(
        service, operation, wire.raw_parameters(response), Place(account, region)
    ):
        key = _key(required, account, region)
        if not may(account, access_key, required, region=region, key=key):
            arn = accounts.caller(account, access_key)[1]
            message = (
                f"User: {arn} is not authorized to perform: {required.action} on resource: "
                f"{key.arn if key else required.resource} because no identity-based policy allows the "
                f"{required.action} action"
            )
            return *_DENIALS.get(service, (403, "AccessDenied")), message
    return None


def may(account: str, access_key: str, required: RequiredAction, *, region: str, key: Key | None = None) -> bool:
    """Return whether the caller's own policies allow an action and, for a key, the key policy or its root statement.

    Source: KMS developer guide, determining-access: IAM policies count as far as the key policy lets the account
    decide; for a key of another account, key policy and IAM policy must both allow.
    """
    _evaluated[account].append(required.action)
    resource = str(key.arn) if key else _known_path(required.resource, account)
    attributes = {**kms_policy.key_context(key), **kms_policy.key_labels(key)} if key else {}
    attributes |= kms_policy.days_without_use(key, required.action) if key else {}
    context = {
        "aws:RequestedRegion": region, **_resource_tags(resource, account, region),
        **kms_policy.caller_context(account, access_key), **attributes, **required.context,
    }  # fmt: skip
    context.setdefault("aws:ViaAWSService", "kms:ViaService" in context)
    try:
        own = permitted(_policies(account, access_key), action=required.action, resource=resource, context=context)
    except PolicyInvalid:
        return False
    if own is False or key is None:
        return own is True
    decision = kms_policy.key_decision(key, account, access_key, required.action, required.context)
    if decision is Decision.DENY:
        return False
    if kms_policy.granted(key, account, access_key, required.action):
        return True
    if decision is Decision.ALLOW and account == key.account_id:
        return True
    return own is True and decision in (Decision.ALLOW, Decision.ACCOUNT)


def _key(required: RequiredAction, account: str, region: str) -> Key | None:
    """Return the key that an action is authorized on, or None: an alias is a resource of its own."""
    name = required.resource
    aliased = ":alias/" in name and required.action in _ON_ALIASES
    return kms_keys.resolve(account, region, name) if required.action.startswith("kms:") and not aliased else None


def _known_path(resource: str, account: str) -> str:
    """Return a role's ARN with its path, which a request does not contain."""
    if ":role/" in resource and resource.count("/") == 1:
        name = resource.rpartition("/")[2]
        return next((str(r.arn) for r in accounts.iam_of(account).roles.values() if r.name == name), resource)
    return resource


def _resource_tags(resource: str, account: str, region: str) -> dict[str, str]:
    """Return the tags of an existing RDS or EC2 resource as condition keys."""
    tags: dict[str, str] = {}
    if resource.startswith("arn:aws:rds:"):
        try:
            found = rds_backends[account][region].list_tags_for_resource(resource)
        except Exception:  # noqa: BLE001 - moto raises several types for an unknown resource
            found = []
        tags = {tag["Key"]: tag["Value"] for tag in found}
    elif resource.startswith("arn:aws:ec2:"):
        tags = ec2_backends[account][region].tags.get(resource.rpartition("/")[2], {})
    return {f"aws:ResourceTag/{key}": str(value) for key, value in dict(tags).items()}


def _policies(account: str, access_key: str) -> list[Mapping[str, Any]]:
    return policies_of(account, accounts.caller(account, access_key)[1]) or []


def policies_of(account: str, arn: str) -> list[Mapping[str, Any]] | None:
    """Return the policies of a role, its session, or a user and its groups; None for any other ARN."""
    iam = accounts.iam_of(account)
    kind, _, path = arn.rpartition(":")[2].partition("/")
    name = path.partition("/")[0] if kind == "assumed-role" else path.rpartition("/")[2]
    if kind in ("role", "assumed-role"):
        holders: list[Any] = [role for role in iam.roles.values() if role.name == name]
    else:
        holders = [user for user in iam.users.values() if kind == "user" and user.name == name]
        holders += iam.get_groups_for_user(name) if holders else []
    documents: list[Any] = []
    for holder in holders:
        inline = holder.policies
        documents += list(inline.values()) if isinstance(inline, dict) else list(inline)
        for policy in holder.managed_policies.values():
            documents += [v.document for v in policy.versions if v.version_id == policy.default_version_id]
    return [_parsed(document) for document in documents] if holders else None


def _parsed(document: Any) -> Mapping[str, Any]:
    text = document if isinstance(document, str) else json.dumps(document)
    parsed: Mapping[str, Any] = json.loads(text if text.lstrip().startswith("{") else urllib.parse.unquote(text))
    return parsed
