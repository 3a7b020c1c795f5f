"""Stop the writers of an existing cluster before its last snapshot, show that they are stopped, and let them in again.

The network is closed by a security group without inbound rules. Connections that are open outlive that (VPC user guide,
Security groups, Connection tracking), so that the writer is rebooted too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from runbook_lib.aws import ec2, rds
from runbook_lib.aws.cluster_settings import cluster_of
from runbook_lib.aws.create_once import create_once
from runbook_lib.aws.retry import poll
from runbook_lib.aws.waiting import poll_interval, wait_until_available
from runbook_lib.errors import WritersConnected
from runbook_lib.inputs.cut_over import CLOSE, CutOverInputs
from runbook_lib.plan import Change
from runbook_lib.run.clusters import CutOverRecord, ExistingClusterRecord
from runbook_lib.steps import ownership
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.ownership import CLUSTER, INSTANCE, SECURITY_GROUP

_CREATE = "ec2:CreateSecurityGroup"
_MINUTES = 15  # until the metric must show no connection


def group_name(source: str) -> str:
    """Return the name of the security group that closes a cluster."""
    return f"runbook-{source}-closed"


def groups_of(cluster: Mapping[str, Any]) -> list[str]:
    """Return the ids of a cluster's security groups."""
    return [str(one["VpcSecurityGroupId"]) for one in cluster.get("VpcSecurityGroups", [])]


def changes(step: OpenStep, cluster: Mapping[str, Any], asked: CutOverInputs) -> list[Change]:
    """Return the rows that stop the writers; only read."""
    name = str(cluster["DBClusterIdentifier"])
    if asked.writers != CLOSE:
        return [Change("keep", "writers", name, f"stopped by the operator ({asked.writers}); nobody checks it")]
    found = _closed_group(step, cluster)
    rows = [
        Change("keep", SECURITY_GROUP, group_name(name), "created by this run", identity=found)
        if found
        else Change("create", SECURITY_GROUP, group_name(name), "without inbound rules", _CREATE)
    ]
    if groups_of(cluster) != [found]:
        before = ", ".join(groups_of(cluster))
        why = f"gets only this security group, in place of {before}"
        rows.append(Change("change", CLUSTER, name, why, "rds:ModifyDBCluster"))
    writer = _writer(cluster)
    rows.append(Change("change", INSTANCE, writer, "is rebooted, which ends open connections", "rds:RebootDBInstance"))
    why = "must be 0, or nothing further is done; CloudWatch is asked for the metric DatabaseConnections"
    return [*rows, Change("keep", "connections", name, why)]


def stop(step: OpenStep, cluster: Mapping[str, Any], asked: CutOverInputs) -> str:
    """Stop the writers, or take the operator's word; return how it is known that they are stopped.

    Raises `WritersConnected` and what `create_once` raises.
    """
    name, record = str(cluster["DBClusterIdentifier"]), CutOverRecord.so_far(step.run)
    if asked.writers != CLOSE:
        return f"the operator's word ({asked.writers}); {_seen(step, name)}"
    group = _close(step, cluster)
    if groups_of(cluster) != [group]:
        step.run.note(step.name, rebooted_round=-1)  # first: who connected while it was open is to be disconnected
        step.client("rds").modify_db_cluster(
            DBClusterIdentifier=name, VpcSecurityGroupIds=[group], ApplyImmediately=True
        )
        _wait(step, name, asked)
    if CutOverRecord.so_far(step.run).rebooted_round != record.round:
        step.client("rds").reboot_db_instance(DBInstanceIdentifier=_writer(cluster))
        _wait(step, name, asked)
        step.run.note(step.name, rebooted_round=record.round)
    return _proof(step, name)


def is_closed(step: OpenStep, cluster: Mapping[str, Any]) -> bool:
    """Return whether the cluster has only the security group by which this run closed it."""
    closed = CutOverRecord.so_far(step.run).closed_security_group_id
    return bool(closed) and groups_of(cluster) == [closed]


