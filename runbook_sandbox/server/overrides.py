"""Puts every override in moto's place: for the server, and for `moto.mock_aws` inside a process."""

from __future__ import annotations

from runbook_sandbox import dispatch
from runbook_sandbox.iam import sts_iam
from runbook_sandbox.kms import handler as kms_handler
from runbook_sandbox.rds import handler as rds_handler
from runbook_sandbox.records import cloudtrail, cloudwatch

_installed = False


def install() -> None:
    """Install all overrides, before the first request; a second time does nothing."""
    global _installed
    if _installed:
        return
    dispatch.install()
    sts_iam.install()
    kms_handler.install()
    cloudtrail.install()
    cloudwatch.install()
    rds_handler.install()
    _installed = True
