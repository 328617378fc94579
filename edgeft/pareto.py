"""What files cost in size and in divergence, as a picture: fixed recipes, files within budgets, the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from edgeft.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, LinearAxis, LogAxis, grid, legend, svg

_COLOURS = {"fixed": "#c05621", "fitted": "#2b6cb0", "predicted": "#90cdf4"}
_LEAST_KLD = 1e-9


@dataclass(frozen=True)
class TradeOff:
    """A file: `fixed` by a recipe of llama.cpp's, `fitted` to a budget, or only `predicted`; KLD in nats a token."""

    label: str
    size_bytes: int
    kld: float
    kind: Literal["fixed", "fitted", "predicted"]


def pareto_svg(trade_offs: Sequence[TradeOff], title: str) -> str:
    """Returns an SVG picture of divergence, by its logarithm, over size; what is predicted is a line."""
    if not trade_offs:
        return svg(title, [])
    klds = [max(one.kld, _LEAST_KLD) for one in trade_offs]
    megabytes = [one.size_bytes / 1e6 for one in trade_offs]
    x_axis = LinearAxis(min(megabytes), max(megabytes), LEFT, WIDTH - RIGHT)
    y_axis = LogAxis(min(klds), max(klds), HEIGHT - BOTTOM, TOP)
    kinds = [kind for kind in _COLOURS if any(one.kind == kind for one in trade_offs)]
    body = [*grid(x_axis, y_axis, "size, MB; mean KLD upwards"), *legend({kind: _COLOURS[kind] for kind in kinds})]
    places = [
        (x_axis.place(size), y_axis.place(kld), one) for size, kld, one in zip(megabytes, klds, trade_offs, strict=True)
    ]
    curve = sorted((x, y) for x, y, one in places if one.kind == "predicted")
    if curve:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in curve)
        body.append(f'<polyline points="{points}" fill="none" stroke="{_COLOURS["predicted"]}" stroke-width="2"/>')
    for x, y, one in places:
        if one.kind != "predicted":
            body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_COLOURS[one.kind]}"/>')
            anchor, shift = ("end", -7) if x > WIDTH - RIGHT - 80 else ("start", 7)
            # Above and below, as a fitted file often lies near the fixed one that it is to beat.
            lower = y - 5 if one.kind == "fixed" else y + 14
            body.append(f'<text x="{x + shift:.1f}" y="{lower:.1f}" text-anchor="{anchor}">{escape(one.label)}</text>')
    return svg(title, body)
