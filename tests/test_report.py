"""Tables, plans, checks and reports: every value escaped, every failure raised, both faces true."""

from __future__ import annotations

import json

import pytest

from runbook_lib.checks import Checks
from runbook_lib.errors import PlanRefused, VerificationFailed
from runbook_lib.pages.report import report_html, report_json
from runbook_lib.plan import Change, Edit, Plan
from runbook_lib.tables import Table, Text

HOSTILE = "<img src=x onerror=alert(1)>'\"&"
FACTS = {
    "run_id": HOSTILE, "target": "sandbox", "target_words": HOSTILE, "account_id": "1", "region": "r", "verified_at": "now",
    "verdict": HOSTILE, "db_cluster_identifier": HOSTILE, "summary": {HOSTILE: HOSTILE},
}  # fmt: skip


def checks(*pairs):
    made = Checks("It")
    for expected, actual in pairs:
        made.equal("the claim", expected, actual, source="kms:DescribeKey")
    return made


def test_checks_pass_only_when_all_hold_and_there_is_one():
    """No evidence is no proof."""
    assert checks((1, 1)).passed
    assert not checks((1, 1), (1, 2)).passed
    assert not checks().passed
    checks((1, 1)).require_passed()
    with pytest.raises(
        VerificationFailed, match=r"0 of 1 checks passed: the claim .expected a, found b, by kms:DescribeKey"
    ):
        checks(("a", "b")).require_passed()
    with pytest.raises(VerificationFailed, match="nothing was checked"):
        checks().require_passed()


def test_a_refused_row_stops_apply_with_the_reason():
    """Apply takes the very plan that was shown, and a refusal in it changes nothing."""
    plan = Plan("01", (Change("create", "KMS key", "k"), Change("refuse", "alias", "alias/x", "it is someone else's")))
    with pytest.raises(PlanRefused, match="nothing was changed: alias alias/x: it is someone else's"):
        plan.require_applicable()
    assert plan.summary == "1 to create, 1 to refuse"


def test_a_plan_names_what_was_changed_in_the_form():
    """The saved page shows the values that were really used, and which were changed by hand."""
    plan = Plan("05", (Change("create", "DB cluster", "c"),), None, (Edit("port", "Changed in the form", 0, 3307),))
    assert "Changed in the form: port: 0 → 3307" in repr(plan)
    assert "Changed in the form: port: 0 → 3307" in plan._repr_html_()


@pytest.mark.parametrize(
    "face",
    [
        Table(HOSTILE, (HOSTILE,), [(HOSTILE,)])._repr_html_(),
        Text(HOSTILE, HOSTILE)._repr_html_(),
        Plan(
            HOSTILE, (Change("create", HOSTILE, HOSTILE, HOSTILE, HOSTILE),), None, (Edit(*[HOSTILE] * 4),)
        )._repr_html_(),
        checks((HOSTILE, HOSTILE))._repr_html_(),
        report_html(FACTS, checks((HOSTILE, HOSTILE)), tables=[Table(HOSTILE, (HOSTILE,), [(HOSTILE,)])]).decode(),
    ],
    ids=["table", "text", "plan", "checks", "report"],
)
def test_html_in_a_value_is_shown_and_never_run(face):
    """A name in the account may hold anything; a page shows it as text."""
    assert "<img" not in face
    assert "&lt;img src=x onerror=alert(1)&gt;" in face


def test_the_report_loads_nothing_from_the_network():
    """report.html can be handed to an auditor as one file."""
    page = report_html(FACTS, checks((1, 1))).decode()
    assert "<script" not in page
    assert "src=" not in page.replace("img src=x", "")
    assert "http" not in page


def test_report_json_says_what_was_promised():
    """format, verified, and each check with claim, expected, actual, source, passed."""
    told = json.loads(report_json({"key_arn": "k", "db_cluster_arn": "c"}, checks((1, 2))))
    assert told["format"] == 1
    assert told["verified"] is False
    assert told["checks"] == [
        {"claim": "the claim", "expected": "1", "actual": "2", "source": "kms:DescribeKey", "passed": False}
    ]


def test_both_faces_of_a_table_hold_the_same_values():
    """What is seen in JupyterLab is what nbval compares and what a terminal shows."""
    table = Table("caption", ("a", "b"), [("one", 2), ("three", None)])
    for word in ("caption", "one", "2", "three"):
        assert word in repr(table)
        assert word in table._repr_html_()
    assert [["one", 2], ["three", None]] == [list(row) for row in table.to_frame().to_numpy()]
