"""The request for a set of key material: source, files, HSM token and custody.

Plain values, so that this folder does not depend on `inputs`; the inputs of 03 create one with `request()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runbook_lib.material.key_material import Encoding

Source = Literal["generate", "file", "wrapped", "recovery", "pkcs11"]
Custody = Literal["recovery_key", "hsm", "file", "none", "split"]


@dataclass(frozen=True)
class HsmToken:
    """A key in a PKCS#11 token, and where to read the PIN (`prompt`, `env:NAME` or `file:PATH`)."""

    module: str
    token_label: str
    key_label: str = "aurora-byok"
    pin_from: str = "prompt"


@dataclass(frozen=True)
class MaterialRequest:
    """A request for a set of key material; paths and labels only, no secret.

    `file` is the path for the sources file, wrapped and recovery. `keep_plaintext_file` applies to custody `file`.
    """

    source: Source = "generate"
    custody: Custody = "recovery_key"
    file: str = ""
    encoding: Encoding = "binary"
    recovery_private_key: str = ""
    recovery_password_from: str = ""
    recovery_public_keys: tuple[str, ...] = ()
    keep_plaintext_file: bool = False
    token: HsmToken = HsmToken("", "")
