"""Eventual consistency on demand: what an account has just made cannot be seen for some seconds.

The fault `invisible` on a create makes it take effect, and from then on, for its seconds, has the calls that would
show or use the new thing answered as before it was there: an error code, or an empty list. Whatever else of that kind
the account has is hidden with it.
"""

from __future__ import annotations

import json
import threading
import time

from runbook_sandbox import wire

_NOT_FOUND = "NotFoundException"
# What cannot be seen after which create; "Keys[]" is an empty list of that name, all else an error code.
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
        "ec2:AuthorizeSecurityGroupIngress": "InvalidGroup.NotFound", "ec2:DescribeSecurityGroups": "securityGroupInfo[]",
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
    """Hide what `create` ("kms:CreateKey") has just made, for some seconds of the machine's own time."""
    with _lock:
        for call in HIDES.get(create, {}):
            _hidden[account, call] = (time.monotonic() + seconds, HIDES[create][call])


def pending() -> bool:
    """Say whether anything is hidden; the usual answer is no, and costs nothing."""
    return bool(_hidden)


def answer(account: str, call: str, wire_format: str) -> tuple[int, dict[str, str], str] | None:
    """Return status, headers and body for a call that would show or use what is hidden, else None."""
    with _lock:
        until, said = _hidden.get((account, call), (0.0, ""))
        if time.monotonic() >= until:
            _hidden.pop((account, call), None)
            return None
    if not said.endswith("[]"):
        return wire.error_answer(wire_format, 400, said, "What was just made cannot be seen yet (a fault on demand).")
    name = said.removesuffix("[]")
    if wire_format == "json":
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps({name: []})
    # RDS and IAM answer within a result, EC2 does not: here it stands in both places.
    operation = call.partition(":")[2]
    result = f"<{operation}Result><{name}/></{operation}Result><{name}/>"
    return 200, {"Content-Type": "text/xml"}, f"<{operation}Response>{result}</{operation}Response>"


def forget(account: str | None = None) -> None:
    """Show everything again: of one account, or of all."""
    with _lock:
        for pair in [pair for pair in _hidden if account in (None, pair[0])]:
            del _hidden[pair]
