"""HTML built from elements: text is escaped because nothing else can be put in."""

from __future__ import annotations

import re
from html import escape
from typing import Final

_UNSEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_EMPTY: Final = frozenset(("br", "circle", "line", "meta", "path", "polyline", "rect"))


class Markup(str):
    """Text that is HTML already. Only `element` and the page's own style and script make it from nothing."""

    __slots__ = ()


Content = str | float | None


def element(tag: str, /, *children: Content, **attributes: Content) -> Markup:
    """Returns an element; all that is no Markup is escaped, None is left out.

    `class_` is the attribute class, `stroke_width` is stroke-width. What comes out is XML, too.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(visible(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _EMPTY:
        return Markup(f"<{tag}{said}/>")
    return Markup(f"<{tag}{said}>{joined(*children)}</{tag}>")


def joined(*children: Content) -> Markup:
    """Returns children one behind another, escaped as in `element`."""
    shown = (child for child in children if child is not None)
    return Markup("".join(one if isinstance(one, Markup) else escape(visible(str(one))) for one in shown))


def number(text: str, value: float, name: str | None = None) -> Markup:
    """Returns a figure as it is read, with its `name` in the JSON and its exact value for programs."""
    return element("data", text, value=repr(float(value)), data_figure=name)


def visible(text: str) -> str:
    """Returns a text with its control characters as pictures of them, and what is no character as a replacement."""
    return _UNSEEN.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 0x20 else "\ufffd", text)
