"""Inputs of the recovery of key material from its backup: 80 and `runbook recover`."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import field_validator, model_validator

from runbook_lib.inputs.aws_rules import rule
from runbook_lib.inputs.base import Inputs, choice
from runbook_lib.material.key_material import Encoding
from runbook_lib.material.secret_sources import check_origin


class RecoveryDrillInputs(Inputs):
    """80_recovery_drill: how a key material backup is opened, and which cluster may become inaccessible."""

    typed_each_time: ClassVar[frozenset[str]] = frozenset({"throw_away_db_cluster_identifier"})
    secret_sources: ClassVar[frozenset[str]] = frozenset({"recovery_password_from"})

    recovery_private_keys: list[str] = choice(
        "Recovery private keys",
        "Paths of PEM files: one for a backup, all for components. Empty, in the sandbox: the training keys.",
        [],
    )
    recovery_password_from: str = choice(
        "Password of the private keys",
        "Where to read it: prompt (typed by you), env:NAME (environment variable) or file:PATH. "
        "Empty: the keys have no password.",
        "",
    )
    original_file: str = choice("Key material in a file", "Path of the 32 bytes, if the run has no backup.", "")
    throw_away_db_cluster_identifier: str = choice(
        "Throw-away cluster",
        "With target aws: type this run's DB cluster identifier to let it become inaccessible. Empty: read only.",
        "",
    )
    wait_timeout_minutes: int = choice(
        "Maximum wait", "Minutes for the cluster and its instances to become available.", 60, ge=1, le=600
    )

    _origin = field_validator("recovery_password_from")(check_origin)
    _cluster = field_validator("throw_away_db_cluster_identifier")(rule("db_cluster_identifier", optional=True))


class RecoverInputs(Inputs):
    """`runbook recover`: how the key material is opened, and when it expires. No notebook has these inputs."""

    recovery_private_keys: list[str] = choice("Recovery private keys", "Paths of PEM files.", [])
    recovery_password_from: str = choice("Their password", "Where to read it: prompt, env:NAME or file:PATH.", "")
    components: list[str] = choice("Components", "Paths of the components that the custodians decrypted.", [])
    material_file: str = choice("File", "Path of the 32 bytes.", "")
    encoding: Encoding = choice("Encoding", "Of the file and the components: binary, hex or base64.", "binary")
    pkcs11_module: str = choice("PKCS 11 module", "Path of the HSM vendor's library, if not the one of step 03.", "")
    pin_from: str = choice("PIN", "Where to read it: prompt, env:NAME or file:PATH.", "")
    valid_to: str = choice("Expires at", "ISO 8601 with UTC offset. Empty: as in the import before.", "")
    does_not_expire: bool = choice("Does not expire", "In place of a time.", False)
    material: str = choice(
        "Key material",
        "Key check value or KeyMaterialId, if the key has several. Empty: every one that is missing.",
        "",
    )
    encrypted: str = choice("Hand-back", "Path of hand-back.zip or EncryptedKeyMaterial.bin.", "")

    _origin = field_validator("recovery_password_from", "pin_from")(check_origin)

    @model_validator(mode="after")
    def _one_expiry(self) -> Self:
        if self.does_not_expire and self.valid_to:
            raise ValueError("--valid-to: is not possible together with --does-not-expire; give one of them")
        return self
