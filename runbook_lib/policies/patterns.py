"""Names and patterns of policies: `*` and `?` in actions, resources and ARNs. Pure."""

from __future__ import annotations

import fnmatch
import functools
from typing import Any

# Characters for private use stand for wildcards that are none.
_LITERAL = str.maketrans("*?", "\ue02a\ue03f")
_ESCAPED = {0xE02A: "[*]", 0xE03F: "[?]"}


def listed(value: Any) -> list[Any]:
    """Return a list: a policy may write one value or several."""
    return list(value) if isinstance(value, list | tuple) else [value]


def literal(text: str) -> str:
    """Return a text as part of a pattern for `like` in which its wildcards stand for themselves."""
    return text.translate(_LITERAL)


def like(value: str, pattern: str) -> bool:
    """Return whether a value matches a pattern with `*` and `?`; brackets have no special meaning, as in IAM."""
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]").translate(_ESCAPED))


def names(action: str, patterns: Any) -> bool:
    """Return whether one of the patterns of an Action matches this action; case does not count there."""
    return any(like(action.lower(), str(pattern).lower()) for pattern in listed(patterns))


def arn_like(value: str, pattern: str) -> bool:
    """Return whether an ARN matches a pattern, each of its six components separately.

    Source: IAM user guide, reference_policies_elements_condition_operators (ARN condition operators).
    """
    if pattern == "*":
        return value.startswith("arn:")
    values, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(values) == len(patterns) == 6 and all(map(like, values, patterns))


@functools.cache
def overlap(pattern: str, name: str) -> bool:
    """Return whether a pattern matches a name that is known in part: its `*` stands for any text without a colon."""
    waiting, seen = [(0, 0)], {(0, 0)}
    while waiting:
        here = waiting.pop()
        if here == (len(pattern), len(name)):
            return True
        steps = [step for step in _steps(pattern, name, *here) if step not in seen]
        seen.update(steps)
        waiting += steps
    return False


def _steps(pattern: str, name: str, left: int, right: int) -> list[tuple[int, int]]:
    """Return the places in both texts that follow a pair of places."""
    first, second = pattern[left : left + 1], name[right : right + 1]
    steps = []
    if first == "*":
        steps += [(left + 1, right), *([(left, right + 1)] if second else [])]
    if second == "*":
        steps += [(left, right + 1), *([(left + 1, right)] if first not in ("", ":") else [])]
    if first and second and "*" not in (first, second) and first in (second, "?"):
        steps.append((left + 1, right + 1))
    return steps
