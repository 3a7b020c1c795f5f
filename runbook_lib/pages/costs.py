"""What a run costs: the editable price table in data/prices.yaml, and estimates from it."""

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


def estimate(
    *,
    db_instance_class: str,
    instances: int,
    serverless_min_capacity: float,
    serverless_max_capacity: float,
) -> Table:
    """Return the cost of key, secret and cluster per hour and per month, in US dollars, item by item.

    The capacities, in ACUs per instance, count for `db.serverless` only, whose cost is a range. Storage depends on use
    and is listed, not added. A class that is missing in the price table is listed without a price.
    """
    table = prices()
    label, least, most = f"{instances} x {db_instance_class}", 0.0, 0.0
    if db_instance_class == "db.serverless":
        least, most = (
            capacity * instances * table["acu_hour"] for capacity in (serverless_min_capacity, serverless_max_capacity)
        )
        label += f", {serverless_min_capacity:g} to {serverless_max_capacity:g} ACU each"
        label += "; at 0 ACU it is paused and only its storage is billed" if not serverless_min_capacity else ""
    elif (rate := table["instance_hour"].get(db_instance_class)) is not None:
        least = most = instances * rate
    rows = [(label, *_hour_and_month(least, most))] if most else [(label, *["not in the price table"] * 2)]
    for item, month in (("KMS key", table["kms_key_month"]), ("managed password (secret)", table["secret_month"])):
        least, most = least + month / HOURS_A_MONTH, most + month / HOURS_A_MONTH
        rows.append((item, f"${month / HOURS_A_MONTH:.4f}", f"${month:.2f}"))
    rows.append(("storage", "usage-based", f"${table['storage_gb_month']:.2f} per GB"))
    rows.append(("total, without storage and I/O", *_hour_and_month(least, most)))
    return Table(
        f"Estimate as of {table['as_of']}, us-east-1 rates: check the AWS pricing pages.",
        ("item", "per hour", "per month"),
        rows,
    )


def estimate_existing(source: str) -> Table:
    """Return the cost of encrypting an existing cluster, whose classes are not priced here: key and secret, item by item."""
    table, total = prices(), 0.0
    rows = [(f"a second cluster beside {source}, while both exist", "as much as it costs", "as much as it costs")]
    for item, month in (("KMS key", table["kms_key_month"]), ("managed password (secret)", table["secret_month"])):
        total += month / HOURS_A_MONTH
        rows.append((item, f"${month / HOURS_A_MONTH:.4f}", f"${month:.2f}"))
    rows.append(("snapshot, while it is kept", "usage-based", f"${table['storage_gb_month']:.2f} per GB at most"))
    rows.append(("total, without the second cluster", *_hour_and_month(total, total)))
    return Table(
        f"Estimate as of {table['as_of']}, us-east-1 rates: check the AWS pricing pages.",
        ("item", "per hour", "per month"),
        rows,
    )


def _hour_and_month(least: float, most: float) -> tuple[str, str]:
    """Return dollars per hour as texts, per hour and per month; two different amounts as a range."""
    hour, month = (
        [f"${dollars * hours:.{digits}f}" for dollars in (least, most)]
        for hours, digits in ((1, 3), (HOURS_A_MONTH, 2))
    )
    return " to ".join(dict.fromkeys(hour)), " to ".join(dict.fromkeys(month))


def hourly(table: Table) -> str:
    """Return an estimate's total in words, such as `about $0.075 an hour`."""
    return f"about {table.rows[-1][1]} an hour"
