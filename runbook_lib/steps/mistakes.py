"""The mistakes of the exercises: each is a real call, in an account of the sandbox of its own, that AWS refuses."""

from __future__ import annotations

import json
import os
from typing import Any

from runbook_lib.aws import rds
from runbook_lib.aws.retry import poll
from runbook_lib.aws.session import Session
from runbook_lib.material import key_material

OAEP = "RSAES_OAEP_SHA_256"


def external_key(session: Session) -> str:
    return str(session.client("kms").create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"])


def wrapping_parameters(session: Session, key_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = session.client("kms").get_parameters_for_import(
        KeyId=key_id, WrappingAlgorithm=OAEP, WrappingKeySpec="RSA_2048"
    )
    return answer


def import_material(
    session: Session, key_id: str, parameters: dict[str, Any], *, wrapping_algorithm: str = OAEP
) -> None:
    with key_material.KeyMaterial.generate() as material:
        wrapped = key_material.encrypt_key_material(
            material, wrapping_public_key=parameters["PublicKey"], wrapping_algorithm=wrapping_algorithm
        )
    session.client("kms").import_key_material(
        KeyId=key_id, ImportToken=parameters["ImportToken"], EncryptedKeyMaterial=wrapped,
        ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
    )  # fmt: skip


def engine_version_of_the_post(session: Session) -> None:
    session.client("rds").create_db_cluster(
        DBClusterIdentifier="practice-post", Engine="aurora-mysql", EngineVersion="5.6.10a",
        MasterUsername="dbadmin", ManageMasterUserPassword=True,
    )  # fmt: skip


def policy_with_an_unknown_role(session: Session) -> None:
    account = f"arn:aws:iam::{session.account_id}"
    allow = {"Effect": "Allow", "Resource": "*"}
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {**allow, "Principal": {"AWS": f"{account}:root"}, "Action": "kms:*"},
            {**allow, "Principal": {"AWS": f"{account}:role/NobodyYet"}, "Action": "kms:DescribeKey"},
        ],
    }
    session.client("kms").create_key(Origin="EXTERNAL", Policy=json.dumps(policy))


def wrapping_key_for_a_key_of_aws(session: Session) -> None:
    wrapping_parameters(session, session.client("kms").create_key()["KeyMetadata"]["KeyId"])


def one_byte_short() -> None:
    key_material.KeyMaterial(os.urandom(31))


def another_hash(session: Session) -> None:
    key_id = external_key(session)
    import_material(session, key_id, wrapping_parameters(session, key_id), wrapping_algorithm="RSAES_OAEP_SHA_1")


def cluster_under_a_disabled_key(session: Session) -> None:
    kms, key_id = session.client("kms"), external_key(session)
    import_material(session, key_id, wrapping_parameters(session, key_id))
    kms.disable_key(KeyId=key_id)
    session.client("rds").create_db_cluster(
        DBClusterIdentifier="practice-disabled", Engine="aurora-mysql", MasterUsername="dbadmin",
        ManageMasterUserPassword=True, StorageEncrypted=True, KmsKeyId=key_id,
    )  # fmt: skip


def decrypt_without_the_material(session: Session) -> None:
    kms, key_id = session.client("kms"), external_key(session)
    import_material(session, key_id, wrapping_parameters(session, key_id))
    sealed = kms.encrypt(KeyId=key_id, Plaintext=b"a data key")["CiphertextBlob"]
    kms.delete_imported_key_material(KeyId=key_id)
    kms.decrypt(CiphertextBlob=sealed)


def import_into_a_key_pending_deletion(session: Session) -> None:
    key_id = external_key(session)
    parameters = wrapping_parameters(session, key_id)
    import_material(session, key_id, parameters)
    session.client("kms").schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    import_material(session, key_id, parameters)


def rotation_with_nothing_pending(session: Session) -> None:
    key_id = external_key(session)
    import_material(session, key_id, wrapping_parameters(session, key_id))
    session.client("kms").rotate_key_on_demand(KeyId=key_id)


def use_of_a_key_that_is_being_deleted(session: Session) -> None:
    key_id = external_key(session)
    import_material(session, key_id, wrapping_parameters(session, key_id))
    session.client("kms").schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    session.client("kms").encrypt(KeyId=key_id, Plaintext=b"a data key")


def other_material_into_a_key_that_lost_its_own(session: Session) -> None:
    key_id = external_key(session)
    import_material(session, key_id, wrapping_parameters(session, key_id))
    session.client("kms").delete_imported_key_material(KeyId=key_id)
    import_material(session, key_id, wrapping_parameters(session, key_id))


def copy_of_an_unencrypted_snapshot_with_a_key(session: Session) -> None:
    client, name = session.client("rds"), "practice-copy"
    if rds.find_cluster(session, name) is None:
        client.create_db_cluster(
            DBClusterIdentifier=name, Engine="aurora-mysql", MasterUsername="dbadmin", ManageMasterUserPassword=True,
        )  # fmt: skip
        poll(lambda: rds.find_cluster(session, name) or {}, until=is_available, every=0.2, timeout=60)
    if rds.find_snapshot(session, name) is None:
        client.create_db_cluster_snapshot(DBClusterIdentifier=name, DBClusterSnapshotIdentifier=name)
        poll(lambda: rds.find_snapshot(session, name) or {}, until=is_available, every=0.2, timeout=60)
    client.copy_db_cluster_snapshot(
        SourceDBClusterSnapshotIdentifier=name, TargetDBClusterSnapshotIdentifier=f"{name}-encrypted",
        KmsKeyId=session.client("kms").create_key()["KeyMetadata"]["KeyId"],
    )  # fmt: skip


def rename_to_a_name_that_is_taken(session: Session) -> None:
    client, old, new = session.client("rds"), "practice-old", "practice-new"
    for name in (old, new):
        if rds.find_cluster(session, name) is None:
            client.create_db_cluster(
                DBClusterIdentifier=name, Engine="aurora-mysql", MasterUsername="dbadmin", ManageMasterUserPassword=True,
            )  # fmt: skip
    poll(lambda: rds.find_cluster(session, new) or {}, until=is_available, every=0.2, timeout=60)
    client.modify_db_cluster(DBClusterIdentifier=new, NewDBClusterIdentifier=old, ApplyImmediately=True)


def is_available(found: dict[str, Any]) -> bool:
    return found.get("Status") == "available"
