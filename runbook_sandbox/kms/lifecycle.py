"""Managing keys: create, describe, list, enable, disable, delete, policy, tags, replicate.

moto gap: EXTERNAL keys start Enabled, DescribeKey lacks most fields of an imported key, there is no paging, waiting
periods are not checked, and ARNs crash.
"""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from moto.kms.models import Key, kms_backends

from runbook_sandbox.instruments import clock
from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.kms import policy as kms_policy
from runbook_sandbox.kms.base import KmsBase, error
from runbook_sandbox.kms.extension import KeyExtension

_USAGE_OF_SPEC = {"SYMMETRIC_DEFAULT": ("ENCRYPT_DECRYPT",), "HMAC": ("GENERATE_VERIFY_MAC",),
                  "RSA": ("ENCRYPT_DECRYPT", "SIGN_VERIFY"), "ECC": ("SIGN_VERIFY", "KEY_AGREEMENT"),
                  "SM2": ("ENCRYPT_DECRYPT", "SIGN_VERIFY", "KEY_AGREEMENT")}  # fmt: skip
_MOST_TAGS = 50


def metadata(key: Key) -> dict[str, Any]:
    """Return KeyMetadata as in DescribeKey and CreateKey."""
    state = kms_keys.refresh(key)
    shown: dict[str, Any] = {name: value for name, value in key.to_dict()["KeyMetadata"].items() if value is not None}
    if key.key_usage != "SIGN_VERIFY":
        shown.pop("SigningAlgorithms", None)
    if key.key_usage != "ENCRYPT_DECRYPT":
        shown.pop("EncryptionAlgorithms", None)
    if key.key_usage == "GENERATE_VERIFY_MAC":
        shown["MacAlgorithms"] = [key.key_spec.replace("HMAC_", "HMAC_SHA_")]
    if kms_keys.is_symmetric(key) and state.current is not None:
        shown["CurrentKeyMaterialId"] = state.current.id
    if key.origin == "EXTERNAL":
        _show_expiry(shown, key, state)
    shown.pop("DeletionDate", None)
    if key.key_state == "PendingDeletion":
        shown["DeletionDate"] = state.deletion.timestamp() if state.deletion else None
    if key.key_state == "PendingReplicaDeletion":
        shown["PendingDeletionWindowInDays"] = state.window_days
    return shown


