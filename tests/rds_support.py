"""Shared by the tests of the sandbox's RDS: clients for one endpoint, and a cluster in one call."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kms_support import ACCOUNT, REGION, connect

from runbook_sandbox.rds import quotas

MALFORMED = "MalformedPolicyDocumentException"
COMBINATION, VALUE = "InvalidParameterCombination", "InvalidParameterValue"
NO_KEY = "KMSKeyNotAccessibleFault"
CLUSTER_STATE, SNAPSHOT_STATE = "InvalidDBClusterStateFault", "InvalidDBClusterSnapshotStateFault"
RECOVERABLE = "inaccessible-encryption-credentials-recoverable"
INACCESSIBLE = "inaccessible-encryption-credentials"
MYSQL, POSTGRESQL = "aurora-mysql", "aurora-postgresql"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
NOBODY = f"arn:aws:iam::{ACCOUNT}:role/nobody-has-this"
PASSWORD = {"ManageMasterUserPassword": False, "MasterUserPassword": "correct-horse"}
CLUSTER = {"Engine": MYSQL, "MasterUsername": "chief", "ManageMasterUserPassword": True}
NEW_ACCOUNT = dict(quotas.MOST)
_numbers = itertools.count(1)


def policy(*principals: str) -> str:
    """Return a key policy that allows these principals everything."""
    entry = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": "kms:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [entry]})


def set_transition(url: str, model: str, transition: dict[str, Any]) -> None:
    """Set the transition of one model with moto's own state manager."""
    _post(url, "set", {"model_name": model, "transition": transition})


def unset_transition(url: str, model: str) -> None:
    """Return one model to its default transition."""
    _post(url, "unset", {"model_name": model})


def _post(url: str, word: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310
        f"{url}/moto-api/state-manager/{word}-transition", data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    urllib.request.urlopen(request).close()  # noqa: S310


class Aws:
    """Clients for one endpoint, and requests to make with them."""

    def __init__(self, url: str, account: str = ACCOUNT) -> None:
        self.url, self.account = url, account
        self._clients: dict[tuple[str, str], Any] = {}

    def __call__(self, service: str, region: str = REGION) -> Any:
        if (service, region) not in self._clients:
            self._clients[service, region] = connect(self.url, service, region=region, account=self.account)
        return self._clients[service, region]

    def name(self, word: str = "c") -> str:
        """Return an unused name."""
        return f"{word}-{next(_numbers)}"

    def key(self, region: str = REGION, **asked: Any) -> Any:
        """Create a key; return its metadata."""
        return self("kms", region).create_key(**asked)["KeyMetadata"]

    def disabled(self) -> str:
        """Return the ARN of a disabled key."""
        key = self.key()
        self("kms").disable_key(KeyId=key["KeyId"])
        return str(key["Arn"])

    def pending_deletion(self) -> str:
        """Return the ARN of a key that is pending deletion."""
        key = self.key()
        self("kms").schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
        return str(key["Arn"])

    def cluster(self, **asked: Any) -> Any:
        """Create a cluster, poll it once, and return it."""
        rds = self("rds")
        given = {"DBClusterIdentifier": self.name(), **CLUSTER, **asked}
        made = rds.create_db_cluster(**given)["DBCluster"]
        return rds.describe_db_clusters(DBClusterIdentifier=made["DBClusterIdentifier"])["DBClusters"][0]

    def encrypted(self, **asked: Any) -> Any:
        """Create a cluster encrypted with a new key."""
        return self.cluster(StorageEncrypted=True, KmsKeyId=self.key()["Arn"], **asked)

    def instance(self, cluster: Any, **asked: Any) -> Any:
        """Add an instance to a cluster."""
        given = {"DBInstanceIdentifier": self.name("i"), "DBClusterIdentifier": cluster["DBClusterIdentifier"],
                 "Engine": MYSQL, "DBInstanceClass": "db.t4g.medium", **asked}  # fmt: skip
        return self("rds").create_db_instance(**given)["DBInstance"]

    def snapshot(self, cluster: Any) -> Any:
        """Take a snapshot of a cluster and poll it once."""
        rds, name = self("rds"), self.name("s")
        rds.create_db_cluster_snapshot(
            DBClusterSnapshotIdentifier=name, DBClusterIdentifier=cluster["DBClusterIdentifier"]
        )
        rds.describe_db_clusters(DBClusterIdentifier=cluster["DBClusterIdentifier"])
        return rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name)["DBClusterSnapshots"][0]

    def copied(self, source: Any, region: str = REGION, **asked: Any) -> Any:
        """Copy a snapshot and poll the copy once."""
        rds, name = self("rds", region), self.name("copy")
        rds.copy_db_cluster_snapshot(
            SourceDBClusterSnapshotIdentifier=source["DBClusterSnapshotArn"],
            TargetDBClusterSnapshotIdentifier=name, **asked,
        )  # fmt: skip
        return rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name)["DBClusterSnapshots"][0]

    def restored(self, source: Any, region: str = REGION, **asked: Any) -> Any:
        """Restore a snapshot; return the cluster from the response."""
        given = {"DBClusterIdentifier": self.name("r"), "SnapshotIdentifier": source["DBClusterSnapshotArn"],
                 "Engine": source["Engine"], **asked}  # fmt: skip
        return self("rds", region).restore_db_cluster_from_snapshot(**given)["DBCluster"]

    def rewound(self, source: Any, **asked: Any) -> Any:
        """Restore a cluster to a point in time, by default the latest."""
        given = {"DBClusterIdentifier": self.name("r"), "SourceDBClusterIdentifier": source["DBClusterIdentifier"]}
        if "RestoreToTime" not in asked:
            given["UseLatestRestorableTime"] = True
        return self("rds").restore_db_cluster_to_point_in_time(**{**given, **asked})["DBCluster"]

    def members(self, cluster: Any) -> list[Any]:
        """Return a cluster's instances."""
        asked = [{"Name": "db-cluster-id", "Values": [cluster["DBClusterIdentifier"]]}]
        return list(self("rds").describe_db_instances(Filters=asked)["DBInstances"])

    def described(self, cluster: Any) -> Any:
        """Describe a cluster."""
        found = self("rds").describe_db_clusters(DBClusterIdentifier=cluster["DBClusterIdentifier"])
        return found["DBClusters"][0]

    def subnets(self) -> list[Any]:
        """Return the default VPC's subnets."""
        found = self("ec2").describe_subnets()["Subnets"]
        return sorted(found, key=lambda subnet: str(subnet["AvailabilityZone"]))

    def subnet_group(self) -> str:
        """Create a subnet group in two Availability Zones; return its name."""
        name = self.name("group")
        self("rds").create_db_subnet_group(
            DBSubnetGroupName=name, DBSubnetGroupDescription="two zones",
            SubnetIds=[subnet["SubnetId"] for subnet in self.subnets()[:2]], Tags=[{"Key": "a", "Value": "b"}],
        )  # fmt: skip
        return name


@contextmanager
def raised_quotas() -> Iterator[None]:
    """Let the account of a module have a thousand clusters and instances, as AWS allows on request."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DBClusters", "DBInstances"):
            patch.setitem(quotas.MOST, name, 1000)
        yield
