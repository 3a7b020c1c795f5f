"""A plan is applied to the run that it was made for: what happened meanwhile, in another tab, makes it outdated."""

from __future__ import annotations

import pytest

from runbook_lib.errors import PlanOutdated
from runbook_lib.inputs import kms as kms_inputs
from runbook_lib.steps import create_key, encrypt_key_material, get_parameters_for_import


def shown(walk):
    """Return 03 as it stands in an open tab: the plan is shown, and not applied yet."""
    step, asked = walk.step("03"), kms_inputs.EncryptKeyMaterialInputs.check({})
    return step, encrypt_key_material.plan(step, asked), asked


def test_an_old_tab_of_03_cannot_replace_the_copies_of_what_was_imported(walk):
    """Wrapped and imported in one tab; the other's plan to make material is refused, and the custody copy stays."""
    walk.start().pair()
    step, plan, asked = shown(walk)
    walk.encrypt()
    walk.bring_in()
    before = {path.name: path.read_bytes() for path in walk.path.iterdir() if path.is_file()}
    with pytest.raises(PlanOutdated, match="04_import_key_material changed since this plan was shown"):
        encrypt_key_material.apply(step, plan)
    assert before == {path.name: path.read_bytes() for path in walk.path.iterdir() if path.is_file()}
    again = encrypt_key_material.plan(step, asked)
    assert ["keep"] == [change.action for change in again.changes]
    encrypt_key_material.apply(step, again)


def test_applied_twice_03_keeps_what_it_made_the_first_time(walk):
    """Whoever has taken the first copy to the safe has the right one."""
    walk.start().pair()
    step, plan, _ = shown(walk)
    first = encrypt_key_material.apply(step, plan)
    copies = [path.read_bytes() for path in sorted(walk.path.glob("KeyMaterial.recovery-*"))]
    assert first == encrypt_key_material.apply(step, plan)
    assert copies == [path.read_bytes() for path in sorted(walk.path.glob("KeyMaterial.recovery-*"))]


def test_of_two_tabs_of_03_the_second_is_refused_and_the_record_stays_true(walk):
    """What state.json says of the copies is what they are: the second tab's choices are not noted over the first's."""
    walk.start().pair()
    step, asked = walk.step("03"), kms_inputs.EncryptKeyMaterialInputs.check({"recovery_public_keys": [walk.public(0)]})
    plan = encrypt_key_material.plan(step, asked)
    walk.encrypt(recovery_public_keys=[walk.public(1)])
    before = walk.run.steps["03_encrypt_key_material"]
    with pytest.raises(PlanOutdated, match="03_encrypt_key_material changed since this plan was shown"):
        encrypt_key_material.apply(step, plan)
    assert before == walk.run.steps["03_encrypt_key_material"]


def test_a_set_that_the_plan_gives_up_is_given_up(walk):
    """The twin: what the plan says will be superseded is."""
    walk.start().pair().encrypt()
    walk.pair(wrapping_key_spec="RSA_3072")
    first = walk.run.record("03_encrypt_key_material")["set"]
    walk.encrypt()
    assert first != walk.run.record("03_encrypt_key_material")["set"]


def test_an_old_tab_of_02_cannot_fetch_a_pair_after_the_import(walk):
    """Its files are those that were used, and stay."""
    walk.start()
    step, asked = walk.step("02"), kms_inputs.GetParametersForImportInputs.check({"wrapping_key_spec": "RSA_2048"})
    plan = get_parameters_for_import.plan(step, asked)
    walk.pair().encrypt()
    walk.bring_in()
    with pytest.raises(PlanOutdated, match="03_encrypt_key_material and 04_import_key_material"):
        get_parameters_for_import.apply(step, plan)


def test_what_the_same_step_did_does_not_make_its_plan_old(walk):
    """An apply that broke off is run again as it stands: it looks before it creates."""
    walk.start()
    step, asked = walk.step("01"), kms_inputs.CreateKeyInputs.check({})
    plan = create_key.plan(step, asked)
    assert create_key.apply(step, plan) == create_key.apply(step, plan)
