"""The table at the head of each notebook is true: what the sandbox recorded is what the table says."""

from __future__ import annotations

import re

import pytest
from cells import run_cells

from runbook_lib.run.steps import STEP_INPUTS, all_steps

READS = re.compile(r"\w+:(Describe|Get|List|Lookup)")
# Steps in the order in which one run takes them; 90 deletes what the run made.
NAMES = [name for name in all_steps() if name[:2] < "07" or name == "90_clean_up"]
pytestmark = pytest.mark.slow

SITUATIONS = {
    "as it comes": {},
    "with everything": {
        "reader_count": 1,
        "allowed_cidr": "10.0.0.0/16",
        "take_snapshot": True,
        "tags": {"team": "dba"},
        "key_users": ["role/Admin"],
        "master_user_secret_kms_key_id": "alias/aurora-byok",
    },
}


@pytest.fixture(scope="module", params=SITUATIONS, ids=SITUATIONS)
def recorded(request, shared_world):
    """What each step called, by step, in one situation."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RUNBOOK_RUNS_DIR", str(shared_world.folder))
    patch.setenv("RUNBOOK_ATTENDED", "0")
    given = {"confirm_db_cluster_identifier": "aurora-byok", **SITUATIONS[request.param]}
    given["run_id"] = request.param.replace(" ", "-")
    calls = {}
    for name in NAMES:
        before = shared_world.ask("/runbook/calls")["calls"]
        last = before[-1]["n"] if before else 0
        run_cells(name, **{field: given[field] for field in STEP_INPUTS[name].model_fields if field in given})
        made = shared_world.ask(f"/runbook/calls?since={last}")["calls"]
        # What RDS does in its own name, through its grant, is nobody's permission; GetCallerIdentity needs none.
        own = {f"{call['service']}:{call['operation']}" for call in made if not call["invoked_by"]}
        calls[name] = own - {"sts:GetCallerIdentity"}
    patch.undo()
    return calls


@pytest.mark.parametrize("name", NAMES)
def test_no_step_calls_what_its_table_does_not_name(recorded, name):
    """Whoever grants what the head asks for can run the step."""
    assert [] == sorted(recorded[name] - set(all_steps()[name].actions))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_changes_nothing_only_reads(recorded, name):
    """And one that changes something does call something that changes."""
    changing = sorted(call for call in recorded[name] if not READS.match(call))
    said = all_steps()[name].changes
    if said == "nothing":
        assert [] == changing
    elif not said.startswith("nothing"):
        assert [] != changing


def test_a_step_that_needs_no_permission_calls_nothing(recorded):
    """03 runs where there is no network."""
    without = [name for name in NAMES if not all_steps()[name].actions]
    assert ["03_encrypt_key_material"] == without
    assert set() == recorded["03_encrypt_key_material"]
