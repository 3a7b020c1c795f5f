"""RSA wrapping keys, one generated in advance: 4096 bits take up to a second to generate, while AWS answers at once."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import Future

from cryptography.hazmat.primitives.asymmetric import rsa

BITS = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}
_lock = threading.Lock()
_spares: dict[str, Future[rsa.RSAPrivateKey]] = {}
_keeping = False


def keep_spare(spec: str = "RSA_4096") -> None:
    """Generate a wrapping key in the background, and another each time that one is taken."""
    global _keeping
    _keeping = True
    with _lock:
        if spec not in _spares:
            spare: Future[rsa.RSAPrivateKey] = Future()
            _spares[spec] = spare
            threading.Thread(target=_make, args=(spec, spare), name="wrapping-key", daemon=True).start()


def take(spec: str) -> rsa.RSAPrivateKey:
    """Return an unused wrapping key: the spare if it is ready, else a new one."""
    with _lock:
        spare = _spares.pop(spec) if spec in _spares and _spares[spec].done() else None
    key = _generate(spec) if spare is None else spare.result()
    if _keeping:
        keep_spare(spec)
    return key


def _make(spec: str, spare: Future[rsa.RSAPrivateKey]) -> None:
    with contextlib.suppress(OSError, AttributeError):  # on Linux this sets the priority of the thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    try:
        spare.set_result(_generate(spec))
    except Exception as error:  # noqa: BLE001 - raised to the caller that waits
        spare.set_exception(error)


def _generate(spec: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=BITS[spec])
