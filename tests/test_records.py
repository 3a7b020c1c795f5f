"""What steps leave for each other: typed when read, the same on disk as ever, and refused in one line when damaged."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from runbook_lib.errors import RunUnreadable, StepMissing
from runbook_lib.material.material_set import parse_manifest
from runbook_lib.run.clusters import clusters
from runbook_lib.run.records import (
    ClusterRecord,
    ImportParameters,
    ImportRecord,
    KeyRecord,
    MaterialRecord,
    StartRecord,
    VerificationRecord,
    materials,
)
from runbook_lib.run.run import Run
from runbook_lib.steps.existing_set import DECISIONS, SetState, decide

FORMAT_1 = Path(__file__).parent / "data" / "run-format-1"  # made by version 0.1.0 before records were typed


@pytest.fixture
def run(tmp_path):
    shutil.copytree(FORMAT_1, tmp_path / "format-1")
    return Run.open("format-1", runs_dir=tmp_path)


def damaged(run, step, **values):
    """Return the run with other values in the record of `step`."""
    file = run.path / "state.json"
    state = json.loads(file.read_text())
    state["steps"][step]["record"].update(values)
    file.write_text(json.dumps(state))
    run.reload()
    return run


# A folder of the version before ---------------------------------------------------------------------------------


def test_a_run_folder_of_format_1_opens(run):
    """Every record of a finished run can be read, with the values that it was written with."""
    raw = json.loads((FORMAT_1 / "state.json").read_text())["steps"]
    assert "aurora-byok" == StartRecord.from_run(run).db_cluster_identifier
    assert raw["01_create_key"]["record"]["key_arn"] == KeyRecord.from_run(run).key_arn
    pair = ImportParameters.from_run(run)
    assert ("RSA_4096", "RSAES_OAEP_SHA_256") == (pair.request.WrappingKeySpec, pair.request.WrappingAlgorithm)
    assert raw["02_get_parameters_for_import"]["record"]["request"] == pair.as_request
    imported = ImportRecord.from_run(run)
    assert ("KEY_MATERIAL_DOES_NOT_EXPIRE", "does not expire") == (imported.expiration_model, imported.expires)
    assert VerificationRecord.from_run(run).verdict.startswith("aurora-byok is encrypted under your key")


def test_readers_give_all_clusters_and_materials(run):
    """Tuples, of one today: more will come without another reader."""
    (cluster,), (material,) = clusters(run), materials(run)
    assert ("aurora-byok", ("aurora-byok-1",)) == (cluster.db_cluster_identifier, cluster.db_instance_identifiers)
    assert cluster.db_cluster_resource_id.startswith("cluster-")
    assert ("recovery_key", "generate", 1) == (
        material.custody.kind,
        material.custody.source,
        len(material.custody.holders),
    )
    assert material.custody.holders[0].training_only


def test_the_custody_record_is_written_as_it_was(run):
    """Reading custody.json and writing its record again gives the same JSON: a manifest's fingerprint depends on it."""
    content = (FORMAT_1 / "custody.json").read_bytes()
    record = parse_manifest(content, advice="").custody
    assert json.loads(content)["custody"] == record.to_json()
    assert record == MaterialRecord.from_run(run).custody


# A record is input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "value", "wrong"),
    [
        (KeyRecord, {"key_id": 7}, "key_id"),
        (KeyRecord, {"key_arn": ""}, "no key_arn"),
        (ImportParameters, {"sha256": ["x"]}, "sha256"),
        (MaterialRecord, {"custody": {"custody": "safe"}}, "custody"),
        (ClusterRecord, {"db_instance_identifiers": "aurora-byok-1"}, "db_instance_identifiers"),
    ],
)
def test_a_damaged_record_is_one_line_that_names_step_and_field(run, record, value, wrong):
    """Wrong types and missing values: the run, the step, the field, and the way out; nothing goes on with them."""
    damaged(run, record.step, **value)
    with pytest.raises(
        RunUnreadable, match=f"run 'format-1' is damaged in {record.step} .*{wrong}.*restore"
    ) as refused:
        record.from_run(run)
    assert 1 == len(str(refused.value).splitlines())


def test_a_field_that_this_version_does_not_know_does_no_harm(run):
    """A folder that a later version of the same format wrote still opens."""
    damaged(run, KeyRecord.step, from_tomorrow={"x": 1})
    assert KeyRecord.from_run(run).key_alias == "alias/aurora-byok"


def test_an_unfinished_step_has_a_record_so_far_and_no_other(tmp_path):
    """`from_run` names the notebook to run; `so_far` gives empty values."""
    target = {"target": "sandbox", "account_id": "1", "region": "eu-west-2", "sandbox_id": "s"}
    run = Run.create("new", runs_dir=tmp_path, target=target)
    assert "" == ClusterRecord.so_far(run).db_cluster_identifier
    assert ((), ()) == (clusters(run), materials(run))
    with pytest.raises(StepMissing, match=r"run notebooks/05_create_cluster\.ipynb first"):
        ClusterRecord.from_run(run)
    with pytest.raises(StepMissing, match=r"no custody record; run notebooks/03_encrypt_key_material\.ipynb first"):
        MaterialRecord.so_far(run).custody  # noqa: B018


# What becomes of the set that exists --------------------------------------------------------------------------------

YES, NO = True, False


@pytest.mark.parametrize(
    ("state", "action", "why"),
    [
        #         imported sent of_pair same usable
        (SetState(YES, YES, NO, YES, NO), "refuse", "the key had this material"),
        (SetState(YES, NO, NO, NO, NO), "refuse", "the key had this material"),
        (SetState(YES, YES, YES, NO, NO), "refuse", "it is imported, and {changed} can no longer change"),
        (SetState(YES, NO, YES, YES, NO), "keep", "it is imported"),
        (SetState(NO, YES, YES, NO, NO), "refuse", "its import may be in progress, and {changed} can"),
        (SetState(NO, YES, YES, YES, NO), "keep", "its import may be in progress; finish step 04"),
        (SetState(NO, NO, YES, YES, YES), "keep", "it was made with the current wrapping key"),
    ],
)
def test_a_set_is_kept_or_refused(state, action, why):
    """One case for each row of the truth table, and a second one where a row does not ask about a column."""
    decision = decide(state)
    assert (action, True) == (decision.action, decision.why.startswith(why))


@pytest.mark.parametrize("state", [
    SetState(NO, NO, YES, YES, NO),   # a file of it is missing
    SetState(NO, NO, YES, NO, YES),   # other choices, and nothing was sent
    SetState(NO, NO, NO, YES, YES),   # 02 fetched another pair
    SetState(NO, YES, NO, YES, YES),  # sent with an older pair, which 02 has proved to be without effect
])  # fmt: skip
def test_a_set_that_was_never_imported_gives_way(state):
    """Only then: material that may be in the key is never superseded."""
    assert decide(state) is None


def test_material_that_may_be_in_the_key_is_never_superseded():
    """All 32 states: whatever else holds, imported material is kept or refused, and so is what was sent with this pair."""
    for state in itertools.starmap(SetState, itertools.product((True, False), repeat=5)):
        if state.imported or (state.sent and state.of_this_pair):
            assert decide(state) is not None, state
    assert all(
        any(row is decide(SetState(*s)) for s in itertools.product((True, False), repeat=5)) for row in DECISIONS
    )
