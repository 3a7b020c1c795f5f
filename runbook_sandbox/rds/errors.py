"""RDS errors by error code, and paging and filters of responses.

moto derives the HTTP status from the code, with AWS's service model.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from moto.rds.exceptions import RDSClientError


def raise_error(code: str, message: str) -> NoReturn:
    """Raise an RDS error; boto3 shows `code` as Error.Code."""
    raise RDSClientError(code, message)


def bad_value(message: str) -> NoReturn:
    """Raise InvalidParameterValue."""
    raise_error("InvalidParameterValue", message)


def bad_combination(message: str) -> NoReturn:
    """Raise InvalidParameterCombination."""
    raise_error("InvalidParameterCombination", message)


def page(
    items: Sequence[Any], parameters: Mapping[str, Any], *, smallest: int = 20, largest: int = 100
) -> tuple[list[Any], str | None]:
    """Return one page of `items` by MaxRecords and Marker, and the marker of the next page.

    moto gap: most describe calls return everything at once, whatever MaxRecords says.
    """
    limit = parameters.get("MaxRecords") or 100
    if not smallest <= limit <= largest:
        bad_value(f"Invalid value {limit} for MaxRecords. Must be between {smallest} and {largest}")
    start = 0
    if (marker := parameters.get("Marker")) is not None:
        try:
            start = int(base64.urlsafe_b64decode(str(marker).encode()))
        except (ValueError, binascii.Error):
            start = -1
        if not 0 <= start <= len(items):
            bad_value(f"The request token {marker} is invalid.")
    following = start + limit
    if following >= len(items):
        return list(items[start:]), None
    return list(items[start:following]), base64.urlsafe_b64encode(str(following).encode()).decode()


def apply_filters(
    items: Sequence[Any],
    filters: Sequence[Mapping[str, Any]] | None,
    known: Mapping[str, Callable[[Any], Sequence[str]]],
) -> list[Any]:
    """Return the items that match every filter; `known` maps a filter's name to its values in an item.

    Raises InvalidParameterValue for a filter that the operation does not have.
    """
    kept = list(items)
    for asked in filters or ():
        name = str(asked.get("Name", ""))
        if name not in known:
            bad_value(f"Unrecognized filter name: {name}")
        wanted = {str(value).lower() for value in asked.get("Values") or ()}
        if not wanted:
            bad_combination("The parameter Filters must have values.")
        kept = [item for item in kept if wanted & {str(value).lower() for value in known[name](item)}]
    return kept
