"""What an account offers for the fields of a form. Asked only when a person sits there; what may not be read is not offered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib import rds
from runbook_lib.errors import RunbookError
from runbook_lib.inputs import LOGS
from runbook_lib.session import known_regions
from runbook_lib.step import OpenStep

Choices = Mapping[str, Sequence[str]]


def for_start() -> Choices:
    """Return the Regions that the SDK knows for RDS; asks nobody."""
    return {"region": known_regions()}


def for_key(step: OpenStep) -> Choices:
    """Return the account's roles, as `role/Name`, for administrators and users of the key; service roles left out."""
    iam = step.client("iam")

    def roles() -> list[str]:
        found = [role for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"]]
        return [f"role{role['Path']}{role['RoleName']}" for role in found if "/aws-" not in role["Path"]]

    offered = _offered(roles)
    return {"key_administrators": offered, "key_users": offered}


def for_cluster(step: OpenStep, *, engine: str) -> Choices:
    """Return versions, classes, VPCs, groups and logs for `engine`; other engines' can be typed."""
    session, ec2, client = step.session, step.client("ec2"), step.client("rds")

    def versions() -> list[str]:
        return [str(found["EngineVersion"]) for found in rds.engine_versions(session, engine)]

    def classes() -> list[str]:
        version = rds.choose_engine_version(session, engine=engine, engine_version="")
        return sorted(rds.orderable_classes(session, engine=engine, engine_version=version))

    def named(call: Callable[..., Any], items: str, name: str) -> Callable[[], list[str]]:
        return lambda: [str(found[name]) for found in call()[items]]

    return {
        "engine_version": ["", *_offered(versions)],
        "db_instance_class": _offered(classes),
        "vpc_id": ["", *_offered(named(ec2.describe_vpcs, "Vpcs", "VpcId"))],
        "db_subnet_group_name": [
            "",
            *_offered(named(client.describe_db_subnet_groups, "DBSubnetGroups", "DBSubnetGroupName")),
        ],
        "vpc_security_group_ids": _offered(named(ec2.describe_security_groups, "SecurityGroups", "GroupId")),
        "enable_cloudwatch_logs_exports": sorted({log for logs in LOGS.values() for log in logs}),
    }


def _offered(look: Callable[[], list[str]]) -> list[str]:
    """Return what `look` finds; nothing when it may not look."""
    try:
        return look()
    except (ClientError, RunbookError):
        return []
