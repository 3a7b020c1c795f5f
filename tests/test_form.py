"""Forms as a person meets them: what is shown, what is read, and what can never get through. No kernel is started."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from unittest.mock import Mock

import ipywidgets
import pytest
from html_tags import Tags

from runbook_lib.errors import InputError, PlanOutdated
from runbook_lib.inputs.kms import (
    CreateKeyInputs,
    EncryptKeyMaterialInputs,
    GetParametersForImportInputs,
    ImportKeyMaterialInputs,
)
from runbook_lib.inputs.rds import CleanUpInputs, CreateClusterInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.pages.form import Form, Offer
from runbook_lib.pages.form_groups import GROUPS
from runbook_lib.plan import Change, Plan
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CREATE_KEY, STEP_INPUTS
from runbook_lib.steps.open_step import OpenStep


@pytest.fixture(autouse=True)
def attended(monkeypatch):
    """A person sits there."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "1")


def walk(widget):
    """Return a widget and all below it, in the order in which Tab reaches them."""
    return [widget, *[below for child in getattr(widget, "children", ()) for below in walk(child)]]


def labelled(form, label):
    """Return the one widget of that label, as a person finds it."""
    found = [widget for widget in walk(form._view) if getattr(widget, "description", "") == label]
    assert 1 == len(found), label
    return found[0]


def beside(form, label):
    """Return the words that stand in the same row as the widget of that label."""
    widget = labelled(form, label)
    (row,) = [box for box in walk(form._view) if isinstance(box, ipywidgets.HBox) and widget in box.children]
    return row.children[1].value


def summary(form):
    """Return the line under the form."""
    return form._view.children[-1].value


def plan_of(inputs):
    """Return a plan that was made from `inputs`, as every step makes it."""
    rows = (Change("create", "thing", "a"),)
    return Plan("step", rows, inputs, inputs.edits)


@pytest.mark.parametrize("model", STEP_INPUTS.values(), ids=STEP_INPUTS)
def test_every_step_has_a_form_with_a_label_and_help_for_each_field(model):
    """All that the notebook has not read yet is asked, once, with a label of its own and its help in words."""
    form = Form(model, given={})
    asked = [name for name in model.model_fields if name not in model.not_in_form]
    labels = [widget.description for widget in walk(form._view) if getattr(widget, "description", "")]
    assert sorted(str(model.model_fields[name].title) for name in asked) == sorted(labels)
    for name in asked:
        field = model.model_fields[name]
        assert field.description.split("'")[0] in beside(form, field.title).replace("&#x27;", "'")
    assert model.check({}).model_dump() == form.value.model_dump()


def test_no_form_asks_what_its_notebook_has_read_already():
    """A run id typed into the form of 01 would be ignored, so it is asked in 00 only."""
    assert [StartInputs] == [model for model in STEP_INPUTS.values() if "run_id" not in model.not_in_form]
    assert all("exercises" in model.not_in_form for model in STEP_INPUTS.values())


def test_every_heading_names_fields_that_exist_and_none_twice():
    """The headings of the forms are held against the models."""
    known = {name for model in STEP_INPUTS.values() for name in model.model_fields}
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(set(named)) == sorted(named)
    assert set() == set(named) - known


@pytest.mark.parametrize(
    ("model", "label", "typed", "name", "read"),
    [
        (CreateKeyInputs, "Alias", "alias/orders", "key_alias", "alias/orders"),
        (CreateKeyInputs, "Administrators may delete the key", False, "allow_key_deletion", False),
        (CreateKeyInputs, "Tags", "team=dba, cost centre = 7", "tags", {"team": "dba", "cost centre": "7"}),
        (CreateKeyInputs, "Key users", "role/One, role/Two", "key_users", ["role/One", "role/Two"]),
        (CreateClusterInputs, "Readers", 2, "reader_count", 2),
        (CreateClusterInputs, "Serverless maximum", 4.5, "serverless_max_capacity", 4.5),
        (CreateClusterInputs, "Log exports", ("audit", "error"), "enable_cloudwatch_logs_exports", ["audit", "error"]),
        (CreateClusterInputs, "Enhanced Monitoring", 0, "monitoring_interval", 0),
        (GetParametersForImportInputs, "Wrapping key spec", "RSA_2048", "wrapping_key_spec", "RSA_2048"),
    ],
)
def test_each_kind_of_value_is_read_in_its_own_type(model, label, typed, name, read):
    """Text, switch, mapping, list, number, several choices and choice come out as the model wants them."""
    form = Form(model, given={})
    labelled(form, label).value = typed
    assert read == getattr(form.value, name)


