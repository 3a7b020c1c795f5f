"""Bad input, at scale: whatever comes, a value or an error of ours that names the field; never a traceback, never half a run."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from html_tags import Tags
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runbook_cli.parameters import check_parameters, from_command_line, known_parameters, read_parameters
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    InputError,
    ParameterFileInvalid,
    PolicyInvalid,
    RunbookError,
    RunUnreadable,
)
from runbook_lib.pages.report import report_html
from runbook_lib.plan import Change, Edit, Plan
from runbook_lib.policies import reading
from runbook_lib.run.run import LAST_GOOD, STATE, Run
from runbook_lib.run.steps import STEP_INPUTS
from runbook_lib.tables import Table, Text

QUICK = settings(
    max_examples=settings.default.max_examples // 5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FIELDS = sorted(known_parameters())
HOSTILE = [
    "../../etc/passwd", "a\nb", "\x00", "\u202e", "x" * 70_000, "'; import os; os.system('id')", '"""\nraise', "{{7*7}}",
    "<script>alert(1)</script>", "$(id)", "`id`", "%s%n", 10**400, -1, 0, 1e308, float("nan"), float("inf"), None, True,
    [], {}, [[[[]]]], {"a": {"b": 1}}, b"bytes", "alias/aws/rds", "arn:aws:iam::123456789012:role/../x", "07", "\uff11\uff12\uff13",
]  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from([value for value in HOSTILE if not isinstance(value, bytes)]),
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def require(holds: object) -> None:
    """Assert within an except clause."""
    assert holds


def require_named(error: InputError, given_values: dict[str, Any]) -> None:
    """Every problem names its field, in one line."""
    assert error.problems
    for field, message in error.problems:
        assert field.split(".")[0] in {*FIELDS, *given_values}, field
        assert message
        assert len(str(error)) < 10**6


@QUICK
@given(st.dictionaries(st.sampled_from([*FIELDS, "keyalias", "__class__"]), VALUES, max_size=4))
@example({"tags": {"a": None}, "key_alias": "alias/aws/x"})
@example({"reader_count": 10**400})
@example({"valid_to": "9999-99-99", "expiration_model": "KEY_MATERIAL_EXPIRES"})
def test_any_value_of_any_field_is_taken_or_named(values):
    """Each inputs model answers with itself or with the fields that are wrong; nothing else comes out."""
    try:
        check_parameters(values)
    except InputError as error:
        require_named(error, values)
    else:
        for model in STEP_INPUTS.values():
            assert model.read(model.read(values).model_dump()) == model.read(values)


@QUICK
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_what_goes_through_yaml_comes_back_or_is_refused(tmp_path, values):
    """A parameter file means what was written: the same verdict as without YAML between."""
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    try:
        read = read_parameters(file)
    except ParameterFileInvalid:
        return
    assert verdict(read) == verdict(values)


def verdict(values: dict[str, Any]) -> list[str]:
    """Return the fields that are wrong."""
    try:
        check_parameters(values)
    except InputError as error:
        return sorted(field for field, _ in error.problems)
    return []


@QUICK
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda data: data.decode("latin-1"))))
@example("!!python/object/apply:os.system ['touch owned']")
@example("a: !!python/name:os.system")
@example("a: &a [*a]")
@example("a: &x [1]\nb: [*x, *x]")
@example("? [a, b]\n: 1")
@example("- 1")
@example("a: 2001-01-01")
@example("\t")
@example("a: 0x_")
@example("<<: 1")
@example("{}: 1")
@example("[" * 5000)
@example("a: " + "[" * 5000)
@example("a: 2001-99-99")
def test_any_text_is_a_mapping_or_no_parameter_file(tmp_path, text):
    """YAML tags, recursion and rubbish are refused in one line; nothing is executed."""
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        read = read_parameters(file)
        check_parameters(read)
    except (ParameterFileInvalid, InputError) as error:
        require(str(error))


@QUICK
@given(st.lists(st.tuples(st.sampled_from([*FIELDS, "no_such"]), st.text(max_size=30)), max_size=3))
@example([("reader_count", "&a [*a]")])
@example([("tags", "{a: b, a: c}")])
def test_any_word_on_the_command_line_is_taken_or_named(pairs):
    """`-p NAME VALUE`, whatever VALUE is."""
    try:
        check_parameters(from_command_line(pairs))
    except InputError as error:
        require_named(error, dict(pairs))


