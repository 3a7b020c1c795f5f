"""Key material inside an HSM, through PKCS#11: created, identified and wrapped there, never outside it in clear.

Needs the extra `hsm` (python-pkcs11) and the vendor's library. `secret_sources` reads the PIN. The key must be
extractable, so that it can be wrapped for KMS, and sensitive, so that the token never returns it in clear.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.errors import HsmIncapable, HsmUnavailable
from runbook_lib.material.key_material import LENGTH, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, WRAPPING_ALGORITHMS
from runbook_lib.material.request import HsmToken
from runbook_lib.material.secret_sources import read_pass_phrase

# Any 2048-bit modulus will do: only a throw-away key is wrapped with it, to test the token.
_PROBE = rsa.RSAPublicNumbers(65537, (1 << 2047) + (1 << 1024) + 1)


class HsmKey:
    """One AES-256 key in an open session with its token."""

    def __init__(
        self, session: Any, token: Any, key: Any, key_label: str, *, found: bool, algorithms: list[str]
    ) -> None:
        self._session, self._token, self._key = session, token, key
        self._label, self._found = key_label, found
        self.algorithms = algorithms

    def __repr__(self) -> str:
        return f"HsmKey({self._label!r} in token {self._token.label!r}, key check value {self.key_check_value})"

    @property
    def key_check_value(self) -> str:
        """The key check value, computed by the token (AES-CMAC over one zero block); "" if the token cannot."""
        import pkcs11

        try:
            return bytes(self._key.sign(bytes(16), mechanism=pkcs11.Mechanism.AES_CMAC))[:3].hex()
        except (pkcs11.PKCS11Error, AttributeError):
            return ""

    @property
    def facts(self) -> dict[str, Any]:
        """The facts about token and key for the custody record; no secret."""
        from pkcs11 import Attribute

        def flag(attribute: Any) -> bool:
            return bool(self._key[attribute])

        return {
            **token_facts(self._token),
            "key_label": self._label,
            "was_there_before": self._found,
            "made_in_token": flag(Attribute.LOCAL),
            "always_sensitive": flag(Attribute.ALWAYS_SENSITIVE),
            "oaep": self.algorithms,
        }

    def best_algorithm(self) -> str:
        """Return the strongest wrapping algorithm that the token supports. Raises `HsmIncapable`."""
        if not self.algorithms:
            raise HsmIncapable(
                f"token {self._token.label!r} supports no OAEP wrapping that KMS accepts; use another token"
            )
        return self.algorithms[0]

    def encrypt_to(self, public_key: rsa.RSAPublicKey, algorithm: str) -> bytes:
        """Wrap the key with an RSA public key inside the token; return the ciphertext. Raises `HsmIncapable`."""
        if algorithm not in self.algorithms:
            raise HsmIncapable(incapable(str(self._token.label), self.algorithms, algorithm))
        return _wrap(self._session, self._key, public_key.public_numbers(), algorithm)


def incapable(label: str, algorithms: list[str], algorithm: str) -> str:
    """Return the error message for a token that does not support `algorithm`, with what it supports instead."""
    can = " and ".join(algorithms) or "no algorithm that KMS accepts"
    way = f"set wrapping_algorithm: {algorithms[0]} and run 02 and 03 again" if algorithms else "use another token"
    return f"token {label!r} cannot wrap with {algorithm}, it supports {can}; {way}"


def token_facts(token: Any) -> dict[str, str]:
    """Return label, serial number and model of the token."""
    serial = token.serial
    return {
        "token_label": str(token.label),
        "token_serial": serial.decode() if isinstance(serial, bytes) else str(serial),
        "token_model": f"{token.manufacturer_id} {token.model}".strip(),
    }


def oaep_algorithms(session: Any) -> list[str]:
    """Return the wrapping algorithms that the token supports, best first; each is tried on a throw-away key."""
    import pkcs11
    from pkcs11 import Attribute, KeyType

    template = {Attribute.PRIVATE: False, Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
    throw_away = session.generate_key(KeyType.AES, LENGTH * 8, store=False, template=template)
    found = []
    for algorithm in WRAPPING_ALGORITHMS:
        try:
            _wrap(session, throw_away, _PROBE, algorithm)
        except (pkcs11.PKCS11Error, HsmIncapable):
            continue
        found.append(algorithm)
    throw_away.destroy()
    return found


def _wrap(session: Any, key: Any, numbers: rsa.RSAPublicNumbers, algorithm: str) -> bytes:
    from pkcs11 import MGF, Attribute, Mechanism, ObjectClass
    from pkcs11 import KeyType as Type

    hashed, mask = {
        RSAES_OAEP_SHA_256: (Mechanism.SHA256, MGF.SHA256),
        RSAES_OAEP_SHA_1: (Mechanism.SHA_1, MGF.SHA1),
    }[algorithm]
    public = session.create_object(
        {
            Attribute.CLASS: ObjectClass.PUBLIC_KEY,
            Attribute.KEY_TYPE: Type.RSA,
            Attribute.TOKEN: False,
            Attribute.WRAP: True,
            Attribute.MODULUS: numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"),
            Attribute.PUBLIC_EXPONENT: numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big"),
        }
    )
    try:
        wrapped = public.wrap_key(key, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=(hashed, mask, None))
    finally:
        public.destroy()
    if len(wrapped) * 8 != (numbers.n.bit_length() + 7) // 8 * 8:
        raise HsmIncapable(
            f"the token returned {len(wrapped)} bytes for {algorithm}, not the key's length; use another token"
        )
    return bytes(wrapped)


def find_token(token: HsmToken) -> Any:
    """Return the token with this label; no PIN is needed. Raises `HsmUnavailable`."""
    try:
        import pkcs11
    except ImportError:
        raise HsmUnavailable(
            "python-pkcs11 is not installed; pip install 'aurora-byok-runbook[hsm]', or choose another source"
        ) from None
    try:
        library = pkcs11.lib(str(Path(token.module).expanduser()))
    except pkcs11.PKCS11Error as error:
        if type(error) is not pkcs11.PKCS11Error:  # a return value of C_Initialize
            raise HsmUnavailable(
                f"pkcs11_module {token.module!r} loads but does not start ({_name(error)}): see its configuration (SoftHSM: the "
                "file that SOFTHSM2_CONF names, and its token folder)"
            ) from error
        raise HsmUnavailable(
            f"pkcs11_module {token.module!r} cannot be loaded as a PKCS#11 library ({error}); give the path of the vendor's .so"
        ) from error
    try:
        return library.get_token(token_label=token.token_label)
    except pkcs11.NoSuchToken:
        found = ", ".join(repr(str(token.label)) for token in library.get_tokens()) or "none"
        raise HsmUnavailable(
            f"token {token.token_label!r} does not exist; the module has: {found}; give one of these labels"
        ) from None
    except pkcs11.MultipleTokensReturned:
        raise HsmUnavailable(f"several tokens have the label {token.token_label!r}; give each its own label") from None


@contextmanager
def open_key(where: HsmToken, *, create: bool, algorithm: str = "") -> Iterator[HsmKey]:
    """Log in to the token and find the key by its label; with `create`, create the key if it does not exist.

    Nothing is created in a token that does not support `algorithm`, the wrapping algorithm.

    Raises `HsmUnavailable` (module, token, PIN or key), `HsmIncapable` and `PassPhraseMissing`.
    """
    token, label = find_token(where), where.key_label
    import pkcs11

    pin = read_pass_phrase(where.pin_from, what=f"PIN of token {where.token_label}")
    try:
        session = token.open(rw=create, user_pin=pin)
    except (pkcs11.PinIncorrect, pkcs11.PinLenRange, pkcs11.PinInvalid):
        raise HsmUnavailable(
            f"token {token.label!r} refuses the PIN; a token locks after a few wrong PINs, so check it before you try again"
        ) from None
    except pkcs11.PKCS11Error as error:
        raise HsmUnavailable(
            f"token {token.label!r} cannot be opened ({_name(error)}); ask its security officer"
        ) from None
    with session:
        keys = list(
            session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY, pkcs11.Attribute.LABEL: label})
        )
        if len(keys) > 1:
            raise HsmUnavailable(
                f"{len(keys)} keys in token {token.label!r} have the label {label!r}; change one label"
            )
        if not keys and not create:
            raise HsmUnavailable(
                f"token {token.label!r} has no key {label!r}; provide the token that created the key material"
            )
        algorithms = oaep_algorithms(session)
        if algorithm and algorithm not in algorithms:
            raise HsmIncapable(incapable(str(token.label), algorithms, algorithm))
        key = _checked(keys[0], label) if keys else _generate(session, token, label)
        yield HsmKey(session, token, key, label, found=bool(keys), algorithms=algorithms)


def _checked(key: Any, label: str) -> Any:
    """Return an existing key if it can be imported into KMS. Raises `HsmIncapable`."""
    from pkcs11 import Attribute, KeyType

    if key.key_type != KeyType.AES or key[Attribute.VALUE_LEN] != LENGTH:
        raise HsmIncapable(f"the key {label!r} is not a 256-bit AES key; give another key label")
    if not key[Attribute.EXTRACTABLE]:
        raise HsmIncapable(f"the key {label!r} is not extractable, so it cannot be wrapped; give another key label")
    return key


def _generate(session: Any, token: Any, label: str) -> Any:
    """Create the key in the token: persistent, sensitive, extractable, and for signing (AES-CMAC) only."""
    import pkcs11
    from pkcs11 import Attribute, KeyType, MechanismFlag

    try:
        return session.generate_key(
            KeyType.AES,
            LENGTH * 8,
            label=label,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            template={Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True},
        )
    except pkcs11.PKCS11Error as error:
        raise HsmIncapable(
            f"token {token.label!r} cannot create a 256-bit AES key ({_name(error)}); use another token"
        ) from None


def _name(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def capabilities(where: HsmToken) -> list[str] | None:
    """Return the wrapping algorithms that the token supports, best first; None if that needs a PIN.

    Raises `HsmUnavailable`.
    """
    token = find_token(where)
    import pkcs11

    try:
        with token.open(rw=False) as session:
            return oaep_algorithms(session)
    except pkcs11.PKCS11Error:
        return None
