"""Gaps in moto's RDS: available versions and classes, groups, clusters, their keys, and request parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kms_support import (
    OTHER_REGION,
    UNKNOWN,
    refusal,
)
from moto_gaps import gap
from rds_support import CLUSTER, COMBINATION, MYSQL, NEW_ACCOUNT, NO_KEY, VALUE, Aws

from runbook_sandbox.rds import quotas

# ---- RDS: available versions and classes, groups


@gap("rds.errors.page")
def record_limits_are_checked(aws: Aws) -> None:
    assert VALUE == refusal(aws("rds").describe_db_subnet_groups, MaxRecords=3)


def _refused_at(quota: str, create: Callable[[], Any]) -> str:
    """Return the error code of the creation that a new account's quota refuses, "" if none is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(quotas.MOST, quota, NEW_ACCOUNT[quota])
        try:
            for _ in range(NEW_ACCOUNT[quota] + 1):
                create()
        except ClientError as refused:
            return str(refused.response["Error"]["Code"])
    return ""


@gap("rds.quotas.require_cluster")
def clusters_have_a_quota(aws: Aws) -> None:
    create = aws("rds", OTHER_REGION).create_db_cluster  # quotas are per Region
    code = _refused_at("DBClusters", lambda: create(DBClusterIdentifier=aws.name(), **CLUSTER))
    assert "DBClusterQuotaExceededFault" == code


@gap("rds.quotas.require_instance")
def instances_have_a_quota(aws: Aws) -> None:
    create = aws("rds", OTHER_REGION).create_db_instance
    request = {"Engine": "mysql", "DBInstanceClass": "db.t3.micro", "AllocatedStorage": 20, "MasterUsername": "chief",
               "MasterUserPassword": "correct-horse"}  # fmt: skip
    code = _refused_at("DBInstances", lambda: create(DBInstanceIdentifier=aws.name(), **request))
    assert "InstanceQuotaExceeded" == code


@gap("rds.catalogue.CatalogueOperations.describe_db_engine_versions")
def engine_versions_are_listed(aws: Aws) -> None:
    assert aws("rds").describe_db_engine_versions(Engine=MYSQL)["DBEngineVersions"]


@gap("rds.catalogue.CatalogueOperations.describe_orderable_db_instance_options")
def instance_options_are_listed(aws: Aws) -> None:
    assert aws("rds").describe_orderable_db_instance_options(Engine=MYSQL)["OrderableDBInstanceOptions"]


@gap("rds.catalogue.CatalogueOperations.describe_db_major_engine_versions")
def major_versions_are_listed(aws: Aws) -> None:
    assert aws("rds").describe_db_major_engine_versions(Engine=MYSQL)["DBMajorEngineVersions"]


@gap("rds.catalogue.CatalogueOperations.describe_account_attributes")
def quotas_are_returned(aws: Aws) -> None:
    assert aws("rds").describe_account_attributes()["AccountQuotas"]


@gap("rds.groups.GroupOperations.create_db_subnet_group")
def subnet_groups_are_created_once(aws: Aws) -> None:
    name = aws.subnet_group()
    assert "DBSubnetGroupAlreadyExists" == refusal(
        aws("rds").create_db_subnet_group, DBSubnetGroupName=name, DBSubnetGroupDescription="x",
        SubnetIds=[subnet["SubnetId"] for subnet in aws.subnets()[:2]],
    )  # fmt: skip


@gap("rds.placement.subnets")
def subnet_groups_cover_two_zones(aws: Aws) -> None:
    assert "DBSubnetGroupDoesNotCoverEnoughAZs" == refusal(
        aws("rds").create_db_subnet_group, DBSubnetGroupName=aws.name("group"), DBSubnetGroupDescription="x",
        SubnetIds=[aws.subnets()[0]["SubnetId"]],
    )  # fmt: skip


@gap("rds.groups.GroupOperations.create_db_cluster_parameter_group")
def parameter_groups_are_of_families_that_exist(aws: Aws) -> None:
    assert VALUE == refusal(
        aws("rds").create_db_cluster_parameter_group, DBClusterParameterGroupName=aws.name("pg"),
        DBParameterGroupFamily="aurora5.6", Description="x",
    )  # fmt: skip


@gap("rds.groups.GroupOperations.delete_db_subnet_group")
def subnet_groups_in_use_stay(aws: Aws) -> None:
    name = aws.subnet_group()
    aws.cluster(DBSubnetGroupName=name)
    assert "InvalidDBSubnetGroupStateFault" == refusal(aws("rds").delete_db_subnet_group, DBSubnetGroupName=name)


