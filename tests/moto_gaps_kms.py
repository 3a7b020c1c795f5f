"""Gaps in moto's KMS and in the services around it: STS, IAM, CloudTrail, CloudWatch, the server."""

from __future__ import annotations

import contextlib
import os
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from kms_support import (
    ACCOUNT,
    DISABLED,
    FOREVER,
    INVALID,
    NOT_FOUND,
    UNKNOWN,
    UNSUPPORTED,
    VALIDATION,
    WRAPPING,
    import_material,
    refusal,
)
from moto_gaps import gap
from rds_support import MALFORMED, NOBODY, ROOT, Aws, policy

# ---- KMS: keys and policies


@gap("kms.lifecycle.LifecycleOperations.create_key")
def external_keys_start_pending_import(aws: Aws) -> None:
    key = aws.key(Origin="EXTERNAL")
    assert ("PendingImport", False) == (key["KeyState"], key["Enabled"])


@gap("kms.validate.parse")
def unknown_origins_are_refused(aws: Aws) -> None:
    assert VALIDATION == refusal(aws("kms").create_key, Origin="ELSEWHERE")


@gap("kms.policy.check")
def policies_name_principals_that_exist(aws: Aws) -> None:
    assert MALFORMED == refusal(aws("kms").create_key, Policy=policy(ROOT, NOBODY))


@gap("kms.policy.check")
def policies_are_json(aws: Aws) -> None:
    assert MALFORMED == refusal(aws("kms").create_key, Policy="no json")


@gap("kms.policy.check")
def changed_policies_name_principals_that_exist(aws: Aws) -> None:
    key = aws.key()
    assert MALFORMED == refusal(
        aws("kms").put_key_policy, KeyId=key["KeyId"], PolicyName="default", Policy=policy(ROOT, NOBODY)
    )


@gap("kms.policy.check")
def lockout_is_rejected(aws: Aws) -> None:
    key, other = aws.key(), "arn:aws:iam::999999999999:root"
    assert MALFORMED == refusal(
        aws("kms").put_key_policy, KeyId=key["KeyId"], PolicyName="default", Policy=policy(other)
    )


@gap("kms.aliases.AliasOperations.create_alias")
def aliases_of_aws_are_reserved(aws: Aws) -> None:
    wanted = ("NotAuthorizedException", "InvalidAliasNameException")
    assert refusal(aws("kms").create_alias, AliasName="alias/aws/x", TargetKeyId=aws.key()["KeyId"]) in wanted


@gap("kms.handler._default_key")
def keys_of_services_are_aws_managed(aws: Aws) -> None:
    assert "AWS" == aws("kms").describe_key(KeyId="alias/aws/rds")["KeyMetadata"]["KeyManager"]


@gap("kms.aliases.AliasOperations.list_aliases")
def aliases_have_dates(aws: Aws) -> None:
    key, name = aws.key(), "alias/" + aws.name("a")
    aws("kms").create_alias(AliasName=name, TargetKeyId=key["KeyId"])
    assert aws("kms").list_aliases(KeyId=key["KeyId"])["Aliases"][0]["CreationDate"] <= datetime.now(UTC)


@gap("kms.base.KmsBase.page")
def lists_of_keys_are_paged(aws: Aws) -> None:
    aws.key(), aws.key()
    answer = aws("kms").list_keys(Limit=1)
    assert (1, True) == (len(answer["Keys"]), answer["Truncated"])


@gap("kms.lifecycle.LifecycleOperations.schedule_key_deletion")
def waiting_periods_are_7_to_30_days(aws: Aws) -> None:
    assert VALIDATION == refusal(aws("kms").schedule_key_deletion, KeyId=aws.key()["KeyId"], PendingWindowInDays=5)


@gap("kms.lifecycle.LifecycleOperations.schedule_key_deletion")
def scheduling_returns_state_and_period(aws: Aws) -> None:
    answer = aws("kms").schedule_key_deletion(KeyId=aws.key()["KeyId"], PendingWindowInDays=7)
    assert ("PendingDeletion", 7) == (answer["KeyState"], answer["PendingWindowInDays"])


@gap("kms.lifecycle.LifecycleOperations.enable_key")
def keys_are_enabled_and_disabled_by_arn(aws: Aws) -> None:
    key = aws.key()
    aws("kms").disable_key(KeyId=key["Arn"])
    aws("kms").enable_key(KeyId=key["Arn"])


@gap("kms.lifecycle.LifecycleOperations.cancel_key_deletion")
def deletion_is_scheduled_and_cancelled_by_arn(aws: Aws) -> None:
    key = aws.key()
    aws("kms").schedule_key_deletion(KeyId=key["Arn"], PendingWindowInDays=7)
    aws("kms").cancel_key_deletion(KeyId=key["Arn"])


