"""Whose a resource is: what this run folder recorded, by id; names, run ids and tags that were copied prove nothing.

Two folders with one run id, as both keep the notebooks' defaults: run demo, cluster aurora-byok.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from test_look_again import GROUP, NAME, launch, looks, outcomes, planned
from walk import Walk

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import OutcomeUnclear, PlanRefused, RunbookError
from runbook_lib.inputs import kms as kms_inputs
from runbook_lib.inputs import rds as rds_inputs
from runbook_lib.inputs import start as start_inputs
from runbook_lib.run.run import STATE, Run
from runbook_lib.steps import clean_up, create_cluster, create_key, ownership
from runbook_lib.steps import start as start_step
from runbook_lib.steps.open_step import MARK_TAG, RUN_ID_TAG, STEP_TAG

sys.path.append(str(Path(__file__).parent.parent / "tools"))

from colleague import Colleague

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"
TARGET = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}


def begin(walk):
    """Do 00 only."""
    step = start_step.open_run(start_inputs.StartInputs.check({"run_id": "demo"}), runs_dir=walk.folder)
    walk._session = step.session
    start_step.apply(step, start_step.plan(step, start_inputs.StartInputs.check({"run_id": "demo"})))
    start_step.verify(step)
    return walk


def key(walk):
    """Do 01."""
    step = walk.step("01")
    create_key.apply(step, create_key.plan(step, kms_inputs.CreateKeyInputs.check({})))
    create_key.verify(step)
    return walk


@pytest.fixture
def folders(walk, tmp_path):
    """Two folders with one run id, in which 00 is done: A, and a colleague's B."""
    sandbox_process.call(walk.endpoint, "/runbook/progression", body={"mode": "immediate"}, method="POST")
    folder = tmp_path / "colleague" / "runs"
    folder.mkdir(parents=True, mode=0o700)
    other = Walk(folder, walk.endpoint)
    return begin(walk), begin(other)


def copied(walk, tmp_path):
    """Return a copy of the whole run folder, as `cp -a` makes it."""
    folder = tmp_path / "copy" / "runs"
    folder.mkdir(parents=True, mode=0o700)
    shutil.copytree(walk.path, folder / "demo")
    other = Walk(folder, walk.endpoint)
    other._session = walk._session
    return other


def whole(walk):
    """Do 01 to 05."""
    key(walk).pair().encrypt()
    walk.bring_in()
    launch(walk)
    return walk


def drop(walk, operation, **more):
    """Lose the next answers of an operation."""
    body = {"operation": operation, "kind": "drop_after", **more}
    sandbox_process.call(walk.endpoint, "/runbook/faults", body=body, method="POST")


def keys(walk):
    return [one["KeyId"] for one in walk.client().list_keys()["Keys"]
            if walk.client().describe_key(KeyId=one["KeyId"])["KeyMetadata"]["KeyManager"] == "CUSTOMER"]  # fmt: skip


# Two folders with one run id --------------------------------------------------------------------------------------


def test_a_folder_that_did_00_only_deletes_nothing_of_the_other(folders):
    """Its 90 keeps cluster, subnet group and security group, and says that it did not create them."""
    a, b = folders
    whole(a)
    step, plan = planned(b)
    assert {("keep", "DB cluster"), ("keep", "subnet group"), ("keep", "security group")} == {
        (change.action, change.resource) for change in plan.changes
    }
    clean_up.apply(step, plan)
    assert [NAME] == [one["DBClusterIdentifier"] for one in a.client("rds").describe_db_clusters()["DBClusters"]]
    assert GROUP in [one["GroupName"] for one in a.client("ec2").describe_security_groups()["SecurityGroups"]]
    assert "Enabled" == a.key["KeyState"]


def test_after_a_broken_off_05_the_other_folders_cluster_is_kept(folders):
    """B's answers were lost, so that its creates are open; A's resources have other marks."""
    a, b = folders
    whole(a)
    for resource in (
        ownership.KEY,
        ownership.CLUSTER,
        ownership.INSTANCE,
        ownership.SUBNET_GROUP,
        ownership.SECURITY_GROUP,
    ):
        b.run.intend(*ownership.requests_of(resource, f"{NAME}-1")[0])
    step, plan = planned(b)
    assert [] == [change for change in plan.changes if change.action != "keep"]
    clean_up.apply(step, plan)
    assert [NAME] == [one["DBClusterIdentifier"] for one in a.client("rds").describe_db_clusters()["DBClusters"]]
    with pytest.raises(RunbookError):
        launch(b)


