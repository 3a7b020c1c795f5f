"""Tables and texts with a plain and an HTML representation; templates and colours for notebook outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from runbook_lib.texts import visible, visible_lines

if TYPE_CHECKING:
    import pandas

_LONGEST_NAME = 38  # names such as rds:DescribeDBClusterParameterGroups are never broken
_LONG_ARN = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:\d{12}:([\w+=,.@:/-]{20,})")
_PIECES = re.compile(
    r"[^:/,=._-]{1,16}[:/,=._-]*|[:/,=._-]+"
)  # an ARN breaks at its separators, hexadecimal digits anywhere
# Words carry the meaning, colours only repeat it. Contrast: at least 4 to 1 on white and on JupyterLab's dark grey.
_COLOUR = {
    "create": "#238a43",
    "keep": "#727a83",
    "change": "#a06b00",
    "delete": "#dc3e46",
    "refuse": "#dc3e46",
    "passed": "#238a43",
    "FAILED": "#dc3e46",
}


def as_text(value: object) -> str:
    """Return a text as it is but for control characters, and any other value as JSON."""
    return visible_lines(value) if isinstance(value, str) else json.dumps(value, default=str)


def _finished(value: object) -> object:
    """Return what a template prints: texts, and markup of them, without control characters."""
    return type(value)(visible_lines(value)) if isinstance(value, str) else value


def _wrapping(text: str) -> str:
    """Return the CSS for line breaks in a cell: between words; a longer text is not squeezed into a narrow column."""
    return "overflow-wrap:normal;min-width:11em" if len(text) > _LONGEST_NAME else "overflow-wrap:normal"


def _breakable(text: str) -> Markup:
    """Return `text` as HTML in which each word that is longer than a name may be broken, also in an untrusted page."""
    parts: list[str] = []
    for word in re.split(r"(\s+)", text):
        pieces = _PIECES.findall(word) if len(word) > _LONGEST_NAME else [word]
        parts.append(Markup("<wbr>").join(escape(piece) for piece in pieces))
    return Markup("").join(parts)


def _css_string(text: str) -> Markup:
    """Return `text` for a string in a style sheet: each character that is not a letter, digit, '-' or ' ' is escaped."""
    return Markup(re.sub(r"[^A-Za-z0-9 -]", lambda found: f"\\{ord(found[0]):06x}", visible(text)))  # noqa: S704 - escaped


def _short_arns(text: str) -> Markup:
    """Return `text` as HTML with each long ARN shortened to its resource; the whole ARN is in a title."""
    parts, end = [Markup("")], 0
    for arn in _LONG_ARN.finditer(text):
        short = f"arn:…:{arn[1]}"
        parts += [escape(text[end : arn.start()]), Markup('<span title="{}">{}</span>').format(arn[0], short)]
        end = arn.end()
    return Markup("").join([*parts, escape(text[end:])])


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("runbook_lib", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finished,
    )
    environment.globals["colour"] = _COLOUR
    environment.globals["wbr"] = Markup(":<wbr>")  # the name of an IAM action may break after its service prefix
    environment.filters["wrapping"] = _wrapping
    environment.filters["breakable"] = _breakable
    environment.filters["short_arns"] = _short_arns
    environment.filters["css_string"] = _css_string
    environment.filters["as_text"] = as_text
    return environment


TEMPLATES = _environment()


def load_templates() -> None:
    """Compile all templates now; otherwise each is compiled on first use."""
    for name in TEMPLATES.list_templates():
        TEMPLATES.get_template(name)


class Table:
    """Rows under column headings, with a caption; `rows` holds the values themselves, as tuples."""

    def __init__(self, caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self.caption = caption
        self.columns = tuple(columns)
        self.rows = [tuple(row) for row in rows]

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame with the headings as columns and the values of `rows`, dtype object."""
        import pandas

        return pandas.DataFrame(self.rows, columns=list(self.columns), dtype=object)

    def __repr__(self) -> str:
        cells = [[visible(as_text(value)) for value in row] for row in self.rows]
        width = [max(len(row[i]) for row in [list(self.columns), *cells]) for i in range(len(self.columns))]
        lines = ["  ".join(value.ljust(n) for value, n in zip(row, width, strict=True)).rstrip() for row in cells]
        heading = "  ".join(value.ljust(n) for value, n in zip(self.columns, width, strict=True)).rstrip()
        return "\n".join([visible(self.caption), heading, *lines])

    def _repr_html_(self) -> str:
        rows = [[as_text(value) for value in row] for row in self.rows]
        return TEMPLATES.get_template("table.html").render(caption=self.caption, columns=self.columns, rows=rows)


class Result(str):
    """A value for the caller that a page shows as a sentence, with the value in bold; `sentence` has one `{}` for it."""

    _sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        result = super().__new__(cls, value)
        result._sentence = sentence
        return result

    def __repr__(self) -> str:
        return self._sentence.format(visible_lines(self))

    def _repr_html_(self) -> str:
        before, after = self._sentence.split("{}")
        return TEMPLATES.get_template("result.html").render(before=before, value=str(self), after=after)


class Text:
    """Plain text, such as a policy or commands, shown with its line breaks and escaped in HTML."""

    def __init__(self, caption: str, text: str) -> None:
        self.caption = caption
        self.text = text

    def __repr__(self) -> str:
        return f"{self.caption}\n{visible_lines(self.text)}"

    def _repr_html_(self) -> str:
        return TEMPLATES.get_template("text.html").render(caption=self.caption, text=self.text)
