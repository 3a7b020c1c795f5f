"""What AWS adds by itself is no difference, and what somebody else added is: 05 planned again over engines and options."""

from __future__ import annotations

from typing import Any

import pytest
from walk import Walk

from runbook_lib.inputs.rds import CreateClusterInputs
from runbook_lib.steps import create_cluster
from runbook_lib.steps.cluster_network import _inbound_rules
from runbook_lib.steps.cluster_request import differences

OPTIONS: list[dict[str, Any]] = [
    {},
    {"db_instance_class": "db.serverless", "serverless_min_capacity": 0, "serverless_max_capacity": 4},
    {"db_instance_class": "db.serverless", "serverless_min_capacity": 0.5, "serverless_max_capacity": 1},
    {"engine": "aurora-postgresql"},
    {"engine": "aurora-postgresql", "db_instance_class": "db.serverless", "serverless_min_capacity": 0,
     "serverless_max_capacity": 2, "database_name": "orders", "enable_cloudwatch_logs_exports": ["postgresql"]},
    {"reader_count": 2, "enable_cloudwatch_logs_exports": ["error", "audit"], "deletion_protection": True,
     "backup_retention_period": 35, "copy_tags_to_snapshot": False, "port": 3307, "allowed_cidr": "fd00::/8"},
]  # fmt: skip


@pytest.mark.parametrize("given", OPTIONS, ids=lambda given: " ".join(map(str, given.values())) or "defaults")
def test_what_was_created_is_kept_when_05_is_planned_again(walk: Walk, given: dict[str, Any]) -> None:
    """As after an interruption: nothing is refused, changed or created."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    walk.bring_in()
    step, asked = walk.step("05"), CreateClusterInputs.check(given)
    create_cluster.apply(step, create_cluster.plan(step, asked))
    again = create_cluster.plan(walk.step("05"), asked)
    assert {"keep"} == {change.action for change in again.changes}, again.changes


@pytest.mark.parametrize(("existing", "requested", "said"), [
    ({"A": {"Min": 0.0, "Max": 4.0, "Added": 300}}, {"A": {"Min": 0, "Max": 4}}, ""),
    ({"A": {"Min": 0.0, "Max": 8.0}}, {"A": {"Min": 0, "Max": 4}}, "A is {'Min': 0.0, 'Max': 8.0}, requested"),
    ({"A": ["error", "audit"]}, {"A": ["audit", "error"]}, ""),
    ({"A": ["error"]}, {"A": ["audit", "error"]}, "A is ['error'], requested"),
    ({}, {"A": False}, ""),
    ({}, {"A": True}, "A is None, requested True"),
    ({}, {"A": {"Min": 1}}, "A is None, requested"),
])  # fmt: skip
def test_a_difference_is_what_was_requested_and_is_not_so(existing: Any, requested: Any, said: str) -> None:
    """Each with its twin."""
    found = differences(existing, requested, ("A",))
    assert found.startswith(said) if said else found == ""


@pytest.mark.parametrize(("rule", "said"), [
    ({"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
     "10.0.0.0/8 on port 3306"),
    ({"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 65535, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
     "10.0.0.0/8 on ports 3306 to 65535"),
    ({"IpProtocol": "udp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
     "10.0.0.0/8 on port 3306 of udp"),
    ({"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}, "::/0 on all ports and protocols"),
    ({"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "UserIdGroupPairs": [{"GroupId": "sg-1"}]},
     "sg-1 on port 3306"),
    ({"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "PrefixListIds": [{"PrefixListId": "pl-1"}]},
     "pl-1 on port 3306"),
    ({"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "SomethingNew": [{"Id": "x"}]},
     "an unknown source on port 3306"),
])  # fmt: skip
def test_an_inbound_rule_is_read_whole(rule: dict[str, Any], said: str) -> None:
    """Protocol, both ports and every kind of source: a wider rule is not the one that was requested."""
    assert [said] == [str(one) for one in _inbound_rules({"IpPermissions": [rule]})]
    asked = {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    assert (rule == asked) == (_inbound_rules({"IpPermissions": [rule]}) == _inbound_rules({"IpPermissions": [asked]}))
