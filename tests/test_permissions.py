"""Least privilege: each step passes with exactly its policy, and names what is missing when any one action is gone.

The steps are the notebooks' own cells, against a sandbox that enforces IAM: conditions, and what stands behind a call.
Key administrators and users are other roles than the caller's, so that nothing comes from the key's own policy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kms_support import connect, sandbox
from test_key_users import REFUSED

from runbook_lib.aws import practice_source, sandbox_process
from runbook_lib.aws.sandbox_accounts import account_of_seat
from runbook_lib.aws.session import Session
from runbook_lib.errors import InputError, RunbookError
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.steps import (
    CLEAN_UP,
    CUT_OVER,
    ENCRYPT_EXISTING_CLUSTER,
    ROTATE_KEY_MATERIAL,
    WATCH_KEY,
    all_steps,
    chain,
)
from runbook_lib.steps import clean_up, permissions, rotate_key_material
from runbook_lib.steps.open_step import open_step

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from notebook_cells import execute_cells

REGION, CLUSTER = "eu-west-2", "least"
STEPS = list(all_steps())
CHAIN = [step.name for step in chain()]
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
EVERYTHING = {
    "key_administrators": ["role/KeyAdmin"], "key_users": ["role/KeyUser", "user/Ann"], "key_alias": "alias/least",
    "db_cluster_identifier": CLUSTER, "allowed_cidr": "10.0.0.0/16", "take_snapshot": True, "deletion_protection": True,
    "wrapping_key_spec": "RSA_2048", "monitoring_interval": 60, "master_user_secret_kms_key_id": "alias/password",
    "db_cluster_parameter_group_name": "given-cluster", "db_parameter_group_name": "given-instance",
}  # fmt: skip
ANYWHERE = (
    ENCRYPT_EXISTING_CLUSTER,
    CUT_OVER,
    ROTATE_KEY_MATERIAL,
    WATCH_KEY,
)  # the same with every network: tried once
LOOKED_AT = {f"{service}:{operation}" for service, operation in REFUSED}  # what 90 looks at before the key goes
GIVEN_NETWORK = {"allowed_cidr": "", "take_snapshot": False, "final_db_snapshot_identifier": "last"}
QUOTA_CHARACTERS = 6144  # what a managed policy may hold, white space not counted (IAM quotas)


def without(document: Mapping[str, Any], action: str) -> dict[str, Any]:
    """Return a policy with one action taken out of it: for finding out whether it is needed."""
    kept = []
    for statement in document["Statement"]:
        if actions := [one for one in statement["Action"] if one != action]:
            kept.append({**statement, "Action": actions})
    return {**document, "Statement": kept}


def actions_of(document: Mapping[str, Any]) -> list[str]:
    """Return the actions of a policy, each once, in order."""
    return list(dict.fromkeys(action for statement in document["Statement"] for action in statement["Action"]))


class Account:
    """One account of the sandbox: a run in it, its caller's policy, and whether IAM is enforced."""

    def __init__(self, endpoint: str, seat: int, runs: Path, **changed: Any) -> None:
        self.endpoint, self.id, self.runs = endpoint, account_of_seat(seat), runs
        self.iam, self.rds, self.ec2, self.kms = (
            connect(endpoint, name, account=self.id) for name in ("iam", "rds", "ec2", "kms")
        )
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
                 "Principal": {"Service": "monitoring.rds.amazonaws.com"}}]}  # fmt: skip
        for name in ("KeyAdmin", "KeyUser", "Monitoring"):
            self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        self.iam.create_user(UserName="Ann")
        key = self.kms.create_key()["KeyMetadata"]["KeyId"]
        self.kms.create_alias(AliasName="alias/password", TargetKeyId=key)
        family, text = "aurora-mysql8.0", "given"
        self.rds.create_db_cluster_parameter_group(
            DBClusterParameterGroupName="given-cluster", DBParameterGroupFamily=family, Description=text
        )
        self.rds.create_db_parameter_group(
            DBParameterGroupName="given-instance", DBParameterGroupFamily=family, Description=text
        )
        # Of others: what 80 and 90 look at, to see whether it needs the key.
        connect(endpoint, "backup", account=self.id).create_backup_vault(BackupVaultName="others")
        connect(endpoint, "secretsmanager", account=self.id).create_secret(Name="others", SecretString="x")
        practice_source.make(Session(target="sandbox", region=REGION, account_id=self.id, endpoint_url=endpoint))
        self.iam.delete_role(RoleName="AWSServiceRoleForRDS")  # which that cluster brought: the account has none yet
        self._proxy_of_others()
        self._trail_of_others()
        role = f"arn:aws:iam::{self.id}:role/Monitoring"
        self.given = {
            **EVERYTHING, "account_id": self.id, "region": REGION, "run_id": "least", "exercises": False,
            "monitoring_role_arn": role, "confirm_db_cluster_identifier": CLUSTER, "sns_kms_key_id": self._key_for_topics(),
            **changed,
        }  # fmt: skip
        self.given["monitoring_role_arn"] = role if self.given["monitoring_interval"] else ""

    def _proxy_of_others(self) -> None:
        """Create an RDS proxy that has nothing to do with the run: 10 looks whether the existing cluster is its target."""
        subnets = [one["SubnetId"] for one in self.ec2.describe_subnets()["Subnets"]]
        role = f"arn:aws:iam::{self.id}:role/KeyUser"
        secret = f"arn:aws:secretsmanager:{REGION}:{self.id}:secret:x"
        self.rds.create_db_proxy(
            DBProxyName="others", EngineFamily="MYSQL", Auth=[{"AuthScheme": "SECRETS", "SecretArn": secret}], RoleArn=role,
            VpcSubnetIds=subnets, VpcSecurityGroupIds=[],
        )  # fmt: skip

    def _trail_of_others(self) -> None:
        """Create a trail: 21 looks whether one logs the events of KMS."""
        where = {"LocationConstraint": REGION}
        bucket = f"trail-{self.id}"
        connect(self.endpoint, "s3", account=self.id).create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        client = connect(self.endpoint, "cloudtrail", account=self.id)
        client.create_trail(Name="others", S3BucketName=bucket)
        client.start_logging(Name="others")

    def _key_for_topics(self) -> str:
        """Create the key of an SNS topic, which CloudWatch and EventBridge may use."""
        services = ["cloudwatch.amazonaws.com", "events.amazonaws.com"]
        principals = [{"AWS": f"arn:aws:iam::{self.id}:root"}, {"Service": services}]
        statements = [{"Effect": "Allow", "Principal": one, "Action": "kms:*", "Resource": "*"} for one in principals]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        return str(self.kms.create_key(Policy=policy)["KeyMetadata"]["KeyId"])

    def known(self, *, key: bool = True) -> dict[str, Any]:
        """Return what the policies are made from; with `key`, the run's KMS key too, if there is one."""
        arn = self.key_arn() if key else ""
        return permissions.values(self.given, run_id="least", account_id=self.id, key_arn=arn)

    def key_arn(self) -> str:
        """Return the KMS key with the run's tag, whatever the run's record says."""
        self.enforce(False)
        for found in self.kms.list_keys()["Keys"]:
            tags = self.kms.list_resource_tags(KeyId=found["KeyId"])["Tags"]
            if {"TagKey": "runbook:run-id", "TagValue": "least"} in tags:
                return str(found["KeyArn"])
        return ""

    def enforce(self, on: bool) -> None:
        sandbox_process.call(self.endpoint, "/runbook/iam", body={"account": self.id, "enforce": on}, method="POST")

    def allow(self, document: dict[str, Any] | None) -> None:
        """Give the caller this policy and no other; None: whatever it likes."""
        self.enforce(False)
        if document is None:
            self.iam.attach_role_policy(RoleName="Admin", PolicyArn=ADMINISTRATOR)
        else:
            attached = self.iam.list_attached_role_policies(RoleName="Admin")["AttachedPolicies"]
            if attached:
                self.iam.detach_role_policy(RoleName="Admin", PolicyArn=ADMINISTRATOR)
            nothing = [{"Effect": "Deny", "Action": "none:Nothing", "Resource": "*"}]  # IAM takes no empty policy
            text = json.dumps({**document, "Statement": document["Statement"] or nothing})
            self.iam.put_role_policy(RoleName="Admin", PolicyName="step", PolicyDocument=text)
        self.enforce(True)

    def asked(self) -> list[str]:
        """Return the actions that IAM was asked for since enforcement was switched on, each once, in order."""
        return list(sandbox_process.call(self.endpoint, "/runbook/iam", method="GET")["enforced"][self.id])

    def run(self, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
        """Execute a step's cells; return '' or why it stopped."""
        monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(self.runs))
        step = all_steps()[name]
        given = {field: self.given[field] for field in step.inputs.model_fields if field in self.given}
        return execute_cells(notebooks_folder() / f"{name}.ipynb", self.runs / "out.ipynb", given)

    def plan_of_clean_up(self) -> str:
        """Return the rows of 90's plan, or why there is none: what it may not look at keeps the key, and is named."""
        asked = CleanUpInputs.check({"run_id": "least"})
        try:
            plan = clean_up.plan(open_step(CLEAN_UP, run_id="least", runs_dir=self.runs), asked)
        except RunbookError as error:
            return str(error)
        return "\n".join(f"{change.action} {change.name}: {change.detail}" for change in plan.changes)

    def die_after(self, name: str) -> None:
        """Make the run's section of a step what it is when the process died before any answer to a create arrived."""
        file = self.runs / "least" / "state.json"
        state = json.loads(file.read_text())
        state["steps"][name] |= {"status": "started", "record": {}}
        for intent in state["steps"][name]["intents"].values():
            intent |= {"outcome": "unclear", "resources": []}
        file.write_text(json.dumps(state))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNBOOK_SANDBOX_ENDPOINT", url)
        patch.setenv("RUNBOOK_ATTENDED", "0")
        sandbox_process.call(url, "/runbook/progression", body={"mode": "immediate"}, method="POST")
        yield url


