"""Right before each act on something that exists, it is looked at again: the same resource as in the plan, by its id.

A colleague deletes the resource after the plan was shown and creates another of the same name, here even with the same
tags. Nothing is done to the colleague's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from walk import custody_of

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import PlanOutdated
from runbook_lib.inputs import rds as rds_inputs
from runbook_lib.inputs.recovery import RecoverInputs, RecoveryDrillInputs
from runbook_lib.steps import clean_up, create_cluster, recover, recovery_drill, verify_encryption

sys.path.append(str(Path(__file__).parent.parent / "tools"))

from colleague import Colleague

pytestmark = pytest.mark.slow

NAME, GROUP, ALIAS = "aurora-byok", "runbook-aurora-byok", "alias/aurora-byok"
KEPT = "kept: another resource has this name now"


@pytest.fixture
def made(walk):
    """A run with everything: 00 to 06, with a snapshot and an inbound rule."""
    sandbox_process.call(walk.endpoint, "/runbook/progression", body={"mode": "immediate"}, method="POST")
    walk.start().pair().encrypt()
    walk.bring_in()
    launch(walk)
    looks(walk, take_snapshot=True)
    return walk


def launch(walk, **given):
    step, asked = walk.step("05"), rds_inputs.CreateClusterInputs.check({"allowed_cidr": "10.0.0.0/16", **given})
    create_cluster.apply(step, create_cluster.plan(step, asked))
    create_cluster.verify(step)


def looks(walk, **given):
    step, asked = walk.step("06"), rds_inputs.VerifyEncryptionInputs.check(given)
    verify_encryption.apply(step, verify_encryption.plan(step, asked))
    verify_encryption.verify(step)


def planned(walk, **given):
    """Return 90 as it stands in an open tab, confirmed."""
    step = walk.step("90")
    asked = rds_inputs.CleanUpInputs.check({"confirm_db_cluster_identifier": NAME, **given})
    return step, clean_up.plan(step, asked)


def outcomes(table):
    return {(resource, name): outcome for resource, name, outcome in table.rows}


def changes(walk, since):
    """Return the calls since a number of calls that change something."""
    found = sandbox_process.call(walk.endpoint, "/runbook/calls")["calls"][since:]
    return [one["operation"] for one in found if not one["operation"].startswith(("Describe", "Get", "List", "Lookup"))]


def count(walk):
    return len(sandbox_process.call(walk.endpoint, "/runbook/calls")["calls"])


# 90 ---------------------------------------------------------------------------------------------------------------


def replace_all(walk):
    """Replace everything that 90 deletes by name; return what identifies each."""
    other = Colleague(walk.client)
    other.replace_snapshot(f"{NAME}-evidence")
    cluster = other.replace_cluster(NAME)
    rds = walk.client("rds")
    rds.delete_db_instance(DBInstanceIdentifier=f"{NAME}-1", SkipFinalSnapshot=True)
    return cluster, other.move_alias(ALIAS), other.replace_security_group(GROUP)


def test_90_keeps_a_cluster_that_has_the_name_now_and_says_so(made):
    """The plan is shown; a colleague replaces cluster and instances; apply deletes neither."""
    step, plan = planned(made)
    other = Colleague(made.client).replace_cluster(NAME)
    told = outcomes(clean_up.apply(step, plan))
    (left,) = made.client("rds").describe_db_clusters()["DBClusters"]
    assert (other, [f"{NAME}-1"]) == (
        left["DbClusterResourceId"], [one["DBInstanceIdentifier"] for one in left["DBClusterMembers"]],
    )  # fmt: skip
    assert told["DB cluster", NAME].startswith(KEPT)
    assert told["DB instance", f"{NAME}-1"].startswith(KEPT)


def test_90_turns_no_deletion_protection_off_that_is_anothers(made):
    """The row that changes the cluster looks again too."""
    made.client("rds").modify_db_cluster(DBClusterIdentifier=NAME, DeletionProtection=True, ApplyImmediately=True)
    step, plan = planned(made)
    assert "change" in [change.action for change in plan.changes]
    Colleague(made.client).replace_cluster(NAME)
    made.client("rds").modify_db_cluster(DBClusterIdentifier=NAME, DeletionProtection=True, ApplyImmediately=True)
    clean_up.apply(step, plan)
    assert made.client("rds").describe_db_clusters()["DBClusters"][0]["DeletionProtection"]


def test_90_keeps_an_instance_that_has_the_name_now(made):
    """Only one instance is replaced: it is kept, and the cluster with it."""
    step, plan = planned(made)
    other = Colleague(made.client).replace_instance(f"{NAME}-1")
    before = count(made)
    told = outcomes(clean_up.apply(step, plan))
    assert told["DB instance", f"{NAME}-1"].startswith(KEPT)
    assert told["DB cluster", NAME].startswith("kept: InvalidDBClusterStateFault")
    assert "DeleteDBInstance" not in changes(made, before)
    assert other == made.client("rds").describe_db_instances()["DBInstances"][0]["DbiResourceId"]


def test_90_keeps_snapshot_security_group_and_alias_that_are_others_now(made):
    """A snapshot copies the tags of its cluster, so that tags prove nothing: its creation time does."""
    step, plan = planned(made)
    assert {"delete"} == {change.action for change in plan.changes}
    _, key, group = replace_all(made)
    told = outcomes(clean_up.apply(step, plan))
    rds, ec2 = made.client("rds"), made.client("ec2")
    assert [f"{NAME}-evidence"] == [
        one["DBClusterSnapshotIdentifier"]
        for one in rds.describe_db_cluster_snapshots(SnapshotType="manual")["DBClusterSnapshots"]
    ]
    assert [group] == [one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]
                       if one["GroupName"] == GROUP]  # fmt: skip
    aliases = {one["AliasName"]: one.get("TargetKeyId") for one in made.client().list_aliases()["Aliases"]}
    assert key == aliases[ALIAS]
    assert told["cluster snapshot", f"{NAME}-evidence"].startswith(KEPT)
    assert told["alias", ALIAS].startswith(KEPT)
    assert "deleted" == told["security group", GROUP]  # by its id, the run's is gone


def test_90_keeps_a_subnet_group_that_is_a_colleagues_now(made):
    """It has no resource id and the same ARN: its tags tell."""
    step, plan = planned(made)
    rds = made.client("rds")
    rds.delete_db_instance(DBInstanceIdentifier=f"{NAME}-1", SkipFinalSnapshot=True)
    rds.delete_db_cluster(DBClusterIdentifier=NAME, SkipFinalSnapshot=True)
    rds.describe_db_instances(), rds.describe_db_clusters()
    Colleague(made.client).replace_subnet_group(GROUP)
    assert outcomes(clean_up.apply(step, plan))["subnet group", GROUP].startswith(KEPT)
    assert GROUP in [one["DBSubnetGroupName"] for one in rds.describe_db_subnet_groups()["DBSubnetGroups"]]


def test_90_applied_twice_deletes_nothing_that_came_between(made):
    """The cell is run once more after a colleague took the names: the same plan changes nothing."""
    step, plan = planned(made)
    tags = made.client("rds").describe_db_clusters()["DBClusters"][0]["TagList"]
    clean_up.apply(step, plan)
    Colleague(made.client).create_cluster(NAME, [f"{NAME}-1"], tags)
    made.client().create_alias(AliasName=ALIAS, TargetKeyId=made.client().create_key()["KeyMetadata"]["KeyId"])
    before = count(made)
    clean_up.apply(step, plan)
    assert [] == [call for call in changes(made, before) if call != "ScheduleKeyDeletion"]


def test_90_deletes_all_of_its_own(made):
    """The twin: nothing was replaced, and only the key that is pending deletion is left."""
    step, plan = planned(made)
    told = outcomes(clean_up.apply(step, plan))
    assert not [outcome for outcome in told.values() if outcome.startswith("kept")]
    assert clean_up.verify(step).passed
    assert [] == made.client("rds").describe_db_clusters()["DBClusters"]


# 05, 06, 80, recover ----------------------------------------------------------------------------------------------


def test_05_opens_no_security_group_that_is_anothers(made):
    """The plan adds an inbound rule to the run's group; another group has its name now."""
    ec2 = made.client("ec2")
    group = next(one for one in ec2.describe_security_groups()["SecurityGroups"] if one["GroupName"] == GROUP)
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
    step, asked = made.step("05"), rds_inputs.CreateClusterInputs.check({"allowed_cidr": "10.0.0.0/16"})
    plan = create_cluster.plan(step, asked)
    assert "change" == plan.change("security group").action
    other = Colleague(made.client).replace_security_group(GROUP)
    with pytest.raises(PlanOutdated, match="security group"):
        create_cluster.apply(step, plan)
    assert [] == ec2.describe_security_groups(GroupIds=[other])["SecurityGroups"][0]["IpPermissions"]


