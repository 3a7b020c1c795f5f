"""Check a KMS request against AWS's service model in botocore, before anything else.

moto gap: it checks few types, enumerations, patterns and lengths, so malformed requests crash (a 500) or are
accepted. Here a wrong type is a SerializationException, a violated constraint a ValidationException, as on AWS.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import botocore.session
from moto.core.exceptions import JsonRESTError


@functools.cache
def model() -> Any:
    """Return botocore's model of KMS."""
    return botocore.session.get_session().get_service_model("kms")


@functools.cache
def operations() -> frozenset[str]:
    """Return the names of all KMS operations in botocore's model."""
    return frozenset(model().operation_names)


def _serialization(message: str) -> JsonRESTError:
    return JsonRESTError("SerializationException", message)


def _violation(value: Any, path: str, rule: str) -> JsonRESTError:
    shown = f" '{value}'" if isinstance(value, (str, int, float)) and len(str(value)) <= 128 else ""
    where = ".".join(name[:1].lower() + name[1:] for name in path.split("."))
    return JsonRESTError(
        "ValidationException",
        f"1 validation error detected: Value{shown} at '{where}' failed to satisfy constraint: {rule}",
    )


def parse(operation: str, body: str) -> dict[str, Any]:
    """Return the request's parameters: blobs as bytes, timestamps as datetimes, without nulls.

    Raises JsonRESTError: SerializationException or ValidationException.
    """
    try:
        given = json.loads(body or "{}")
    except ValueError:
        raise _serialization("The request is not JSON.") from None
    if not isinstance(given, dict):
        raise _serialization("The request is not a JSON object.")
    shape = model().operation_model(operation).input_shape
    checked: dict[str, Any] = _structure(shape, given, "") if shape is not None else {}
    return checked


def _structure(shape: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _serialization(f"{path or 'The request'} must be an object")
    prefix = path + "." if path else ""
    for name in shape.required_members:
        if value.get(name) is None:
            raise _violation(None, prefix + name, "Member must not be null")
    return {
        name: _check(member, value[name], prefix + name)
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _check(shape: Any, value: Any, path: str) -> Any:
    return _CHECKS[shape.type_name](shape, value, path)


def _within(shape: Any, size: int | float, value: Any, path: str, what: str) -> None:
    smallest, largest = shape.metadata.get("min"), shape.metadata.get("max")
    if smallest is not None and size < smallest:
        raise _violation(value, path, f"Member must have {what} greater than or equal to {smallest}")
    if largest is not None and size > largest:
        raise _violation(value, path, f"Member must have {what} less than or equal to {largest}")


def _string(shape: Any, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _serialization(f"{path} must be a string")
    if (allowed := shape.metadata.get("enum")) is not None and value not in allowed:
        raise _violation(value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
    _within(shape, len(value), value, path, "length")
    pattern = shape.metadata.get("pattern")
    if pattern is not None and re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value) is None:
        raise _violation(value, path, f"Member must satisfy regular expression pattern: {pattern}")
    return value


def _blob(shape: Any, value: Any, path: str) -> bytes:
    if not isinstance(value, str):
        raise _serialization(f"{path} must be a base64 string")
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _serialization(f"{path} is not base64") from None
    _within(shape, len(decoded), None, path, "length")
    return decoded


def _integer(shape: Any, value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise _serialization(f"{path} must be a number")
    _within(shape, value, value, path, "value")
    return int(value)


def _boolean(shape: Any, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _serialization(f"{path} must be true or false")
    return value


def _timestamp(shape: Any, value: Any, path: str) -> datetime:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if isinstance(value, bool) or not math.isfinite(value):
            raise ValueError
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise _serialization(f"{path} must be a timestamp") from None


def _list(shape: Any, value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise _serialization(f"{path} must be a list")
    _within(shape, len(value), None, path, "length")
    return [_check(shape.member, item, f"{path}.{n}.member") for n, item in enumerate(value, 1)]


def _map(shape: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _serialization(f"{path} must be a map")
    return {_string(shape.key, key, path): _check(shape.value, item, path) for key, item in value.items()}


_CHECKS: dict[str, Any] = {
    "structure": _structure, "string": _string, "blob": _blob, "integer": _integer, "long": _integer,
    "boolean": _boolean, "timestamp": _timestamp, "list": _list, "map": _map,
}  # fmt: skip
