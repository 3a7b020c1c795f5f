"""A colleague who deletes a resource of a run and creates another of the same name, with the same tags."""

from __future__ import annotations

from typing import Any

from runbook_lib.material import key_material

INSTANCE_CLASS = "db.t4g.large"  # another than the runs' own


class Colleague:
    """Plain clients, as somebody has who knows nothing of the run. `client(service)` returns one."""

    def __init__(self, client: Any) -> None:
        self._rds, self._ec2, self._kms = client("rds"), client("ec2"), client("kms")

    def replace_pending_material(self, alias: str) -> str:
        """Delete what is pending rotation, import other key material in its place; return its KeyMaterialId."""
        key_id = self._kms.describe_key(KeyId=alias)["KeyMetadata"]["KeyId"]
        listed = self._kms.list_key_rotations(KeyId=key_id, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
        for one in listed:
            if one["KeyMaterialState"].startswith("PENDING"):
                self._kms.delete_imported_key_material(KeyId=key_id, KeyMaterialId=one["KeyMaterialId"])
        pair = self._kms.get_parameters_for_import(
            KeyId=key_id, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048"
        )
        sealed = key_material.encrypt_key_material(
            key_material.KeyMaterial.generate(), wrapping_public_key=pair["PublicKey"],
            wrapping_algorithm="RSAES_OAEP_SHA_256",
        )  # fmt: skip
        made = self._kms.import_key_material(
            KeyId=key_id, ImportToken=pair["ImportToken"], EncryptedKeyMaterial=sealed, ImportType="NEW_KEY_MATERIAL",
            ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
        )  # fmt: skip
        return str(made["KeyMaterialId"])

    def replace_cluster(self, name: str, *, instances: bool = True) -> str:
        """Delete cluster and instances, create others of the same names and tags; return the new resource id."""
        members = self._members(name)
        found = self._rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
        group = found[0].get("DBSubnetGroup")
        tags = found[0].get("TagList", [])
        for member in members:
            self._delete_instance(member["DBInstanceIdentifier"])
        self._rds.modify_db_cluster(DBClusterIdentifier=name, DeletionProtection=False, ApplyImmediately=True)
        self._rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
        _gone(lambda: self._rds.describe_db_clusters(DBClusterIdentifier=name))
        return self.create_cluster(
            name, [one["DBInstanceIdentifier"] for one in members] if instances else [], tags, group
        )

    def create_cluster(self, name: str, instances: list[str], tags: list[Any], group: str | None = None) -> str:
        """Create a cluster with instances; return its resource id."""
        network = {"DBSubnetGroupName": group} if group else {}
        made = self._rds.create_db_cluster(
            DBClusterIdentifier=name, Engine="aurora-mysql", MasterUsername="colleague", ManageMasterUserPassword=True,
            Tags=tags, **network,
        )["DBCluster"]  # fmt: skip
        for instance in instances:
            self.create_instance(instance, name, tags)
        return str(made["DbClusterResourceId"])

    def create_instance(self, name: str, cluster: str, tags: list[Any]) -> str:
        """Create an instance; return its resource id."""
        made = self._rds.create_db_instance(
            DBInstanceIdentifier=name, DBClusterIdentifier=cluster, Engine="aurora-mysql", Tags=tags,
            DBInstanceClass=INSTANCE_CLASS,
        )["DBInstance"]  # fmt: skip
        return str(made["DbiResourceId"])

    def replace_instance(self, name: str) -> str:
        """Delete an instance and create another in the same cluster; return the new resource id."""
        found = self._rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]
        self._delete_instance(name)
        return self.create_instance(name, found["DBClusterIdentifier"], found.get("TagList", []))

    def replace_snapshot(self, name: str) -> None:
        """Copy a cluster snapshot with its tags, delete it, and copy the copy back to its name."""
        for source, target in ((name, f"{name}-aside"), (f"{name}-aside", name)):
            found = self._rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=source)["DBClusterSnapshots"]
            self._rds.copy_db_cluster_snapshot(
                SourceDBClusterSnapshotIdentifier=found[0]["DBClusterSnapshotArn"], CopyTags=True,
                TargetDBClusterSnapshotIdentifier=target,
            )  # fmt: skip
            self._rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=target)
            self._rds.delete_db_cluster_snapshot(DBClusterSnapshotIdentifier=source)

    def replace_subnet_group(self, name: str, *, tags: list[Any] | None = None) -> None:
        """Delete a subnet group and create another, without tags unless some are given: it has no resource id."""
        found = self._rds.describe_db_subnet_groups(DBSubnetGroupName=name)["DBSubnetGroups"][0]
        self._rds.delete_db_subnet_group(DBSubnetGroupName=name)
        self._rds.create_db_subnet_group(
            DBSubnetGroupName=name, DBSubnetGroupDescription="a colleague's", Tags=tags or [],
            SubnetIds=[subnet["SubnetIdentifier"] for subnet in found["Subnets"]],
        )  # fmt: skip

    def replace_security_group(self, name: str) -> str:
        """Delete a security group and create another in its VPC, with its tags; return the new id."""
        filters = [{"Name": "group-name", "Values": [name]}]
        found = self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]
        self._ec2.delete_security_group(GroupId=found["GroupId"])
        tags = [{"ResourceType": "security-group", "Tags": found.get("Tags", [])}]
        return str(self._ec2.create_security_group(
            GroupName=name, Description="a colleague's", VpcId=found["VpcId"], TagSpecifications=tags,
        )["GroupId"])  # fmt: skip

    def create_subnet_group(self, name: str) -> None:
        """Create a subnet group over all subnets."""
        subnets = [subnet["SubnetId"] for subnet in self._ec2.describe_subnets()["Subnets"]]
        self._rds.create_db_subnet_group(
            DBSubnetGroupName=name, DBSubnetGroupDescription="a colleague's", SubnetIds=subnets
        )

    def create_security_group(self, name: str) -> str:
        """Create a security group in the default VPC; return its id."""
        vpc = self._ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        made = self._ec2.create_security_group(GroupName=name, Description="a colleague's", VpcId=vpc)
        return str(made["GroupId"])

    def create_alias(self, name: str) -> str:
        """Create an alias for a new key; return the key's id."""
        key_id = self._kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
        self._kms.create_alias(AliasName=name, TargetKeyId=key_id)
        return str(key_id)

    def first_instance(self, cluster: str) -> str:
        """Return the name of the first instance of a cluster that is left."""
        return str(min(one["DBInstanceIdentifier"] for one in self._members(cluster)))

    def move_alias(self, name: str) -> str:
        """Point an alias to another, new key; return that key's id."""
        key_id = self._kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
        self._kms.update_alias(AliasName=name, TargetKeyId=key_id)
        return str(key_id)

    def _members(self, cluster: str) -> list[Any]:
        filters = [{"Name": "db-cluster-id", "Values": [cluster]}]
        return list(self._rds.describe_db_instances(Filters=filters)["DBInstances"])

    def _delete_instance(self, name: str) -> None:
        self._rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
        _gone(lambda: self._rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0])


def _gone(read: Any) -> None:
    """Poll until a deleted cluster or instance cannot be described any more."""
    for _ in range(50):
        try:
            read()
        except Exception as error:
            if "NotFound" not in type(error).__name__:
                raise
            return
    raise AssertionError("is still being deleted")