def test_after_a_dropped_create_key_each_folder_has_its_own(folders):
    """B's request is lost on the way; it finds A's key, with the same run id, and creates its own."""
    a, b = folders
    key(a)
    b_step = b.step("01")
    asked = kms_inputs.CreateKeyInputs.check({"key_alias": "alias/b"})
    client, sent = b_step.client("kms", retry=False), []

    def lost(**request):
        sent.append(request)
        if len(sent) == 1:
            raise ConnectionClosedError(endpoint_url="http://x")
        return real(**request)

    real, client.create_key = client.create_key, lost
    create_key.apply(b_step, create_key.plan(b_step, asked))
    assert 2 == len(sent)
    assert a.key_id != b.run.made("01_create_key")["key_id"]
    assert sorted([a.key_id, b.run.made("01_create_key")["key_id"]]) == sorted(keys(a))


def test_a_copied_folder_takes_no_key_of_the_original(folders, tmp_path):
    """The folder was copied after 00; the original has its key, the copy's request is lost: it creates its own."""
    a, _ = folders
    copy = copied(a, tmp_path)
    key(a)
    step = copy.step("01")
    client, sent = step.client("kms", retry=False), []

    def lost(**request):
        sent.append(request)
        raise ConnectionClosedError(endpoint_url="http://x")

    client.create_key = lost
    with pytest.raises(OutcomeUnclear):
        create_key.apply(step, create_key.plan(step, kms_inputs.CreateKeyInputs.check({"key_alias": "alias/copy"})))
    assert create_key.find_by_run(step) is None
    assert a.key_id == create_key.find_by_run(a.step("01"))


def test_two_keys_with_one_mark_are_told_and_none_is_taken(folders, tmp_path):
    """Two copies of a folder whose create was open went on: which key is whose, nobody can tell."""
    a, _ = folders
    a.run.intend("01_create_key", create_key.CALL)
    tags = [{"TagKey": name, "TagValue": value} for name, value in
            {RUN_ID_TAG: "demo", STEP_TAG: "01_create_key", MARK_TAG: a.run.mark}.items()]  # fmt: skip
    made = [a.client().create_key(Origin="EXTERNAL", Tags=tags)["KeyMetadata"]["KeyId"] for _ in range(2)]
    with pytest.raises(OutcomeUnclear) as told:
        create_key.find_by_run(a.step("01"))
    assert all(one in str(told.value) for one in made)


def test_a_restored_folder_finds_what_its_lost_request_created(folders, tmp_path, monkeypatch):
    """The process died in CreateKey, and the folder was moved by a copy: the copy finds the key by the mark it was sent with."""
    a, _ = folders
    drop(a, "kms:CreateKey", count=9)
    with monkeypatch.context() as patch:
        patch.setattr(create_key, "find_by_run", lambda _: None)
        patch.setattr("runbook_lib.aws.create_once._ATTEMPTS", 1)
        with pytest.raises(OutcomeUnclear):
            key(a)
    sandbox_process.call(a.endpoint, "/runbook/faults", method="DELETE")
    (only,) = keys(a)
    mark = a.run.mark
    copy = copied(a, tmp_path)
    shutil.rmtree(a.path)
    key(copy)
    assert [only] == keys(a)
    assert mark != copy.run.mark
    assert (only,) == copy.run.intent("01_create_key", create_key.CALL).resources


def test_90_deletes_what_was_recorded_under_another_name(folders):
    """05 broke off after the network; the form was edited to another cluster name; both networks are the run's."""
    a, _ = folders
    key(a).pair().encrypt()
    a.bring_in()
    step, asked = a.step("05"), rds_inputs.CreateClusterInputs.check({"db_cluster_identifier": "first"})
    fault = {
        "operation": "rds:CreateDBCluster",
        "kind": "error",
        "status": 400,
        "code": "InsufficientStorageClusterCapacity",
    }
    sandbox_process.call(a.endpoint, "/runbook/faults", body=fault, method="POST")
    with pytest.raises(ClientError):
        create_cluster.apply(step, create_cluster.plan(step, asked))
    launch(a)
    step, plan = planned(a)
    clean_up.apply(step, plan)
    assert ["default"] == [one["GroupName"] for one in a.client("ec2").describe_security_groups()["SecurityGroups"]]
    left = [one["DBSubnetGroupName"] for one in a.client("rds").describe_db_subnet_groups()["DBSubnetGroups"]]
    assert not [name for name in left if name.startswith("runbook-")]
    assert clean_up.verify(step).passed


