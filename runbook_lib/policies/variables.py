"""Policy variables, such as `${aws:username}`: replace them by the values of a request. Pure.

Source: IAM user guide, reference_policies_variables (Version 2012-10-17; default values; `${*}`, `${?}`, `${$}`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runbook_lib.policies.patterns import literal

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def has_variable(text: str) -> bool:
    """Return whether a value of a policy depends on the request."""
    return bool(_VARIABLE.search(text))


def any_value(text: str) -> str:
    """Return a value of a policy with `*` for each variable: a pattern of what it can become."""
    return _VARIABLE.sub("*", text)


def filled(text: str, context: Mapping[str, Any], *, pattern: bool) -> str | None:
    """Return a value of a policy with its variables replaced; None if the request lacks one without a default.

    `context` has lower-case keys. With `pattern`, wildcards in what is put in stand for themselves. A key with several
    values cannot be used as a variable.
    """
    parts: list[str] = []
    end = 0
    for match in _VARIABLE.finditer(text):
        value = _value(match[1], context)
        if value is None:
            return None
        parts += [text[end : match.start()], literal(value) if pattern else value]
        end = match.end()
    return "".join([*parts, text[end:]])


def _value(name: str, context: Mapping[str, Any]) -> str | None:
    if name in ("*", "?", "$"):
        return name
    key, comma, default = name.partition(",")
    found = context.get(key.strip().lower())
    if found is not None and not isinstance(found, list | tuple):
        return str(found).lower() if isinstance(found, bool) else str(found)
    return default.strip().strip("'") if comma else None
