"""Answers that AWS was seen to give, to the letter: the sandbox is to say the same.

Recorded against AWS by the validated tests of LocalStack (github.com/localstack/localstack, tests/aws/services/kms/
test_kms.snapshot.json); the date is that of the recording. {arn} is the key of the request, {elsewhere} the same key in
another Region, {new} and {pending} are the ids of key materials. Everything else the sandbox says in words of its own.
"""

from __future__ import annotations

from typing import NamedTuple


class Recorded(NamedTuple):
    """One refused request: how it comes about, the error code and message, and the day on which AWS gave them."""

    situation: str
    code: str
    message: str
    on: str


INVALID, VALIDATION, UNSUPPORTED = "KMSInvalidStateException", "ValidationException", "UnsupportedOperationException"

ERRORS = [
    Recorded("encrypt before the import", INVALID, "{arn} is pending import.", "2024-01-24"),
    Recorded("encrypt after the deletion", INVALID, "{arn} is pending import.", "2024-01-24"),
    Recorded("rotate before the import", INVALID, "{arn} is pending import.", "2025-11-05"),
    Recorded(
        "import without ValidTo", VALIDATION,
        "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES", "2025-11-10",
    ),
    Recorded(
        "import while one is pending", INVALID,
        "New key material (id: {new}) cannot be imported into KMS key {arn}, because another key material (id: {pending}) is "
        "pending rotation.", "2025-11-10",
    ),
    Recorded(
        "rotate with nothing pending", INVALID, "No available key material pending rotation for the key: {arn}.", "2025-11-19"
    ),
    Recorded(
        "rotate too often", "LimitExceededException",
        "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for "
        "this key: {arn}", "2025-04-03",
    ),
    Recorded("rotate a disabled key", "DisabledException", "{arn} is disabled.", "2025-03-08"),
    Recorded(
        "parameters for import of a key of KMS", UNSUPPORTED,
        "{arn} origin is AWS_KMS which is not valid for this operation.", "2025-11-10",
    ),
    Recorded("replicate a replica", UNSUPPORTED, "{elsewhere} is not a multi-region primary key.", "2025-09-08"),
    Recorded("describe a key by its id in another Region", "NotFoundException", "Key '{elsewhere}' does not exist", "2023-07-13"),
    Recorded("describe a key by its ARN in another Region", "NotFoundException", "Invalid arn eu-west-2", "2023-07-13"),
    Recorded("describe what is no key id", "NotFoundException", "Invalid keyId 'fake-key-id'", "2023-11-07"),
    Recorded(
        "alias without prefix", VALIDATION,
        'Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/'
        "kms-alias.html", "2023-04-13",
    ),
    Recorded("decrypt without the encryption context", "InvalidCiphertextException", "", "2023-05-11"),
    Recorded(
        "decrypt with a key that signs", "IncorrectKeyException",
        "The key ID in the request does not identify a CMK that can perform this operation.", "2023-04-13",
    ),
    Recorded(
        "encrypt with a key that signs", "InvalidKeyUsageException",
        "{arn} key usage is SIGN_VERIFY which is not valid for Encrypt.", "2023-04-13",
    ),
    Recorded(
        "encrypt too much", VALIDATION,
        "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or "
        "equal to 4096", "2023-04-13",
    ),
    Recorded("random bytes of no number", VALIDATION, "NumberOfBytes is required.", "2023-04-13"),
    Recorded(
        "too many random bytes", VALIDATION,
        "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less "
        "than or equal to 1024", "2023-04-13",
    ),
    Recorded(
        "HMAC key without usage", VALIDATION,
        "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.", "2023-04-13",
    ),
]  # fmt: skip
