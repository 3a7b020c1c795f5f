"""The IAM policies of the steps: as small as AWS's actions, resources and conditions allow. Pure.

The table data/steps.yaml lists what each step needs; the heads of the notebooks and these policies are made from it.
Permissions that the key policy grants to key administrators and key users need not be granted here again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runbook_lib.aws.partitions import dns_suffix
from runbook_lib.errors import InputError
from runbook_lib.policies.key_policy import key_policy as build_key_policy
from runbook_lib.policies.key_policy import principal_arn
from runbook_lib.run.steps import STEP_INPUTS, all_steps


def values(
    given: Mapping[str, Any], *, run_id: str = "", account_id: str = "", partition: str = "aws"
) -> dict[str, Any]:
    """Return the values of the table's placeholders: the parameters, and `*` for what is not known yet.

    Raises `InputError`.
    """
    merged: dict[str, Any] = {}
    for model in STEP_INPUTS.values():
        merged |= model.read({**given, "run_id": "any"}).model_dump()
    return merged | {
        "run_id": run_id or "*",
        "account_id": account_id or merged["account_id"] or "*",
        "partition": partition,
        "dns_suffix": dns_suffix(partition),
    }


def policy(steps: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return one policy for these steps: a statement per set of resources and conditions.

    `known` comes from `values`.
    """
    merged: dict[str, dict[str, Any]] = {}
    for resources, condition, actions in _rows(steps, known):
        place = merged.setdefault(f"{resources} {condition}", {"Action": [], "Resource": resources})
        place["Action"] += [action for action in actions if action not in place["Action"]]
        if condition:
            place["Condition"] = condition
    statements = [
        {"Sid": f"Runbook{number}", "Effect": "Allow", **row} for number, row in enumerate(merged.values(), 1)
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _rows(
    steps: Iterable[str], known: Mapping[str, Any]
) -> Iterator[tuple[list[str], dict[str, dict[str, str]], list[str]]]:
    for name in steps:
        for row in all_steps()[name].permissions:
            if row.get("only_with") and not known[row["only_with"]]:
                continue
            if row.get("only_without") and known[row["only_without"]]:
                continue
            resources = [text.format_map(known) for text in row.get("resources", ["*"])]
            condition = {
                operator: {key: value.format_map(known) for key, value in keys.items()}
                for operator, keys in row.get("condition", {}).items()
            }
            yield resources, condition, row["actions"]


def key_policy(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key's own policy. Raises `InputError` unless account, administrators and users are named."""
    missing = [(name, "is empty; name the roles or users for the key policy") for name in ("key_administrators", "key_users")
               if not known[name]]  # fmt: skip
    if known["account_id"] == "*":
        missing.append(("account_id", "is empty; a key policy names the account: enter its 12 digits"))
    if missing:
        raise InputError(missing)
    account_id, partition = known["account_id"], known["partition"]
    administrators, users = (
        [principal_arn(text, account_id=account_id, partition=partition) for text in known[field]]
        for field in ("key_administrators", "key_users")
    )
    return build_key_policy(
        account_id=account_id,
        region=known["region"],
        partition=partition,
        dns_suffix=known["dns_suffix"],
        key_administrators=administrators,
        allow_key_deletion=known["allow_key_deletion"],
        key_users=users,
        rds_service_linked_role=known["grant_rds_service_linked_role"],
    )
