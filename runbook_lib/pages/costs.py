"""What a run costs: the editable price table in data/prices.yaml, and the sums made from it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from runbook_lib.tables import Table

HOURS_A_MONTH = 730


@cache
def prices() -> dict[str, Any]:
    """Return the price table, in US dollars, with its `as_of` date."""
    text = (files("runbook_lib") / "data" / "prices.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)  # type: ignore[no-any-return]


def estimate(*, db_instance_class: str, instances: int, serverless_max_capacity: float = 2.0) -> Table:
    """Return what key, secret and cluster cost an hour and a month, item by item.

    Storage and requests depend on use and are named, not summed. A class without a price in the table is said
    to have none.
    """
    table = prices()
    rows: list[tuple[str, str, str]] = []
    hourly = 0.0
    if db_instance_class == "db.serverless":
        most = serverless_max_capacity * instances * table["acu_hour"]
        rows.append(
            (
                f"{instances} serverless, up to {serverless_max_capacity:g} ACU each",
                f"up to ${most:.2f}",
                f"up to ${most * HOURS_A_MONTH:.2f}",
            )
        )
        hourly += most
    elif (rate := table["instance_hour"].get(db_instance_class)) is not None:
        hourly += instances * rate
        rows.append(
            (
                f"{instances} x {db_instance_class}",
                f"${instances * rate:.3f}",
                f"${instances * rate * HOURS_A_MONTH:.2f}",
            )
        )
    else:
        rows.append((f"{instances} x {db_instance_class}", "not in the price table", "not in the price table"))
    for label, month in (
        ("KMS key", table["kms_key_month"]),
        ("managed password (secret)", table["secret_month"]),
    ):
        hourly += month / HOURS_A_MONTH
        rows.append((label, f"${month / HOURS_A_MONTH:.4f}", f"${month:.2f}"))
    rows.append(("storage", "by use", f"${table['storage_gb_month']:.2f} per GB"))
    rows.append(("together, without storage and I/O", f"${hourly:.3f}", f"${hourly * HOURS_A_MONTH:.2f}"))
    return Table(
        f"Estimate as of {table['as_of']}, us-east-1 rates: check the AWS pricing pages.",
        ("item", "an hour", "a month"),
        rows,
    )


def hourly(*, db_instance_class: str, instances: int) -> str:
    """Return the estimate's sum in words, such as `about $0.08 an hour`."""
    return f"about {estimate(db_instance_class=db_instance_class, instances=instances).rows[-1][1]} an hour"