@QUICK
@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=60), max_size=3))
@example({"run_id": "'; import os; os.system('id') #"})
@example({"key_description": '"""\nraise SystemExit\n"""'})
def test_a_value_never_becomes_code_of_a_notebook(values):
    """What papermill injects is read back as the very values: no text ends its quotes."""
    from papermill.translators import PythonTranslator

    tree = ast.parse(PythonTranslator.codify(values))
    assert values == {
        node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    assert all(isinstance(node, ast.Assign) for node in tree.body)


# state.json ---------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)
STEP = "01_create_key"
PATHS = [
    (), ("format",), ("run_id",), ("created",), ("target",), ("target", "region"), ("target", "target"), ("steps",),
    ("steps", STEP), ("steps", STEP, "status"), ("steps", STEP, "inputs"), ("steps", STEP, "intents"),
    ("steps", STEP, "intents", "kms:CreateKey"), ("steps", STEP, "record"),
]  # fmt: skip


@QUICK
@given(st.sampled_from(PATHS), JSON, st.booleans())
def test_a_state_with_any_part_replaced_is_read_or_refused(tmp_path_factory, path, value, remove):
    """Whatever stands where in state.json: it is a run that answers every question, or damaged; never a crash."""
    folder = tmp_path_factory.mktemp("runs")
    target = {"target": "sandbox", "account_id": "1" * 12, "region": "eu-west-2", "sandbox_id": "s"}
    run = Run.create("demo", runs_dir=folder, target=target)
    run.intend(STEP, "kms:CreateKey")
    run.finish(STEP, key_id="k")
    state: Any = json.loads((run.path / STATE).read_text())
    if not path:
        state = value
    else:
        place = state
        for name in path[:-1]:
            place = place[name]
        place.pop(path[-1]) if remove else place.__setitem__(path[-1], value)
    (run.path / STATE).write_text(json.dumps(state))
    try:
        read = Run.open("demo", runs_dir=folder)
    except RunUnreadable as error:
        require(LAST_GOOD in str(error) or "update aurora-byok-runbook" in str(error))
        return
    assert repr(read)
    assert isinstance(read.target["region"], str)
    for step in read.steps:
        assert isinstance(read.made(step), dict)
        assert read.was_sent(step, "kms:CreateKey") in (True, False)
        assert read.is_unclear(step, "kms:CreateKey") in (True, False)


@QUICK
@given(st.integers(0, 10_000), st.binary(max_size=3))
def test_a_state_with_any_bytes_changed_is_read_or_refused(tmp_path_factory, at, data):
    """Bytes written over, cut off or put in between."""
    folder = tmp_path_factory.mktemp("runs")
    run = Run.create(
        "demo", runs_dir=folder, target={"target": "aws", "account_id": "", "region": "r", "sandbox_id": ""}
    )
    content = (run.path / STATE).read_bytes()
    at %= len(content)
    (run.path / STATE).write_bytes(content[:at] + data + content[at + 1 :])
    try:
        Run.open("demo", runs_dir=folder)
    except RunUnreadable as error:
        require(str(run.path) in str(error))


# The reader of policies --------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["Allow", "Deny", "*", "kms:*", "kms:PutKeyPolicy", "arn:aws:iam::123456789012:root", "", "true"]
)
PART = WORDS | st.lists(WORDS, max_size=2) | JSON
STATEMENTS = st.fixed_dictionaries(
    {},
    optional={
        "Sid": PART, "Effect": PART, "Principal": PART | st.fixed_dictionaries({"AWS": PART}), "Action": PART,
        "Resource": PART, "Condition": PART | st.dictionaries(
            st.sampled_from(["StringEquals", "Bool", "Null", "NumericLessThan", "DateEquals", "IpAddress", "ForAnyValue:X"]),
            PART | st.dictionaries(st.sampled_from(["k", "aws:x"]), PART, max_size=1), max_size=2,
        ),
        "NotAction": PART,
    },
)  # fmt: skip
POLICIES = st.fixed_dictionaries({"Statement": st.lists(STATEMENTS | JSON, max_size=3) | STATEMENTS | JSON}) | JSON


@QUICK
@given(POLICIES)
def test_any_policy_is_judged_or_refused(document):
    """Reading, judging and comparing end in an answer or in PolicyInvalid."""
    readers = (
        lambda: reading.validate(document),
        lambda: reading.who_may(document),
        lambda: reading.allows(document, principal="*", action="kms:PutKeyPolicy", context={"k": "1"}),
        lambda: reading.permitted([document], action="kms:PutKeyPolicy", resource="*", context={"k": "1"}),
        lambda: reading.same(document, document),
    )
    for read in readers:
        try:
            read()
        except PolicyInvalid as error:
            require(str(error))


# HTML ---------------------------------------------------------------------------------------------------------------------


def faces(text: str) -> list[str]:
    """Return every HTML face with `text` wherever a value can stand."""
    checks = Checks(text)
    checks.equal(text, text, text, source=text)
    facts = dict.fromkeys(
        ("run_id", "target", "target_words", "account_id", "region", "verified_at", "verdict", "key_arn", "key_alias",
         "key_material_id", "key_check_value", "valid_to", "db_cluster_identifier", "db_cluster_arn"), text,
    )  # fmt: skip
    table = Table(text, (text,), [(text,)])
    return [
        table._repr_html_(),
        Plan("s", (Change("create", text, text, text, text),), None, (Edit(text, text, text, text),))._repr_html_(),
        checks._repr_html_(),
        Text(text, text)._repr_html_(),
        report_html({**facts, "summary": {text: text}}, checks, tables=[table]).decode(),
    ]


@QUICK
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
@example("<script>alert(1)</script>")
@example('"><img src=x onerror=alert(1)>')
@example("' onmouseover='x")
@example("</td></table><h1>")
@example("javascript:alert(1)")
@example("&lt;b&gt;")
def test_no_value_becomes_html(text):
    """Tables, plans, checks and report.html have the same tags and attributes whatever stands in them."""
    for face, harmless in zip(faces(text), faces("harmless"), strict=True):
        assert Tags(harmless).tags == Tags(face).tags


# Files ----------------------------------------------------------------------------------------------------------------------


def test_no_home_directory_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A service account without a home: parameters that name files below `~` are refused in one line, the rest works."""
    from runbook_lib.material.sources import read_private_key

    monkeypatch.setenv("HOME", "/nonexistent")
    Run.create("demo", runs_dir=tmp_path, target={"target": "aws"})
    with pytest.raises(RunbookError, match="cannot be opened"):
        read_private_key("~/recovery-private.pem")
