"""Restores of snapshots and to a point in time."""

from runbook_lib.sandbox.rds_snapshots import SnapshotOperations


class RestoreOperations(SnapshotOperations):
    """To be filled."""
