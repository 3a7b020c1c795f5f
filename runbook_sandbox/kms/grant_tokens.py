"""Grant tokens: one per grant, verifiable without a store.

moto gap: it accepts anything as a grant token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from typing import Any

_key = os.urandom(32)


def of_grant(grant: Any) -> str:
    """Return a grant's token."""
    named = str(grant.id).encode()
    return base64.b64encode(named + hmac.digest(_key, named, hashlib.sha256)).decode()


def is_genuine(token: str) -> bool:
    """Return whether this sandbox issued the token; its grant may no longer exist, as on AWS."""
    try:
        raw = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(raw[-32:], hmac.digest(_key, raw[:-32], hashlib.sha256))
