"""Texts from files, bundles and AWS answers, made fit to show: no control characters, no text that hides or reverses.

A terminal obeys escape sequences, and a line feed or a bidirectional control in a name can put words of its own between
ours. Knows nothing else.
"""

from __future__ import annotations

import unicodedata

_SPACES = "Zs"


def visible(text: str, *, keep: str = "") -> str:
    """Return a text in one line, with every character that cannot be seen written as its escape, such as `\\x1b`.

    Line feeds and tabs become spaces, unless they are in `keep`.
    """
    if text.isprintable():
        return text
    return "".join(_shown(one, keep) for one in text)


def _shown(one: str, keep: str) -> str:
    if one in keep or one.isprintable() or unicodedata.category(one) == _SPACES:
        return one
    return " " if one in "\n\t" else repr(one)[1:-1]


def visible_lines(text: str) -> str:
    """Return a text with its line feeds and tabs, and nothing else that cannot be seen."""
    return "\n".join(visible(line, keep="\t") for line in text.split("\n"))
