"""What the page's pictures have in common: SVG without a fixed colour."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.parity.page.markup import Content, Markup, element

WIDTH = 420
NARROW = 320
"""For three pictures beside one another."""


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
