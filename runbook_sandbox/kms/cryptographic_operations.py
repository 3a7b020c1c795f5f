"""Encrypt, Decrypt, ReEncrypt, data keys, random bytes, and when a key was last used.

moto gap: it ignores key states, returns AccessDenied for a wrong KeyId instead of IncorrectKey, lacks data key pairs,
and omits the algorithm and the key material id.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from moto.kms.models import Key

from runbook_sandbox.kms import ciphertexts, keys
from runbook_sandbox.kms.base import KmsBase, check_state, error
from runbook_sandbox.kms.rotation import rotate_when_due

_CURVES: dict[str, Any] = {"ECC_NIST_P256": ec.SECP256R1, "ECC_NIST_P384": ec.SECP384R1, "ECC_NIST_P521": ec.SECP521R1,
           "ECC_SECG_P256K1": ec.SECP256K1}  # fmt: skip
_RSA: dict[str, Any] = {"RSAES_OAEP_SHA_256": SHA256, "RSAES_OAEP_SHA_1": SHA1}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _private(key: Key) -> Any:
    """Return the private key object inside moto's wrapper of it."""
    wrapper: Any = key.private_key
    return wrapper.private_key


def _invalid_ciphertext() -> Exception:
    return error("InvalidCiphertextException", "")  # AWS says no more


def _incorrect_key() -> Exception:
    return error(
        "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."
    )