def _show_expiry(shown: dict[str, Any], key: Key, state: KeyExtension) -> None:
    """Add the earliest expiry of the materials that are present, if any expires."""
    if key.key_state == "PendingImport":
        return
    present = [material for material in state.permanent if material.value is not None]
    ends = [material.valid_to for material in present if material.valid_to is not None]
    if ends:
        shown |= {"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": min(ends).timestamp()}
    elif present and len(present) == len(state.permanent):
        shown["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE"


class LifecycleOperations(KmsBase):
    """The operations on keys, their policies and tags."""

    def create_key(self) -> str:
        given = self.parameters
        origin, spec = given.get("Origin", "AWS_KMS"), self._spec()
        usage = given.get("KeyUsage") or ("ENCRYPT_DECRYPT" if spec == "SYMMETRIC_DEFAULT" else None)
        family = "SYMMETRIC_DEFAULT" if spec == "SYMMETRIC_DEFAULT" else spec.split("_")[0]
        if usage is None:
            raise error(
                "ValidationException",
                "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
            )
        if usage not in _USAGE_OF_SPEC.get(family, ()):
            raise error("ValidationException", f"KeyUsage {usage} is not compatible with KeySpec {spec}.")
        if origin not in ("AWS_KMS", "EXTERNAL") or "CustomKeyStoreId" in given or "XksKeyId" in given:
            raise error("UnsupportedOperationException", "The sandbox does not support custom key stores.")
        if "Policy" in given:
            self._check_policy(given["Policy"], *self._new_key(origin, spec, usage))
        tags = given.get("Tags", [])
        self._check_tags(tags, already={})
        key = kms_keys.new_key(
            self.current_account, self.region, policy=given.get("Policy"), usage=usage, spec=spec,
            description=given.get("Description", ""), tags=tags or None, origin=origin,
            multi_region=given.get("MultiRegion", False),
        )  # fmt: skip
        return json.dumps({"KeyMetadata": metadata(key)})

    def _spec(self) -> str:
        spec = self.parameters.get("KeySpec") or self.parameters.get("CustomerMasterKeySpec")
        if "KeySpec" in self.parameters and "CustomerMasterKeySpec" in self.parameters:
            raise error("ValidationException", "Specify KeySpec or CustomerMasterKeySpec, not both.")
        if spec is not None and spec.startswith(("ML_", "ECC_NIST_EDWARDS", "SM2")):
            raise error("UnsupportedOperationException", f"The sandbox does not support {spec} keys.")
        return spec or "SYMMETRIC_DEFAULT"

    def _new_key(self, origin: str, spec: str, usage: str) -> tuple[str, dict[str, Any]]:
        """Return an ARN and the condition keys of the key that is about to be created."""
        multi_region = self.parameters.get("MultiRegion", False)
        key_id = f"mrk-{UUID(int=0).hex}" if multi_region else str(UUID(int=0))
        return f"arn:aws:kms:{self.region}:{self.current_account}:key/{key_id}", {
            "aws:RequestedRegion": self.region, "aws:ResourceAccount": self.current_account,
            "kms:KeyOrigin": origin, "kms:KeySpec": spec, "kms:KeyUsage": usage, "kms:MultiRegion": multi_region,
        }  # fmt: skip

    def _check_policy(self, policy: str, key_arn: str, key_context: dict[str, Any]) -> None:
        bypass = self.parameters.get("BypassPolicyLockoutSafetyCheck", False)
        kms_policy.check(
            policy, self.current_account, self.access_key,
            key_arn=key_arn, key_context=key_context, bypass_lockout=bypass,
        )  # fmt: skip

    def _check_tags(self, tags: list[dict[str, str]], *, already: dict[str, str]) -> None:
        names = [tag["TagKey"] for tag in tags]
        if len(set(names)) != len(names):
            raise error("TagException", "A tag key is specified more than once.")
        if any(name.lower().startswith("aws:") for name in names):
            raise error("TagException", "Tag keys cannot begin with aws:.")
        if len(set(names) | set(already)) > _MOST_TAGS:
            raise error("LimitExceededException", f"A KMS key has at most {_MOST_TAGS} tags.")

    def describe_key(self) -> str:
        return json.dumps({"KeyMetadata": metadata(self.key)})

    def list_keys(self) -> str:
        keys = kms_keys.all_keys(self.current_account, self.region)
        chosen, paging = self.page(keys, default=100)
        return json.dumps({"Keys": [{"KeyId": key.id, "KeyArn": key.arn} for key in chosen], **paging})

    def enable_key(self) -> str:
        self.extension.disabled = False
        return "{}"

    def disable_key(self) -> str:
        self.extension.disabled = True
        return "{}"

    def schedule_key_deletion(self) -> str:
        days = self.parameters.get("PendingWindowInDays", 30)
        if not 7 <= days <= 30:
            raise error(
                "ValidationException",
                f"1 validation error detected: Value '{days}' at 'pendingWindowInDays' failed to satisfy "
                "constraint: Member must have value between 7 and 30",
            )
        state = self.extension
        state.window_days = days
        if kms_keys.replicas_of(self.key):
            state.awaits_replicas = True  # the waiting period begins when the last replica is deleted
        else:
            state.deletion = clock.now() + timedelta(days=days)
        answer = {"KeyId": self.key.arn, "KeyState": kms_keys.state_of(self.key), "PendingWindowInDays": days}
        return json.dumps(answer | ({"DeletionDate": state.deletion.timestamp()} if state.deletion else {}))

    def cancel_key_deletion(self) -> str:
        state = self.extension
        state.deletion, state.awaits_replicas, state.disabled = None, False, True
        return json.dumps({"KeyId": self.key.arn})

    def update_key_description(self) -> str:
        self.key.description = self.parameters["Description"]
        return "{}"

    def put_key_policy(self) -> str:
        self._check_policy_name()
        self._check_policy(self.parameters["Policy"], str(self.key.arn), kms_policy.key_context(self.key))
        self.key.policy = self.parameters["Policy"]
        return "{}"

    def get_key_policy(self) -> str:
        self._check_policy_name()
        return json.dumps({"Policy": self.key.policy, "PolicyName": "default"})

    def _check_policy_name(self) -> None:
        if self.parameters.get("PolicyName", "default") != "default":
            raise error("NotFoundException", "No such policy exists")

    def list_key_policies(self) -> str:
        names, paging = self.page(["default"], default=100)
        return json.dumps({"PolicyNames": names, **paging})

    @property
    def _tags(self) -> dict[str, str]:
        found: dict[str, str] = self.kms_backend.tagger.get_tag_dict_for_resource(self.key.id)
        return found

    def tag_resource(self) -> str:
        tags = self.parameters["Tags"]
        self._check_tags(tags, already=self._tags)
        self.kms_backend.tagger.tag_resource(self.key.id, tags)
        return "{}"

    def untag_resource(self) -> str:
        self.kms_backend.tagger.untag_resource_using_names(self.key.id, self.parameters["TagKeys"])
        return "{}"

    def list_resource_tags(self) -> str:
        tags = [{"TagKey": name, "TagValue": value} for name, value in self._tags.items()]
        chosen, paging = self.page(tags, default=50, largest=50)
        return json.dumps({"Tags": chosen, **paging})

    def replicate_key(self) -> str:
        """moto gap: the replica shares the primary's state and material, and cannot import its own."""
        key, region = self.key, self.parameters["ReplicaRegion"]
        if not key.multi_region or kms_keys.is_replica(key):
            raise error("UnsupportedOperationException", f"{key.arn} is not a multi-region primary key.")
        if region not in kms_backends[self.current_account]:
            raise error("ValidationException", f"{region} is not a Region of the sandbox.")
        if region == self.region or key.id in kms_backends[self.current_account][region].keys:
            raise error("AlreadyExistsException", f"A key {key.id} already exists in {region}.")
        if "Policy" in self.parameters:
            context = {**kms_policy.key_context(key), "aws:RequestedRegion": region}
            self._check_policy(self.parameters["Policy"], key.arn.replace(f":{self.region}:", f":{region}:"), context)
        replica = self._copy_to(region)
        tags = self.parameters.get("Tags", [])
        self._check_tags(tags, already={})
        if tags:
            kms_backends[self.current_account][region].tagger.tag_resource(replica.id, tags)
        shown = {**metadata(replica), "KeyState": "Creating", "Enabled": False}  # for seconds, which the sandbox skips
        shown.pop("CurrentKeyMaterialId", None)
        return json.dumps({"ReplicaKeyMetadata": shown, "ReplicaPolicy": replica.policy, "ReplicaTags": tags})

    def _copy_to(self, region: str) -> Key:
        key = self.key
        replica = copy.copy(key)
        replica.region, replica.arn = region, key.arn.replace(f":{self.region}:", f":{region}:")
        replica.grants, replica.aliases, replica.rotations = {}, {}, []
        replica.creation_date = clock.now().timestamp()
        replica.description = self.parameters.get("Description", "")
        own = KeyExtension(materials=kms_keys.extension_of(key).materials)
        if key.origin == "EXTERNAL":
            own.materials = [copy.copy(material) for material in own.materials]
            for material in own.materials:
                material.value = None
        vars(replica)["runbook"] = own
        configuration = key.multi_region_configuration
        configuration["ReplicaKeys"].append({"Arn": replica.arn, "Region": region})
        replica.multi_region_configuration = {**configuration, "MultiRegionKeyType": "REPLICA"}
        replica.policy = self.parameters.get("Policy") or replica.generate_default_policy()
        kms_backends[self.current_account][region].keys[replica.id] = replica
        kms_keys.refresh(replica)
        return replica