def test_an_hour_is_kept_in_utc_whatever_the_clock_on_the_wall_says():
    """03:30 in a zone two hours ahead is 01:30 UTC, and the form says so."""
    form = Form(ImportKeyMaterialInputs, given={"expiration_model": "KEY_MATERIAL_EXPIRES"})
    assert "Expires at: " in summary(form)
    labelled(form, "Expires at").value = datetime(2027, 6, 30, 3, 30, tzinfo=timezone(timedelta(hours=2)))
    assert "2027-06-30T01:30:00+00:00" == form.value.valid_to
    assert "In UTC: 2027-06-30T01:30:00+00:00" in beside(form, "Expires at")
    labelled(form, "Expires at").value = None
    with pytest.raises(InputError, match="valid_to"):
        _ = form.value


def test_an_hour_that_was_given_stands_in_the_picker():
    """What the parameters say is what the form starts from."""
    given = {"expiration_model": "KEY_MATERIAL_EXPIRES", "valid_to": "2027-06-30T00:00:00+00:00"}
    form = Form(ImportKeyMaterialInputs, given=given)
    assert datetime(2027, 6, 30, tzinfo=UTC) == labelled(form, "Expires at").value
    assert () == form.value.edits


def test_bring_your_own_material_is_a_path_and_never_a_content(tmp_path):
    """The form completes names and says whether a file is there; no widget holds what is in it."""
    (tmp_path / "material.bin").write_bytes(b"S" * 32)
    (tmp_path / "folder").mkdir()
    form = Form(EncryptKeyMaterialInputs, given={"key_material_source": "file"})
    path = labelled(form, "File")
    path.value = f"{tmp_path}/"
    assert (f"{tmp_path}/folder/", f"{tmp_path}/material.bin") == tuple(path.options)
    assert "The file does not exist" in beside(form, "File")
    path.value = f"{tmp_path}/material.bin"
    assert "The file exists" in beside(form, "File")
    assert "S" * 32 not in str([widget.get_state() for widget in walk(form._view)])
    assert not [
        widget for widget in walk(form._view) if isinstance(widget, ipywidgets.FileUpload | ipywidgets.Password)
    ]


def test_a_wrong_value_is_named_beside_its_field_while_typing_and_refused_when_read():
    """Validation is the model's, at once: the message beside the field, the count below, InputError for the cell."""
    form = Form(CreateKeyInputs, given={})
    assert "✓ All values are valid" in summary(form)
    labelled(form, "Alias").value = "aurora"
    assert "✗ not valid:" in beside(form, "Alias")
    assert "write &#x27;alias/aurora&#x27;" in beside(form, "Alias")
    assert "✗ not valid:" not in beside(form, "Description")
    assert (
        "✗ 1 value is not valid:</b><div style='margin-left:1em'>Alias: &#x27;aurora&#x27; does not begin with"
        in summary(form)
    )
    with pytest.raises(InputError, match="key_alias: 'aurora' does not begin with 'alias/'"):
        _ = form.value
    labelled(form, "Alias").value = "alias/aurora"
    assert "not valid" not in beside(form, "Alias") + summary(form)
    assert "1 value differs from the parameters" in summary(form)


def test_two_fields_that_do_not_go_together_are_told_at_the_one_to_change():
    """A rule over several fields has its message at a field too."""
    form = Form(CreateClusterInputs, given={"enable_cloudwatch_logs_exports": ["postgresql"]})
    assert "is not a log of aurora-mysql" in beside(form, "Log exports")
    labelled(form, "Engine").value = "aurora-postgresql"
    assert "✗" not in beside(form, "Log exports")


@pytest.mark.parametrize(
    ("model", "given", "field"),
    [
        (CreateClusterInputs, {"engine": "mysql"}, "engine"),
        (CreateClusterInputs, {"reader_count": "many"}, "reader_count"),
        (CreateClusterInputs, {"deletion_protection": "maybe"}, "deletion_protection"),
        (CreateClusterInputs, {"vpc_security_group_ids": 7}, "vpc_security_group_ids"),
        (CreateKeyInputs, {"tags": "none"}, "tags"),
        (CreateKeyInputs, {"key_alias": 12}, "key_alias"),
        (GetParametersForImportInputs, {"wrapping_algorithm": "RSAES_PKCS1_V1_5"}, "wrapping_algorithm"),
        (ImportKeyMaterialInputs, {"expiration_model": "KEY_MATERIAL_EXPIRES", "valid_to": "soon"}, "valid_to"),
        (StartInputs, {"target": "AWS"}, "target"),
    ],
)
def test_a_wrong_parameter_is_shown_and_called_wrong_never_bent_or_a_traceback(model, given, field):
    """What papermill or a person put into the parameters cell is what the form shows, and it says what is the matter."""
    form = Form(model, given=given)
    assert "✗ not valid" in beside(form, model.model_fields[field].title)
    with pytest.raises(InputError, match=field):
        _ = form.value


