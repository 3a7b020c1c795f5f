"""The key policy of step 01: built from its inputs, and shown for review."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.aws.answers import error_code
from runbook_lib.aws.partitions import dns_suffix
from runbook_lib.aws.session import Session
from runbook_lib.errors import PreflightFailed
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.policies import key_policy as policy_builder
from runbook_lib.policies import reading
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table, Text


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
                    f"{text!r}: {kind} {name} does not exist in account {session.account_id}; create it or name another"
                ) from error
            if found["Arn"] != arn and text.startswith("arn:"):
                raise PreflightFailed(f"{text!r}: the {kind} {name} is {found['Arn']}; write that ARN, path included")
            arn = found["Arn"]
        arns.append(arn)
    return arns


def build(step: OpenStep, asked: CreateKeyInputs) -> dict[str, Any]:
    """Return the validated key policy for these inputs. Raises `PolicyInvalid` and what `principals` raises."""
    step.require_read(asked)
    session = step.session
    document = policy_builder.key_policy(
        account_id=session.account_id,
        region=session.region,
        partition=session.partition,
        dns_suffix=dns_suffix(session.partition),
        key_administrators=principals(session, asked.key_administrators),
        allow_key_deletion=asked.allow_key_deletion,
        key_users=principals(session, asked.key_users),
        rds_service_linked_role=asked.grant_rds_service_linked_role,
    )
    key_arn = f"arn:{session.partition}:kms:{session.region}:{session.account_id}:key/*"
    reading.validate(document, account_id=session.account_id, key_arn=key_arn)
    return document


def show(document: dict[str, Any]) -> Text:
    """Return a key policy as indented JSON for review."""
    return Text("Key policy", json.dumps(document, indent=2))


def who_may(document: dict[str, Any]) -> Table:
    """Return the table of who may do what with the key: a row per statement and principal, warnings where needed.

    The key's account is the first one that the policy lets change it: in the policy that `build` returns, its own.
    """
    rows = reading.who_may(document)
    columns = ["who", "may", *(["may not"] if any("may not" in row for row in rows) else []), "only if"]
    columns += ["warning"] if any("warning" in row for row in rows) else []
    head = ["condition" if column == "only if" and "may not" in columns else column for column in columns]
    return Table("Who may do what with the key", head, [[row.get(column, "") for column in columns] for row in rows])
