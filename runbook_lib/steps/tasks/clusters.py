"""Tasks on clusters: create one (05), who can decrypt (06), what encrypts (10), names (11), one that went dark (80)."""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.aws import kms, rds
from runbook_lib.checks import Checks
from runbook_lib.policies.evaluate import Decision, Request, decide
from runbook_lib.steps.tasks.practice import (
    Practice,
    Scene,
    Task,
    cluster_is_the_same,
    key_is_usable,
    suffix,
)

INACCESSIBLE = "inaccessible-encryption-credentials-recoverable"
_CLUSTERS, _CONTRACTOR = "rds:DescribeDBClusters", "TaskContractor"

# 05 -----------------------------------------------------------------------------------------------------------------


def _key_for_a_cluster(practice: Practice) -> Scene:
    n = suffix()
    return {"n": n, "key": practice.key_with_material(f"alias/task-orders{n}")}


def _cluster_under_the_key(practice: Practice, scene: Scene, checks: Checks) -> None:
    name = f"task-orders{scene['n']}"
    found = practice.found(name)
    checks.equal("the cluster is available", "available", found.get("Status", "does not exist"), source=_CLUSTERS)
    key_arn = practice.key_found(scene["key"]).get("Arn", "does not exist")
    checks.equal("it is encrypted under your key", key_arn, found.get("KmsKeyId", "no KMS key"), source=_CLUSTERS)
    grants = kms.grants_for(practice.session, scene["key"], found) if found and key_arn != "does not exist" else []
    checks.equal("RDS has a grant for this cluster", 1, len(grants), source="kms:ListGrants")
    instances = [one["DBInstanceStatus"] for one in rds.instances_of(practice.session, name)]
    checks.equal("it has one instance, which is available", ["available"], instances, source="rds:DescribeDBInstances")


CLUSTER_UNDER_THE_KEY = Task(
    "Create a cluster under your key",
    "Create the Aurora MySQL cluster task-orders{n} with one instance, encrypted under alias/task-orders{n}. It must be right "
    "from its creation: nothing about the encryption can be changed afterwards.",
    (
        "StorageEncrypted says that the cluster is encrypted. It does not say with whose key.",
        "CreateDBCluster has KmsKeyId. A cluster alone has no instance: CreateDBInstance adds one.",
        "create_db_cluster(DBClusterIdentifier=..., Engine='aurora-mysql', MasterUsername='dbadmin', "
        "ManageMasterUserPassword=True, StorageEncrypted=True, KmsKeyId=ALIAS), then create_db_instance with the same "
        "Engine, DBClusterIdentifier and DBInstanceClass='db.t4g.medium'; describe both until they are available.",
    ),
    _key_for_a_cluster, _cluster_under_the_key,
)  # fmt: skip

# 06 -----------------------------------------------------------------------------------------------------------------


def _contractor(practice: Practice) -> Scene:
    n = suffix()
    role, key_id, name = (
        practice.role(f"{_CONTRACTOR}{n}"),
        practice.key_with_material(f"alias/task-who{n}"),
        f"task-who{n}",
    )
    resource = practice.cluster(name, StorageEncrypted=True, KmsKeyId=key_id)
    client, account = practice.client("kms"), practice.session.account_id
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "kms:*",
             "Resource": "*"},
            {"Sid": "Migration2024", "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*",
             "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]},
        ],
    }  # fmt: skip
    client.put_key_policy(KeyId=key_id, PolicyName="default", Policy=json.dumps(policy))
    client.create_grant(
        KeyId=key_id, GranteePrincipal=role, Operations=["Decrypt", "DescribeKey"], Name="migration-2024"
    )
    return {"n": n, "key": key_id, "cluster": name, "resource": resource, "role": role}


