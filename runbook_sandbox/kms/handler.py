"""Combines the KMS operations and installs them in moto."""

from __future__ import annotations

from typing import Any

import moto.kms.urls
from moto.kms import models
from moto.kms.responses import KmsResponse
from moto.kms.utils import RESERVED_ALIASES

from runbook_sandbox.kms import keys
from runbook_sandbox.kms.aliases import AliasOperations
from runbook_sandbox.kms.asymmetric import AsymmetricOperations
from runbook_sandbox.kms.cryptographic_operations import CryptographicOperations
from runbook_sandbox.kms.grants import GrantOperations
from runbook_sandbox.kms.import_material import ImportOperations
from runbook_sandbox.kms.lifecycle import LifecycleOperations
from runbook_sandbox.kms.rotation import RotationOperations


class WithoutImport(
    CryptographicOperations, LifecycleOperations, RotationOperations, GrantOperations, AliasOperations,
    AsymmetricOperations,
):  # fmt: skip
    """Everything except the import operations; used when moto has its own."""


class WithImport(WithoutImport, ImportOperations):
    """With the import operations, for a moto that lacks them."""


_moto_private_key = models.generate_private_key  # type: ignore[attr-defined]


def _private_key(key_spec: str) -> Any:
    """moto gap: it generates an unused RSA pair (70 ms) for each symmetric and HMAC key."""
    return None if key_spec.startswith(("SYMMETRIC", "HMAC")) else _moto_private_key(key_spec)


def _default_key(backend: Any, alias_name: str) -> str | None:
    """moto gap: it creates keys of AWS services as customer managed keys."""
    if alias_name not in RESERVED_ALIASES:
        return None
    service = alias_name.removeprefix("alias/aws/")
    return str(keys.default_service_key(backend.account_id, backend.region_name, service).id)


def install() -> None:
    """Install the handler in moto; the import operations are left out if moto has its own."""
    handler = WithoutImport if hasattr(KmsResponse, "import_key_material") else WithImport
    moto.kms.urls.url_paths = {"{0}/$": handler.dispatch}
    models.generate_private_key = _private_key  # type: ignore[attr-defined]
    models.KmsBackend._generate_default_keys = _default_key  # type: ignore[method-assign,assignment]