def let_in(step: OpenStep, cluster: Mapping[str, Any], groups: list[str], asked: CutOverInputs) -> None:
    """Give a closed cluster its security groups back, and wait; one that this step did not close is left alone."""
    if is_closed(step, cluster) and groups:
        name = str(cluster["DBClusterIdentifier"])
        step.client("rds").modify_db_cluster(
            DBClusterIdentifier=name, VpcSecurityGroupIds=groups, ApplyImmediately=True
        )
        _wait(step, name, asked)


def _source(step: OpenStep) -> str:
    return ExistingClusterRecord.so_far(step.run).source_db_cluster_identifier


def _writer(cluster: Mapping[str, Any]) -> str:
    members = cluster.get("DBClusterMembers", [])
    return next((str(one["DBInstanceIdentifier"]) for one in members if one.get("IsClusterWriter")), "")


def _vpc(step: OpenStep, cluster: Mapping[str, Any]) -> str:
    found = ec2.find_subnet_group(step.session, str(cluster.get("DBSubnetGroup", "")))
    return str((found or {}).get("VpcId", ""))


def _closed_group(step: OpenStep, cluster: Mapping[str, Any]) -> str:
    """Return the id of the closed group that this run created, or "". Raises `WritersConnected` if it is not closed."""
    name = group_name(_source(step))
    found = ec2.find_security_group(step.session, name, _vpc(step, cluster))
    if found is None or not ownership.is_ours(step, ownership.of_security_group(found)):
        return ""
    if found.get("IpPermissions"):
        raise WritersConnected(
            f"security group {name} ({found['GroupId']}) has inbound rules, which somebody added; remove them, then run the "
            "cell or command again"
        )
    return str(found["GroupId"])


def _close(step: OpenStep, cluster: Mapping[str, Any]) -> str:
    """Create the security group at most once; return its id."""
    request = {
        "GroupName": group_name(_source(step)), "VpcId": _vpc(step, cluster),
        "Description": "No inbound rules: closes a cluster for its cut-over",
        "TagSpecifications": [{"ResourceType": "security-group", "Tags": step.tag_list()}],
    }  # fmt: skip
    client = step.client("ec2", retry=False)
    group = _closed_group(step, cluster) or create_once(
        step.run,
        step.name,
        _CREATE,
        find=lambda: _closed_group(step, cluster) or None,
        create=lambda: str(client.create_security_group(**step.marked(request))["GroupId"]),
        identity=str,
    )
    ownership.record(step, SECURITY_GROUP, group_name(_source(step)), group)
    step.run.note(step.name, closed_security_group_id=group)
    return group


def _wait(step: OpenStep, name: str, asked: CutOverInputs) -> None:
    instances = len(rds.instances_of(step.session, name))
    wait_until_available(
        step.session, name, instances=instances, timeout_minutes=float(asked.wait_timeout_minutes),
        poll_seconds=poll_interval(step.session.target, 0),
    )  # fmt: skip


def _seen(step: OpenStep, name: str) -> str:
    """Return the newest reading of the connections in words."""
    found = rds.latest_connections(step.session, name, since=step.now() - timedelta(minutes=10))
    return f"CloudWatch: {found[1]} connections at {found[0]:%H:%M} UTC" if found else "CloudWatch has no reading"


def _proof(step: OpenStep, name: str) -> str:
    """Wait until a reading after now shows no connection. Raises `WritersConnected`."""
    since, fast = step.now().replace(second=0, microsecond=0), step.session.target == "sandbox"
    found, done = poll(
        lambda: rds.latest_connections(step.session, name, since=since),
        until=lambda one: one is not None and one[1] == 0,
        every=0.2 if fast else 20.0,
        timeout=2.0 if fast else _MINUTES * 60.0,
    )
    if done and found:
        return f"CloudWatch: 0 connections to {name} at {found[0]:%Y-%m-%d %H:%M} UTC"
    seen = f"{found[1]} connections at {found[0]:%H:%M} UTC" if found else "no reading of DatabaseConnections"
    raise WritersConnected(
        f"{name} has {seen}, {_MINUTES} minutes after its network was closed; end what is connected and run the cell or "
        "command again, or say writers: stopped_by_operator"
    )


def cluster_by_id(step: OpenStep, resource_id: str) -> dict[str, Any] | None:
    """Return the cluster with this DbClusterResourceId under whatever name it has now, or None."""
    found = cluster_of(step.session, resource_id)
    return dict(found) if found else None