def test_an_apply_refuses_a_plan_when_the_form_says_otherwise_by_then(tmp_path):
    """Neither wrong input nor another choice slips in between plan and apply; put back, the plan holds again."""
    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}
    step = OpenStep(CREATE_KEY, Run.create("demo", runs_dir=tmp_path, target=target), SimpleNamespace(client=Mock()))
    form = step.form({})
    plan = step.plan(form.value, [Change("create", "thing", "a")])
    for value in ("wrong", "alias/another"):
        labelled(form, "Alias").value = value
        with pytest.raises(PlanOutdated, match=r"edited after this plan was shown \(key_alias\)"), step.applying(plan):
            pytest.fail("it was applied")
        assert {} == step.run.steps
    labelled(form, "Alias").value = "alias/aurora-byok"
    with step.applying(plan):
        assert "started" == step.run.steps[CREATE_KEY]["status"]


def test_a_plan_of_another_run_is_refused(tmp_path):
    """The same step of another folder, account or Region: a plan is for the run that it was made in."""
    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}
    one = OpenStep(CREATE_KEY, Run.create("one", runs_dir=tmp_path, target=target))
    plan = one.plan(CreateKeyInputs.check({}), [Change("create", "thing", "a")])
    others = [
        Run.create("two", runs_dir=tmp_path, target=target),
        Run.unsaved("one", runs_dir=tmp_path, target={**target, "account_id": "210987654321"}),
        Run.unsaved("one", runs_dir=tmp_path, target={**target, "region": "eu-west-1"}),
    ]
    for run in others:
        with (
            pytest.raises(PlanOutdated, match="another run, account or Region"),
            OpenStep(CREATE_KEY, run).applying(plan),
        ):
            pytest.fail("it was applied")
    with one.applying(plan):
        assert "started" == one.run.steps[CREATE_KEY]["status"]


def test_the_plan_names_what_was_changed_in_the_form_and_nothing_else():
    """The parameter, the value used, and who changed it."""
    form = Form(CreateClusterInputs, given={"reader_count": 1})
    assert [] == plan_of(form.value).edits_in_words
    labelled(form, "Readers").value = 2
    labelled(form, "DB cluster identifier").value = "orders"
    expected = ["Changed in the form: db_cluster_identifier: aurora-byok → orders",
                "Changed in the form: reader_count: 1 → 2"]  # fmt: skip
    assert expected == plan_of(form.value).edits_in_words
    assert all(edit in repr(plan_of(form.value)) for edit in expected)
    assert "reader_count: 1 → 2" in plan_of(form.value)._repr_html_()


def test_a_form_that_is_opened_again_starts_from_what_the_run_knows():
    """What was applied before, or checked in 00, is the start; a parameter that was set beats it; the plan says whose it is."""
    earlier = {"db_cluster_identifier": ("orders", "As checked by step 00"), "reader_count": (3, "As applied before"),
               "engine": ("aurora-mysql", "As checked by step 00"), "run_id": ("other", "As checked by step 00")}  # fmt: skip
    form = Form(CreateClusterInputs, given={"reader_count": 1, "run_id": "demo"}, earlier=earlier)
    assert ("orders", 1, "demo") == (form.value.db_cluster_identifier, form.value.reader_count, form.value.run_id)
    assert ["As checked by step 00: db_cluster_identifier: aurora-byok → orders"] == plan_of(form.value).edits_in_words
    assert "As checked by step 00; the parameter is" in beside(form, "DB cluster identifier")
    labelled(form, "DB cluster identifier").value = "invoices"
    assert ["Changed in the form: db_cluster_identifier: aurora-byok → invoices"] == plan_of(form.value).edits_in_words


def test_wrong_values_are_listed_by_label_in_the_order_of_the_form():
    """One line each, with the label that the form shows; the order is that of the form, not of the model."""
    form = Form(CreateClusterInputs, given={})
    for label, wrong in (("Port", 1), ("Allowed network", "everywhere"), ("DB cluster identifier", "Orders!")):
        labelled(form, label).value = wrong
    lines = re.findall(r"<div style='margin-left:1em'>([^:]+): ", summary(form))
    assert ["DB cluster identifier", "Port", "Allowed network"] == lines
    assert "refuses them" not in summary(form)


def wait_for_offers(form):
    """Return when everything that was asked of the account has been answered."""
    for thread in form._lookups:
        thread.join()


