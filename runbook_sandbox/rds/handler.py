"""Combines the RDS operations and installs them in moto.

Replaces `moto.rds.urls.url_paths`, which moto reads for its server and for `mock_aws`. Operations without an override
(option groups, proxies, instances of other engines) remain moto's.
"""

from __future__ import annotations

import moto.rds.urls

from runbook_sandbox.rds import managed_secrets, states
from runbook_sandbox.rds.backups_and_events import BackupAndEventOperations
from runbook_sandbox.rds.catalogue import CatalogueOperations
from runbook_sandbox.rds.cluster_changes import ChangeOperations
from runbook_sandbox.rds.cluster_features import FeatureOperations
from runbook_sandbox.rds.clusters import ClusterOperations
from runbook_sandbox.rds.global_clusters import GlobalOperations
from runbook_sandbox.rds.groups import GroupOperations
from runbook_sandbox.rds.instances import InstanceOperations
from runbook_sandbox.rds.integrations import IntegrationOperations
from runbook_sandbox.rds.restores import RestoreOperations


class SandboxRdsResponse(
    ClusterOperations, ChangeOperations, InstanceOperations, RestoreOperations, GroupOperations,
    CatalogueOperations, BackupAndEventOperations, GlobalOperations, IntegrationOperations, FeatureOperations,
):  # fmt: skip
    """moto's handler, with Aurora as AWS documents it."""


def install() -> None:
    """Install the handler in moto before the first request; repeated calls have no further effect."""
    moto.rds.urls.url_paths = {"{0}/$": SandboxRdsResponse.dispatch}
    managed_secrets.install()
    states.register()