def test_05_adds_no_instance_to_a_cluster_that_is_anothers(made):
    """A reader is to be added; the cluster of that name is a colleague's now."""
    made.client("rds").delete_db_instance(DBInstanceIdentifier=f"{NAME}-1", SkipFinalSnapshot=True)
    step, asked = made.step("05"), rds_inputs.CreateClusterInputs.check({"allowed_cidr": "10.0.0.0/16"})
    plan = create_cluster.plan(step, asked)
    assert "create" == plan.change("DB instance").action
    Colleague(made.client).replace_cluster(NAME, instances=False)
    before = count(made)
    with pytest.raises(PlanOutdated, match="DB cluster aurora-byok"):
        create_cluster.apply(step, plan)
    assert [] == changes(made, before)


def test_06_takes_no_snapshot_of_a_cluster_that_is_anothers(made, capsys):
    """The snapshot would be of a colleague's data; the report then fails by the resource id."""
    made.client("rds").delete_db_cluster_snapshot(DBClusterSnapshotIdentifier=f"{NAME}-evidence")
    step, asked = made.step("06"), rds_inputs.VerifyEncryptionInputs.check({"take_snapshot": True})
    plan = verify_encryption.plan(step, asked)
    Colleague(made.client).replace_cluster(NAME)
    before = count(made)
    verify_encryption.apply(step, plan)
    assert [] == changes(made, before)
    assert "no snapshot was taken: aurora-byok is not the cluster that this run created" in capsys.readouterr().out


