"""Looking for a secret in every file below a folder, in every form in which it might stand there, archives included."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

WINDOW = 12  # bytes of the secret that must not be anywhere: no chance hits, and no half of a secret slips through


def _base64(part: bytes) -> Iterator[bytes]:
    """Yield the part of a base64 text that these bytes are sure of, whatever stands before and after them."""
    for before, unsure in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(part)) // 3 * 4
        yield base64.b64encode(bytes(before) + part)[unsure:whole]


def forms(secret: bytes) -> dict[str, list[bytes]]:
    """Return how parts of `secret` look in each form."""
    last = max(len(secret) - WINDOW, 0)
    parts = [secret[place : place + WINDOW] for place in sorted({*range(0, last, WINDOW - 2), last})]
    found: dict[str, list[bytes]] = {}
    for part in parts:
        text = part.decode("latin-1")
        for name, looks in {
            "raw": [part],
            "hex": [part.hex().encode()],
            "hex apart": [part.hex(apart).encode() for apart in (" ", ":", "-")],
            "escaped": ["".join(f"\\x{byte:02x}" for byte in part).encode(), repr(part)[2:-1].encode()],
            "base64": list(_base64(part)),
            "base64 for URLs": [look.translate(bytes.maketrans(b"+/", b"-_")) for look in _base64(part)],
            "URL": [quote_from_bytes(part, safe="").encode(), "".join(f"%{byte:02x}" for byte in part).encode()],
            "numbers": [", ".join(map(str, part)).encode(), ",".join(map(str, part)).encode()],
            "UTF-8": [text.encode()],
            "JSON": [json.dumps(text)[1:-1].encode()],
            "HTML": [html.escape(text).encode()],
        }.items():
            found.setdefault(name, []).extend(looks)
    return found


def _contents(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file's content, and what is packed in it."""
    yield name, content
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for inner in archive.namelist():
                yield from _contents(f"{name}!{inner}", archive.read(inner))
    if content.startswith(b"\x1f\x8b"):
        yield from _contents(f"{name}!gz", gzip.decompress(content))


def in_content(content: bytes, secrets: Iterable[bytes]) -> set[str]:
    """Return the forms in which any of the secrets stands in `content`."""
    # Once as it is, once in small letters without breaks (real, or written as \n), for what is wrapped or indented.
    tight = re.sub(rb"\s|\\r|\\n", b"", content)
    exact, loose = (content, tight), (content.lower(), tight.lower())
    return {
        name
        for secret in secrets
        for name, looks in forms(secret).items()
        for look in looks
        if any(look in one for one in exact)
        or (name in ("hex", "hex apart", "URL") and any(look.lower() in one for one in loose))
    }


def search(folder: Path, secrets: Iterable[bytes], *, given: Iterable[Path] = ()) -> dict[str, set[str]]:
    """Return each file below `folder` that holds a secret, with the forms; `given` are the folders it came from."""
    wanted, left_out = list(secrets), [path.resolve() for path in given]
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or any(path.is_relative_to(one) for one in left_out):
            continue
        for name, content in _contents(str(path.relative_to(folder)), path.read_bytes()):
            if hits := in_content(content, wanted):
                found[name] = hits
    return found