# ---- RDS: clusters and their keys


def _refused_key(aws: Aws, name: str) -> str:
    return refusal(
        aws("rds").create_db_cluster, DBClusterIdentifier=aws.name(), StorageEncrypted=True, KmsKeyId=name, **CLUSTER
    )


@gap("rds.encryption.usable_key")
def unknown_aliases_are_rejected(aws: Aws) -> None:
    assert NO_KEY == _refused_key(aws, "alias/there-is-none")


@gap("rds.encryption.usable_key")
def unknown_ids_are_rejected(aws: Aws) -> None:
    assert NO_KEY == _refused_key(aws, UNKNOWN)


@gap("rds.encryption.usable_key")
def keys_of_another_region_are_rejected(aws: Aws) -> None:
    assert NO_KEY == _refused_key(aws, aws.key(OTHER_REGION)["Arn"])


@gap("rds.encryption.usable_key")
def disabled_keys_are_rejected(aws: Aws) -> None:
    assert NO_KEY == _refused_key(aws, aws.disabled())


@gap("rds.encryption.usable_key")
def keys_pending_deletion_are_rejected(aws: Aws) -> None:
    assert NO_KEY == _refused_key(aws, aws.pending_deletion())


@gap("rds.encryption.usable_key")
def keys_pending_import_are_rejected(aws: Aws) -> None:
    assert NO_KEY == _refused_key(aws, aws.key(Origin="EXTERNAL")["Arn"])


@gap("rds.encryption.usable_key")
def asymmetric_keys_are_rejected(aws: Aws) -> None:
    assert NO_KEY == _refused_key(aws, aws.key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["Arn"])


@gap("rds.encryption.for_new_cluster")
def an_alias_becomes_the_keys_arn(aws: Aws) -> None:
    key, name = aws.key(), "alias/" + aws.name("a")
    aws("kms").create_alias(AliasName=name, TargetKeyId=key["KeyId"])
    assert key["Arn"] == aws.cluster(StorageEncrypted=True, KmsKeyId=name)["KmsKeyId"]


@gap("rds.encryption.for_new_cluster")
def a_key_id_becomes_the_keys_arn(aws: Aws) -> None:
    key = aws.key()
    assert key["Arn"] == aws.cluster(StorageEncrypted=True, KmsKeyId=key["KeyId"])["KmsKeyId"]


@gap("rds.encryption.for_new_cluster")
def without_a_key_it_is_aws_rds(aws: Aws) -> None:
    cluster = aws.cluster(StorageEncrypted=True)
    assert cluster["KmsKeyId"] == aws("kms").describe_key(KeyId="alias/aws/rds")["KeyMetadata"]["Arn"]


@gap("rds.encryption.for_new_cluster")
def a_key_without_encryption_is_refused(aws: Aws) -> None:
    assert COMBINATION == refusal(
        aws("rds").create_db_cluster, DBClusterIdentifier=aws.name(), StorageEncrypted=False,
        KmsKeyId=aws.key()["Arn"], **CLUSTER,
    )  # fmt: skip


@gap("rds.resources.Encryption")
def without_a_key_there_is_no_kms_key_id(aws: Aws) -> None:
    assert "KmsKeyId" not in aws.cluster()


@gap("rds.resources.Encryption")
def the_encryption_type_is_returned(aws: Aws) -> None:
    assert "sse-kms" == aws.encrypted()["StorageEncryptionType"]


@gap("rds.encryption.default_encryption")
def encryption_by_default_is_sse_rds(aws: Aws) -> None:
    cluster = aws.cluster()
    assert ("sse-rds", False) == (cluster["StorageEncryptionType"], cluster["StorageEncrypted"])


@gap("rds.encryption.add_grant")
def rds_holds_a_grant(aws: Aws) -> None:
    key = aws.key()
    cluster = aws.cluster(StorageEncrypted=True, KmsKeyId=key["Arn"])
    grants = aws("kms").list_grants(KeyId=key["KeyId"])["Grants"]
    assert [cluster["DbClusterResourceId"]] == [
        grant["Constraints"]["EncryptionContextSubset"]["aws:rds:dbc-id"] for grant in grants
    ]


# ---- RDS: request parameters


def _refused(aws: Aws, **asked: Any) -> str:
    given = {"DBClusterIdentifier": aws.name(), **CLUSTER, **asked}
    return refusal(aws("rds").create_db_cluster, **{name: value for name, value in given.items() if value is not None})


