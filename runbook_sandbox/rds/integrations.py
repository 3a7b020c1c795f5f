"""Zero-ETL integrations and database activity streams: both keep a KMS key in use, and neither is a cluster.

moto gap: not implemented. The data that they carry is not simulated, only that they exist and under which key.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.rds.models import RDSBackend

from runbook_sandbox.instruments import clock, ids
from runbook_sandbox.rds import encryption as rds_encryption
from runbook_sandbox.rds.base import RdsBase
from runbook_sandbox.rds.errors import bad_value, page, raise_error
from runbook_sandbox.rds.resources import plain_tags


def _all(backend: RDSBackend) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = backend.__dict__.setdefault("runbook_integrations", {})
    return found


class IntegrationOperations(RdsBase):
    """CreateIntegration, DescribeIntegrations, DeleteIntegration; StartActivityStream, StopActivityStream."""

    def create_integration(self) -> ActionResult:
        """moto gap: not implemented."""
        given = self._given
        name = str(given["IntegrationName"])
        known = _all(self.backend)
        if any(one["IntegrationName"] == name for one in known.values()):
            raise_error("IntegrationAlreadyExistsFault", f"An integration with the name {name} already exists.")
        source = self._find_cluster(given.get("SourceArn"))
        fields = {"KMSKeyId": str(rds_encryption.usable_key(self._caller, given["KMSKeyId"]).arn)} if given.get(
            "KMSKeyId"
        ) else {}  # fmt: skip
        number = ids.uuid_for("integration", self.current_account)
        arn = f"arn:{self.backend.partition}:rds:{self.region}:{self.current_account}:integration:{number}"
        known[arn] = fields | {
            "IntegrationArn": arn, "IntegrationName": name, "SourceArn": source.arn, "TargetArn": given["TargetArn"],
            "Status": "active", "CreateTime": clock.now(), "Tags": plain_tags(given.get("Tags")),
        }  # fmt: skip
        return ActionResult(known[arn])

    def describe_integrations(self) -> ActionResult:
        """moto gap: not implemented."""
        given, known = self._given, _all(self.backend)
        wanted = given.get("IntegrationIdentifier")
        found = [one for one in known.values() if wanted in (None, one["IntegrationArn"], one["IntegrationName"])]
        if wanted is not None and not found:
            raise_error("IntegrationNotFoundFault", f"Integration {wanted} not found.")
        chosen, marker = page(found, given)
        return ActionResult({"Integrations": chosen, "Marker": marker})

    def delete_integration(self) -> ActionResult:
        """moto gap: not implemented."""
        wanted, known = self._given.get("IntegrationIdentifier"), _all(self.backend)
        for arn, one in list(known.items()):
            if wanted in (arn, one["IntegrationName"]):
                return ActionResult(known.pop(arn) | {"Status": "deleting"})
        raise_error("IntegrationNotFoundFault", f"Integration {wanted} not found.")

    def start_activity_stream(self) -> ActionResult:
        """moto gap: not implemented."""
        given = self._given
        cluster = self._find_cluster(given.get("ResourceArn"))
        if given["Mode"] not in ("sync", "async"):
            bad_value(f"Invalid mode {given['Mode']}. Must be sync or async.")
        if cluster.status != "available":
            raise_error("InvalidDBClusterStateFault", f"The DB cluster {cluster.identifier} is not available.")
        key = str(rds_encryption.usable_key(self._caller, given["KmsKeyId"]).arn)
        stream = f"aws-rds-das-{cluster.resource_id}"
        cluster.fields |= {
            "ActivityStreamStatus": "started", "ActivityStreamMode": given["Mode"], "ActivityStreamKmsKeyId": key,
            "ActivityStreamKinesisStreamName": stream,
        }  # fmt: skip
        return ActionResult({
            "KmsKeyId": key, "KinesisStreamName": stream, "Status": "starting", "Mode": given["Mode"],
            "ApplyImmediately": True,
        })  # fmt: skip

    def stop_activity_stream(self) -> ActionResult:
        """moto gap: not implemented."""
        cluster = self._find_cluster(self._given.get("ResourceArn"))
        if not cluster.fields.get("ActivityStreamKmsKeyId"):
            raise_error("InvalidDBClusterStateFault", f"{cluster.identifier} has no activity stream.")
        answer = {"KmsKeyId": cluster.fields["ActivityStreamKmsKeyId"], "Status": "stopping",
                  "KinesisStreamName": cluster.fields["ActivityStreamKinesisStreamName"]}  # fmt: skip
        for name in ("Mode", "KmsKeyId", "KinesisStreamName"):
            cluster.fields[f"ActivityStream{name}"] = None
        cluster.fields["ActivityStreamStatus"] = "stopped"
        return ActionResult(answer)
