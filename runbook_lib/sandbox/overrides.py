"""Puts every override in moto's place: for the server, and for `moto.mock_aws` inside a process."""

from __future__ import annotations

from runbook_lib.sandbox import cloudtrail, cloudwatch, dispatch, kms, rds, sts_iam

_installed = False


def install() -> None:
    """Install all overrides, before the first request; a second time does nothing."""
    global _installed
    if _installed:
        return
    dispatch.install()
    sts_iam.install()
    kms.install()
    cloudtrail.install()
    cloudwatch.install()
    rds.install()
    _installed = True
