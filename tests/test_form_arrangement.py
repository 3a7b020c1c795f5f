"""Which fields of a form a person sees, where their help stands, and what is wrong with a path or a time while it is typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import ipywidgets
import pytest

from runbook_lib.inputs.kms import CreateKeyInputs, EncryptKeyMaterialInputs, ImportKeyMaterialInputs
from runbook_lib.inputs.rds import LOGS, CreateClusterInputs
from runbook_lib.material.recovery_keys import make_training_recovery_key
from runbook_lib.pages.form import Form
from runbook_lib.pages.form_groups import APPEARS_WITH, OPTIONS_WITH
from runbook_lib.run.steps import STEP_INPUTS


@pytest.fixture(autouse=True)
def attended(monkeypatch):
    """A person sits there."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")


def rows(form):
    """Return the rows of a form, by the label of their field."""
    found = [row for row in form._view.children if isinstance(row, ipywidgets.HBox)]
    return {row.children[0].description: row for row in found}


def seen(form):
    """Return the labels of the fields that are not hidden, in order."""
    return [label for label, row in rows(form).items() if row.layout.display != "none"]


def put(form, label, value):
    """Type or choose a value."""
    rows(form)[label].children[0].value = value


def test_03_first_shows_the_source_the_custody_and_the_recovery_keys_only():
    """The other 11 fields belong to choices that were not made."""
    form = Form(EncryptKeyMaterialInputs, given={})
    assert ["Source", "Custody of the key material", "Recovery public keys"] == seen(form)
    headings = [w for w in form._view.children[:-1] if isinstance(w, ipywidgets.HTML) and w.layout.display != "none"]
    assert ["HSM" in heading.value for heading in headings] == [False]


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ("generate", set()),
        ("file", {"File", "Encoding of the file"}),
        ("wrapped", {"File"}),
        ("recovery", {"File", "Recovery private key", "Password of the recovery key"}),
        ("pkcs11", {"PKCS 11 module", "Token", "Key in the token", "PIN of the token"}),
    ],
)
def test_a_source_brings_its_own_fields_and_takes_them_away(source, labels):
    """There and back: no field stays that has no meaning any more."""
    form = Form(EncryptKeyMaterialInputs, given={})
    before = set(seen(form))
    put(form, "Source", source)
    assert labels == set(seen(form)) - before
    put(form, "Source", "generate")
    assert before == set(seen(form))


@pytest.mark.parametrize(
    ("model", "label", "value", "labels"),
    [
        (ImportKeyMaterialInputs, "Expiration", "KEY_MATERIAL_EXPIRES", {"Expires at"}),
        (CreateClusterInputs, "Instance class", "db.serverless", {"Serverless minimum", "Serverless maximum"}),
        (CreateClusterInputs, "Enhanced Monitoring", 60, {"Monitoring role"}),
        (EncryptKeyMaterialInputs, "Custody of the key material", "none", {"I keep a backup elsewhere"}),
    ],
)
def test_a_field_appears_with_the_choice_that_it_belongs_to(model, label, value, labels):
    """Neither before nor without it."""
    form = Form(model, given={})
    assert set() == labels & set(seen(form))
    put(form, label, value)
    assert labels <= set(seen(form))


def test_a_value_that_was_given_is_never_hidden():
    """A parameter that does not go with the choice is shown, with what is wrong."""
    form = Form(EncryptKeyMaterialInputs, given={"pkcs11_token_label": "vault"})
    assert "Token" in seen(form)
    assert "leave it empty" in rows(form)["Token"].children[1].value


@pytest.mark.parametrize("engine", LOGS)
def test_logs_are_those_of_the_engine(engine):
    """Aurora PostgreSQL does not offer the logs of Aurora MySQL; changing the engine changes the list."""
    form = Form(CreateClusterInputs, given={})
    put(form, "Engine", engine)
    assert LOGS[engine] == tuple(rows(form)["Log exports"].children[0].options)


def test_a_log_that_was_chosen_before_the_engine_is_kept_and_named():
    """A choice is never dropped silently."""
    form = Form(CreateClusterInputs, given={})
    put(form, "Log exports", ("audit", "error"))
    put(form, "Engine", "aurora-postgresql")
    assert ("audit", "error") == rows(form)["Log exports"].children[0].value
    assert "is not a log of aurora-postgresql" in rows(form)["Log exports"].children[1].value


def test_the_rules_name_fields_and_choices_that_exist():
    """The other field stands in the same model, and takes the values."""
    rules = {name: rule[0] for name, rule in {**APPEARS_WITH, **OPTIONS_WITH}.items()}
    for name, other in rules.items():
        models = [model for model in STEP_INPUTS.values() if {name, other} <= set(model.model_fields)]
        assert models, name


@pytest.mark.parametrize("model", STEP_INPUTS.values(), ids=STEP_INPUTS)
def test_help_stands_in_one_place(model):
    """Right of its field, never below for one and beside for another: no row may wrap."""
    for row in rows(Form(model, given={})).values():
        assert "row nowrap" == row.layout.flex_flow
        assert "1 1 0%" == row.children[1].layout.flex


@pytest.mark.parametrize(("days", "word"), [(-1, "is past"), (366, "more than 365 days away"), (100, "")])
def test_a_time_that_kms_refuses_is_told_while_it_is_chosen(days, word):
    """A month ago, or beyond a year: said beside the field, before any cell runs."""
    form = Form(ImportKeyMaterialInputs, given={"expiration_model": "KEY_MATERIAL_EXPIRES"})
    put(form, "Expires at", datetime.now(UTC) + timedelta(days=days))
    message = rows(form)["Expires at"].children[1].value
    assert ("✗ not valid" in message) == bool(word)
    assert word in message
    assert "In UTC: " in message


def test_the_file_of_a_recovery_key_is_read_while_it_is_typed(tmp_path):
    """A missing file, a private key and text are refused beside the field; a public key is accepted."""
    private, public = make_training_recovery_key()
    for name, content in (("private.pem", private), ("public.pem", public), ("text.pem", b"hello")):
        (tmp_path / name).write_bytes(content)
    form = Form(EncryptKeyMaterialInputs, given={})
    messages = {}
    for name in ("missing.pem", "private.pem", "text.pem", "public.pem"):
        put(form, "Recovery public keys", str(tmp_path / name))
        messages[name] = rows(form)["Recovery public keys"].children[1].value
    assert ["✗ not valid" in message for message in messages.values()] == [True, True, True, False]
    assert "PRIVATE KEY-----" not in str(messages)


def test_a_path_is_judged_while_it_is_typed(tmp_path):
    """A folder and a missing file are not a file; the summary counts it in the form's own words."""
    form = Form(EncryptKeyMaterialInputs, given={"key_material_source": "file"})
    put(form, "File", str(tmp_path))
    assert "✗ not valid" in rows(form)["File"].children[1].value
    assert "1 value is not valid" in form._view.children[-1].value
    (tmp_path / "material.bin").write_bytes(b"S" * 32)
    put(form, "File", str(tmp_path / "material.bin"))
    assert "All values are valid" in form._view.children[-1].value


def test_a_form_without_rules_shows_every_field():
    """01 asks nothing that depends on another choice."""
    form = Form(CreateKeyInputs, given={})
    assert list(rows(form)) == seen(form)