def take_away_one_by_one(
    endpoint: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, seat: int, given: dict[str, Any]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Walk the steps twice: once to see what each asks for, once with each of those taken away in turn.

    The actions are taken away in the order in which they are asked for, so that each failure stops the step where the
    last one did, and the whole policy then brings it through. With a given network the policies of 00 to 06 are those for
    a run without a key, else those for its key. Returns what was asked for and what the policies hold.
    """
    probe = Account(endpoint, seat, folder / "probe", **given)
    tried = Account(endpoint, seat + 1, folder / "tried", **given)
    for account in (probe, tried):
        account.runs.mkdir()
        if "final_db_snapshot_identifier" in given:
            _give_network(account)
    needed: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}
    given_network = "final_db_snapshot_identifier" in given
    for name in STEPS:
        if name == CUT_OVER or (given_network and name in ANYWHERE):
            continue
        first_run = given_network and name < "07"
        needed[name], held[name] = _take_away(probe, tried, name, monkeypatch, first_run=first_run)
    return needed, held


def _take_away(
    probe: Account, tried: Account, name: str, monkeypatch: pytest.MonkeyPatch, *, first_run: bool = False
) -> tuple[set[str], set[str]]:
    """Do a step with everything allowed, then with each action that it asked for taken away, then with its policy."""
    probe.allow(None)
    assert "" == probe.run(name, monkeypatch), name
    order = probe.asked()
    policy = permissions.policy([name], tried.known(key=not first_run))
    for action in order:
        tried.allow(without(policy, action))
        reason = tried.plan_of_clean_up() if name == CLEAN_UP and action in LOOKED_AT else tried.run(name, monkeypatch)
        assert action in reason, f"{name} without {action}: {reason or 'passed'}"
    tried.allow(policy)
    assert "" == tried.run(name, monkeypatch), name
    return set(order), set(actions_of(policy))


def _give_network(account: Account) -> None:
    """Make a subnet group and a security group that are given to the run."""
    subnets = account.ec2.describe_subnets()["Subnets"]
    account.rds.create_db_subnet_group(
        DBSubnetGroupName="given", DBSubnetGroupDescription="given", SubnetIds=[one["SubnetId"] for one in subnets]
    )
    group = account.ec2.create_security_group(GroupName="given", Description="given", VpcId=subnets[0]["VpcId"])
    account.given |= {"db_subnet_group_name": "given", "vpc_security_group_ids": [group["GroupId"]]}


@pytest.fixture(scope="module")
def walks(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both walks: everything made by the run, and with a given network and a final snapshot."""
    found = []
    for seat, given in ((11, {}), (21, GIVEN_NETWORK)):
        with pytest.MonkeyPatch.context() as patch:
            folder = tmp_path_factory.mktemp("permissions")
            found.append(take_away_one_by_one(endpoint, folder, patch, seat=seat, given=given))
    return found


@pytest.mark.slow
def test_each_step_passes_with_exactly_its_policy_and_fails_without_any_one_action(walks: Any) -> None:
    """Taken away one by one, each action is named by the error that comes; with all of them the step passes."""
    taken = sum(len(actions) for needed, _ in walks for actions in needed.values())
    assert 100 < taken


def test_a_policy_names_its_conditions_and_the_run(endpoint: str) -> None:
    """The policy of 02, whole: the algorithm and size asked for, and nothing else, on keys of this account and Region."""
    known = permissions.values({"wrapping_key_spec": "RSA_3072"}, account_id="123456789012")
    keys = ["arn:aws:kms:eu-west-2:123456789012:key/*"]
    assert {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow", "Action": ["kms:GetParametersForImport"], "Resource": keys,
                "Condition": {"StringEquals": {"kms:KeyOrigin": "EXTERNAL", "kms:WrappingAlgorithm": "RSAES_OAEP_SHA_256",
                                               "kms:WrappingKeySpec": "RSA_3072"}},
            },
            {"Effect": "Allow", "Action": ["kms:DescribeKey"], "Resource": keys},
        ],
    } == permissions.policy(["02_get_parameters_for_import"], known)  # fmt: skip


