"""Key material split into components that are all needed, as key ceremonies do, and put together again. No files, no state.

Each component is 32 bytes; their XOR is the material. Fewer than all tell nothing: all but the last are random.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib.custody import PREFIX, CustodyCopy, key_fingerprint
from runbook_lib.errors import ComponentsIncomplete
from runbook_lib.key_material import LENGTH, RSAES_OAEP_SHA_256, KeyMaterial, oaep

FEWEST, MOST = 2, 9


def split(material: KeyMaterial, number: int) -> list[KeyMaterial]:
    """Split material into `number` components, all of which are needed. Raises `ComponentsIncomplete`."""
    if not FEWEST <= number <= MOST:
        raise ComponentsIncomplete(f"{number} components are not {FEWEST} to {MOST}; give as many custodians' keys")
    last = bytearray(bytes(material))
    made = []
    for _ in range(number - 1):
        random = os.urandom(LENGTH)
        made.append(KeyMaterial(random))
        for place, byte in enumerate(random):
            last[place] ^= byte
    return [*made, KeyMaterial(last)]


def combine(components: Sequence[KeyMaterial]) -> KeyMaterial:
    """Put components together again, in any order; that they are all there only the key check value tells.

    Raises `ComponentsIncomplete` for fewer than two, or for one that was brought twice.
    """
    if len(components) < FEWEST:
        raise ComponentsIncomplete(f"{len(components)} component is not all of them; bring every custodian's")
    if any(one == other for place, one in enumerate(components) for other in components[:place]):
        raise ComponentsIncomplete("a component was brought twice; bring every custodian's once")
    whole = bytearray(LENGTH)
    for component in components:
        for place, byte in enumerate(bytes(component)):
            whole[place] ^= byte
    return KeyMaterial(whole)


def seal_components(material: KeyMaterial, keys: Sequence[rsa.RSAPublicKey]) -> list[CustodyCopy]:
    """Split the material and encrypt one component to each custodian's recovery public key."""
    sealed = []
    for number, (key, component) in enumerate(zip(keys, split(material, len(keys)), strict=True), 1):
        with component:
            content = key.encrypt(bytes(component), oaep(RSAES_OAEP_SHA_256))
            name = key_fingerprint(key)
            file = f"{PREFIX}component-{number}-of-{len(keys)}-{name[:8]}.bin"
            sealed.append(CustodyCopy(file, name, content, component_check_value=component.key_check_value))
    return sealed
