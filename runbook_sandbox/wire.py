"""Requests and errors in the wire formats of AWS: JSON 1.1 ("json"), query with XML ("xml") and RPC v2 with CBOR ("cbor")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape


def format_of(response: Any) -> str:
    """Return the wire format of the request that a moto handler is answering."""
    if response.headers.get("Smithy-Protocol") == "rpc-v2-cbor":
        return "cbor"
    return "json" if response.headers.get("X-Amz-Target") else "xml"


def raw_parameters(response: Any) -> dict[str, Any]:
    """Return a request's parameters before moto has parsed them: as JSON has them, or flat as a query has them."""
    if format_of(response) == "cbor":
        return dict(response.params)  # of the services in this format, moto parses every request by the service's model
    if format_of(response) == "json":
        try:
            parsed = json.loads(response.body or "{}")
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}
    return {name: value[0] for name, value in response.querystring.items() if isinstance(value, list) and value}


def error_answer(
    wire_format: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body of an error in the service's own wire format."""
    if wire_format == "cbor":
        own = {"Content-Type": "application/cbor", "Smithy-Protocol": "rpc-v2-cbor", "status": str(status)}
        return status, {**(headers or {}), **own}, _cbor({"__type": code, "message": message})
    if wire_format == "json":
        body = json.dumps({"__type": code, "message": message})
        return status, {**(headers or {}), "Content-Type": "application/x-amz-json-1.1",
                        "X-Amzn-ErrorType": code, "status": str(status)}, body  # fmt: skip
    fault = "Sender" if status < 500 else "Receiver"
    body = (
        f"<ErrorResponse><Error><Type>{fault}</Type><Code>{escape(code)}</Code>"
        f"<Message>{escape(message)}</Message></Error><RequestId>sandbox</RequestId></ErrorResponse>"
    )
    return status, {**(headers or {}), "Content-Type": "text/xml", "status": str(status)}, body


def _cbor(texts: Mapping[str, str]) -> bytes:
    """Return a CBOR map of texts (RFC 8949, major types 5 and 3); fewer than 24 entries."""
    encoded = bytes([0xA0 + len(texts)])
    for text in (text for pair in texts.items() for text in pair):
        encoded += b"\x79" + len(text.encode()).to_bytes(2) + text.encode()
    return encoded