def test_what_an_account_offers_is_looked_up_while_the_form_can_be_used():
    """The form is there before the account answers; then it offers, and keeps what was chosen or typed."""
    answer = threading.Event()
    offers = {
        "vpc_id": Offer(lambda _: answer.wait(5) and ["vpc-0a1b2c3d", "vpc-11111111"]),
        "vpc_security_group_ids": Offer(lambda _: ["sg-0a1b2c3d"]),
    }
    form = Form(CreateClusterInputs, given={"vpc_security_group_ids": ["sg-99999999"]}, offers=offers)
    assert "Looking up" in beside(form, "VPC")
    labelled(form, "VPC").value = "vpc-22222222"
    assert "vpc-22222222" == form.value.vpc_id
    answer.set()
    wait_for_offers(form)
    assert ("vpc-0a1b2c3d", "vpc-11111111") == tuple(labelled(form, "VPC").options)
    assert "2 to choose from" in beside(form, "VPC")
    assert ("vpc-22222222", ["sg-99999999"]) == (form.value.vpc_id, form.value.vpc_security_group_ids)
    labelled(form, "Security groups").value = ("sg-0a1b2c3d",)
    assert ["sg-0a1b2c3d"] == form.value.vpc_security_group_ids


def test_what_may_not_be_looked_up_is_typed():
    """A refused look-up leaves a field to type in, with what stood there, and says why."""
    offers = {"key_users": Offer(lambda _: None), "key_administrators": Offer(lambda _: ["role/Admin"])}
    form = Form(CreateKeyInputs, given={"key_users": ["role/One"]}, offers=offers)
    wait_for_offers(form)
    assert "The look-up failed: type a value" in beside(form, "Key users")
    labelled(form, "Key users").value += ", role/Two"
    assert ["role/One", "role/Two"] == form.value.key_users
    labelled(form, "Key users").value = "nobody"
    assert "✗ not valid" in beside(form, "Key users")


def test_offers_follow_the_fields_that_they_depend_on():
    """Another engine, other versions."""
    offers = {"engine_version": Offer(lambda now: [f"{now['engine']} 1"], ("engine",))}
    form = Form(CreateClusterInputs, given={}, offers=offers)
    labelled(form, "Engine").value = "aurora-postgresql"
    wait_for_offers(form)
    assert ("aurora-postgresql 1",) == tuple(labelled(form, "Engine version").options)


def test_nothing_is_looked_up_and_no_widget_made_when_nobody_is_there(monkeypatch):
    """Under papermill and nbval a form is a table of its starting values, and `earlier` changes nothing."""
    monkeypatch.setenv("RUNBOOK_ATTENDED", "0")
    offers = {"key_users": Offer(lambda _: pytest.fail("was looked up"))}
    form = Form(CreateKeyInputs, given={"key_alias": "alias/x"}, earlier={"key_alias": ("alias/y", "")}, offers=offers)
    assert {"text/plain", "text/html"} == set(form._repr_mimebundle_())
    assert "Choices: starting values" in repr(form)
    assert "alias/x" == form.value.key_alias


def test_a_value_cannot_become_markup():
    """What is typed is shown, not run."""
    form = Form(CleanUpInputs, given={})
    labelled(form, "Final snapshot").value = "<img src=x onerror=alert(1)>"
    assert "<img" not in beside(form, "Final snapshot")
    assert "&lt;img" in beside(form, "Final snapshot")


@pytest.mark.parametrize("model", STEP_INPUTS.values(), ids=STEP_INPUTS)
@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='x", "</div></table><h1>"]
)
def test_no_value_becomes_html_in_a_form(model, text):
    """Whether it is given, known from earlier, offered by the account or refused: it is text, beside every field."""
    asked = [name for name in model.model_fields if name not in model.not_in_form]
    for form in (
        Form(model, given=dict.fromkeys(asked, text)),
        Form(
            model,
            given={},
            earlier=dict.fromkeys(asked, (text, text)),
            offers=dict.fromkeys(asked, Offer(lambda _: [text])),
        ),
    ):
        wait_for_offers(form)
        shown = [widget for widget in walk(form._view) if isinstance(widget, ipywidgets.HTML)]
        assert len(asked) < len(shown) + 1
        for widget in shown:
            tags = Tags(widget.value).tags
            assert {"div ['style']", "b ['style']", "span ['style']", "span ['class']", "style []"} >= set(tags), (
                widget.value
            )
            assert tags.count("style []") == tags.count("span ['class']") / 2, widget.value
        assert not [widget for widget in walk(form._view) if getattr(widget, "description_allow_html", False)]
        harmless = Form(model, given=dict.fromkeys(asked, "harmless"))._table()._repr_html_()
        assert Tags(harmless).tags == Tags(Form(model, given=dict.fromkeys(asked, text))._table()._repr_html_()).tags


@pytest.mark.parametrize("name", STEP_INPUTS)
def test_no_label_is_cut_in_a_form(name):
    """Labels have 16em: about 34 characters; JupyterLab cuts a longer one."""
    labels = [field.title for field in STEP_INPUTS[name].model_fields.values()]
    assert [label for label in labels if len(label) > 34] == []