def _contractor_is_out(practice: Practice, scene: Scene, checks: Checks) -> None:
    key = practice.key_found(scene["key"])
    key_is_usable(checks, key)
    policy = json.loads(practice.client("kms").get_key_policy(KeyId=scene["key"], PolicyName="default")["Policy"])
    asked = Request("kms:Decrypt", frozenset([scene["role"]]), practice.session.account_id)
    by_policy = "can decrypt" if decide(policy, asked) is Decision.ALLOW else "cannot"
    checks.equal("the key policy lets the contractor decrypt nothing", "cannot", by_policy, source="kms:GetKeyPolicy")
    pages = practice.client("kms").get_paginator("list_grants").paginate(KeyId=scene["key"])
    theirs = [one for page in pages for one in page["Grants"] if one.get("GranteePrincipal") == scene["role"]]
    checks.equal("no grant lets the contractor decrypt", 0, len(theirs), source="kms:ListGrants")
    checks.equal(
        "RDS still has its grant for the cluster", 1,
        len(kms.grants_for(practice.session, scene["key"], {"DbClusterResourceId": scene["resource"]})), source="kms:ListGrants",
    )  # fmt: skip
    cluster_is_the_same(checks, practice.found(scene["cluster"]), scene)


CONTRACTOR_IS_OUT = Task(
    "Find who could decrypt, and stop one of them",
    "The contract with a migration company has ended; its role is TaskContractor{n}. Find every way in which it can still "
    "decrypt with alias/task-who{n}, and remove each. The cluster task-who{n} must stay available under its key.",
    (
        "A key policy is one of two documents on a key that let somebody use it.",
        "Besides the policy there are grants: ListGrants shows them, RDS's own among them.",
        "PutKeyPolicy without the statement Migration2024, and RevokeGrant with the GrantId of the grant whose GranteePrincipal is "
        "the contractor's role. Revoke no other: a cluster without RDS's grant goes dark.",
    ),
    _contractor, _contractor_is_out,
)  # fmt: skip

# 10 -----------------------------------------------------------------------------------------------------------------


def _three_clusters(practice: Practice) -> Scene:
    n = suffix()
    names = [f"task-{word}{n}" for word in ("billing", "search", "stock")]
    yours = practice.key_with_material(f"alias/task-proof{n}")
    of_each: tuple[dict[str, Any], ...] = (
        {"StorageEncrypted": True},
        {},
        {"StorageEncrypted": True, "KmsKeyId": yours},
    )
    resources = [practice.cluster(name, **asked) for name, asked in zip(names, of_each, strict=True)]
    return {"n": n, "names": ",".join(names), "resources": ",".join(resources), "key": yours}


def _storage_is_proved(practice: Practice, scene: Scene, checks: Checks) -> None:
    names, resources = scene["names"].split(","), scene["resources"].split(",")
    tags = []
    for name, resource in zip(names, resources, strict=True):
        found = practice.found(name)
        same = found.get("DbClusterResourceId", "does not exist")
        checks.equal(f"{name} was not moved or replaced", resource, same, source=_CLUSTERS)
        tags.append(rds.rds_tags(found).get("storage", ""))
    answered = sum(bool(tag) for tag in tags)
    checks.equal("each of the three has a tag storage", 3, answered, source=_CLUSTERS)
    right = ["other-key", "no-kms-key", "own-key"]
    # All or nothing: which one is wrong would invite to try the values one after the other.
    outcome = "it does" if tags == right else "it does not"
    checks.equal("every tag says what RDS says", "it does", outcome, source="rds:DescribeDBClusters, kms:DescribeKey")


STORAGE_IS_PROVED = Task(
    "Prove what encrypts three clusters, without moving one",
    "An auditor asks what encrypts task-billing{n}, task-search{n} and task-stock{n}. Give each cluster the tag storage with one "
    "of the values own-key (under imported key material), other-key (under another KMS key) or no-kms-key. Restore, copy and "
    "modify nothing: AWS's description is the proof.",
    (
        "StorageEncrypted has two values. There are three cases.",
        "StorageEncryptionType tells sse-kms from sse-rds and none. Whose key it is, only the key itself says.",
        "DescribeDBClusters for KmsKeyId, DescribeKey on it for Origin (EXTERNAL) and KeyManager (AWS), then AddTagsToResource "
        "with the ARN of each cluster.",
    ),
    _three_clusters, _storage_is_proved,
)  # fmt: skip

