"""Visibility delays (eventual consistency): a new resource is not visible for some seconds.

An `invisible` fault on a create call lets it take effect. For the given seconds, calls that would show or use the new
resource then answer as if it did not exist: with an error code, or an empty list. Other resources of that type in the
account are hidden with it.
"""

from __future__ import annotations

import json
import threading
import time

from runbook_sandbox import wire

_NOT_FOUND = "NotFoundException"
# Which calls do not see the result of a create call; "Keys[]" is an empty list of that name, others are error codes.
HIDES: dict[str, dict[str, str]] = {
    "kms:CreateKey": {
        "kms:DescribeKey": _NOT_FOUND, "kms:GetKeyPolicy": _NOT_FOUND, "kms:ListResourceTags": _NOT_FOUND,
        "kms:CreateAlias": _NOT_FOUND, "kms:GetParametersForImport": _NOT_FOUND, "kms:ListKeys": "Keys[]",
    },
    "kms:CreateAlias": {"kms:ListAliases": "Aliases[]"},
    "kms:ImportKeyMaterial": {
        "kms:ListKeyRotations": "Rotations[]", "rds:CreateDBCluster": "KMSKeyNotAccessibleFault",
    },
    "iam:CreateServiceLinkedRole": {"kms:CreateKey": "MalformedPolicyDocumentException"},
    "ec2:CreateSecurityGroup": {
        "ec2:AuthorizeSecurityGroupIngress": "InvalidGroup.NotFound",
        "ec2:DescribeSecurityGroups": "securityGroupInfo[]",
    },
    "rds:CreateDBSubnetGroup": {
        "rds:DescribeDBSubnetGroups": "DBSubnetGroupNotFoundFault", "rds:CreateDBCluster": "DBSubnetGroupNotFoundFault",
    },
    "rds:CreateDBCluster": {
        "kms:ListGrants": "Grants[]", "rds:DescribeDBClusters": "DBClusterNotFoundFault",
        "rds:CreateDBInstance": "DBClusterNotFoundFault",
    },
    "rds:CreateDBInstance": {"rds:DescribeDBInstances": "DBInstances[]"},
    "rds:CreateDBClusterSnapshot": {"rds:DescribeDBClusterSnapshots": "DBClusterSnapshotNotFoundFault"},
}  # fmt: skip

_lock = threading.Lock()
_hidden: dict[tuple[str, str], tuple[float, str]] = {}


def hide(account: str, create: str, seconds: float) -> None:
    """Hide what `create` ("kms:CreateKey") has just created, for some seconds of the machine's time."""
    with _lock:
        for call in HIDES.get(create, {}):
            _hidden[account, call] = (time.monotonic() + seconds, HIDES[create][call])


def pending() -> bool:
    """Return whether anything is hidden; called for every request."""
    return bool(_hidden)


def answer(account: str, call: str, wire_format: str) -> tuple[int, dict[str, str], str] | None:
    """Return status, headers and body for a call that would show or use a hidden resource, else None."""
    with _lock:
        until, hidden_answer = _hidden.get((account, call), (0.0, ""))
        if time.monotonic() >= until:
            _hidden.pop((account, call), None)
            return None
    if not hidden_answer.endswith("[]"):
        return wire.error_answer(
            wire_format, 400, hidden_answer, "The new resource is not visible yet (fault injected: invisible)."
        )
    name = hidden_answer.removesuffix("[]")
    if wire_format == "json":
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps({name: []})
    # RDS and IAM answer inside a result element, EC2 does not; the list is in both places.
    operation = call.partition(":")[2]
    result = f"<{operation}Result><{name}/></{operation}Result><{name}/>"
    return 200, {"Content-Type": "text/xml"}, f"<{operation}Response>{result}</{operation}Response>"


def forget(account: str | None = None) -> None:
    """Show everything again, for one account or for all."""
    with _lock:
        for pair in [pair for pair in _hidden if account in (None, pair[0])]:
            del _hidden[pair]
