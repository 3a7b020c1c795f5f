"""HMAC and signing keys: moto's own operations, with checked inputs.

moto gap: answers mix up ids and ARNs, and a symmetric key has a public key.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from moto.kms.exceptions import ValidationException
from moto.kms.responses import KmsResponse

from runbook_sandbox.kms.base import KmsBase, error


class AsymmetricOperations(KmsBase):
    """GenerateMac, VerifyMac, Sign, Verify, GetPublicKey."""

    def _needs(self, usage: str) -> None:
        if self.key.key_usage != usage:
            raise error(
                "InvalidKeyUsageException",
                f"{self.key.arn} key usage is {self.key.key_usage} which is not valid for {self.operation}.",
            )

    def _mac(self) -> str:
        self._needs("GENERATE_VERIFY_MAC")
        algorithm = self.parameters["MacAlgorithm"]
        if algorithm != self.key.key_spec.replace("HMAC_", "HMAC_SHA_"):
            raise error(
                "InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {self.key.key_spec}."
            )
        mac, _, _ = self.kms_backend.generate_mac(self.parameters["Message"], self.key.id, algorithm, [], False)
        return mac

    def generate_mac(self) -> str:
        mac = self._mac()
        self.used(self.key)
        return json.dumps({"Mac": mac, "MacAlgorithm": self.parameters["MacAlgorithm"], "KeyId": self.key.arn})

    def verify_mac(self) -> str:
        if base64.b64decode(self._mac()) != self.parameters["Mac"]:
            raise error("KMSInvalidMacException", "The MAC does not match.")
        self.used(self.key)
        answer: dict[str, Any] = {"KeyId": self.key.arn, "MacValid": True}
        return json.dumps({**answer, "MacAlgorithm": self.parameters["MacAlgorithm"]})

    def sign(self) -> str:
        return self._sign_or_verify()

    def verify(self) -> str:
        answer = self._sign_or_verify()
        if not json.loads(answer)["SignatureValid"]:
            raise error("KMSInvalidSignatureException", "The signature is not valid.")
        return answer

    def _sign_or_verify(self) -> str:
        self._needs("SIGN_VERIFY")
        if self.parameters["SigningAlgorithm"] not in self.key.signing_algorithms:
            raise error("InvalidKeyUsageException", "The signing algorithm is incompatible with the key.")
        if self.parameters.get("MessageType", "RAW") != "RAW":
            raise error("UnsupportedOperationException", "The sandbox supports MessageType RAW only.")
        operation = KmsResponse.sign if self.operation == "Sign" else KmsResponse.verify
        self.parameters["KeyId"] = self.key.id
        try:
            answer = operation(self)
        except ValidationException as refused:
            raise error("ValidationException", refused.message) from None
        self.used(self.key)
        return answer

    def get_public_key(self) -> str:
        if self.key.key_spec == "SYMMETRIC_DEFAULT" or self.key.key_usage == "GENERATE_VERIFY_MAC":
            raise error("UnsupportedOperationException", f"{self.key.arn} is not an asymmetric key.")
        self.parameters["KeyId"] = self.key.id
        shown = json.loads(KmsResponse.get_public_key(self)) | {"KeyId": self.key.arn, "KeySpec": self.key.key_spec}
        return json.dumps({name: value for name, value in shown.items() if value is not None})
