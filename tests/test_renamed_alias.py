"""An alias that was renamed in 01 is not forgotten: it stands in the next plan of 01, and 90 deletes it."""

from __future__ import annotations

import pytest
from walk import Walk

from runbook_lib.aws import kms
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Plan
from runbook_lib.steps import clean_up, create_key

pytestmark = pytest.mark.slow


def named(walk: Walk, alias: str) -> Plan:
    """Apply 01 with this alias, and return its next plan."""
    step, asked = walk.step("01"), CreateKeyInputs.check({"key_alias": alias})
    create_key.apply(step, create_key.plan(step, asked))
    create_key.verify(step)
    return create_key.plan(walk.step("01"), asked)


def aliases(plan: Plan) -> list[tuple[str, str]]:
    """Return action and name of each alias in a plan."""
    return [(change.action, change.name) for change in plan.changes if change.resource == "alias"]


def cleaning(walk: Walk, **given: str) -> Plan:
    """Return the plan of 90."""
    return clean_up.plan(walk.step("90"), CleanUpInputs.check(given))


@pytest.fixture
def renamed(walk: Walk) -> Walk:
    """A key that was called alias/aurora-byok, which is the default, alias/second and alias/third."""
    walk.start()
    for alias in ("alias/second", "alias/third"):
        named(walk, alias)
    return walk


def test_the_plan_of_01_names_the_aliases_of_earlier_applies(renamed: Walk) -> None:
    """The one that is asked for comes first; the others are kept, and the plan says until when."""
    plan = create_key.plan(renamed.step("01"), CreateKeyInputs.check({"key_alias": "alias/third"}))
    assert [("keep", "alias/third"), ("keep", "alias/aurora-byok"), ("keep", "alias/second")] == aliases(plan)
    assert "until 90 deletes it" in plan.changes[-1].detail


def test_a_name_that_is_taken_again_is_listed_once(renamed: Walk) -> None:
    """Back to the first name: it is the alias that is asked for, and the third is an earlier one now."""
    expected = [("keep", "alias/aurora-byok"), ("keep", "alias/second"), ("keep", "alias/third")]
    assert expected == aliases(named(renamed, "alias/aurora-byok"))


def test_90_deletes_all_of_them_and_no_other(renamed: Walk) -> None:
    """An alias that somebody else gave the key stays out of the plan."""
    renamed.client().create_alias(AliasName="alias/foreign", TargetKeyId=renamed.key_id)
    expected = [("delete", f"alias/{name}") for name in ("aurora-byok", "second", "third")]
    assert expected == aliases(cleaning(renamed))
    step, asked = renamed.step("90"), CleanUpInputs.check({"confirm_db_cluster_identifier": "aurora-byok"})
    clean_up.apply(step, clean_up.plan(step, asked))
    assert ["alias/foreign"] == kms.aliases_of(renamed.step("90").session, renamed.key_id)


def test_an_alias_that_points_elsewhere_now_is_left_alone(renamed: Walk) -> None:
    """Somebody moved it to another key: neither plan names it."""
    other = renamed.client().create_key()["KeyMetadata"]["KeyId"]
    renamed.client().update_alias(AliasName="alias/aurora-byok", TargetKeyId=other)
    plan = create_key.plan(renamed.step("01"), CreateKeyInputs.check({"key_alias": "alias/third"}))
    assert "alias/aurora-byok" not in [name for _, name in aliases(plan)]
    assert "alias/aurora-byok" not in [name for _, name in aliases(cleaning(renamed))]