# ---- KMS: the table of key states


@gap("kms.base.check_state")
def keys_without_material_do_not_encrypt(aws: Aws) -> None:
    key = aws.key(Origin="EXTERNAL")
    assert INVALID == refusal(aws("kms").encrypt, KeyId=key["KeyId"], Plaintext=b"x")


@gap("kms.base.check_state")
def keys_without_material_generate_no_data_keys(aws: Aws) -> None:
    key = aws.key(Origin="EXTERNAL")
    assert INVALID == refusal(aws("kms").generate_data_key, KeyId=key["KeyId"], KeySpec="AES_256")


@gap("kms.base.check_state")
def keys_without_material_take_no_grants(aws: Aws) -> None:
    key = aws.key(Origin="EXTERNAL")
    assert INVALID == refusal(
        aws("kms").create_grant, KeyId=key["KeyId"], GranteePrincipal=ROOT, Operations=["Decrypt"]
    )


@gap("kms.base.check_state")
def keys_without_material_are_not_enabled(aws: Aws) -> None:
    assert INVALID == refusal(aws("kms").enable_key, KeyId=aws.key(Origin="EXTERNAL")["KeyId"])


@gap("kms.base.check_state")
def keys_without_material_are_not_disabled(aws: Aws) -> None:
    assert INVALID == refusal(aws("kms").disable_key, KeyId=aws.key(Origin="EXTERNAL")["KeyId"])


@gap("kms.base.KmsBase.check_origin")
def imported_keys_do_not_rotate_by_themselves(aws: Aws) -> None:
    assert UNSUPPORTED == refusal(aws("kms").enable_key_rotation, KeyId=aws.key(Origin="EXTERNAL")["KeyId"])


@gap("kms.base.check_state")
def disabled_keys_do_not_encrypt(aws: Aws) -> None:
    assert DISABLED == refusal(aws("kms").encrypt, KeyId=aws.disabled().split("/")[-1], Plaintext=b"x")


@gap("kms.base.check_state")
def disabled_keys_do_not_decrypt(aws: Aws) -> None:
    key = aws.key()
    blob = aws("kms").encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    aws("kms").disable_key(KeyId=key["KeyId"])
    assert DISABLED == refusal(aws("kms").decrypt, CiphertextBlob=blob)


@gap("kms.base.check_state")
def disabled_keys_generate_no_data_keys(aws: Aws) -> None:
    key_id = aws.disabled().split("/")[-1]
    assert DISABLED == refusal(aws("kms").generate_data_key, KeyId=key_id, KeySpec="AES_256")


@gap("kms.base.check_state")
def disabled_keys_take_no_grants(aws: Aws) -> None:
    key_id = aws.disabled().split("/")[-1]
    assert DISABLED == refusal(aws("kms").create_grant, KeyId=key_id, GranteePrincipal=ROOT, Operations=["Decrypt"])


@gap("kms.base.check_state")
def keys_to_be_deleted_do_not_encrypt(aws: Aws) -> None:
    assert INVALID == refusal(aws("kms").encrypt, KeyId=aws.pending_deletion().split("/")[-1], Plaintext=b"x")


@gap("kms.base.check_state")
def keys_to_be_deleted_are_not_enabled(aws: Aws) -> None:
    assert INVALID == refusal(aws("kms").enable_key, KeyId=aws.pending_deletion().split("/")[-1])


@gap("kms.base.check_state")
def deletion_is_not_scheduled_twice(aws: Aws) -> None:
    key_id = aws.pending_deletion().split("/")[-1]
    assert INVALID == refusal(aws("kms").schedule_key_deletion, KeyId=key_id, PendingWindowInDays=7)


@gap("kms.base.check_state")
def keys_to_be_deleted_get_no_alias(aws: Aws) -> None:
    key_id = aws.pending_deletion().split("/")[-1]
    assert INVALID == refusal(aws("kms").create_alias, AliasName="alias/" + aws.name("a"), TargetKeyId=key_id)


@gap("kms.base.check_state")
def only_scheduled_deletions_are_cancelled(aws: Aws) -> None:
    assert INVALID == refusal(aws("kms").cancel_key_deletion, KeyId=aws.key()["KeyId"])


# ---- KMS: import


@gap("kms.import_material.ImportOperations.get_parameters_for_import")
def wrapping_keys_are_returned(aws: Aws) -> None:
    key = aws.key(Origin="EXTERNAL")
    assert 294 == len(aws("kms").get_parameters_for_import(KeyId=key["KeyId"], **WRAPPING)["PublicKey"])


