"""The cost estimate of 00: each figure comes from the price table and from what was asked."""

from __future__ import annotations

import pytest

from runbook_lib.errors import InputError
from runbook_lib.inputs.start import StartInputs
from runbook_lib.pages import costs
from runbook_lib.steps.start import estimate


def _rows(**given: object) -> list[tuple[object, ...]]:
    return estimate(StartInputs.check(given)).rows


@pytest.fixture(autouse=True)
def _rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix the rates, so that editing the table changes no expected value."""
    monkeypatch.setitem(costs.prices(), "acu_hour", 0.12)
    monkeypatch.setitem(costs.prices()["instance_hour"], "db.t4g.medium", 0.073)


def test_an_instance_class_has_one_price() -> None:
    """One rate per instance, by the hour and by the month of 730 hours; key and secret are in the sum."""
    rows = _rows(reader_count=1)
    assert ("2 x db.t4g.medium", "$0.146", "$106.58") == rows[0]
    assert ("total, without storage and I/O", "$0.148", "$107.98") == rows[-1]


def test_serverless_is_a_range_from_minimum_to_maximum() -> None:
    """Capacity times instances times the rate of an ACU, for the minimum and for the maximum that were asked."""
    asked = {"db_instance_class": "db.serverless", "serverless_min_capacity": 0.5, "serverless_max_capacity": 16.0}
    assert ("1 x db.serverless, 0.5 to 16 ACU each", "$0.060 to $1.920", "$43.80 to $1401.60") == _rows(**asked)[0]
    rows = _rows(**asked, reader_count=2)
    assert ("3 x db.serverless, 0.5 to 16 ACU each", "$0.180 to $5.760", "$131.40 to $4204.80") == rows[0]
    assert ("total, without storage and I/O", "$0.182 to $5.762", "$132.80 to $4206.20") == rows[-1]


def test_serverless_with_minimum_0_pauses() -> None:
    """At 0 ACU only storage is paid for; the estimate says so."""
    label, hour, month = _rows(db_instance_class="db.serverless")[0]
    assert "1 x db.serverless, 0 to 2 ACU each; at 0 ACU it is paused and only its storage is billed" == label
    assert ("$0.000 to $0.240", "$0.00 to $175.20") == (hour, month)


def test_a_fixed_capacity_is_no_range() -> None:
    """Minimum and maximum alike: one figure."""
    asked = {"db_instance_class": "db.serverless", "serverless_min_capacity": 2.0, "serverless_max_capacity": 2.0}
    assert ("$0.240", "$175.20") == _rows(**asked)[0][1:]


def test_a_class_without_a_price_is_said_to_have_none() -> None:
    """No price is invented, and the sum is that of the rest."""
    rows = _rows(db_instance_class="db.r99.large")
    assert ("1 x db.r99.large", "not in the price table", "not in the price table") == rows[0]
    assert "$1.40" == rows[-1][2]


def test_00_checks_the_capacities() -> None:
    """A maximum under the minimum is refused before a key costs money."""
    with pytest.raises(
        InputError, match=r"serverless_max_capacity: 2\.0 is below serverless_min_capacity, 4\.0; raise it"
    ):
        StartInputs.check({"serverless_min_capacity": 4.0})
