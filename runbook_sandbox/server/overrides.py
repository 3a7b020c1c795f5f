"""Installs every override in moto: for the server, and for `moto.mock_aws` in this process."""

from __future__ import annotations

from runbook_sandbox import backup, dispatch, partitions
from runbook_sandbox.iam import handler as iam_handler
from runbook_sandbox.kms import handler as kms_handler
from runbook_sandbox.monitoring import cloudtrail, cloudwatch, connections, watching
from runbook_sandbox.rds import handler as rds_handler

_installed = False


def install() -> None:
    """Install all overrides, before the first request; repeated calls have no further effect."""
    global _installed
    if _installed:
        return
    dispatch.install()
    partitions.install()
    iam_handler.install()
    kms_handler.install()
    cloudtrail.install()
    cloudwatch.install()
    connections.install()
    watching.install()
    rds_handler.install()
    backup.install()
    _installed = True
