"""Drift between what was asked and what is there is listed, field by field; nothing is changed to hide it."""

from __future__ import annotations

import pytest
from cells import run_steps

from runbook_lib import errors
from runbook_lib.run.steps import chain

pytestmark = pytest.mark.slow

STEPS = [step.name for step in chain()]


@pytest.fixture(scope="module")
def made(shared_world):
    """A finished run in a sandbox whose things the tests change behind its back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNBOOK_RUNS_DIR", str(shared_world.folder))
        patch.setenv("RUNBOOK_SANDBOX_ENDPOINT", shared_world.sandbox.url)
        go(*STEPS)
        yield shared_world


def go(*names, **changed):
    run_steps(*names, run_id="drift", wrapping_key_spec="RSA_2048", db_cluster_identifier="drift", **changed)


def refused(name, **changed) -> str:
    """Run a step again; return why its plan was refused."""
    with pytest.raises(errors.PlanRefused) as told:
        go(name, **changed)
    return str(told.value)


def test_the_cluster_is_compared_field_by_field(made):
    """Each field that differs is named, with what is there and what was asked."""
    rds = made.client("rds")
    rds.modify_db_cluster(DBClusterIdentifier="drift", BackupRetentionPeriod=7, ApplyImmediately=True)
    said = refused("05_create_cluster", deletion_protection=True)
    assert "BackupRetentionPeriod is 7, requested 1; DeletionProtection is False, requested True" in said
    go("05_create_cluster", backup_retention_period=7)
    rds.modify_db_cluster(DBClusterIdentifier="drift", BackupRetentionPeriod=1, ApplyImmediately=True)


def test_the_instances_are_compared(made):
    """Class, tier and reach of each instance."""
    made.client("rds").modify_db_instance(DBInstanceIdentifier="drift-1", PromotionTier=9, ApplyImmediately=True)
    assert "PromotionTier is 9, requested 1" in refused("05_create_cluster")
    made.client("rds").modify_db_instance(DBInstanceIdentifier="drift-1", PromotionTier=1, ApplyImmediately=True)


def test_a_rule_that_somebody_added_to_the_security_group_is_found(made):
    """A network that was let in behind the run's back is named, and not taken away in silence."""
    ec2 = made.client("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["runbook-drift"]}])[
        "SecurityGroups"
    ]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[rule])
    said = refused("05_create_cluster")
    assert "allows 0.0.0.0/0 on port 22, requested nothing" in said
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[rule])
    go("05_create_cluster")


def test_a_subnet_group_with_other_subnets_is_found(made):
    """What the cluster may move to is part of what was asked."""
    rds = made.client("rds")
    (group,) = rds.describe_db_subnet_groups(DBSubnetGroupName="runbook-drift")["DBSubnetGroups"]
    all_of_them = [one["SubnetIdentifier"] for one in group["Subnets"]]
    rds.modify_db_subnet_group(DBSubnetGroupName="runbook-drift", SubnetIds=all_of_them[:2])
    assert "SubnetIds are" in refused("05_create_cluster")
    rds.modify_db_subnet_group(DBSubnetGroupName="runbook-drift", SubnetIds=all_of_them)


def test_the_key_is_compared(made):
    """Its description and its policy."""
    key_id, kms = made.state("drift")["steps"]["01_create_key"]["record"]["key_id"], made.client("kms")
    before = kms.describe_key(KeyId=key_id)["KeyMetadata"]["Description"]
    kms.update_key_description(KeyId=key_id, Description="mine now")
    said = refused("01_create_key")
    assert "description is 'mine now', requested 'Aurora storage encryption, imported key material'" in said
    kms.update_key_description(KeyId=key_id, Description=before)
