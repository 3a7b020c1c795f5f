"""`runbook plan` and `runbook permissions`: a look ahead that reads only, and policies for the shell."""

from __future__ import annotations

import json
import re


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


def test_plan_fails_where_a_run_would_not_begin(world):
    """A name that is taken is found: exit 1, the failed check says whose it is."""
    world.runbook("run", "-p", "wrapping_key_spec", "RSA_2048", "--quiet")
    done = world.runbook("plan", "-p", "account_id", "123456789012", code=1)
    assert "and this run did not create it" in done.stdout


def test_permissions_prints_a_policy_for_the_shell(world):
    """One step by name or number, and all together; an unknown step is named."""
    one = json.loads(world.runbook("permissions", "04", "--run-id", "demo").stdout)
    assert one == json.loads(world.runbook("permissions", "04_import_key_material", "--run-id", "demo").stdout)
    assert ["kms:ImportKeyMaterial"] == one["Statement"][0]["Action"]
    whole = json.loads(world.runbook("permissions").stdout)
    actions = {action for statement in whole["Statement"] for action in statement["Action"]}
    assert {"kms:CreateKey", "rds:CreateDBCluster", "kms:ScheduleKeyDeletion", "secretsmanager:CreateSecret"} <= actions
    assert "sts:GetCallerIdentity" not in actions
    assert "'07' is not a step" in world.runbook("permissions", "07", code=2).stderr


def test_permissions_prints_the_key_policy(world):
    """The document that 01 will show, for review before anybody signs in."""
    roles = ("-p", "key_administrators", "[role/Admin]", "-p", "key_users", "[role/User]")
    done = world.runbook("permissions", "--key-policy", "-p", "account_id", "123456789012", *roles)
    assert "arn:aws:iam::123456789012:role/Admin" == json.loads(done.stdout)["Statement"][1]["Principal"]["AWS"][0]
    assert "key_users: is empty" in world.runbook("permissions", "--key-policy", code=2).stderr
