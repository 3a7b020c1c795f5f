"""Tables, plans and checks as pandas DataFrames: the values for programs, by documented columns."""

from __future__ import annotations

import subprocess
import sys

from runbook_lib.checks import Checks
from runbook_lib.plan import Change, Plan
from runbook_lib.tables import Table


def test_a_table_gives_its_values_under_its_headings() -> None:
    """Values keep their types: a number stays a number, and what is missing stays None."""
    frame = Table("Things", ("name", "number"), [("one", 2), ("three", None)]).to_frame()
    assert ["name", "number"] == list(frame.columns)
    assert [["one", 2], ["three", None]] == [list(row) for row in frame.to_numpy()]


def test_an_empty_table_keeps_its_headings() -> None:
    """No rows, the same columns: a filter on them does not fail."""
    frame = Table("Things", ("name", "number"), []).to_frame()
    assert (0, ["name", "number"]) == (len(frame), list(frame.columns))


def test_a_plan_gives_one_row_per_change() -> None:
    """Action, resource, name, detail and calls, without the signs that the page draws."""
    plan = Plan(
        "01",
        (
            Change("create", "KMS key", "k", "origin EXTERNAL", "kms:CreateKey", {"Origin": "EXTERNAL"}),
            Change("keep", "alias", "alias/k"),
        ),
    )
    frame = plan.to_frame()
    assert ["action", "resource", "name", "detail", "calls"] == list(frame.columns)
    assert ["create", "KMS key", "k", "origin EXTERNAL", "kms:CreateKey"] == list(frame.iloc[0])
    assert ["alias/k"] == list(frame[frame.action == "keep"]["name"])


def test_checks_give_one_row_per_claim() -> None:
    """Claim, expected, actual, source, and whether it holds as a Boolean, so that `frame[~frame.passed]` fails closed."""
    checks = Checks("It")
    checks.equal("the key is yours", "EXTERNAL", "EXTERNAL", source="kms:DescribeKey")
    checks.equal("the storage is encrypted", True, False, source="rds:DescribeDBClusters")
    frame = checks.to_frame()
    assert ["claim", "expected", "actual", "source", "passed"] == list(frame.columns)
    assert "bool" == str(frame.passed.dtype)
    assert [["the storage is encrypted", "true", "false", "rds:DescribeDBClusters", False]] == [
        list(row) for row in frame[~frame.passed].to_numpy()
    ]
    assert "bool" == str(Checks("Nothing").to_frame().passed.dtype)


def test_pandas_is_loaded_by_a_frame_only() -> None:
    """It takes longer to import than all the rest: neither the library nor the modules of 06 load it."""
    code = (
        "import sys, runbook_lib\n"
        "from runbook_lib import open_step, pictures, try_it, verify_encryption\n"
        "from runbook_lib.tables import Table\n"
        "print('pandas' in sys.modules)\n"
        "Table('Things', ('a',), [(1,)]).to_frame()\n"
        "print('pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ["False", "True"] == done.stdout.split()