def test_90_deletes_a_snapshot_that_06_did_not_come_to_note(folders, monkeypatch):
    """The process died between the answer and the note: the name is in the intent."""
    a, _ = folders
    whole(a)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "note", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            looks(a, take_snapshot=True)
    step, plan = planned(a)
    assert "delete" == plan.change("cluster snapshot").action
    assert "delete" == plan.change("KMS key").action
    clean_up.apply(step, plan)
    assert clean_up.verify(step).passed


# Tags are no proof ------------------------------------------------------------------------------------------------


def test_what_a_dropped_answer_left_is_found_by_its_mark(folders):
    """The twin: every answer to a create is lost, and each resource is found and recorded, and later deleted."""
    a, _ = folders
    for operation in ("kms:CreateKey", "rds:CreateDBSubnetGroup", "ec2:CreateSecurityGroup", "rds:CreateDBCluster",
                      "rds:CreateDBInstance"):  # fmt: skip
        drop(a, operation)
    whole(a)
    found = [intent for step in a.run.steps.values() for intent in step["intents"].values()]
    assert 5 == sum(intent["outcome"] == "found" and len(intent["resources"]) == 1 for intent in found)
    step, plan = planned(a)
    assert {"delete"} == {change.action for change in plan.changes}
    assert not [one for one in outcomes(clean_up.apply(step, plan)).values() if one.startswith("kept")]


def test_a_restored_cluster_with_all_tags_is_not_the_runs(folders):
    """A colleague restores the run's snapshot under the old name, tags and mark included."""
    a, _ = folders
    whole(a)
    Colleague(a.client).replace_cluster(NAME)
    (found,) = a.client("rds").describe_db_clusters()["DBClusters"]
    assert a.run.mark in str(found["TagList"])
    _, plan = planned(a)
    assert "keep" == plan.change("DB cluster").action
    step, asked = a.step("05"), rds_inputs.CreateClusterInputs.check({})
    with pytest.raises(PlanRefused, match="DB cluster aurora-byok: exists"):
        create_cluster.apply(step, create_cluster.plan(step, asked))


def test_a_mark_counts_only_for_a_kind_with_an_open_create(folders):
    """The mark of an open create of the key makes no cluster this run's."""
    a, _ = folders
    a.run.intend("01_create_key", create_key.CALL)
    tags = [{"Key": name, "Value": value} for name, value in
            {RUN_ID_TAG: "demo", STEP_TAG: "05_create_cluster", MARK_TAG: a.run.mark}.items()]  # fmt: skip
    Colleague(a.client).create_cluster(NAME, [], tags)
    _, plan = planned(a)
    assert [("keep", "DB cluster")] == [(change.action, change.resource) for change in plan.changes]


def test_tags_that_were_removed_change_nothing(folders):
    """What was recorded is the run's by its id."""
    a, _ = folders
    whole(a)
    (found,) = a.client("rds").describe_db_clusters()["DBClusters"]
    names = [tag["Key"] for tag in found["TagList"]]
    a.client("rds").remove_tags_from_resource(ResourceName=found["DBClusterArn"], TagKeys=names)
    a.client().untag_resource(KeyId=a.key_id, TagKeys=[RUN_ID_TAG, STEP_TAG, MARK_TAG])
    _, plan = planned(a)
    assert "delete" == plan.change("DB cluster").action
    assert "delete" == plan.change("KMS key").action


