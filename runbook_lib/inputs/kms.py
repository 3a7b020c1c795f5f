"""What the steps ask for that concern the key and its material: 01 to 04 and 80."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import (
    field_validator,
    model_validator,
)

from runbook_lib.inputs.base import PATH, Inputs, check_tags, choice, identifier, matching, nearest
from runbook_lib.material.key_material import (
    REFUSED_WRAPPING_ALGORITHMS,
    RSAES_OAEP_SHA_1,
    RSAES_OAEP_SHA_256,
    WRAPPING_ALGORITHMS,
    Encoding,
)
from runbook_lib.material.request import Custody, HsmToken, MaterialRequest, Source
from runbook_lib.material.secret_sources import check_origin


class KeyNames(Inputs):
    """The names in which 00 and 01 speak of the key."""

    key_alias: str = choice("Alias", "Display name of the KMS key, beginning with alias/.", "alias/aurora-byok")
    key_administrators: list[str] = choice(
        "Key administrators",
        "Roles or users that manage the key but cannot use it, as ARN, role/Name or user/Name. Empty: your own role.",
        [],
    )
    key_users: list[str] = choice(
        "Key users",
        "Roles or users that may create clusters under the key, through RDS only, as ARN, role/Name or "
        "user/Name. Empty: your own role.",
        [],
    )
    grant_rds_service_linked_role: bool = choice(
        "AWSServiceRoleForRDS as key user",
        "As the post has it; created if absent. What does the work is the caller's CreateGrant.",
        True,
    )

    @field_validator("key_alias")
    @classmethod
    def _alias(cls, value: str) -> str:
        if not value.startswith("alias/"):
            raise ValueError(f"{value!r} does not begin with 'alias/'; write 'alias/{value}'")
        if value.startswith("alias/aws/"):
            raise ValueError(f"{value!r} is reserved for AWS managed keys; choose a name not beginning 'alias/aws/'")
        if not re.fullmatch(r"alias/[a-zA-Z0-9:/_-]{1,250}", value):
            raise ValueError(
                f"{value!r} is no alias: letters, digits, ':', '/', '_' and '-' after 'alias/', 256 characters at most"
            )
        return value

    @field_validator("key_administrators", "key_users")
    @classmethod
    def _principals(cls, values: list[str]) -> list[str]:
        for value in values:
            if not re.fullmatch(r"(arn:aws[a-z-]*:iam::\d{12}:)?(role|user)/[\w+=,.@/-]{1,576}", value):
                raise ValueError(
                    f"{value!r} is no role or user; write 'role/Name', 'user/Name' or its ARN, "
                    "e.g. 'arn:aws:iam::123456789012:role/Admin'"
                )
        return values


class CreateKeyInputs(KeyNames):
    """01_create_key: the key, who may do what with it, and what it is called."""

    key_description: str = choice(
        "Description",
        "Shown in the console and in CloudTrail: no secrets.",
        "Aurora storage encryption, imported key material",
        max_length=8192,
    )
    tags: dict[str, str] = choice("Tags", "Your own tags on everything that the run makes.", {})
    allow_key_deletion: bool = choice(
        "Administrators may delete the key", "The post's choice. Deletion waits 7 to 30 days.", True
    )
    _tags = field_validator("tags")(check_tags)


class GetParametersForImportInputs(Inputs):
    """02_get_parameters_for_import: how the key material will be encrypted on its way."""

    wrapping_algorithm: str = choice(
        "Wrapping algorithm",
        "RSAES_OAEP_SHA_256, or RSAES_OAEP_SHA_1 as in the post.",
        RSAES_OAEP_SHA_256,
        json_schema_extra={"choices": [RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1]},
    )
    wrapping_key_spec: Literal["RSA_4096", "RSA_3072", "RSA_2048"] = choice(
        "Wrapping key spec", "Size of the wrapping key.", "RSA_4096"
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
    """03_encrypt_key_material: where the 256 bits come from, and who keeps the original."""

    key_material_source: Source = choice(
        "Source",
        "generate: from this machine's random source. file: 32 bytes from a file. wrapped: an EncryptedKeyMaterial.bin "
        "or hand-back.zip made elsewhere. recovery: from a custody copy. pkcs11: inside an HSM.",
        "generate",
    )
    key_material_file: str = choice(
        "File", "Path of the file, for the sources file, wrapped and recovery.", "", json_schema_extra=PATH
    )
    key_material_encoding: Encoding = choice("Encoding of the file", "For the source file only.", "binary")
    recovery_private_key: str = choice(
        "Recovery private key", "Path, PEM, for the source recovery.", "", json_schema_extra=PATH
    )
    recovery_password_from: str = choice(
        "Its password", "Where it is: prompt, env:NAME or file:PATH. Empty: it has none.", ""
    )
    pkcs11_module: str = choice(
        "PKCS 11 module", "Path of the library of the HSM, for the source pkcs11.", "", json_schema_extra=PATH
    )
    pkcs11_token_label: str = choice("Token", "Its label.", "")
    pkcs11_key_label: str = choice("Key in the token", "Its label; made there if it is not.", "aurora-byok")
    pkcs11_pin_from: str = choice("PIN", "Where it is: prompt, env:NAME or file:PATH.", "prompt")
    custody: Custody = choice(
        "Custody of the original",
        "recovery_key: a copy encrypted to each recovery public key. split: a component to each, all needed. "
        "hsm: it stays in the token. file: in clear, for training. none: you keep the original elsewhere.",
        "recovery_key",
    )
    recovery_public_keys: list[str] = choice(
        "Recovery public keys",
        "Paths of RSA public keys in PEM form. In the sandbox, empty makes training keys.",
        [],
    )
    accept_no_custody: bool = choice(
        "I keep the original elsewhere", "Needed for custody none with material made or read here.", False
    )
    accept_plaintext_file: bool = choice("Accept it in clear", "Needed for custody file with target aws.", False)
    keep_plaintext_file: bool = choice(
        "Keep it in clear", "Custody file: keep PlaintextKeyMaterial.bin after the import; else it is destroyed.", False
    )

    def request(self) -> MaterialRequest:
        """Return these choices as `material` takes them."""
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
                    f"{name}: is given, but key_material_source is {source!r}; choose {' or '.join(map(repr, sources))}"
                )
            if not getattr(self, name) and source in sources:
                raise ValueError(f"{name}: '' with key_material_source {source!r}; give its path or label")
        if source == "wrapped" and self.custody != "none":
            raise ValueError(
                f"custody: {self.custody!r} is not possible with key_material_source 'wrapped', since the original was "
                "never here; write 'none' and keep the original where it was made"
            )
        if (self.custody == "hsm") > (source == "pkcs11") or (source == "pkcs11" and self.custody in ("file", "split")):
            raise ValueError(
                f"custody: {self.custody!r} does not go with key_material_source {source!r}; what is made in an HSM stays there "
                "('hsm') or is encrypted there to recovery keys ('recovery_key')"
            )
        if self.custody == "split" and len(self.recovery_public_keys) == 1:
            raise ValueError("recovery_public_keys: one is not enough for custody 'split'; give each custodian's")
        if self.custody == "none" and source != "wrapped" and not self.accept_no_custody:
            raise ValueError(
                "custody: 'none' would leave nobody with the original key material, and losing it can lose the "
                "database; use 'recovery_key', or set accept_no_custody: true"
            )
        return self


_BY_SOURCE = {
    "key_material_file": ("file", "wrapped", "recovery"),
    "recovery_private_key": ("recovery",),
    "pkcs11_module": ("pkcs11",),
    "pkcs11_token_label": ("pkcs11",),
}


class ImportKeyMaterialInputs(Inputs):
    """04_import_key_material: whether the material expires."""

    expiration_model: Literal["KEY_MATERIAL_DOES_NOT_EXPIRE", "KEY_MATERIAL_EXPIRES"] = choice(
        "Expiration", "The post's choice is that it does not expire.", "KEY_MATERIAL_DOES_NOT_EXPIRE"
    )
    valid_to: str = choice(
        "Expires at",
        "For KEY_MATERIAL_EXPIRES: ISO 8601 with offset, e.g. 2027-06-30T00:00:00+00:00.",
        "",
        json_schema_extra={"format": "date-time"},
    )
    key_material_description: str = choice(
        "Description of the material",
        "Where the original lives, e.g. safe-3/card-7. No secrets.",
        "",
        max_length=256,
    )

    _description = field_validator("key_material_description")(
        matching(r"[a-zA-Z0-9:/_\s.-]+", "holds other characters than letters, digits, spaces and : / _ . -")
    )

    @field_validator("valid_to", mode="before")
    @classmethod
    def _yaml_date(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    @field_validator("valid_to")
    @classmethod
    def _instant(cls, value: str) -> str:
        if not value:
            return value
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no ISO 8601 time; write e.g. 2027-06-30T00:00:00+00:00") from None
        if instant.tzinfo is None:
            raise ValueError(f"{value!r} has no offset from UTC; write e.g. {value}+00:00")
        return instant.astimezone(UTC).isoformat(timespec="seconds")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if self.expiration_model == "KEY_MATERIAL_EXPIRES" and not self.valid_to:
            raise ValueError("valid_to: '' with KEY_MATERIAL_EXPIRES; write when it expires")
        if self.expiration_model == "KEY_MATERIAL_DOES_NOT_EXPIRE" and self.valid_to:
            raise ValueError(f"valid_to: {self.valid_to!r} with KEY_MATERIAL_DOES_NOT_EXPIRE; leave it empty")
        return self


class RecoveryDrillInputs(Inputs):
    """80_recovery_drill: how the original is opened, and which cluster may be out of service meanwhile."""

    recovery_private_keys: list[str] = choice(
        "Recovery private keys",
        "Paths, PEM: one for a copy, all for components. In the sandbox, empty: training keys.",
        [],
    )
    recovery_password_from: str = choice(
        "Their password", "Where it is: prompt, env:NAME or file:PATH. Empty: they have none.", ""
    )
    original_file: str = choice("Original in a file", "Path of the 32 bytes, where no copy was made here.", "")
    throw_away_db_cluster_identifier: str = choice(
        "Throw-away cluster",
        "With target aws: type the name of this run's cluster to let it become inaccessible. Empty: only reads.",
        "",
    )
    wait_timeout_minutes: int = choice(
        "Wait at most", "Minutes until cluster and instances are available.", 60, ge=1, le=600
    )

    _origin = field_validator("recovery_password_from")(check_origin)
    _cluster = field_validator("throw_away_db_cluster_identifier")(identifier)


class RecoverInputs(Inputs):
    """`runbook recover`: how the key material is opened again, and when it shall expire. No notebook asks for this."""

    recovery_private_keys: list[str] = choice("Recovery private keys", "Paths, PEM.", [])
    recovery_password_from: str = choice("Their password", "prompt, env:NAME or file:PATH.", "")
    components: list[str] = choice("Components", "Paths of the components that the custodians opened.", [])
    material_file: str = choice("File", "Path of the 32 bytes.", "")
    encoding: Encoding = choice("Encoding", "Of the file and the components.", "binary")
    pkcs11_module: str = choice("PKCS 11 module", "Where it is another than 03 was given.", "")
    pin_from: str = choice("PIN", "prompt, env:NAME or file:PATH.", "")
    valid_to: str = choice("Expires at", "ISO 8601. Empty: as it was imported before.", "")
    does_not_expire: bool = choice("Does not expire", "Instead of a time.", False)
    encrypted: str = choice("What came back", "Path of hand-back.zip or EncryptedKeyMaterial.bin.", "")

    _origin = field_validator("recovery_password_from", "pin_from")(check_origin)

    @model_validator(mode="after")
    def _one_expiry(self) -> Self:
        if self.does_not_expire and self.valid_to:
            raise ValueError("--valid-to: is given together with --does-not-expire; give one of them")
        return self
