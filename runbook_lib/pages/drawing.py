"""A small canvas for pictures that are safe everywhere: PNG, crisp on good screens, on a light card for dark themes.

It draws boxes, arrows and text with Pillow and the typeface in Pillow, so that no font needs to be installed.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from runbook_lib.texts import visible_lines

INK, SOFT, LINE, CARD, PANEL = "#1f2328", "#57606a", "#8c959f", "#ffffff", "#f6f8fa"
GREEN, BLUE, PURPLE, AMBER, RED = "#1a7f37", "#0969da", "#8250df", "#9a6700", "#cf222e"
_SCALE = 2
_WHITE = [255, 255, 255, 255]


@dataclass(frozen=True)
class Picture:
    """A PNG with its alternative text, for screen readers and logs; `width` in CSS pixels."""

    png: bytes
    width: int
    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"image/png": base64.b64encode(self.png).decode("ascii"), "text/plain": self.text}
        return data, {"image/png": {"width": self.width, "alt": self.text}}

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


class Canvas:
    """A card to draw on; all lengths are CSS pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self._image = Image.new("RGBA", (width * _SCALE, height * _SCALE), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._image)
        self.box(0, 0, width - 1, height - 1, fill=CARD, edge="#d0d7de", radius=10)

    def picture(self, text: str) -> Picture:
        """Return the drawing as a picture with the alternative text `text`."""
        file = io.BytesIO()
        small = self._image.quantize(128)
        palette = small.getpalette("RGBA") or []
        # Quantizing turns some white to nearly white, which shows on a white page: set it to white.
        colours = [palette[i : i + 4] for i in range(0, len(palette), 4)]
        small.putpalette([part for colour in colours for part in (_WHITE if min(colour) > 248 else colour)], "RGBA")
        small.save(file, "PNG")  # zlib's own level: a tenth larger than its best, seven times as fast
        return Picture(file.getvalue(), self.width, visible_lines(text))

    def box(
        self, x: float, y: float, w: float, h: float, *, fill: str = PANEL, edge: str = "#d0d7de", thick: float = 1,
        radius: float = 7,
    ) -> None:  # fmt: skip
        """Draw a box with round corners."""
        corners = [x * _SCALE, y * _SCALE, (x + w) * _SCALE, (y + h) * _SCALE]
        self._draw.rounded_rectangle(corners, radius * _SCALE, fill, edge, round(thick * _SCALE))

    def text(
        self, x: float, y: float, words: str, *, size: float = 13, colour: str = INK, bold: bool = False, anchor: str = "ls"
    ) -> None:  # fmt: skip
        """Write one line; (x, y) is its left end on the base line, or its middle with anchor `ms`."""
        self._draw.text(
            (x * _SCALE, y * _SCALE), words, colour, _font(size), anchor=anchor,
            stroke_width=0.5 if bold else 0, stroke_fill=colour,
        )  # fmt: skip

    def line(self, *points: tuple[float, float], colour: str = SOFT, thick: float = 1.6) -> None:
        """Draw a line through points."""
        self._draw.line(
            [(x * _SCALE, y * _SCALE) for x, y in points], colour, round(thick * _SCALE), joint="curve"
        )  # fmt: skip

    def arrow(self, *points: tuple[float, float], colour: str = SOFT) -> None:
        """Draw a line with a head at its last point."""
        (x0, y0), (x1, y1) = points[-2:]
        turn = math.atan2(y1 - y0, x1 - x0)
        back = (x1 - 7 * math.cos(turn), y1 - 7 * math.sin(turn))
        self.line(*points[:-1], back, colour=colour)
        side = [(x1 - 9 * math.cos(turn + way), y1 - 9 * math.sin(turn + way)) for way in (0.45, -0.45)]
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in [(x1, y1), *side]], colour)

    def tick(self, x: float, y: float, *, colour: str = GREEN) -> None:
        """Draw a tick whose corner is at (x, y)."""
        self.line((x - 4, y - 4), (x, y), (x + 7, y - 9), colour=colour, thick=2)


@cache
def _font(size: float) -> Any:
    return ImageFont.load_default(size * _SCALE)
