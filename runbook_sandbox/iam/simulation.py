"""SimulatePrincipalPolicy, answered with the policy evaluator of `runbook_lib.policies`.

moto gap: it lacks the operation.
"""

from __future__ import annotations

import re
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.exceptions import InvalidInput
from moto.iam.responses import IamResponse

from runbook_lib.policies.evaluate import permitted
from runbook_sandbox import wire
from runbook_sandbox.iam import enforcement


class SimulationResponse(IamResponse):
    """IAM with this operation."""

    def simulate_principal_policy(self) -> ActionResult:
        """Evaluate each action on each resource against the principal's policies; nothing is called."""
        form = wire.raw_parameters(self)
        source = str(form.get("PolicySourceArn", ""))
        policies = enforcement.policies_of(self.current_account, source)
        if policies is None:
            raise InvalidInput(f"{source} is not a user, group or role of this account.")
        context: dict[str, Any] = {}
        for name, key in form.items():
            if match := re.fullmatch(r"ContextEntries\.member\.(\d+)\.ContextKeyName", name):
                values = _members(form, f"ContextEntries.member.{match[1]}.ContextKeyValues")
                context[str(key)] = values if len(values) > 1 else "".join(values)
        decisions = {True: "allowed", False: "explicitDeny", None: "implicitDeny"}
        results = [
            {"EvalActionName": action, "EvalResourceName": resource,
             "EvalDecision": decisions[permitted(policies, action=action, resource=resource, context=context)],
             "MatchedStatements": [], "MissingContextValues": []}
            for action in _members(form, "ActionNames") for resource in _members(form, "ResourceArns") or ["*"]
        ]  # fmt: skip
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _members(form: dict[str, Any], name: str) -> list[str]:
    """Return a list from a flat query."""
    found: list[str] = []
    while (value := form.get(f"{name}.member.{len(found) + 1}")) is not None:
        found.append(str(value))
    return found
