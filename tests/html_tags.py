"""The tags of a page: what a value must never add to."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any


class Tags(HTMLParser):
    """Counts the tags of a page and keeps its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if (tag, attrs) != ("wbr", []):  # where a long name may be broken, which depends on the name
            self.tags.append(f"{tag} {sorted(name for name, _ in attrs)}")
