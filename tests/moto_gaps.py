"""What plain moto answers differently from AWS: one check per gap, run twice.

Against the sandbox each check passes (test_sandbox_gaps); against plain moto each fails (test_moto_canaries), and
the day one no longer does, its override can be deleted: it is the one named in the decorator.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from kms_support import (
    ACCOUNT,
    REGION,
    connect,
)

MALFORMED = "MalformedPolicyDocumentException"
COMBINATION, VALUE = "InvalidParameterCombination", "InvalidParameterValue"
NO_KEY = "KMSKeyNotAccessibleFault"
MYSQL = "aurora-mysql"
_numbers = itertools.count(1)


class Aws:
    """Clients on one endpoint, and things to try on them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[tuple[str, str], Any] = {}

    def __call__(self, service: str, region: str = REGION) -> Any:
        if (service, region) not in self._clients:
            self._clients[service, region] = connect(self.url, service, region=region)
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


PASSWORD = {"ManageMasterUserPassword": False, "MasterUserPassword": "correct-horse"}
CLUSTER = {"Engine": MYSQL, "MasterUsername": "chief", "ManageMasterUserPassword": True}


@dataclass(frozen=True)
class Gap:
    """A check, and the override that it justifies (module.name under runbook_lib.sandbox)."""

    override: str
    check: Callable[[Aws], None]

    @property
    def name(self) -> str:
        return self.check.__name__


GAPS: list[Gap] = []


def gap(override: str) -> Callable[[Callable[[Aws], None]], Callable[[Aws], None]]:
    """Note a check under the override that it justifies."""

    def noted(check: Callable[[Aws], None]) -> Callable[[Aws], None]:
        GAPS.append(Gap(override, check))
        return check

    return noted


def cases(*marks: Any) -> list[Any]:
    """Return the gaps as pytest parameters."""
    return [pytest.param(one, id=f"{one.override}:{one.name}", marks=marks) for one in GAPS]


def policy(*principals: str) -> str:
    """Return a key policy that gives these principals everything."""
    entry = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": "kms:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [entry]})


ROOT = f"arn:aws:iam::{ACCOUNT}:root"
NOBODY = f"arn:aws:iam::{ACCOUNT}:role/nobody-has-this"