def test_recover_starts_no_cluster_that_is_anothers(walk):
    """The material is imported again; the cluster that has the name now is left alone."""
    sandbox_process.call(walk.endpoint, "/runbook/progression", body={"mode": "immediate"}, method="POST")
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in()
    walk.cluster()
    walk.delete_material()
    rds, step = walk.client("rds"), walk.step("04")
    asked = RecoverInputs.check({"run_id": "demo", "recovery_private_keys": [walk.private(0)]})
    for _ in range(20):
        plan = recover.plan(step, asked)
        if any(change.resource == "DB cluster" for change in plan.changes):
            break
        rds.describe_db_clusters()
    assert "change" == plan.change("DB cluster").action
    Colleague(walk.client).replace_cluster(NAME)
    before = count(walk)
    with pytest.raises(PlanOutdated, match="DB cluster aurora-byok"):
        recover.apply(step, plan)
    assert "Enabled" == walk.key["KeyState"]
    assert "StartDBCluster" not in changes(walk, before)


def test_80_deletes_no_material_once_the_cluster_is_anothers(made):
    """The drill was confirmed for the run's cluster, which is not there any more."""
    step, asked = made.step("80"), RecoveryDrillInputs.check({"run_id": "demo"})
    plan = recovery_drill.plan(step, asked)
    Colleague(made.client).replace_cluster(NAME)
    before = count(made)
    with pytest.raises(PlanOutdated, match="DB cluster aurora-byok"):
        recovery_drill.lose_material(step, plan)
    assert "DeleteImportedKeyMaterial" not in changes(made, before)
