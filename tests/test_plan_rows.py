"""What a plan says is what its apply does: no call behind a row that keeps, no cost beside another cost."""

from __future__ import annotations

import pytest
from walk import Walk, custody_of

from runbook_lib.aws import sandbox_process
from runbook_lib.inputs.rds import CreateClusterInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.plan import Change
from runbook_lib.steps import create_cluster
from runbook_lib.steps import start as start_step

RULE = "ec2:AuthorizeSecurityGroupIngress"


def test_the_plan_of_00_carries_no_cost_of_its_own(walk) -> None:
    """It lists what the whole run will change, and the estimate below says what that costs: not `Cost: none`."""
    inputs = StartInputs.check({"run_id": "demo"})
    plan = start_step.plan(start_step.open_run(inputs, runs_dir=walk.folder), inputs)
    assert "Cost" not in repr(plan)
    assert "Cost" not in plan._repr_html_()
    walk.start()
    assert "Cost: none" in repr(walk.pair().plan())


def test_a_row_that_keeps_calls_nothing() -> None:
    """`keep` with a call is refused when the row is built: the plan would say that nothing happens."""
    with pytest.raises(ValueError, match="a row that keeps 'key material' names the calls 'kms:ImportKeyMaterial'"):
        Change("keep", "key material", "alias/k", "sent", "kms:ImportKeyMaterial")
    assert "" == Change("keep", "key material", "alias/k", "imported").calls


def _authorized(walk: Walk) -> int:
    found = sandbox_process.call(walk.endpoint, "/runbook/calls?since=0")["calls"]
    return [f"{call['service']}:{call['operation']}" for call in found].count(RULE)


def test_a_rule_that_is_missing_is_a_change_of_the_security_group(walk) -> None:
    """The group of the run is kept without a call while it lets in what was asked, and changed when it does not."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in()
    step, asked = walk.step("05"), CreateClusterInputs.check({"allowed_cidr": "10.0.0.0/16"})
    create_cluster.apply(step, create_cluster.plan(step, asked))
    assert 1 == _authorized(walk)

    plan = create_cluster.plan(step, asked)
    assert ("keep", "") == (plan.change("security group").action, plan.change("security group").calls)
    create_cluster.apply(step, plan)
    assert 1 == _authorized(walk)

    ec2 = walk.client("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["runbook-aurora-byok"]}])[
        "SecurityGroups"
    ]
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
    plan = create_cluster.plan(step, asked)
    assert ("change", RULE) == (plan.change("security group").action, plan.change("security group").calls)
    create_cluster.apply(step, plan)
    assert 2 == _authorized(walk)
