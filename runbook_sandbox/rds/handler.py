"""RDS in the sandbox: installs the handler that the rds_* modules make up, with what stands around it.

Replaces `moto.rds.urls.url_paths`, which moto reads for its server and for `mock_aws` alike. Operations that no
module here names (option groups, proxies, instances of other engines) stay moto's.
"""

from __future__ import annotations

import moto.rds.urls

from runbook_sandbox.rds import managed_secrets, states
from runbook_sandbox.rds.backups_and_events import BackupAndEventOperations
from runbook_sandbox.rds.catalogue import CatalogueOperations
from runbook_sandbox.rds.cluster_changes import ChangeOperations
from runbook_sandbox.rds.clusters import ClusterOperations
from runbook_sandbox.rds.global_clusters import GlobalOperations
from runbook_sandbox.rds.groups import GroupOperations
from runbook_sandbox.rds.instances import InstanceOperations
from runbook_sandbox.rds.restores import RestoreOperations


class SandboxRdsResponse(
    ClusterOperations, ChangeOperations, InstanceOperations, RestoreOperations, GroupOperations,
    CatalogueOperations, BackupAndEventOperations, GlobalOperations,
):  # fmt: skip
    """The handler: moto's, with Aurora as documented."""


def install() -> None:
    """Put these in moto's place, before the first request; doing it twice is doing it once."""
    moto.rds.urls.url_paths = {"{0}/$": SandboxRdsResponse.dispatch}
    managed_secrets.install()
    states.register()
