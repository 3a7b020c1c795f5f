"""The IAM policies of the steps: as small as AWS's actions, resources and conditions allow. Pure.

The table data/steps.yaml lists what each step needs; the heads of the notebooks and these policies are made from it.
Permissions that the key policy grants to key administrators and key users need not be granted here again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runbook_lib.aws.partitions import dns_suffix
from runbook_lib.aws.practice_source import NAME as PRACTICE
from runbook_lib.errors import InputError
from runbook_lib.inputs.existing import SUFFIX, EncryptExistingClusterInputs
from runbook_lib.policies.key_policy import key_policy as build_key_policy
from runbook_lib.policies.key_policy import principal_arn
from runbook_lib.run.steps import STEP_INPUTS, all_steps

KEY_ID = "KEY_ID"  # stands for the id of a key that does not exist yet; no key has it
_RUN_TAGS = ("runbook:run", "runbook:run-id", "runbook:step")
MANAGED_POLICY_QUOTA = 6144  # characters of a managed policy, white space not counted (IAM quotas)
_MOST_TAG_CHARACTERS = 500


def values(
    given: Mapping[str, Any], *, run_id: str = "", account_id: str = "", partition: str = "aws", key_arn: str = ""
) -> dict[str, Any]:
    """Return the values of the table's placeholders: the parameters, and `*` for what is not known yet.

    `key_arn` is the KMS key of the run, if it exists. Raises `InputError`.
    """
    merged: dict[str, Any] = {}
    for model in STEP_INPUTS.values():
        merged = (
            model.read({**given, "run_id": run_id or "any"}).model_dump() | merged
        )  # the first step's default counts
    known = merged | {
        "run_id": run_id or "*",
        "account_id": account_id or merged["account_id"] or "*",
        "partition": key_arn.split(":")[1] if key_arn else partition,
        "run_key": key_arn,
    }
    source = merged["source_db_cluster_identifier"]
    known |= {
        "source": source or PRACTICE,
        "restored": EncryptExistingClusterInputs.read(given).identifier if source else f"{PRACTICE}{SUFFIX}",
    }
    if source:
        known["db_cluster_identifier"] = known["restored"]
    known["dns_suffix"] = dns_suffix(known["partition"])
    every_key = "arn:{partition}:kms:{region}:{account_id}:key/*".format_map(known)
    tag_keys = sorted({*_RUN_TAGS, *merged["tags"]})
    known |= {
        "keys": key_arn or every_key,
        "own_key": key_arn or every_key.replace("/*", f"/{KEY_ID}"),
        "tag_keys": tag_keys if len("".join(tag_keys)) <= _MOST_TAG_CHARACTERS else ["*"],
    }
    known |= {
        "own_key_id": known["own_key"].rpartition("/")[2],
        "topic_key": merged["sns_kms_key_id"]
        if ":" in merged["sns_kms_key_id"]
        else every_key[:-1] + merged["sns_kms_key_id"],
    }
    named = "arn:{partition}:sns:{region}:{account_id}:runbook-{own_key_id}".format_map(known)
    known["topic"] = merged["sns_topic_arn"] or named
    return known | _secret_key(merged["master_user_secret_kms_key_id"], every_key, known)


def _secret_key(asked: str, every_key: str, known: Mapping[str, Any]) -> dict[str, str]:
    """Return the key of the managed password: its ARN, or the alias by which a condition names it."""
    alias = asked[asked.find("alias/") :] if "alias/" in asked else ""
    if alias and not (alias == known["key_alias"] and known["run_key"]):
        return {"secret_key": every_key, "secret_key_alias": alias, "secret_key_named": ""}
    named = known["run_key"] if alias else asked
    if named and not named.startswith("arn:"):
        named = every_key.replace("/*", f"/{named}")
    return {"secret_key": named, "secret_key_alias": "", "secret_key_named": named}


def policy(steps: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return one policy for these steps: a statement per set of resources and conditions.

    `known` comes from `values`.
    """
    merged: dict[str, dict[str, Any]] = {}
    for row in _rows(steps, known):
        resources = [_filled(text, known) for text in row.get("resources", ["*"])]
        condition = {
            operator: {key: _filled(value, known) for key, value in keys.items()}
            for operator, keys in row.get("condition", {}).items()
        }
        _join(
            merged,
            f"{resources} {condition}",
            {"Action": row["actions"], "Resource": resources, "Condition": condition},
        )
    joined: dict[str, dict[str, Any]] = {}
    for row in merged.values():
        _join(joined, f"{row['Action']} {row['Condition']}", row)
    statements = [
        {"Effect": "Allow", **{part: value for part, value in row.items() if value}} for row in joined.values()
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _join(rows: dict[str, dict[str, Any]], place: str, row: Mapping[str, Any]) -> None:
    """Add the actions and resources of a row to the one in this place, each once."""
    found = rows.setdefault(place, {**row, "Action": [], "Resource": []})
    for part in ("Action", "Resource"):
        found[part] += [one for one in row[part] if one not in found[part]]


def remaining(steps: Iterable[str], known: Mapping[str, Any]) -> list[str]:
    """Return what the policy of these steps allows on keys and clusters that are not the run's, each once.

    On a KMS key this holds as far as its key policy leaves the decision to IAM policies.
    """
    rows = [row for row in _rows(steps, known) if not (known["run_key"] and "{keys}" in row.get("resources", []))]
    return list(dict.fromkeys(row["remains"].format_map(known) for row in rows if "remains" in row))


def needs_key_id(steps: Iterable[str], known: Mapping[str, Any]) -> bool:
    """Return whether the policy of these steps is complete only with the run's key, which is not known."""
    rows = _rows(steps, known)
    return not known["run_key"] and any("{own_key}" in row.get("resources", []) for row in rows)


def _rows(steps: Iterable[str], known: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the table's rows that are needed with these values."""
    for name in steps:
        for row in all_steps()[name].permissions:
            if row.get("only_with") and not known[row["only_with"]]:
                continue
            if row.get("only_without") and known[row["only_without"]]:
                continue
            yield row


def _filled(text: str, known: Mapping[str, Any]) -> Any:
    """Return a text with its placeholders replaced; one that is a list is returned as a list."""
    alone = known.get(text[1:-1])
    return alone if isinstance(alone, list) else text.format_map(known)


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
