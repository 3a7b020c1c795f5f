"""Shared by the tests of the sandbox's KMS: clients, and the import in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from runbook_lib.aws import sandbox_process
from runbook_sandbox.kms import wrapping_keys
from runbook_sandbox.server import server

REGION, OTHER_REGION = "eu-west-2", "eu-west-1"
ACCOUNT = "123456789012"
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/Admin"
UNKNOWN = "12345678-1234-1234-1234-123456789012"
SHA = {"RSAES_OAEP_SHA_256": hashes.SHA256, "RSAES_OAEP_SHA_1": hashes.SHA1}
WRAPPING = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
INVALID, DISABLED, UNSUPPORTED = "KMSInvalidStateException", "DisabledException", "UnsupportedOperationException"
INCORRECT, VALIDATION, NOT_FOUND = "IncorrectKeyMaterialException", "ValidationException", "NotFoundException"


class _Two:
    """Generate two RSA keys of each size and return them in turn; generating one takes 60 to 600 ms."""

    def __init__(self, generate: Callable[[str], rsa.RSAPrivateKey]) -> None:
        self.generate = generate
        self.made: dict[str, list[rsa.RSAPrivateKey]] = {}

    def __call__(self, spec: str) -> rsa.RSAPrivateKey:
        made = self.made.setdefault(spec, [])
        made.insert(0, made.pop() if len(made) == 2 else self.generate(spec))
        return made[0]


@contextmanager
def sandbox(*, seed: int | None = None) -> Iterator[str]:
    """Serve an empty sandbox that alternates between two wrapping keys of each size.

    All sandboxes of a test process share moto's state, clock and faults, so each one starts and ends empty.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wrapping_keys, "_generate", _Two(wrapping_keys._generate))
        with server.running(seed=seed) as url:
            reset(url)
            yield url
            reset(url)


def connect(endpoint: str, service: str = "kms", *, region: str = REGION, account: str = ACCOUNT, **config: Any) -> Any:
    """Return a boto3 client that sends any parameters unchecked, and without retries."""
    chosen = Config(**{"retries": {"max_attempts": 0}, "parameter_validation": False, **config})
    client = boto3.client(
        service, region_name=region, endpoint_url=endpoint, aws_access_key_id="fake",
        aws_secret_access_key="fake", config=chosen,  # noqa: S106
    )  # fmt: skip
    client.meta.events.register(
        "before-sign", lambda request, **_: request.headers.add_header("x-moto-account-id", account)
    )
    return client


def reset(endpoint: str) -> None:
    """Empty the sandbox."""
    sandbox_process.call(endpoint, "/moto-api/reset", method="POST", body={})


def advance(endpoint: str, **by: float) -> None:
    """Move the sandbox's clock."""
    seconds = timedelta(**by).total_seconds()
    sandbox_process.call(endpoint, "/runbook/clock", method="POST", body={"advance_seconds": seconds})


def now(endpoint: str) -> datetime:
    """Read the sandbox's clock."""
    return datetime.fromisoformat(sandbox_process.call(endpoint, "/runbook/clock")["now"])


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    """Return the error code that a call fails with; it must be a 4xx."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    answer = refused.value.response
    assert 400 <= answer["ResponseMetadata"]["HTTPStatusCode"] < 500, answer
    return str(answer["Error"]["Code"])


def wrap(public_key: bytes, material: bytes, algorithm: str = "RSAES_OAEP_SHA_256") -> bytes:
    """Encrypt material under a wrapping key."""
    chosen = SHA[algorithm]
    public: Any = serialization.load_der_public_key(public_key)
    return bytes(public.encrypt(material, padding.OAEP(padding.MGF1(chosen()), chosen(), None)))


def wrapping_set(kms: Any, key_id: str, algorithm: str = "RSAES_OAEP_SHA_256", spec: str = "RSA_2048") -> Any:
    """Fetch a wrapping key and its import token."""
    return kms.get_parameters_for_import(KeyId=key_id, WrappingAlgorithm=algorithm, WrappingKeySpec=spec)


def import_material(kms: Any, key_id: str, material: bytes, **more: Any) -> Any:
    """Import material that does not expire, unless `more` contains ValidTo."""
    pair = wrapping_set(kms, key_id)
    arguments = {} if "ValidTo" in more else FOREVER
    return kms.import_key_material(
        KeyId=key_id, ImportToken=pair["ImportToken"],
        EncryptedKeyMaterial=wrap(pair["PublicKey"], material), **{**arguments, **more},
    )  # fmt: skip


def external(kms: Any, material: bytes | None = None, **more: Any) -> Any:
    """Create a key with origin EXTERNAL and import `material` if given; return its metadata."""
    key = kms.create_key(Origin="EXTERNAL", **more)["KeyMetadata"]
    if material is not None:
        import_material(kms, key["KeyId"], material)
    return key


def described(kms: Any, key: Any) -> Any:
    """Return the key's current metadata."""
    return kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]


def materials(kms: Any, key: Any) -> Any:
    """Return all of the key's materials."""
    answer = kms.list_key_rotations(KeyId=key["KeyId"], IncludeKeyMaterial="ALL_KEY_MATERIAL")
    return answer["Rotations"]


def rotate(kms: Any, key_id: str) -> dict[str, Any]:
    """Rotate on demand and wait until it is done: AWS and the sandbox rotate in the background."""
    answer: dict[str, Any] = kms.rotate_key_on_demand(KeyId=key_id)
    for _ in range(30):
        if "OnDemandRotationStartDate" not in kms.get_key_rotation_status(KeyId=key_id):
            return answer
    raise AssertionError("the rotation does not end")
