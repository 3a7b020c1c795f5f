"""What a person chose survives the kernel: drafts come back named as such, and only what an apply finished is "applied"."""

from __future__ import annotations

import json
import re

import pytest
from test_form import beside, labelled

from runbook_lib.errors import ArtefactMissing, InputError, RunbookError
from runbook_lib.run import drafts
from runbook_lib.run.steps import CLEAN_UP, CREATE_CLUSTER, CREATE_KEY, ENCRYPT_KEY_MATERIAL, STEP_INPUTS
from runbook_lib.steps import create_key, encrypt_key_material, start
from runbook_lib.steps.open_step import open_step

IMPORT = "04_import_key_material"


@pytest.fixture(autouse=True)
def attended(monkeypatch, walk):
    """A person sits there, in front of a run in which 00 and 01 are done."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(walk.folder))
    walk.start()
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")


def form_of(name, **given):
    """Open a step and its form, as a new kernel does."""
    return open_step(name, run_id="demo").form({"run_id": "demo", **given})


def draft(walk, name):
    """Return what is kept of a step."""
    file = walk.path / "drafts" / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def begin_and_fail(run, inputs):
    """Begin 01 with these inputs, as its apply does, and meet an error."""
    run.begin(CREATE_KEY, inputs=inputs)
    raise ArtefactMissing("gone")


def test_a_chosen_expiry_survives_the_kernel_and_is_named_a_draft(walk):
    """Restart and Run All would otherwise import material that does not expire."""
    form = form_of(IMPORT)
    labelled(form, "Expiration").value = "KEY_MATERIAL_EXPIRES"
    with pytest.raises(InputError):
        _ = form.value
    assert draft(walk, IMPORT) is None, "what is not valid is not kept"
    form = form_of(IMPORT, valid_to="2027-06-30T00:00:00+00:00")
    labelled(form, "Expiration").value = "KEY_MATERIAL_EXPIRES"
    _ = form.value
    again = form_of(IMPORT, valid_to="2027-06-30T00:00:00+00:00")
    assert "KEY_MATERIAL_EXPIRES" == again.value.expiration_model
    assert "Draft, not applied yet" in beside(again, "Expiration")
    edits = [edit.who for edit in again.value.edits if edit.name == "expiration_model"]
    assert ["Draft, not applied yet"] == edits
    file = walk.path / "drafts" / f"{IMPORT}.json"
    assert (0o600, 0o700) == (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777)
    assert "draft" not in (walk.path / "state.json").read_text()


def test_parameters_00_applied_draft_and_injected_beat_each_other_in_this_order(walk):
    """Each is shown with its source; an injected value needs none."""
    assert "Aurora storage encryption, imported key material" == form_of(CREATE_KEY).value.key_description
    assert "aurora-byok" == form_of(CREATE_CLUSTER).value.db_cluster_identifier
    form = form_of(CREATE_KEY)
    labelled(form, "Description").value = "chosen"
    _ = form.value
    assert "chosen" == form_of(CREATE_KEY).value.key_description
    assert "injected" == form_of(CREATE_KEY, key_description="injected").value.key_description


def test_a_choice_that_is_taken_back_leaves_no_draft(walk):
    """The draft is what differs from where the form would begin without it."""
    form = form_of(CREATE_KEY)
    labelled(form, "Description").value = "chosen"
    _ = form.value
    assert {"key_description": "chosen"} == draft(walk, CREATE_KEY)
    again = form_of(CREATE_KEY)
    labelled(again, "Description").value = "Aurora storage encryption, imported key material"
    _ = again.value
    assert draft(walk, CREATE_KEY) is None


def test_an_apply_that_finishes_removes_the_draft_and_is_what_was_applied_before(walk):
    """The twin: one that fails keeps the draft, and its values are not "As applied before"."""
    walk.pair()
    step = open_step(ENCRYPT_KEY_MATERIAL, run_id="demo")
    form = step.form({"run_id": "demo"})
    labelled(form, "Source").value = "file"
    labelled(form, "File").value = "/no/such/file"
    with pytest.raises(RunbookError):
        encrypt_key_material.apply(step, encrypt_key_material.plan(step, form.value))
    again = form_of(ENCRYPT_KEY_MATERIAL)
    assert "Draft, not applied yet" in beside(again, "File")
    assert "applied before" not in beside(again, "File")
    labelled(again, "Source").value = "generate"
    labelled(again, "File").value = ""
    step = open_step(ENCRYPT_KEY_MATERIAL, run_id="demo")
    encrypt_key_material.apply(step, encrypt_key_material.plan(step, again.value))
    assert draft(walk, ENCRYPT_KEY_MATERIAL) is None
    assert "generate" == form_of(ENCRYPT_KEY_MATERIAL).value.key_material_source


def test_what_a_failed_apply_began_with_is_not_what_was_applied_before(walk):
    """The inputs of the last apply that finished come back, even if a later one failed."""
    step = open_step(CREATE_KEY, run_id="demo")
    form = step.form({"run_id": "demo"})
    plan = create_key.plan(step, form.value)
    with pytest.raises(ArtefactMissing), step.applying(plan):
        begin_and_fail(step.run, {**plan.values, "key_description": "failed"})
    assert "failed" == walk.run.steps[CREATE_KEY]["inputs"]["key_description"]
    assert "Aurora storage encryption, imported key material" == form_of(CREATE_KEY).value.key_description


def test_tags_of_01_are_on_what_05_creates(walk):
    """They are for every resource of the run, and are asked for once."""
    step = open_step(CREATE_KEY, run_id="demo")
    walk.run.begin(CREATE_KEY, inputs={**walk.run.steps[CREATE_KEY]["inputs"], "tags": {"team": "orders"}})
    walk.run.applied(CREATE_KEY)
    assert step.run.run_id == "demo"
    assert {"team": "orders"} == form_of(CREATE_CLUSTER).value.tags
    assert {"team": "own"} == form_of(CREATE_CLUSTER, tags={"team": "own"}).value.tags


@pytest.mark.parametrize("name", STEP_INPUTS)
def test_of_a_field_that_names_a_secret_only_the_source_is_kept(walk, name):
    """A password typed there by mistake reaches no file; the twin: where it is read is kept."""
    model = STEP_INPUTS[name]
    named = {field for field, known in model.model_fields.items() if "env:NAME" in (known.description or "")}
    assert named == model.secret_sources
    for field in named:
        drafts.keep(walk.run, name, model, {field: "hunter2"})
        assert draft(walk, name) is None
        for source in ("prompt", "env:PIN", "file:/home/me/pin"):
            drafts.keep(walk.run, name, model, {field: source})
            assert {field: source} == draft(walk, name)


def test_a_typed_confirmation_does_not_come_back(walk):
    """Whoever deletes a cluster types its name then; the waiting period that was chosen is kept."""
    form = form_of(CLEAN_UP)
    labelled(form, "Type the cluster's name to delete").value = "aurora-byok"
    labelled(form, "Waiting period of the key").value = 7
    _ = form.value
    assert {"pending_window_in_days": 7} == draft(walk, CLEAN_UP)
    again = form_of(CLEAN_UP).value
    assert ("", 7) == (again.confirm_db_cluster_identifier, again.pending_window_in_days)


def test_without_a_person_no_draft_is_written_or_read(walk, monkeypatch):
    """Headless, the parameters are all there is."""
    form = form_of(CREATE_KEY)
    labelled(form, "Description").value = "chosen"
    _ = form.value
    monkeypatch.setenv("RUNBOOK_ATTENDED", "0")
    assert "chosen" != form_of(CREATE_KEY).value.key_description
    _ = form_of(CREATE_KEY, key_description="injected").value
    assert {"key_description": "chosen"} == draft(walk, CREATE_KEY)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"unknown": 1}', '{"key_alias": 7}'])
def test_a_damaged_draft_is_no_obstacle(walk, content):
    """It is a file like any other: what cannot be read is ignored, what is wrong is shown as wrong."""
    drafts.keep(walk.run, CREATE_KEY, STEP_INPUTS[CREATE_KEY], {"key_description": "x"})
    (walk.path / "drafts" / f"{CREATE_KEY}.json").write_text(content)
    form = form_of(CREATE_KEY)
    assert ("✗" in beside(form, "Alias")) == ("key_alias" in content)


def test_00_keeps_its_draft_in_the_run_that_was_opened(walk):
    """Its form is read before there is a run."""
    form = start.form({})
    labelled(form, "Readers").value = 2
    start.open_run(form.value, form=form)
    assert {"reader_count": 2} == draft(walk, "00_start")
    assert re.search("Draft", beside(start.form({}), "Readers"))
