"""Requests and errors in the two wire formats of AWS: JSON 1.1 ("json") and query with XML ("xml")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape


def format_of(response: Any) -> str:
    """Return the wire format of the request that a moto handler is answering."""
    return "json" if response.headers.get("X-Amz-Target") else "xml"


def raw_parameters(response: Any) -> dict[str, Any]:
    """Return a request's parameters before moto has parsed them: as JSON has them, or flat as a query has them."""
    if format_of(response) == "json":
        try:
            parsed = json.loads(response.body or "{}")
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}
    return {name: value[0] for name, value in response.querystring.items() if isinstance(value, list) and value}


def error_answer(
    wire_format: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body of an error in the service's own wire format."""
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
