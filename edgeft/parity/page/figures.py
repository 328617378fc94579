"""How figures are written, each with its exact value beside it for programs that read the page."""

from __future__ import annotations

import math

from edgeft.files import human_size
from edgeft.parity.formats import nats
from edgeft.parity.page.markup import Markup, element


def percent(share: float) -> str:
    """Returns a share in percent; what is not all of it never reads 100%, nor what is something 0%."""
    text = f"{share:.1%}"
    if text == "0.0%" and share > 0:
        return "<0.1%"
    return text if share == 1 or text != "100.0%" else f"{math.floor(share * 1e4) / 1e2:.2f}%"


def ratio(value: float) -> str:
    """Returns a ratio of perplexities."""
    return f"{value:.4f}" if math.isfinite(value) and value < 1e4 else nats(value)


def size(size_bytes: float) -> str:
    """Returns a size in decimal units."""
    return human_size(size_bytes)


def count(value: float) -> str:
    """Returns a whole number."""
    return f"{value:,.0f}"


def number(text: str, value: float, name: str | None = None) -> Markup:
    """Returns a figure as it is read, with its `name` in the JSON and the value itself."""
    return element("data", text, value=repr(float(value)), data_figure=name)
