"""`runbook plan` and `runbook permissions`: a look ahead that reads only, and policies for the shell."""

from __future__ import annotations

import json
import re

import pytest


def test_plan_reads_only_and_says_what_a_run_would_change_lack_and_cost(world):
    """Changes, checks, permissions and cost, in words; every call is a read, and no run is left behind."""
    done = world.runbook("plan", "parameters/sandbox.yaml")
    for words in ("+ create  KMS key", "+ create  DB cluster", "checks passed", "no permission is missing", "total, "):
        assert words in done.stdout
    called = world.calls()
    assert 10 < len(called)
    assert [] == [call for call in called if not re.match(r"\w+:(Describe|Get|List|Simulate)", call)]
    assert [] == [path.name for path in world.folder.iterdir() if path.is_dir()]


def test_plan_names_what_the_caller_may_not_do(world):
    """A role without the right to create a cluster learns it before a key costs money: exit 1, the action named."""
    iam = world.client("iam")
    deny = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Action": ["rds:CreateDBCluster", "kms:ImportKeyMaterial"], "Resource": "*"}]}  # fmt: skip
    iam.put_role_policy(RoleName="Admin", PolicyName="no", PolicyDocument=json.dumps(deny))
    done = world.runbook("plan", code=1)
    missing = {line.split()[0] for line in done.stdout.splitlines() if "explicitDeny" in line}
    assert {"rds:CreateDBCluster", "kms:ImportKeyMaterial"} == missing


def test_plan_says_what_it_does_not_know(world):
    """Who may not ask IAM is told so, and sent to the policies; no action counts as missing for that."""
    iam = world.client("iam")
    allow = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["rds:*", "kms:*", "ec2:*", "iam:Get*"], "Resource": "*"}]}  # fmt: skip
    iam.put_role_policy(RoleName="Admin", PolicyName="some", PolicyDocument=json.dumps(allow))
    iam.detach_role_policy(RoleName="Admin", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    world.ask("/runbook/iam", {"account": "123456789012", "enforce": True})
    done = world.runbook("plan")
    assert "unknown: you are not allowed to call iam:SimulatePrincipalPolicy" in done.stdout


@pytest.mark.slow
def test_plan_fails_where_a_run_would_not_begin(world):
    """A name that is taken is found: exit 1, the failed check says whose it is."""
    world.runbook("run", "-p", "wrapping_key_spec", "RSA_2048", "--quiet")
    done = world.runbook("plan", "-p", "account_id", "123456789012", code=1)
    assert "and this run did not create it" in done.stdout


def actions_of(printed: str) -> set[str]:
    return {action for statement in json.loads(printed)["Statement"] for action in statement["Action"]}


def test_permissions_prints_a_policy_for_the_shell(world):
    """One step by name or number; without a step, what a schedule needs; what it allows beyond the run goes with it."""
    one = json.loads(world.runbook("permissions", "04", "--run-id", "demo").stdout)
    assert one == json.loads(world.runbook("permissions", "04_import_key_material", "--run-id", "demo").stdout)
    assert ["kms:ImportKeyMaterial"] == one["Statement"][0]["Action"]
    done = world.runbook("permissions")
    actions = actions_of(done.stdout)
    assert {"kms:CreateKey", "rds:CreateDBCluster", "secretsmanager:CreateSecret"} <= actions
    later = {"kms:ScheduleKeyDeletion", "kms:DeleteImportedKeyMaterial", "kms:Decrypt", "rds:DeleteDBCluster"}
    assert set() == later & actions
    assert "sts:GetCallerIdentity" not in actions
    assert "- import into another key of origin EXTERNAL the material that it had before, or its first\n" in done.stderr
    assert "'07' is not a step" in world.runbook("permissions", "07", code=2).stderr
    assert "run_id: '../x' is not a valid run ID" in world.runbook("permissions", "--run-id", "../x", code=2).stderr


@pytest.mark.slow
def test_permissions_of_a_run_are_for_its_key(world):
    """With the id of a run, its account and its key replace the placeholders, and what only a new key needs is left out."""
    world.runbook("run", "-p", "wrapping_key_spec", "RSA_2048", "--run-id", "mine", "--quiet")
    key = world.state("mine")["steps"]["01_create_key"]["record"]["key_arn"]
    for step in ([], ["80"], ["90"]):
        done = world.runbook("permissions", *step, "--run-id", "mine")
        named = {
            one for statement in json.loads(done.stdout)["Statement"] for one in statement["Resource"] if ":key/" in one
        }
        assert {key} == named, step
        assert "key" not in done.stderr.replace("a KMS key: if its key policy", "")
    assert set() == {"kms:CreateKey", "kms:TagResource"} & actions_of(
        world.runbook("permissions", "--run-id", "mine").stdout
    )
    before = world.runbook("permissions", "80")
    assert '"arn:aws:kms:eu-west-2:*:key/KEY_ID"' in before.stdout
    assert "KEY_ID stands for the run's key" in before.stderr


def test_permissions_prints_the_key_policy(world):
    """The document that 01 will show, for review before anybody signs in."""
    roles = ("-p", "key_administrators", "[role/Admin]", "-p", "key_users", "[role/User]")
    done = world.runbook("permissions", "--key-policy", "-p", "account_id", "123456789012", *roles)
    assert "arn:aws:iam::123456789012:role/Admin" == json.loads(done.stdout)["Statement"][1]["Principal"]["AWS"][0]
    assert "key_users: is empty" in world.runbook("permissions", "--key-policy", code=2).stderr