@gap("kms.import_material.ImportOperations.get_parameters_for_import")
def kms_generated_keys_reject_material(aws: Aws) -> None:
    assert UNSUPPORTED == refusal(aws("kms").get_parameters_for_import, KeyId=aws.key()["KeyId"], **WRAPPING)


@gap("kms.import_material.ImportOperations.import_key_material")
def import_tokens_are_checked(aws: Aws) -> None:
    assert "InvalidImportTokenException" == refusal(
        aws("kms").import_key_material, KeyId=aws.key(Origin="EXTERNAL")["KeyId"], ImportToken=b"t" * 64,
        EncryptedKeyMaterial=b"m" * 256, **FOREVER,
    )  # fmt: skip


@gap("kms.import_material.ImportOperations.delete_imported_key_material")
def imported_material_is_deleted(aws: Aws) -> None:
    key = aws.key(Origin="EXTERNAL")
    import_material(aws("kms"), key["KeyId"], os.urandom(32))
    aws("kms").delete_imported_key_material(KeyId=key["KeyId"])
    assert "PendingImport" == aws("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"]


@gap("kms.rotation.RotationOperations.list_key_rotations")
def materials_are_listed(aws: Aws) -> None:
    answer = aws("kms").list_key_rotations(KeyId=aws.key()["KeyId"], IncludeKeyMaterial="ALL_KEY_MATERIAL")
    assert ["CURRENT"] == [entry["KeyMaterialState"] for entry in answer["Rotations"]]


@gap("kms.rotation.RotationOperations.rotate_key_on_demand")
def rotation_needs_pending_material(aws: Aws) -> None:
    assert INVALID == refusal(aws("kms").rotate_key_on_demand, KeyId=aws.key(Origin="EXTERNAL")["KeyId"])


@gap("kms.rotation.RotationOperations.get_key_rotation_status")
def rotation_is_carried_out_in_the_background(aws: Aws) -> None:
    key_id = aws.key()["KeyId"]
    aws("kms").rotate_key_on_demand(KeyId=key_id)
    assert "OnDemandRotationStartDate" in aws("kms").get_key_rotation_status(KeyId=key_id)


# ---- KMS: cryptographic operations, grants


@gap("kms.cryptographic_operations.CryptographicOperations.get_key_last_usage")
def last_usage_is_returned(aws: Aws) -> None:
    key = aws.key()
    aws("kms").encrypt(KeyId=key["KeyId"], Plaintext=b"x")
    assert "Encrypt" == aws("kms").get_key_last_usage(KeyId=key["KeyId"])["KeyLastUsage"]["Operation"]


@gap("kms.keys.new_key")
def multi_region_keys_decrypt(aws: Aws) -> None:
    key = aws.key(MultiRegion=True)
    blob = aws("kms").encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert b"x" == aws("kms").decrypt(CiphertextBlob=blob)["Plaintext"]


@gap("kms.ciphertexts.encrypt")
def ciphertexts_are_bound_to_their_context(aws: Aws) -> None:
    key = aws.key()
    blob = aws("kms").encrypt(KeyId=key["KeyId"], Plaintext=b"x", EncryptionContext={"a": "bc"})["CiphertextBlob"]
    assert "InvalidCiphertextException" == refusal(
        aws("kms").decrypt, CiphertextBlob=blob, EncryptionContext={"ab": "c"}
    )


@gap("kms.asymmetric.AsymmetricOperations.get_public_key")
def symmetric_keys_have_no_public_key(aws: Aws) -> None:
    assert UNSUPPORTED == refusal(aws("kms").get_public_key, KeyId=aws.key()["KeyId"])


@gap("kms.asymmetric.AsymmetricOperations.generate_mac")
def macs_name_the_keys_arn(aws: Aws) -> None:
    key = aws.key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    made = aws("kms").generate_mac(KeyId=key["KeyId"], Message=b"x", MacAlgorithm="HMAC_SHA_256")
    assert key["Arn"] == made["KeyId"]


@gap("kms.base.KmsBase.find")
def grants_are_for_keys_not_aliases(aws: Aws) -> None:
    name = "alias/" + aws.name("a")
    aws("kms").create_alias(AliasName=name, TargetKeyId=aws.key()["KeyId"])
    assert refusal(aws("kms").create_grant, KeyId=name, GranteePrincipal=ROOT, Operations=["Decrypt"]) in (
        NOT_FOUND, "InvalidArnException",
    )  # fmt: skip


@gap("kms.grants.GrantOperations.create_grant")
def grants_are_for_keys_that_exist(aws: Aws) -> None:
    assert NOT_FOUND == refusal(aws("kms").create_grant, KeyId=UNKNOWN, GranteePrincipal=ROOT, Operations=["Decrypt"])


