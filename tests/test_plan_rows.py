"""What a plan says is what its apply does: no cost beside another cost."""

from __future__ import annotations

from runbook_lib.inputs.start import StartInputs
from runbook_lib.steps import start as start_step


def test_the_plan_of_00_carries_no_cost_of_its_own(walk) -> None:
    """It lists what the whole run will change, and the estimate below says what that costs: not `Cost: none`."""
    inputs = StartInputs.check({"run_id": "demo"})
    plan = start_step.plan_start(start_step.start_run(inputs, runs_dir=walk.folder), inputs)
    assert "Cost" not in repr(plan)
    assert "Cost" not in plan._repr_html_()
    walk.start()
    assert "Cost: none" in repr(walk.pair().plan())
