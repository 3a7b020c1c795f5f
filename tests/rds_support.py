"""What the suites on the sandbox's RDS share: clients on one endpoint, and a cluster in a line."""

from __future__ import annotations

import itertools
import json
import urllib.request
from typing import Any

from kms_support import ACCOUNT, REGION, connect

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
_numbers = itertools.count(1)


def policy(*principals: str) -> str:
    """Return a key policy that gives these principals everything."""
    entry = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": "kms:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [entry]})


def set_transition(url: str, model: str, transition: dict[str, Any]) -> None:
    """Say by moto's own state manager how long the states of one model take."""
    _order(url, "set", {"model_name": model, "transition": transition})


def unset_transition(url: str, model: str) -> None:
    """Let them take what they take by default."""
    _order(url, "unset", {"model_name": model})


def _order(url: str, word: str, order: dict[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310
        f"{url}/moto-api/state-manager/{word}-transition", data=json.dumps(order).encode(),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    urllib.request.urlopen(request).close()  # noqa: S310


class Aws:
    """Clients on one endpoint, and things to try on them."""

    def __init__(self, url: str, account: str = ACCOUNT) -> None:
        self.url, self.account = url, account
        self._clients: dict[tuple[str, str], Any] = {}

    def __call__(self, service: str, region: str = REGION) -> Any:
        if (service, region) not in self._clients:
            self._clients[service, region] = connect(self.url, service, region=region, account=self.account)
        return self._clients[service, region]

    def name(self, word: str = "c") -> str:
        """Return a name that nothing has yet."""
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
        """Return the ARN of a key that is to be deleted."""
        key = self.key()
        self("kms").schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
        return str(key["Arn"])

    def cluster(self, **asked: Any) -> Any:
        """Create a cluster, look at it once, and return it."""
        rds = self("rds")
        given = {"DBClusterIdentifier": self.name(), **CLUSTER, **asked}
        made = rds.create_db_cluster(**given)["DBCluster"]
        return rds.describe_db_clusters(DBClusterIdentifier=made["DBClusterIdentifier"])["DBClusters"][0]

    def encrypted(self, **asked: Any) -> Any:
        """Create a cluster under a key of its own."""
        return self.cluster(StorageEncrypted=True, KmsKeyId=self.key()["Arn"], **asked)

    def instance(self, cluster: Any, **asked: Any) -> Any:
        """Add an instance to a cluster."""
        given = {"DBInstanceIdentifier": self.name("i"), "DBClusterIdentifier": cluster["DBClusterIdentifier"],
                 "Engine": MYSQL, "DBInstanceClass": "db.t4g.medium", **asked}  # fmt: skip
        return self("rds").create_db_instance(**given)["DBInstance"]

    def snapshot(self, cluster: Any) -> Any:
        """Take a snapshot of a cluster and look at it."""
        rds, name = self("rds"), self.name("s")
        rds.create_db_cluster_snapshot(
            DBClusterSnapshotIdentifier=name, DBClusterIdentifier=cluster["DBClusterIdentifier"]
        )
        rds.describe_db_clusters(DBClusterIdentifier=cluster["DBClusterIdentifier"])
        return rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name)["DBClusterSnapshots"][0]

    def copied(self, source: Any, region: str = REGION, **asked: Any) -> Any:
        """Copy a snapshot and look at the copy."""
        rds, name = self("rds", region), self.name("copy")
        rds.copy_db_cluster_snapshot(
            SourceDBClusterSnapshotIdentifier=source["DBClusterSnapshotArn"],
            TargetDBClusterSnapshotIdentifier=name, **asked,
        )  # fmt: skip
        return rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name)["DBClusterSnapshots"][0]

    def restored(self, source: Any, region: str = REGION, **asked: Any) -> Any:
        """Restore a snapshot; return the cluster as it is answered."""
        given = {"DBClusterIdentifier": self.name("r"), "SnapshotIdentifier": source["DBClusterSnapshotArn"],
                 "Engine": source["Engine"], **asked}  # fmt: skip
        return self("rds", region).restore_db_cluster_from_snapshot(**given)["DBCluster"]

    def rewound(self, source: Any, **asked: Any) -> Any:
        """Restore a cluster to a point in time, the latest unless another is given."""
        given = {"DBClusterIdentifier": self.name("r"), "SourceDBClusterIdentifier": source["DBClusterIdentifier"]}
        if "RestoreToTime" not in asked:
            given["UseLatestRestorableTime"] = True
        return self("rds").restore_db_cluster_to_point_in_time(**{**given, **asked})["DBCluster"]

    def members(self, cluster: Any) -> list[Any]:
        """Return a cluster's instances as they are now."""
        asked = [{"Name": "db-cluster-id", "Values": [cluster["DBClusterIdentifier"]]}]
        return list(self("rds").describe_db_instances(Filters=asked)["DBInstances"])

    def described(self, cluster: Any) -> Any:
        """Return a cluster as it is now."""
        found = self("rds").describe_db_clusters(DBClusterIdentifier=cluster["DBClusterIdentifier"])
        return found["DBClusters"][0]

    def subnets(self) -> list[Any]:
        """Return the default VPC's subnets."""
        found = self("ec2").describe_subnets()["Subnets"]
        return sorted(found, key=lambda subnet: str(subnet["AvailabilityZone"]))

    def subnet_group(self) -> str:
        """Make a subnet group of two zones; return its name."""
        name = self.name("group")
        self("rds").create_db_subnet_group(
            DBSubnetGroupName=name, DBSubnetGroupDescription="two zones",
            SubnetIds=[subnet["SubnetId"] for subnet in self.subnets()[:2]], Tags=[{"Key": "a", "Value": "b"}],
        )  # fmt: skip
        return name
