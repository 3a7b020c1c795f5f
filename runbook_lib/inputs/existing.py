"""Inputs of 10: the existing cluster, and the name of the new one until the cut-over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import field_validator

from runbook_lib.inputs.aws_rules import rule
from runbook_lib.inputs.base import Inputs, choice
from runbook_lib.inputs.rds import ClusterChoices

SUFFIX, OLD_SUFFIX = "-byok", "-old"


class SourceChoices(Inputs):
    """The existing cluster, which 00 asks for, so that it is surveyed before a key costs money."""

    source_db_cluster_identifier: str = choice(
        "Existing cluster",
        "DB cluster identifier of a cluster to encrypt under the key (step 10, in place of 05). Empty: a new cluster.",
        "",
    )

    _source = field_validator("source_db_cluster_identifier")(rule("db_cluster_identifier", optional=True))


class EncryptExistingClusterInputs(SourceChoices):
    """10_encrypt_existing_cluster: which cluster, the temporary name of the new one, and how long to wait."""

    source_db_cluster_identifier: str = choice(
        "Existing cluster",
        "DB cluster identifier of the cluster to encrypt under the key. Empty in the sandbox: a practice cluster.",
        "",
    )
    db_cluster_identifier: str = choice(
        "Temporary identifier",
        "Name of the new cluster until the cut-over. Empty: the source's name with -byok.",
        "",
    )
    wait_timeout_minutes: int = choice(
        "Maximum wait", "Minutes for the snapshot and the restored cluster to become available.", 360, ge=1, le=1440
    )

    _name = field_validator("db_cluster_identifier")(rule("db_cluster_identifier", optional=True))

    @classmethod
    def takes(cls, field: str, started_with: Mapping[str, Any]) -> bool:
        """Return whether a value of 00 is meant for this step: without a source, 00 names the cluster of step 05."""
        if field != "db_cluster_identifier":
            return True
        given = started_with.get(field) != ClusterChoices.model_fields[field].default
        return given and bool(started_with.get("source_db_cluster_identifier"))

    @property
    def identifier(self) -> str:
        """The name of the new cluster until the cut-over; the default name of 05's cluster counts as none."""
        default = ClusterChoices.model_fields["db_cluster_identifier"].default
        named = self.db_cluster_identifier if self.db_cluster_identifier != default else ""
        return named or f"{self.source_db_cluster_identifier}{SUFFIX}"
