"""What the page's pictures have in common: SVG without a fixed colour, and a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgeft.parity.page.markup import Content, Markup, element

WIDTH = 420
NARROW = 320
"""For three pictures beside one another."""
_LEAST = 1e-300


def picture(
    height: float, title: str, parts: Sequence[Content], width: int = WIDTH, *, has_links: bool = False
) -> Markup:
    """Returns an SVG as wide as its place; what it shows is told to those who cannot see it."""
    return element(
        "svg", *parts, viewBox=f"0 0 {width} {height:g}", role="group" if has_links else "img", aria_label=title
    )


def panel(heading: str, drawn: Markup, note: Content = None) -> Markup:
    """Returns a picture with its heading and, below, what is to be seen."""
    caption = element("figcaption", element("strong", heading), " ", note)
    return element("figure", caption, drawn)


def text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """Returns a line of text."""
    where = None if anchor == "start" else anchor
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=where, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Returns a straight line."""
    return element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


class LogAxis:
    """Places on a logarithmic scale that begins and ends at powers of ten; what is below it lies at its beginning."""

    def __init__(self, values: Sequence[float], start: float, end: float, most_decades: int = 9) -> None:
        found = [math.log10(value) for value in values if _LEAST < value < math.inf]
        top = math.ceil(max(found, default=0.0) + 1e-9)
        # The noise of exact positions reaches down for ever, and is nothing that anyone looks at.
        bottom = max(math.floor(min(found, default=-1.0)), top - most_decades)
        self._low, self._high = bottom, max(top, bottom + 1)
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        """Returns where a value is."""
        power = math.log10(value) if value > _LEAST else self._low
        share = (min(max(power, self._low), self._high) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self, most: int = 6) -> Iterator[tuple[str, float]]:
        """Yields powers of ten, as they are written, and their places."""
        step = math.ceil((self._high - self._low) / (most - 1))
        for power in range(self._low, self._high + 1, step):
            yield (f"{10.0**power:g}" if -4 < power < 4 else f"1e{power}"), self.place(10.0**power)
