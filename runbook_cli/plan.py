"""`runbook plan`: what a run would change, what it lacks and what it would cost. Read-only; creates no run folder.

Uses the code of the steps: plan and checks of 00, the IAM policies of `permissions`, the price table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from runbook_cli.parameters import check_parameters
from runbook_cli.run_state import target_label
from runbook_lib.aws.answers import error_text
from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.errors import AccessDenied
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.plan import Plan
from runbook_lib.policies.patterns import listed
from runbook_lib.run.run import Run
from runbook_lib.run.steps import START, chain
from runbook_lib.steps import permissions, preflight
from runbook_lib.steps import start as start_step
from runbook_lib.steps.judge_material import require_material
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table

SIMULATE = "iam:SimulatePrincipalPolicy"


@dataclass(frozen=True)
class Outlook:
    """What `runbook plan` shows, in this order; `ready`: a run could start."""

    where: str
    changes: Plan
    checks: Checks
    permissions: Table
    cost: Table
    ready: bool


def look_ahead(given: Mapping[str, Any], *, runs_dir: Path) -> Outlook:
    """Return what a run with these parameters would do in its target.

    Raises `InputError`, `WrongRegion`, `WrongAccount` and `CredentialsMissing`. Whatever else would stop a run is a check
    that fails.
    """
    check_parameters(given)
    start = StartInputs.read({"run_id": "planned", **given})
    require_material(EncryptKeyMaterialInputs.read(given), target=start.target, runs_dir=runs_dir)
    session, sandbox_id = start_step.target_session(start, runs_dir)
    target = {
        "target": start.target, "account_id": session.account_id, "region": start.region, "sandbox_id": sandbox_id,
    }  # fmt: skip
    step = OpenStep(START, Run.unsaved(start.run_id, runs_dir=runs_dir, target=target), session)
    checks = preflight.gather(step, start)
    known = permissions.values(given, account_id=session.account_id, partition=session.partition)
    steps = [one.name for one in chain(existing=bool(start.source_db_cluster_identifier))]
    missing, table = _permissions(session, permissions.policy(steps, known))
    return Outlook(
        where=f"{target_label(start.target)} · account {session.account_id} · {start.region} · {session.identity()['Arn']}",
        changes=start_step.plan(step, start),
        checks=checks,
        permissions=table,
        cost=start_step.estimate(start),
        ready=checks.passed and not missing,
    )


def _permissions(session: Session, policy: Mapping[str, Any]) -> tuple[list[str], Table]:
    """Return the actions that IAM denies to the caller, and the table that shows them.

    When IAM cannot be asked (no permission to simulate, or the caller is neither user nor role), the table says so
    and no action counts as denied.
    """
    caption = "Permissions of 00 to 06"
    try:
        rows = [row for row in _simulated(session, policy) if row[1] != "allowed"]
    except AccessDenied:
        rows, found = [], f"unknown: you are not allowed to call {SIMULATE}; compare with: runbook permissions"
    except ClientError as error:
        rows, found = [], f"unknown ({error_text(error)}); compare with: runbook permissions"
    else:
        found = "" if rows else "no permission is missing"
    if found:
        return [], Table(caption, ("found",), [(found,)])
    return [row[0] for row in rows], Table(f"{caption}: missing", ("action", "IAM says", "on"), rows)


def _simulated(session: Session, policy: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Simulate each statement with its resources and conditions; yield action, decision and resource.

    API: iam:SimulatePrincipalPolicy.
    """
    client, principal = session.client("iam"), session.principal_arn()
    for statement in policy["Statement"]:
        context = [
            {
                "ContextKeyName": key,
                "ContextKeyValues": [one.replace("*", "planned") for one in listed(value)],
                "ContextKeyType": "stringList" if operator.startswith("For") else "string",
            }
            for operator, asked in statement.get("Condition", {}).items()
            for key, value in asked.items()
        ]
        for resource in statement["Resource"]:
            pages = client.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=principal,
                ActionNames=statement["Action"],
                ResourceArns=[resource],
                ContextEntries=context,
            )
            for page in pages:
                for result in page["EvaluationResults"]:
                    yield result["EvalActionName"], result["EvalDecision"], resource