def test_the_id_is_recorded_together_with_the_outcome(folders, monkeypatch):
    """The process dies after the answer and before the step's note: the key is the run's by its id, without any tag."""
    a, _ = folders
    step = a.step("01")

    note = Run.note

    def dies(run, name, **values):
        if "key_id" in values:
            raise KeyboardInterrupt
        note(run, name, **values)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Run, "note", dies)
        create_key.apply(step, create_key.plan(step, kms_inputs.CreateKeyInputs.check({})))
    (only,) = keys(a)
    assert (only,) == a.run.intent("01_create_key", create_key.CALL).resources
    a.client().untag_resource(KeyId=only, TagKeys=[RUN_ID_TAG, STEP_TAG, MARK_TAG])
    key(a)
    assert [only] == keys(a)


# The mark of the folder -------------------------------------------------------------------------------------------


def test_the_mark_is_a_tag_of_everything_and_in_no_plan_or_output(folders, capsys):
    """32 hexadecimal digits, in the tags of each resource; neither plan, request, table nor print shows it."""
    a, _ = folders
    whole(a)
    mark = a.run.mark
    assert re.fullmatch(r"[0-9a-f]{32}", mark)
    rds, ec2, kms = a.client("rds"), a.client("ec2"), a.client()
    (cluster,), (instance,) = rds.describe_db_clusters()["DBClusters"], rds.describe_db_instances()["DBInstances"]
    group = next(one for one in rds.describe_db_subnet_groups()["DBSubnetGroups"] if one["DBSubnetGroupName"] == GROUP)
    tags = [cluster["TagList"], instance["TagList"], kms.list_resource_tags(KeyId=a.key_id)["Tags"],
            rds.list_tags_for_resource(ResourceName=group["DBSubnetGroupArn"])["TagList"]]  # fmt: skip
    tags += [one["Tags"] for one in ec2.describe_security_groups()["SecurityGroups"] if one["GroupName"] == GROUP]
    assert [1] * 5 == [str(one).count(mark) for one in tags]
    step, plan = planned(a)
    again = create_cluster.plan(a.step("05"), rds_inputs.CreateClusterInputs.check({}))
    shown = [repr(plan), plan._repr_html_(), str(plan.changes), repr(again), str([one.request for one in again.changes]),
             repr(step), step._repr_html_(), repr(step.run), str(clean_up.apply(step, plan)), capsys.readouterr().out]  # fmt: skip
    assert not [text for text in shown if mark in text]


def test_a_copy_draws_another_mark_and_a_rename_keeps_it(tmp_path):
    """A copy is another folder; what it recorded until then stays its own."""
    run = Run.create("demo", runs_dir=tmp_path, target=TARGET)
    run.intend("01_create_key", "kms:CreateKey")
    mark = run.mark
    run.path.rename(tmp_path / "renamed")
    renamed = Run.open("renamed", runs_dir=tmp_path)
    renamed.intend("05_create_cluster", "rds:CreateDBCluster")
    assert (mark, (mark,)) == (renamed.mark, renamed.intent("05_create_cluster", "rds:CreateDBCluster").marks)
    shutil.copytree(tmp_path / "renamed", tmp_path / "copy")
    copy = Run.open("copy", runs_dir=tmp_path)
    copy.intend("06_verify_encryption", "rds:CreateDBClusterSnapshot x")
    assert copy.mark != mark
    assert (copy.mark,) == copy.intent("06_verify_encryption", "rds:CreateDBClusterSnapshot x").marks
    assert (mark,) == copy.intent("01_create_key", "kms:CreateKey").marks


def test_two_folders_have_two_marks(folders):
    """However often it is written, a folder keeps its own."""
    a, b = folders
    mark = a.run.mark
    key(a)
    assert mark == a.run.mark != b.run.mark


# A folder of the version before ---------------------------------------------------------------------------------


def of_format_1(walk):
    """Make the run folder what version 0.1.0 left: no mark, no ids beside the records, no mark on any resource."""
    file = walk.path / STATE
    state = json.loads(file.read_text()) | {"format": 1}
    del state["mark"], state["folder"]
    for section in state["steps"].values():
        for intent in section["intents"].values():
            del intent["marks"], intent["resources"]
    file.write_text(json.dumps(state))
    rds, ec2 = walk.client("rds"), walk.client("ec2")
    arns = [one["DBClusterArn"] for one in rds.describe_db_clusters()["DBClusters"]]
    arns += [one["DBInstanceArn"] for one in rds.describe_db_instances()["DBInstances"]]
    arns += [one["DBSubnetGroupArn"] for one in rds.describe_db_subnet_groups()["DBSubnetGroups"]
             if one["DBSubnetGroupName"] == GROUP]  # fmt: skip
    for arn in arns:
        rds.remove_tags_from_resource(ResourceName=arn, TagKeys=[MARK_TAG])
    for one in ec2.describe_security_groups()["SecurityGroups"]:
        ec2.delete_tags(Resources=[one["GroupId"]], Tags=[{"Key": MARK_TAG}])
    walk.client().untag_resource(KeyId=walk.key_id, TagKeys=[MARK_TAG])
    return walk


