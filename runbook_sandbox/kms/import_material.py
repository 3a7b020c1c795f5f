"""GetParametersForImport, ImportKeyMaterial and DeleteImportedKeyMaterial, for symmetric keys.

moto gap: it lacks all three. They are installed only while moto's handler lacks them.
"""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from runbook_sandbox.instruments import clock
from runbook_sandbox.kms import keys, materials, wrapping_keys
from runbook_sandbox.kms.base import KmsBase, error
from runbook_sandbox.kms.materials import LENGTH, OAEP_HASHES, Material

LONGEST_EXPIRY = timedelta(days=365)


class ImportOperations(KmsBase):
    """The three import operations."""

    def get_parameters_for_import(self) -> str:
        """Return a wrapping key and its import token, valid for 24 hours; earlier sets remain valid."""
        algorithm, spec = self.parameters["WrappingAlgorithm"], self.parameters["WrappingKeySpec"]
        if algorithm not in OAEP_HASHES:
            raise error(
                "ValidationException",
                f"{algorithm} cannot wrap the key material of a symmetric encryption key; "
                f"use {' or '.join(OAEP_HASHES)}.",
            )
        if spec not in wrapping_keys.BITS:
            raise error("UnsupportedOperationException", f"{spec} is for China Regions only.")
        wrapping_set = materials.new_wrapping_set(self.key.arn, algorithm, spec)
        return json.dumps(
            {
                "KeyId": self.key.arn,
                "ImportToken": base64.b64encode(wrapping_set.token).decode(),
                "PublicKey": base64.b64encode(wrapping_set.public_key).decode(),
                "ParametersValidTo": wrapping_set.valid_to.timestamp(),
            }
        )

    def import_key_material(self) -> str:
        """Unwrap the key material and store it as a new or existing material of the key."""
        model, valid_to = self._expiry()
        import_type, wanted_id = self.parameters.get("ImportType"), self.parameters.get("KeyMaterialId")
        if wanted_id is not None and import_type == "NEW_KEY_MATERIAL":
            raise error("ValidationException", "KeyMaterialId cannot be given with ImportType NEW_KEY_MATERIAL.")
        value = self._unwrapped()
        material = self._place(value, import_type, wanted_id)
        if "KeyMaterialDescription" in self.parameters:
            material.description = self.parameters["KeyMaterialDescription"]
        material.value, material.expiration_model, material.valid_to = value, model, valid_to
        material.imported = clock.now()
        return json.dumps({"KeyId": self.key.arn, "KeyMaterialId": material.id})

    def _expiry(self) -> tuple[str, datetime | None]:
        model = self.parameters.get("ExpirationModel", "KEY_MATERIAL_EXPIRES")
        valid_to: datetime | None = self.parameters.get("ValidTo")
        if model == "KEY_MATERIAL_DOES_NOT_EXPIRE":
            if valid_to is not None:
                raise error("ValidationException", f"ValidTo cannot be given with ExpirationModel {model}.")
            return model, None
        if valid_to is None:
            raise error("ValidationException", f"A validTo date must be set if the ExpirationModel is {model}")
        now = clock.now()
        if valid_to <= now:
            raise error("ValidationException", "ValidTo must be in the future.")
        if valid_to > now + LONGEST_EXPIRY:
            raise error("ValidationException", "ValidTo must be at most 365 days from now.")
        return model, valid_to

    def _unwrapped(self) -> bytes:
        try:
            value = materials.unwrap(
                self.key.arn, self.parameters["ImportToken"], self.parameters["EncryptedKeyMaterial"]
            )
        except materials.TokenInvalid:
            raise error(
                "InvalidImportTokenException", "The import token is invalid or belongs to another KMS key."
            ) from None
        except materials.TokenExpired:
            raise error(
                "ExpiredImportTokenException", "The import token has expired; get a new public key and token."
            ) from None
        except materials.CiphertextInvalid:
            raise error(
                "InvalidCiphertextException",
                "The encrypted key material cannot be decrypted with this import token's wrapping key.",
            ) from None
        if len(value) != LENGTH:
            raise error("IncorrectKeyMaterialException", f"Symmetric key material must have {LENGTH} bytes.")
        return value

    def _place(self, value: bytes, import_type: str | None, wanted_id: str | None) -> Material:
        """Return the key's material with these bytes, created if it is new. Raises JsonRESTError."""
        state = self.extension
        identifier = materials.material_id(self.key.id, value)
        if wanted_id is not None and not hmac.compare_digest(wanted_id, identifier):
            raise error("IncorrectKeyMaterialException", "The key material does not match KeyMaterialId.")
        known = keys.material_of(self.key, identifier)
        if known is None and keys.is_replica(self.key):
            known = self._from_primary(identifier)
        effective = import_type or ("EXISTING_KEY_MATERIAL" if state.materials else "NEW_KEY_MATERIAL")
        if effective == "EXISTING_KEY_MATERIAL":
            if known is None:
                raise error(
                    "IncorrectKeyMaterialException",
                    "The key material is not one that was imported into this KMS key before.",
                )
            return known
        if known is not None:
            raise error("IncorrectKeyMaterialException", "The key material is already associated with this KMS key.")
        return self._new(identifier)

    def _from_primary(self, identifier: str) -> Material | None:
        """Return a copy for this replica of the primary key's material with this id."""
        primary = keys.primary_of(self.key)
        found = None if primary is None else keys.material_of(primary, identifier)
        if found is None:
            return None
        own = replace(found, value=None)
        self.extension.materials.append(own)
        return own

    def _new(self, identifier: str) -> Material:
        state = self.extension
        if keys.is_replica(self.key):
            raise error(
                "UnsupportedOperationException",
                "Import new key material into the primary key first, then the same material into the replica "
                "as EXISTING_KEY_MATERIAL.",
            )
        if not state.materials:
            material = Material(id=identifier, value=None)
        elif any(one.value is None for one in state.permanent):
            raise error(
                "KMSInvalidStateException",
                f"{self.key.arn} is pending import; reimport its existing key materials first.",
            )
        elif state.pending is not None:
            raise error(
                "KMSInvalidStateException",
                f"New key material (id: {identifier}) cannot be imported into KMS key {self.key.arn}, because another key "
                f"material (id: {state.pending.id}) is pending rotation.",
            )
        else:
            material = Material(id=identifier, value=None, state="PENDING_ROTATION")
        state.materials.append(material)
        return material

    def delete_imported_key_material(self) -> str:
        """Delete one material, by default the current one; deleting a deleted one changes nothing."""
        state = self.extension
        if state.rotation is not None:  # from RotateKeyOnDemand on, the new material is permanent
            keys.complete_rotation(self.key, clock.now())
        wanted = self.parameters.get("KeyMaterialId")
        material = state.current if wanted is None else keys.material_of(self.key, wanted)
        if wanted is not None and material is None:
            raise error("NotFoundException", f"{self.key.arn} has no key material {wanted}.")
        answer: dict[str, Any] = {"KeyId": self.key.arn}
        if material is not None:
            if material is state.pending:  # the replicas' copies are deleted with the primary's
                for replica in keys.replicas_of(self.key):
                    if (copy := keys.material_of(replica, material.id)) is not None:
                        copy.value = None
            elif material.value is not None and not str(self.key.key_state).endswith("Deletion"):
                state.disabled = False  # the key is now PendingImport, and Enabled after a reimport
            material.value = None
            answer["KeyMaterialId"] = material.id
        return json.dumps(answer)
