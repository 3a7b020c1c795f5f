"""Inputs of the steps that concern the KMS key and its material: 01 to 04, and 20."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from runbook_lib.inputs.aws_rules import rule
from runbook_lib.inputs.base import PATH, PATHS, Inputs, check_tags, choice, nearest
from runbook_lib.material.key_material import (
    REFUSED_WRAPPING_ALGORITHMS,
    RSAES_OAEP_SHA_1,
    RSAES_OAEP_SHA_256,
    WRAPPING_ALGORITHMS,
    Encoding,
)
from runbook_lib.material.request import Custody, HsmToken, MaterialRequest, Source
from runbook_lib.material.secret_sources import check_origin

# KMS API, ImportKeyMaterial: key material expires at most this long after the import.
LONGEST = timedelta(days=365)


class KeyNames(Inputs):
    """The alias and the principals of the key, for 00 and 01."""

    key_alias: str = choice("Alias", "Friendly name of the KMS key, beginning with alias/.", "alias/aurora-byok")
    key_administrators: list[str] = choice(
        "Key administrators",
        "Roles or users that manage the key but cannot use it: ARN, role/Name or user/Name. Empty: your own role.",
        [],
    )
    key_users: list[str] = choice(
        "Key users",
        "Roles or users that can encrypt clusters with the key, through RDS only: ARN, role/Name or user/Name. "
        "Empty: your own role.",
        [],
    )
    grant_rds_service_linked_role: bool = choice(
        "AWSServiceRoleForRDS as key user",
        "As in the AWS post; created if missing. Access actually comes from the caller's kms:CreateGrant.",
        True,
    )

    _alias = field_validator("key_alias")(rule("key_alias"))

    @field_validator("key_administrators", "key_users")
    @classmethod
    def _principals(cls, values: list[str]) -> list[str]:
        for value in values:
            if not re.fullmatch(r"(arn:aws[a-z-]*:iam::\d{12}:)?(role|user)/[\w+=,.@/-]{1,576}", value):
                raise ValueError(
                    f"{value!r} is not a valid role or user; write 'role/Name', 'user/Name' or its ARN, "
                    "e.g. 'arn:aws:iam::123456789012:role/Admin'"
                )
        return values


class CreateKeyInputs(KeyNames):
    """01_create_key: the key, its name, its tags and who may do what with it."""

    key_description: str = choice(
        "Description",
        "Shown in the KMS console and in CloudTrail. No secrets.",
        "Aurora storage encryption, imported key material",
    )
    tags: dict[str, str] = choice("Tags", "Tags for every resource that the run creates.", {})
    allow_key_deletion: bool = choice(
        "Administrators may delete the key", "As in the AWS post. A deletion waits 7 to 30 days.", True
    )
    _tags = field_validator("tags")(check_tags)
    _described = field_validator("key_description")(rule("key_description"))


class GetParametersForImportInputs(Inputs):
    """02_get_parameters_for_import: how the key material is encrypted on its way to KMS."""

    wrapping_algorithm: str = choice(
        "Wrapping algorithm",
        "RSAES_OAEP_SHA_256: RSA-OAEP with SHA-256. RSAES_OAEP_SHA_1: with SHA-1, as in the AWS post.",
        RSAES_OAEP_SHA_256,
        json_schema_extra={"choices": [RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1]},
    )
    wrapping_key_spec: Literal["RSA_4096", "RSA_3072", "RSA_2048"] = choice(
        "Wrapping key spec", "RSA key size of the wrapping key: 4096, 3072 or 2048 bits.", "RSA_4096"
    )

    @field_validator("wrapping_algorithm")
    @classmethod
    def _algorithm(cls, value: str) -> str:
        if value in REFUSED_WRAPPING_ALGORITHMS:
            raise ValueError(f"{value!r} is refused: {REFUSED_WRAPPING_ALGORITHMS[value]} Use {RSAES_OAEP_SHA_256}.")
        if value not in WRAPPING_ALGORITHMS:
            near = nearest(value, str(list(WRAPPING_ALGORITHMS)))
            raise ValueError(f"{value!r} is not one of {RSAES_OAEP_SHA_256}, {RSAES_OAEP_SHA_1}{near}")
        return value


class EncryptKeyMaterialInputs(Inputs):
    """03_encrypt_key_material: where the 256 bits come from, and who keeps a backup of them."""

    secret_sources: ClassVar[frozenset[str]] = frozenset({"recovery_password_from", "pkcs11_pin_from"})

    key_material_source: Source = choice(
        "Source",
        "generate: 32 random bytes of this machine. file: 32 bytes from a file. wrapped: EncryptedKeyMaterial.bin or "
        "hand-back.zip from another machine. recovery: a key material backup. pkcs11: a key in an HSM.",
        "generate",
    )
    key_material_file: str = choice(
        "File", "Path, for the sources file, wrapped and recovery.", "", json_schema_extra=PATH
    )
    key_material_encoding: Encoding = choice(
        "Encoding of the file", "For the source file. binary: 32 raw bytes. hex, base64: the bytes as text.", "binary"
    )
    recovery_private_key: str = choice(
        "Recovery private key", "Path of the PEM file, for the source recovery.", "", json_schema_extra=PATH
    )
    recovery_password_from: str = choice(
        "Password of the recovery key",
        "Where to read it: prompt (typed by you), env:NAME (environment variable) or file:PATH. "
        "Empty: the key has no password.",
        "",
    )
    pkcs11_module: str = choice(
        "PKCS 11 module", "Path of the HSM vendor's library, for the source pkcs11.", "", json_schema_extra=PATH
    )
    pkcs11_token_label: str = choice("Token", "Label of the HSM token, for the source pkcs11.", "")
    pkcs11_key_label: str = choice("Key in the token", "Label of the key; created if missing.", "aurora-byok")
    pkcs11_pin_from: str = choice(
        "PIN of the token",
        "Where to read it: prompt (typed by you), env:NAME (environment variable) or file:PATH.",
        "prompt",
    )
    custody: Custody = choice(
        "Custody of the key material",
        "recovery_key: a backup for each recovery public key. split: a component for each, all needed. hsm: the token "
        "keeps it. file: PlaintextKeyMaterial.bin in clear, for training. none: you keep a backup elsewhere.",
        "recovery_key",
    )
    recovery_public_keys: list[str] = choice(
        "Recovery public keys",
        "Paths of RSA public keys in PEM form. Empty, in the sandbox: training keys are created.",
        [],
        json_schema_extra=PATHS,
    )
    accept_no_custody: bool = choice(
        "I keep a backup elsewhere",
        "Required with custody none unless the source is wrapped, and on AWS with custody file unless the file is kept.",
        False,
    )
    accept_plaintext_file: bool = choice(
        "Accept key material in clear", "Required with custody file and target aws.", False
    )
    keep_plaintext_file: bool = choice(
        "Keep the file in clear",
        "With custody file: keep PlaintextKeyMaterial.bin after the import. Otherwise it is destroyed.",
        False,
    )

    def request(self) -> MaterialRequest:
        """Return these inputs as the request that `material` takes."""
        token = HsmToken(
            self.pkcs11_module, self.pkcs11_token_label, self.pkcs11_key_label, pin_from=self.pkcs11_pin_from
        )
        return MaterialRequest(
            source=self.key_material_source,
            custody=self.custody,
            file=self.key_material_file,
            encoding=self.key_material_encoding,
            recovery_private_key=self.recovery_private_key,
            recovery_password_from=self.recovery_password_from,
            recovery_public_keys=tuple(self.recovery_public_keys),
            keep_plaintext_file=self.keep_plaintext_file,
            token=token,
        )

    @field_validator("recovery_password_from", "pkcs11_pin_from")
    @classmethod
    def _origin(cls, value: str) -> str:
        return check_origin(value)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        source = self.key_material_source
        for name, sources in _BY_SOURCE.items():
            if getattr(self, name) and source not in sources:
                raise ValueError(
                    f"{name}: is set, but key_material_source is {source!r}; leave it empty, or choose "
                    f"{' or '.join(map(repr, sources))}"
                )
            if not getattr(self, name) and source in sources:
                raise ValueError(
                    f"{name}: '' is not possible with key_material_source {source!r}; give its path or label"
                )
        if source == "wrapped" and self.custody != "none":
            raise ValueError(
                f"custody: {self.custody!r} is not possible with key_material_source 'wrapped', because the key material was "
                "never here in clear; write 'none' and keep its backup where it was wrapped"
            )
        if (self.custody == "hsm") > (source == "pkcs11") or (source == "pkcs11" and self.custody in ("file", "split")):
            raise ValueError(
                f"custody: {self.custody!r} is not possible with key_material_source {source!r}; with 'pkcs11' write "
                "'hsm', 'recovery_key' or 'none'; with any other source write 'recovery_key', 'split', 'file' or 'none'"
            )
        if self.custody == "split" and len(self.recovery_public_keys) == 1:
            raise ValueError(
                "recovery_public_keys: 1 key is not enough for custody 'split'; give the keys of 2 to 9 custodians"
            )
        if self.custody == "none" and source != "wrapped" and not self.accept_no_custody:
            raise ValueError(
                "custody: with 'none' the key material would have no backup, and accept_no_custody is not set; write "
                "'recovery_key', or set accept_no_custody: true if you keep a backup elsewhere"
            )
        return self


_BY_SOURCE = {
    "key_material_file": ("file", "wrapped", "recovery"),
    "recovery_private_key": ("recovery",),
    "pkcs11_module": ("pkcs11",),
    "pkcs11_token_label": ("pkcs11",),
}


class ImportKeyMaterialInputs(Inputs):
    """04_import_key_material: whether and when the key material expires."""

    expiration_model: Literal["KEY_MATERIAL_DOES_NOT_EXPIRE", "KEY_MATERIAL_EXPIRES"] = choice(
        "Expiration",
        "KEY_MATERIAL_DOES_NOT_EXPIRE: as in the AWS post. KEY_MATERIAL_EXPIRES: KMS deletes it at the time given.",
        "KEY_MATERIAL_DOES_NOT_EXPIRE",
    )
    valid_to: str = choice(
        "Expires at",
        "For KEY_MATERIAL_EXPIRES: ISO 8601 with UTC offset, e.g. 2027-06-30T00:00:00+00:00.",
        "",
        json_schema_extra={"format": "date-time"},
    )
    key_material_description: str = choice(
        "Description of the material",
        "Where its backup is kept, e.g. safe-3/card-7. No secrets.",
        "",
    )

    _description = field_validator("key_material_description")(rule("key_material_description", optional=True))

    @field_validator("valid_to", mode="before")
    @classmethod
    def _yaml_date(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else value  # a datetime is a date

    @field_validator("valid_to")
    @classmethod
    def _instant(cls, value: str) -> str:
        if not value:
            return value
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a valid ISO 8601 time; write e.g. 2027-06-30T00:00:00+00:00") from None
        if instant.tzinfo is None:
            whole = value if ":" in value else f"{value}T00:00:00"
            raise ValueError(f"{value!r} has no {'UTC offset' if ':' in value else 'time'}; write e.g. {whole}+00:00")
        return instant.astimezone(UTC).isoformat(timespec="seconds")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if self.expiration_model == "KEY_MATERIAL_EXPIRES" and not self.valid_to:
            raise ValueError(
                "valid_to: '' is not possible with KEY_MATERIAL_EXPIRES; write the time, e.g. 2027-06-30T00:00:00+00:00"
            )
        if self.expiration_model == "KEY_MATERIAL_DOES_NOT_EXPIRE" and self.valid_to:
            raise ValueError(
                f"valid_to: {self.valid_to!r} is not possible with KEY_MATERIAL_DOES_NOT_EXPIRE; leave it empty"
            )
        return self


class RotateKeyMaterialInputs(EncryptKeyMaterialInputs, ImportKeyMaterialInputs):
    """20_rotate_key_material: where the new key material comes from, who keeps it, and how often the key may rotate."""

    min_days_between_rotations: int = choice(
        "Days between rotations",
        "Rotate only if the last rotation in AWS's record is at least this many days old. A key has 25 rotations for life.",
        1, ge=0, le=3650,
    )  # fmt: skip
    delete_pending_material: bool = choice(
        "Delete pending material",
        "If this run imported new key material and did not rotate to it: delete it, and do not rotate.",
        False,
    )
    wait_timeout_minutes: int = choice("Maximum wait", "Minutes for the rotation to be carried out.", 60, ge=1, le=600)