@pytest.mark.parametrize("number", [1, 2])
def test_a_folder_of_each_format_opens_and_is_written_as_format_2(tmp_path, number):
    """Everything recorded stays as it was; format 1 gets its mark with the first write."""
    shutil.copytree(DATA / f"run-format-{number}", tmp_path / f"format-{number}")
    before = json.loads((tmp_path / f"format-{number}" / STATE).read_text())
    run = Run.open(f"format-{number}", runs_dir=tmp_path)
    assert before["steps"].keys() == run.steps.keys()
    run.begin("90_clean_up", inputs={})
    state = json.loads((tmp_path / f"format-{number}" / STATE).read_text())
    assert (2, run.mark) == (state["format"], state["mark"])
    assert re.fullmatch(r"[0-9a-f]{32}", state["mark"])
    assert before.get("mark") != state["mark"]  # a copy of the fixture is another folder
    records = {name: section["record"] for name, section in before["steps"].items()}
    assert records == {name: section["record"] for name, section in state["steps"].items() if name in records}


def test_what_an_earlier_version_created_is_deleted_by_its_tags_and_the_plan_says_so(folders):
    """Cluster, key and security group by the ids in their records; subnet group and instance by run id and step."""
    a, _ = folders
    of_format_1(whole(a))
    step, plan = planned(a)
    words = {change.resource: "recognised by its tags" in change.detail for change in plan.changes}
    assert {"DB instance": True, "DB cluster": False, "subnet group": True, "security group": False, "KMS key": False,
            "alias": False} == words  # fmt: skip
    clean_up.apply(step, plan)
    assert clean_up.verify(step).passed
    assert [] == a.client("rds").describe_db_clusters()["DBClusters"]


def test_an_earlier_versions_lost_answer_is_still_found(folders):
    """Its process died in CreateDBCluster: 05 keeps that cluster by its tags, and records its id from now on."""
    a, _ = folders
    of_format_1(whole(a))
    file = a.path / STATE
    state = json.loads(file.read_text())
    state["steps"]["05_create_cluster"]["intents"]["rds:CreateDBCluster"]["outcome"] = "unclear"
    state["steps"]["05_create_cluster"]["record"] = {}
    file.write_text(json.dumps(state))
    (cluster,) = a.client("rds").describe_db_clusters()["DBClusters"]
    launch(a)
    intent = a.run.intent("05_create_cluster", "rds:CreateDBCluster")
    assert ("found", (cluster["DbClusterResourceId"],)) == (intent.outcome, intent.resources)


def test_an_earlier_versions_rule_takes_nothing_with_a_mark(folders):
    """What has a mark was created by this version, in another folder, whatever its run id says."""
    a, b = folders
    of_format_1(whole(a))
    _, plan = planned(a)
    (cluster,) = a.client("rds").describe_db_clusters()["DBClusters"]
    theirs = [{"Key": MARK_TAG, "Value": b.run.mark}]
    (instance,) = a.client("rds").describe_db_instances()["DBInstances"]
    a.client("rds").add_tags_to_resource(ResourceName=instance["DBInstanceArn"], Tags=theirs)
    assert "delete" == plan.change("DB instance").action
    _, plan = planned(a)
    assert "refuse" == plan.change("DB instance").action
    assert cluster["DBClusterIdentifier"] == NAME


def test_an_unsaved_run_writes_nothing(tmp_path):
    """`runbook plan` looks ahead without a folder."""
    run = Run.unsaved("demo", runs_dir=tmp_path, target=TARGET)
    assert ("", []) == (run.mark, list(tmp_path.iterdir()))
