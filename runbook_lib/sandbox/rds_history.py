"""Events and automated backups."""

from runbook_lib.sandbox.rds_base import RdsBase


class HistoryOperations(RdsBase):
    """To be filled."""