# 11 -----------------------------------------------------------------------------------------------------------------


def _old_and_new(practice: Practice) -> Scene:
    n = suffix()
    key_id = practice.key_with_material()
    old = practice.cluster(f"task-shop{n}")
    new = practice.cluster(f"task-shop-byok{n}", StorageEncrypted=True, KmsKeyId=key_id)
    return {"n": n, "old": old, "new": new}


def _names_exchanged(practice: Practice, scene: Scene, checks: Checks) -> None:
    for name, word, what in (
        ("task-shop", "new", "the cluster under the key"),
        ("task-shop-old", "old", "the old cluster"),
    ):
        found = practice.found(f"{name}{scene['n']}")
        claim = f"{name}{scene['n']} is {what}"
        checks.equal(claim, scene[word], found.get("DbClusterResourceId", "does not exist"), source=_CLUSTERS)
        checks.equal(f"{claim}, and available", "available", found.get("Status", "does not exist"), source=_CLUSTERS)


NAMES_EXCHANGED = Task(
    "Give the new cluster the name, and keep the way back",
    "Applications know the name task-shop{n}. Give it to task-shop-byok{n}, which is encrypted under a key. The old cluster "
    "becomes task-shop-old{n}: it must still exist tomorrow, when somebody asks for the way back.",
    (
        "A name belongs to one cluster at a time. Which of the two renames comes first?",
        "ModifyDBCluster with NewDBClusterIdentifier; without ApplyImmediately it waits for the maintenance window.",
        "Rename task-shop to task-shop-old with ApplyImmediately=True, describe it until the new name is available, then rename "
        "task-shop-byok to task-shop in the same way.",
    ),
    _old_and_new, _names_exchanged,
)  # fmt: skip

# 80 -----------------------------------------------------------------------------------------------------------------


def _dark_cluster(practice: Practice) -> Scene:
    n = suffix()
    key_id = practice.key_with_material(f"alias/task-dark{n}", f"vault-a{n}")
    practice.make_backup(f"vault-b{n}")
    name = f"task-dark{n}"
    resource = practice.cluster(name, StorageEncrypted=True, KmsKeyId=key_id)
    practice.until(name, "available")
    practice.client("kms").delete_imported_key_material(KeyId=key_id)
    practice.until(name, INACCESSIBLE)
    return {"n": n, "key": key_id, "cluster": name, "resource": resource}


def _light_again(practice: Practice, scene: Scene, checks: Checks) -> None:
    found = practice.key_found(scene["key"])
    key_is_usable(checks, found, what="the key has its material again")
    model = found.get("ExpirationModel", "none")
    checks.equal("the material does not expire", "KEY_MATERIAL_DOES_NOT_EXPIRE", model, source="kms:DescribeKey")
    cluster_is_the_same(checks, practice.found(scene["cluster"]), scene)


LIGHT_AGAIN = Task(
    "Make a cluster that went dark available again",
    "The cluster task-dark{n} is inaccessible. There are two backups, vault-a{n} and vault-b{n}, and nobody knows which is of its "
    "key. Make the same cluster available again, with key material that does not expire.",
    (
        "Find the key that the cluster needs, and what it lacks: KmsKeyId, then DescribeKey.",
        "work.import_material(KEY, backup=..., ...) with either: KMS refuses material that the key never had. Then look at the "
        "status of the cluster again.",
        "After the import with ExpirationModel KEY_MATERIAL_DOES_NOT_EXPIRE, the cluster does not start by itself: StartDBCluster, "
        "within seven days of the loss.",
    ),
    _dark_cluster, _light_again,
)  # fmt: skip