@gap("rds.placement.subnet_group")
def subnet_groups_must_exist(aws: Aws) -> None:
    assert "DBSubnetGroupNotFoundFault" == _refused(aws, DBSubnetGroupName="there-is-none")


@gap("rds.placement.cluster_parameter_group")
def parameter_groups_must_exist(aws: Aws) -> None:
    assert "DBClusterParameterGroupNotFound" == _refused(aws, DBClusterParameterGroupName="there-is-none")


@gap("rds.placement.security_groups")
def security_groups_must_exist(aws: Aws) -> None:
    assert _refused(aws, VpcSecurityGroupIds=["sg-00000000"]) in ("InvalidVPCNetworkStateFault", VALUE)


@gap("rds.engines.find_version")
def engine_versions_must_exist(aws: Aws) -> None:
    assert _refused(aws, EngineVersion="5.6.10a") in (COMBINATION, VALUE)


@gap("rds.checks.password_choice")
def passwords_are_given_or_managed(aws: Aws) -> None:
    assert COMBINATION == _refused(aws, MasterUserPassword="correct horse")


@gap("rds.checks.master_user")
def reserved_users_are_refused(aws: Aws) -> None:
    assert VALUE == _refused(aws, MasterUsername="rdsadmin")


@gap("rds.checks.identifier")
def identifiers_have_rules(aws: Aws) -> None:
    assert VALUE == _refused(aws, DBClusterIdentifier="1-begins-with-a-digit")


@gap("rds.clusters.claim_identifier")
def identifiers_are_unique(aws: Aws) -> None:
    there = aws.cluster()
    assert "DBClusterAlreadyExistsFault" == _refused(aws, DBClusterIdentifier=there["DBClusterIdentifier"])


@gap("rds.clusters.claim_identifier")
def a_second_create_changes_nothing(aws: Aws) -> None:
    there = aws.cluster()
    _refused(aws, DBClusterIdentifier=there["DBClusterIdentifier"])
    assert there["DbClusterResourceId"] == aws.described(there)["DbClusterResourceId"]


@gap("rds.clusters.ClusterOperations")
def a_name_is_free_again_at_once(aws: Aws) -> None:
    there = aws.cluster()
    aws("rds").delete_db_cluster(DBClusterIdentifier=there["DBClusterIdentifier"], SkipFinalSnapshot=True)
    with pytest.raises(ClientError):
        aws.described(there)
    aws.cluster(DBClusterIdentifier=there["DBClusterIdentifier"])


@gap("rds.base.RdsBase.parse_parameters")
def numbers_are_numbers(aws: Aws) -> None:
    assert "MalformedInput" == _refused(aws, Port="x")


# ---- RDS: instances


@gap("rds.instances.InstanceOperations.create_db_instance")
def instances_start_creating_with_the_clusters_key(aws: Aws) -> None:
    cluster = aws.encrypted()
    made = aws.instance(cluster)
    assert ("creating", cluster["KmsKeyId"]) == (made["DBInstanceStatus"], made.get("KmsKeyId"))


@gap("rds.describe.describe_instance")
def instances_show_performance_insights(aws: Aws) -> None:
    made = aws.instance(aws.cluster(), EnablePerformanceInsights=True)
    assert made["PerformanceInsightsEnabled"]
    assert made["PerformanceInsightsKMSKeyId"].startswith("arn:aws:kms:")


@gap("rds.instances.InstanceOperations.create_db_instance")
def instances_have_ids_of_their_own(aws: Aws) -> None:
    cluster = aws.cluster()
    assert 2 == len({aws.instance(cluster)["DbiResourceId"] for _ in range(2)})


@gap("rds.engines.check_class")
def the_posts_class_is_refused(aws: Aws) -> None:
    cluster = aws.cluster()
    assert COMBINATION == refusal(
        aws("rds").create_db_instance, DBInstanceIdentifier=aws.name("i"), Engine=MYSQL,
        DBClusterIdentifier=cluster["DBClusterIdentifier"], DBInstanceClass="db.t2.small",
    )  # fmt: skip


@gap("rds.instance_checks.check_new_member")
def members_reject_a_key(aws: Aws) -> None:
    cluster = aws.encrypted()
    assert COMBINATION == refusal(
        aws("rds").create_db_instance, DBInstanceIdentifier=aws.name("i"), Engine=MYSQL, KmsKeyId=cluster["KmsKeyId"],
        DBClusterIdentifier=cluster["DBClusterIdentifier"], DBInstanceClass="db.t4g.medium",
    )  # fmt: skip