def test_the_table_holds_nothing_that_is_not_read() -> None:
    """A misspelt word in the table of steps would widen a policy in silence."""
    words = {"actions", "resources", "condition", "only_with", "only_without", "remains"}
    parameters = set(permissions.values({}))
    for step in all_steps().values():
        for row in step.permissions:
            assert set(row) <= words, (step.name, row)
            assert {row.get("only_with"), row.get("only_without")} - {None} <= parameters


@pytest.mark.parametrize("steps", [CHAIN, *([name] for name in STEPS)], ids=["00 to 06", *STEPS])
def test_every_policy_fits_into_a_managed_policy(steps: list[str]) -> None:
    """6,144 characters, with every option, the longest names and forty tags."""
    longest = {
        "db_cluster_identifier": "c" * 61,
        "key_alias": "alias/" + "a" * 200,
        "tags": {f"{n:0120}": "" for n in range(40)},
    }
    given = {**EVERYTHING, **longest, "monitoring_role_arn": "arn:aws:iam::123456789012:role/Monitoring"}
    known = permissions.values(given, run_id="r" * 63, account_id="123456789012")
    assert len(json.dumps(permissions.policy(steps, known), separators=(",", ":"))) <= QUOTA_CHARACTERS


# What a step needs only when it goes on after a crash, or the second time; each is tried below.
AGAIN = {
    "00_start": {"kms:ListResourceTags"},
    "01_create_key": {"kms:ListKeys", "kms:ListResourceTags"},
    "05_create_cluster": {"rds:ListTagsForResource"},
    "90_clean_up": {"kms:ListKeys"},
}