class CryptographicOperations(KmsBase):
    """The cryptographic operations of ENCRYPT_DECRYPT keys, GenerateRandom and GetKeyLastUsage."""

    def key_of_ciphertext(self) -> str | None:
        """Return the key that a ciphertext names; a key named in the request must be the same."""
        re_encrypt = self.operation == "ReEncrypt"
        named = self.parameters.get("SourceKeyId" if re_encrypt else "KeyId")
        blob = self.parameters.get("CiphertextBlob")
        algorithm = self.parameters.get(("Source" if re_encrypt else "") + "EncryptionAlgorithm")
        if blob is None:
            raise error("ValidationException", "CiphertextBlob must not be null.")
        if algorithm in _RSA:
            if named is None:
                raise error("ValidationException", f"KeyId is required to decrypt with {algorithm}.")
            return str(named)
        wanted = self.find(named, alias=True) if named is not None else None
        if wanted is not None and wanted.key_usage != "ENCRYPT_DECRYPT":
            raise _incorrect_key()
        try:
            inside = ciphertexts.key_id_of(blob)
        except ciphertexts.Unreadable:
            raise _invalid_ciphertext() from None
        if wanted is not None and wanted.id == inside:
            return str(wanted.arn)
        if keys.KEY_ID.fullmatch(inside) is None:
            raise _invalid_ciphertext()
        if wanted is not None:
            raise _incorrect_key()
        if keys.resolve(self.current_account, self.region, inside) is None:
            raise error(
                "AccessDeniedException",
                "The ciphertext refers to a customer master key that does not exist, does not exist in this "
                "region, or you are not allowed to access.",
            )
        return inside

    def _encrypt(self, key: Key, plaintext: bytes, context: dict[str, str]) -> tuple[bytes, str]:
        self._for_encryption(key)
        rotate_when_due(key)
        blob, material = ciphertexts.encrypt(key, plaintext, context)
        self.used(key)
        return blob, material.id

    def _decrypt(self, key: Key, blob: bytes, context: dict[str, str]) -> tuple[bytes, str]:
        self._for_encryption(key)
        try:
            plaintext, material = ciphertexts.decrypt(key, blob, context)
        except ciphertexts.Unreadable:
            raise _invalid_ciphertext() from None
        self.used(key)
        return plaintext, material.id

    def _for_encryption(self, key: Key) -> None:
        if key.key_usage != "ENCRYPT_DECRYPT":
            raise error(
                "InvalidKeyUsageException",
                f"{key.arn} key usage is {key.key_usage} which is not valid for {self.operation}.",
            )

    def _algorithm(self, key: Key, name: str = "EncryptionAlgorithm") -> str:
        """Return the requested algorithm. Raises InvalidKeyUsageException unless the key supports it."""
        self._for_encryption(key)
        wanted = str(self.parameters.get(name, "SYMMETRIC_DEFAULT"))
        if wanted not in (key.encryption_algorithms or []):
            raise error("InvalidKeyUsageException", f"Algorithm {wanted} is incompatible with key spec {key.key_spec}.")
        return wanted

    def encrypt(self) -> str:
        plaintext, context = self.parameters["Plaintext"], self.parameters.get("EncryptionContext", {})
        algorithm = self._algorithm(self.key)
        if algorithm != "SYMMETRIC_DEFAULT":
            return self._encrypt_rsa(plaintext, algorithm)
        blob, _ = self._encrypt(self.key, plaintext, context)
        return json.dumps({"CiphertextBlob": _b64(blob), "KeyId": self.key.arn, "EncryptionAlgorithm": algorithm})

    def _encrypt_rsa(self, plaintext: bytes, algorithm: str) -> str:
        """moto gap: it encrypts under RSA keys with AES."""
        public: Any = serialization.load_der_public_key(self.key.private_key.public_key())
        chosen = _RSA[algorithm]
        oaep = padding.OAEP(mgf=padding.MGF1(chosen()), algorithm=chosen(), label=None)
        try:
            blob = public.encrypt(plaintext, oaep)
        except ValueError:
            most = int(self.key.key_spec[4:]) // 8 - 2 * chosen.digest_size - 2
            raise error(
                "ValidationException",
                f"Algorithm {algorithm} and key spec {self.key.key_spec} cannot encrypt data larger than {most} bytes.",
            ) from None
        self.used(self.key)
        return json.dumps({"CiphertextBlob": _b64(blob), "KeyId": self.key.arn, "EncryptionAlgorithm": algorithm})

    def decrypt(self) -> str:
        blob, context = self.parameters["CiphertextBlob"], self.parameters.get("EncryptionContext", {})
        algorithm = self._algorithm(self.key)
        answer: dict[str, Any] = {"KeyId": self.key.arn, "EncryptionAlgorithm": algorithm}
        if algorithm != "SYMMETRIC_DEFAULT":
            chosen = _RSA[algorithm]
            oaep = padding.OAEP(mgf=padding.MGF1(chosen()), algorithm=chosen(), label=None)
            try:
                plaintext = _private(self.key).decrypt(blob, oaep)
            except ValueError:
                raise _invalid_ciphertext() from None
            self.used(self.key)
        else:
            plaintext, answer["KeyMaterialId"] = self._decrypt(self.key, blob, context)
        return json.dumps({"Plaintext": _b64(plaintext), **answer})

    def re_encrypt(self) -> str:
        given = self.parameters
        source, destination = self.key, self.find(given["DestinationKeyId"], alias=True)
        self._algorithm(source, "SourceEncryptionAlgorithm")
        self._algorithm(destination, "DestinationEncryptionAlgorithm")
        for key in (source, destination):
            if not keys.is_symmetric(key):
                raise error(
                    "UnsupportedOperationException",
                    "The sandbox supports ReEncrypt only for symmetric encryption keys.",
                )
        check_state("ReEncrypt", destination)
        self.authorize("ReEncryptTo", destination)
        plaintext, source_id = self._decrypt(source, given["CiphertextBlob"], given.get("SourceEncryptionContext", {}))
        blob, destination_id = self._encrypt(destination, plaintext, given.get("DestinationEncryptionContext", {}))
        return json.dumps(
            {
                "CiphertextBlob": _b64(blob),
                "SourceKeyId": source.arn,
                "KeyId": destination.arn,
                "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                "SourceKeyMaterialId": source_id,
                "DestinationKeyMaterialId": destination_id,
            }
        )

    def _for_data_keys(self) -> None:
        if not keys.is_symmetric(self.key):
            raise error("InvalidKeyUsageException", f"{self.key.arn} is not a symmetric encryption key.")

    def generate_data_key(self) -> str:
        self._for_data_keys()
        given = self.parameters
        if ("KeySpec" in given) == ("NumberOfBytes" in given):
            raise error("ValidationException", "Please specify either number of bytes or key spec.")
        length = given.get("NumberOfBytes") or {"AES_128": 16, "AES_256": 32}[given["KeySpec"]]
        plaintext = os.urandom(length)
        blob, material = self._encrypt(self.key, plaintext, given.get("EncryptionContext", {}))
        return json.dumps(
            {
                "CiphertextBlob": _b64(blob),
                "Plaintext": _b64(plaintext),
                "KeyId": self.key.arn,
                "KeyMaterialId": material,
            }
        )

    def generate_data_key_without_plaintext(self) -> str:
        answer = json.loads(self.generate_data_key())
        del answer["Plaintext"]
        return json.dumps(answer)

    def generate_data_key_pair(self) -> str:
        self._for_data_keys()
        spec = self.parameters["KeyPairSpec"]
        private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        if spec.startswith("RSA_"):
            private = rsa.generate_private_key(public_exponent=65537, key_size=int(spec[4:]))
        elif spec in _CURVES:
            private = ec.generate_private_key(_CURVES[spec]())
        else:
            raise error("UnsupportedOperationException", f"The sandbox does not support {spec} data key pairs.")
        secret = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        blob, material = self._encrypt(self.key, secret, self.parameters.get("EncryptionContext", {}))
        return json.dumps(
            {
                "PrivateKeyCiphertextBlob": _b64(blob),
                "PrivateKeyPlaintext": _b64(secret),
                "PublicKey": _b64(public),
                "KeyId": self.key.arn,
                "KeyPairSpec": spec,
                "KeyMaterialId": material,
            }
        )

    def generate_data_key_pair_without_plaintext(self) -> str:
        answer = json.loads(self.generate_data_key_pair())
        del answer["PrivateKeyPlaintext"]
        return json.dumps(answer)

    def generate_random(self) -> str:
        length = self.parameters.get("NumberOfBytes")
        if length is None:
            raise error("ValidationException", "NumberOfBytes is required.")
        return json.dumps({"Plaintext": _b64(os.urandom(length))})

    def get_key_last_usage(self) -> str:
        """moto gap: it lacks this operation."""
        used = self.extension.last_usage
        answer: dict[str, Any] = {
            "KeyId": self.key.id,
            "KeyLastUsage": {},
            "KeyCreationDate": self.key.creation_date,
            "TrackingStartDate": self.key.creation_date,
        }
        if used is not None:
            answer["KeyLastUsage"] = {
                "Operation": used[0], "Timestamp": used[1].timestamp(), "CloudTrailEventId": used[2]
            }  # fmt: skip
        return json.dumps(answer)
