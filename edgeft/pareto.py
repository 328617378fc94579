"""What files cost in size and in divergence, as a picture: fixed recipes, files within budgets, the curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from edgeft.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, LinearAxis, LogAxis, grid, legend, svg

_COLOURS = {"fixed": "#c05621", "fitted": "#2b6cb0", "predicted": "#90cdf4"}
_LEAST_KLD = 1e-9

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TradeOff:
    """A file: `fixed` by a recipe of llama.cpp's, `fitted` to a budget, or only `predicted`; KLD in nats a token."""

    label: str
    size_bytes: int
    kld: float
    kind: Literal["fixed", "fitted", "predicted"]


@dataclass(frozen=True)
class Mark:
    """Where a file is drawn, and where its label stands: `anchor` is "start", "middle" or "end"."""

    trade_off: TradeOff
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str


def pareto_axes(
    trade_offs: Sequence[TradeOff], across: tuple[float, float], up: tuple[float, float]
) -> tuple[LinearAxis, LogAxis]:
    """Returns the axes of sizes in MB and of divergences, each between two places in pixels."""
    megabytes = [one.size_bytes / 1e6 for one in trade_offs]
    klds = [max(one.kld, _LEAST_KLD) for one in trade_offs]
    return LinearAxis(min(megabytes), max(megabytes), *across), LogAxis(klds, *up, most_ticks=7)


def marks(trade_offs: Sequence[TradeOff], x_axis: LinearAxis, y_axis: LogAxis, letter: float = 7.0) -> list[Mark]:
    """Returns the dots of files with their labels, `letter` pixels a character, where they hide the least."""
    places = [_place(one, x_axis, y_axis) for one in trade_offs]
    dots = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    ends = [x_axis.place(tick) for tick in x_axis.ticks]
    beside = [(-math.inf, -math.inf, min(ends), math.inf), (max(ends) + 8, -math.inf, math.inf, math.inf)]
    labels: list[Box] = []
    found = []
    for number, one in enumerate(trade_offs):
        taken = [*dots[:number], *dots[number + 1 :], *labels, *beside]
        offered = _labels(one, *places[number], letter * len(one.label))
        mark, box = min(offered, key=lambda label: sum(_overlap(label[1], other) for other in taken))
        labels.append(box)
        found.append(mark)
    return found


def _place(one: TradeOff, x_axis: LinearAxis, y_axis: LogAxis) -> tuple[float, float]:
    return x_axis.place(one.size_bytes / 1e6), y_axis.place(max(one.kld, _LEAST_KLD))


def _labels(one: TradeOff, x: float, y: float, width: float) -> Iterator[tuple[Mark, Box]]:
    """Yields the places around a dot: above first for a fixed file, below for one fitted to beat it."""
    corners = [("start", 4, -6), ("start", 8, 4), ("start", 4, 16)]
    corners += [("end", -4, -6), ("end", -8, 4), ("end", -4, 16), ("middle", 0, -9), ("middle", 0, 18)]
    if one.kind == "fitted":
        corners.sort(key=lambda corner: (corner[0] != "start", -corner[2]))
    for anchor, right, down in corners:
        left = x + right - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        box = (left, y + down - 10, left + width, y + down + 3)
        yield Mark(one, x, y, x + right, y + down, anchor), box


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def pareto_svg(trade_offs: Sequence[TradeOff], title: str) -> str:
    """Returns an SVG picture of divergence, by its logarithm, over size; what is predicted is a line."""
    if not trade_offs:
        return svg(title, [])
    axes = pareto_axes(trade_offs, (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP))
    kinds = [kind for kind in _COLOURS if any(one.kind == kind for one in trade_offs)]
    body = [*grid(*axes, "size, MB; mean KLD upwards"), *legend({kind: _COLOURS[kind] for kind in kinds})]
    curve = sorted(_place(one, *axes) for one in trade_offs if one.kind == "predicted")
    if curve:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in curve)
        body.append(f'<polyline points="{points}" fill="none" stroke="{_COLOURS["predicted"]}" stroke-width="2"/>')
    for mark in marks([one for one in trade_offs if one.kind != "predicted"], *axes):
        one, place = mark.trade_off, f'x="{mark.label_x:.1f}" y="{mark.label_y:.1f}"'
        body.append(f'<circle cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="4" fill="{_COLOURS[one.kind]}"/>')
        body.append(f'<text {place} text-anchor="{mark.anchor}">{escape(one.label)}</text>')
    return svg(title, body)