@gap("kms.grants._grant_entry")
def grants_have_dates(aws: Aws) -> None:
    key = aws.key()
    aws("kms").create_grant(KeyId=key["KeyId"], GranteePrincipal=ROOT, Operations=["Decrypt"])
    assert aws("kms").list_grants(KeyId=key["KeyId"])["Grants"][0]["CreationDate"]


@gap("kms.grant_tokens.is_genuine")
def grant_tokens_are_checked(aws: Aws) -> None:
    assert "InvalidGrantTokenException" == refusal(
        aws("kms").encrypt, KeyId=aws.key()["KeyId"], Plaintext=b"x", GrantTokens=["x"]
    )


# ---- STS, IAM and related services


@gap("iam.handler.SandboxTokenResponse")
def the_caller_is_a_role_that_exists(aws: Aws) -> None:
    assert aws("sts").get_caller_identity()["Arn"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/Admin/")


@gap("iam.handler.SandboxIamResponse")
def service_linked_roles_have_awss_name(aws: Aws) -> None:
    try:
        role = aws("iam").create_service_linked_role(AWSServiceName="rds.amazonaws.com")["Role"]
    except ClientError:  # created with the first cluster
        role = aws("iam").get_role(RoleName="AWSServiceRoleForRDS")["Role"]
    assert f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS" == role["Arn"]


@gap("iam.handler.SandboxIamResponse")
def service_linked_roles_are_created_once(aws: Aws) -> None:
    with contextlib.suppress(ClientError):  # already created, with the first cluster
        aws("iam").create_service_linked_role(AWSServiceName="rds.amazonaws.com")
    assert "InvalidInput" == refusal(aws("iam").create_service_linked_role, AWSServiceName="rds.amazonaws.com")


@gap("instruments.accounts.iam_of")
def the_monitoring_policy_exists(aws: Aws) -> None:
    name = aws.name("monitoring")
    aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy(ROOT))
    arn = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
    aws("iam").attach_role_policy(RoleName=name, PolicyArn=arn)


@gap("monitoring.cloudtrail.SandboxCloudTrailResponse")
def events_are_looked_up(aws: Aws) -> None:
    key = aws.key()
    asked = [{"AttributeKey": "ResourceName", "AttributeValue": key["Arn"]}]
    assert "CreateKey" in [
        event["EventName"] for event in aws("cloudtrail").lookup_events(LookupAttributes=asked)["Events"]
    ]


@gap("monitoring.cloudwatch.kms_metrics")
def expiry_has_a_metric(aws: Aws) -> None:
    now = datetime.now(UTC)
    key = aws.key(Origin="EXTERNAL")
    import_material(aws("kms"), key["KeyId"], os.urandom(32), ValidTo=now + timedelta(days=3))
    answer = aws("cloudwatch").get_metric_statistics(
        Namespace="AWS/KMS", MetricName="SecondsUntilKeyMaterialExpiration", Period=60, Statistics=["Minimum"],
        Dimensions=[{"Name": "KeyId", "Value": key["KeyId"]}],
        StartTime=now - timedelta(hours=1), EndTime=now + timedelta(minutes=2),
    )  # fmt: skip
    assert 259_200 == pytest.approx(answer["Datapoints"][0]["Minimum"], abs=120)


@gap("dispatch._call_action")
def operations_that_are_missing_are_a_400(aws: Aws) -> None:
    assert "UnknownOperationException" == refusal(aws("kms").describe_custom_key_stores)


@gap("server.server._make")
def web_pages_are_rejected(aws: Aws) -> None:
    scope = "Credential=a/20260101/eu-west-2/kms/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"Origin": "http://elsewhere.example", "X-Amz-Target": "TrentService.ListKeys",
               "Authorization": f"AWS4-HMAC-SHA256 {scope}"}  # fmt: skip
    request = urllib.request.Request(aws.url + "/", data=b"{}", headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            allowed = answer.headers.get("Access-Control-Allow-Origin")
    except urllib.error.HTTPError as refused:
        allowed = refused.headers.get("Access-Control-Allow-Origin")
    assert allowed is None


@gap("server.middleware._unreadable")
def undecodable_bodies_are_a_400(aws: Aws) -> None:
    scope = "Credential=a/20260101/eu-west-2/kms/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"X-Amz-Target": "TrentService.ListKeys", "Authorization": f"AWS4-HMAC-SHA256 {scope}"}
    request = urllib.request.Request(aws.url + "/", data=b"\xff\xfe", headers=headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)  # noqa: S310
    assert 400 == refused.value.code
    refused.value.close()