# What 90 needs once the key is deleted.
AFTER = {"90_clean_up": {"events:RemoveTargets", "events:DeleteRule", "sns:DeleteTopic"}}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STEPS if name != CUT_OVER])
def test_no_policy_allows_an_action_that_is_never_asked_for(walks: Any, name: str) -> None:
    """Nothing in a policy is there for nothing, but for what only a second attempt needs."""
    asked = set().union(*(needed.get(name, set()) for needed, _ in walks))
    held = set().union(*(policy.get(name, set()) for _, policy in walks))
    assert held - asked == (AGAIN.get(name, set()) | AFTER.get(name, set())) - asked
    assert asked <= held


@pytest.mark.by_command
@pytest.mark.slow
def test_a_cut_over_passes_with_exactly_its_policy(endpoint: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Confirmed, with everything that it closes, restores, deletes and renames; each action taken away in turn."""
    accounts = [Account(endpoint, seat, tmp_path / f"{seat}") for seat in (61, 62)]
    for account in accounts:
        account.runs.mkdir()
        account.given["confirm_source_db_cluster_identifier"] = practice_source.NAME
        for name in (*CHAIN[:6], ENCRYPT_EXISTING_CLUSTER):
            assert "" == account.run(name, monkeypatch), name
    needed, held = _take_away(*accounts, CUT_OVER, monkeypatch)
    assert held == needed


@pytest.mark.slow
def test_what_only_a_second_attempt_needs_is_needed(endpoint: str, tmp_path: Path, monkeypatch: Any) -> None:
    """After a crash the steps look for what they made; without the permission to look they stop, and double nothing."""
    account = Account(endpoint, 31, tmp_path)
    for name in STEPS[:-2]:
        assert "" == account.run(name, monkeypatch), name
    account.die_after("05_create_cluster")
    for name in ("00_start", "01_create_key", "05_create_cluster", "90_clean_up"):
        policy = permissions.policy([name], account.known())
        for action in sorted(AGAIN[name]):
            if name in ("01_create_key", "90_clean_up"):
                account.enforce(False)
                account.kms.delete_alias(AliasName="alias/least") if action == "kms:ListKeys" else None
                account.die_after("01_create_key")
            account.allow(without(policy, action))
            assert action in account.run(name, monkeypatch), (name, action)
        account.allow(policy)
        assert "" == account.run(name, monkeypatch), name
    account.enforce(False)
    assert 3 == len(account.kms.list_keys()["Keys"]) - sum(
        account.kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyManager"] == "AWS"
        for key in account.kms.list_keys()["Keys"]
    )  # the run's, the one of the password, and the one of topics


@pytest.mark.slow
def test_what_watched_a_deleted_key_is_deleted_with_its_permissions(
    endpoint: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """90 deletes rules and topic when it is run again after the key is deleted; without a permission it stops, and names it."""
    account = Account(endpoint, 51, tmp_path, pending_window_in_days=7)
    for name in (*CHAIN[:2], WATCH_KEY):
        assert "" == account.run(name, monkeypatch), name
    policy = permissions.policy([CLEAN_UP], account.known())
    assert "" == account.run(CLEAN_UP, monkeypatch)
    sandbox_process.call(endpoint, "/runbook/clock", body={"advance_seconds": 8 * 86400}, method="POST")
    for action in ("events:RemoveTargets", "events:DeleteRule", "sns:DeleteTopic"):
        account.allow(without(policy, action))
        assert action in account.run(CLEAN_UP, monkeypatch)
    account.allow(policy)
    assert "" == account.run(CLEAN_UP, monkeypatch)
    account.enforce(False)
    assert [] == connect(endpoint, "events", account=account.id).list_rules()["Rules"]
    sandbox_process.call(endpoint, "/runbook/clock", body={"reset": True}, method="POST")


@pytest.mark.slow
def test_dropping_a_pending_material_needs_its_permission(endpoint: str, tmp_path: Path, monkeypatch: Any) -> None:
    """20 is allowed to delete key material only when it is asked to, and then only on the run's own key."""
    account = Account(endpoint, 41, tmp_path)
    for name in CHAIN[:5]:
        assert "" == account.run(name, monkeypatch), name
    name, action = "20_rotate_key_material", "kms:DeleteImportedKeyMaterial"
    assert action not in actions_of(permissions.policy([name], account.known()))

    def stopped(*_: Any) -> str:
        raise InputError([("rotation", "stopped here")])

    with monkeypatch.context() as patch:
        patch.setattr(rotate_key_material, "_sent_rotation", stopped)
        assert "stopped here" in account.run(name, monkeypatch)
    account.given["delete_pending_material"] = True
    policy = permissions.policy([name], account.known())
    [statement] = [one for one in policy["Statement"] if action in one["Action"]]
    assert account.key_arn() in statement["Resource"]
    assert 1 == len(statement["Resource"])
    account.allow(without(policy, action))
    assert action in account.run(name, monkeypatch)
    account.allow(policy)
    assert "" == account.run(name, monkeypatch)
    account.enforce(False)
