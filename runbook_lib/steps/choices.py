"""Values that an account offers for the fields of a form; looked up in attended sessions only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from runbook_lib.attended import is_attended
from runbook_lib.aws import offers
from runbook_lib.aws.sdk import known_regions
from runbook_lib.aws.session import Session
from runbook_lib.errors import RunbookError
from runbook_lib.pages.form import Offer
from runbook_lib.run.steps import CREATE_CLUSTER, CREATE_KEY, START

Now = Mapping[str, Any]


def for_step(name: str, session: Callable[[], Session]) -> dict[str, Offer]:
    """Return the look-ups for the fields of step `name`; empty, without opening a session, when unattended."""
    if not is_attended():
        return {}
    if name == START:
        return _for_start()
    if name == CREATE_KEY:
        return _for_key(session())
    return _for_cluster(session()) if name == CREATE_CLUSTER else {}


def _for_start() -> dict[str, Offer]:
    """Return the Regions that the SDK knows for RDS, without a call."""
    return {"region": Offer(lambda _: known_regions())}


def _for_key(session: Session) -> dict[str, Offer]:
    """Return the account's roles, as `role/Name`, without service roles, for key administrators and key users."""
    iam = session.client("iam")
    kept: list[str] = []

    def roles(_: Now) -> list[str]:
        if not kept:
            found = [role for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"]]
            kept.extend(f"role{role['Path']}{role['RoleName']}" for role in found if "/aws-" not in role["Path"])
        return kept

    return {"key_administrators": _offer(roles), "key_users": _offer(roles)}


def _for_cluster(session: Session) -> dict[str, Offer]:
    """Return versions, classes, VPCs and groups, for the engine and the VPC that the form shows."""
    # Create clients here: creating one is not thread-safe, using one is (boto3 guide, Low-level clients).
    ec2, client = session.client("ec2"), session.client("rds")

    def versions(now: Now) -> list[str]:
        return [str(found["EngineVersion"]) for found in offers.engine_versions(session, now["engine"])]

    def classes(now: Now) -> list[str]:
        version = offers.choose_engine_version(session, engine=now["engine"], engine_version=now["engine_version"])
        return sorted(offers.orderable_classes(session, engine=now["engine"], engine_version=version))

    def vpcs(_: Now) -> list[str]:
        return [str(found["VpcId"]) for found in ec2.describe_vpcs()["Vpcs"]]

    def subnet_groups(now: Now) -> list[str]:
        found = client.describe_db_subnet_groups()["DBSubnetGroups"]
        return [str(group["DBSubnetGroupName"]) for group in found if now["vpc_id"] in ("", group["VpcId"])]

    def security_groups(now: Now) -> list[str]:
        filters = [{"Name": "vpc-id", "Values": [now["vpc_id"]]}] if now["vpc_id"] else []
        return [str(group["GroupId"]) for group in ec2.describe_security_groups(Filters=filters)["SecurityGroups"]]

    return {
        "engine_version": _offer(versions, "engine"),
        "db_instance_class": _offer(classes, "engine", "engine_version"),
        "vpc_id": _offer(vpcs),
        "db_subnet_group_name": _offer(subnet_groups, "vpc_id"),
        "vpc_security_group_ids": _offer(security_groups, "vpc_id"),
    }


def _offer(fetch: Callable[[Now], list[str]], *depends_on: str) -> Offer:
    """Wrap `fetch` so that it returns None when AWS refuses it or the form's values do not fit together."""

    def careful(now: Now) -> list[str] | None:
        try:
            return fetch(now)
        except (BotoCoreError, ClientError, RunbookError):
            return None

    return Offer(careful, depends_on)
