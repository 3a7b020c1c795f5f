"""The DNS suffixes of AWS partitions, from botocore's partitions.json; looked up here only."""

from __future__ import annotations

from functools import cache

import botocore.loaders

from runbook_lib.errors import InputError


@cache
def _suffixes() -> dict[str, tuple[str, str]]:
    """Return each partition's DNS suffix, and the one of its dual-stack endpoints."""
    outputs = {
        partition["id"]: partition["outputs"]
        for partition in botocore.loaders.create_loader().load_data("partitions")["partitions"]
    }
    return {name: (found["dnsSuffix"], found["dualStackDnsSuffix"]) for name, found in outputs.items()}


def dns_suffix(partition: str) -> str:
    """Return the DNS suffix of `partition`, such as `amazonaws.com`, for service names in policy conditions.

    Raises `InputError` for a partition that this SDK does not know.
    """
    return _known(partition)[0]


def host_suffixes(partition: str) -> tuple[str, ...]:
    """Return the suffixes of the host names of `partition`, each with its leading dot. Raises `InputError`."""
    return tuple(f".{suffix}" for suffix in _known(partition))


def _known(partition: str) -> tuple[str, str]:
    if partition not in _suffixes():
        names = ", ".join(_suffixes())
        raise InputError(
            [("partition", f"{partition!r} is not a partition that this SDK knows; choose one of {names}")]
        )
    return _suffixes()[partition]
