"""The metric that warns before imported key material expires: AWS/KMS, SecondsUntilKeyMaterialExpiration.

moto gap: KMS has no metrics. moto calls every subclass of its provider class, so defining one is enough. There is one
datum for each of the last 60 minutes since the import, and none for keys whose material does not expire.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from moto.core.common_models import CloudWatchMetricProvider
from moto.kms.models import Key

from runbook_sandbox.instruments import clock
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.kms.materials import Material

NAME = "SecondsUntilKeyMaterialExpiration"
_SHOWN = 60


def _first_to_expire(key: Key) -> Material | None:
    """Return the material that expires first, of those that the key needs and has; None if none expires."""
    if key.origin != "EXTERNAL":
        return None
    present = [one for one in kms_keys.refresh(key).permanent if one.value is not None and one.valid_to]
    return min(present, key=lambda one: one.valid_to or clock.now(), default=None)


def first_expiry(key: Key) -> datetime | None:
    """Return the time from which the metric counts down; None for a key without this metric."""
    first = _first_to_expire(key)
    return first.valid_to if first is not None else None


def kms_metrics(account_id: str, region: str) -> list[Any]:
    """Return the data of all keys whose material expires, in moto's format (times without time zone)."""
    from moto.cloudwatch.models import MetricDatum

    now = clock.now()
    minute = now.replace(second=0, microsecond=0)
    found = []
    for key in kms_keys.all_keys(account_id, region):
        if (first := _first_to_expire(key)) is None:
            continue
        ends, since = first.valid_to or now, (first.imported or now).replace(second=0, microsecond=0)
        moments = [minute - timedelta(minutes=back) for back in range(_SHOWN)]
        found += [
            MetricDatum(
                namespace="AWS/KMS", name=NAME, value=(ends - moment).total_seconds(), unit="Seconds",
                dimensions=[{"Name": "KeyId", "Value": key.id}], timestamp=moment.replace(tzinfo=None),
            )
            for moment in moments if moment >= since
        ]  # fmt: skip
    return found


class _KmsMetrics(CloudWatchMetricProvider):
    get_cloudwatch_metrics = staticmethod(kms_metrics)


def install() -> type:
    """Return the provider, which moto finds because it is defined."""
    return _KmsMetrics
