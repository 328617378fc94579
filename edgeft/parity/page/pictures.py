"""The page's pictures: what each type takes and costs, and where in the answers it costs it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeft.files import human_size
from edgeft.loss_curve import curves
from edgeft.pareto import TradeOff, marks, pareto_axes
from edgeft.parity.figures import MEAN_KLD, nats
from edgeft.parity.page.markup import Markup, element
from edgeft.parity.page.plot import NARROW, WIDTH, line, picture, text
from edgeft.parity.scored import ScoredRecord
from edgeft.plot import Axis, LinearAxis, LogAxis

_ROW, _FOOT = 44, 26
_LEFT, _RIGHT, _TOP, _HEIGHT = 44, 8, 10, 220
_HIGH = 280
_MOST_COLUMNS = 64
_MOST_POINTS = 400


@dataclass(frozen=True)
class Row:
    """One file in a picture of all: `label` and `words` above its mark, the value, an interval, and what is allowed."""

    label: str
    status: str
    words: str
    value: float
    low: float | None = None
    high: float | None = None
    limit: float | None = None


def bars(rows: Sequence[Row], title: str) -> Markup:
    """Returns a bar for each row, from zero."""
    most = max((row.value for row in rows), default=0.0) or 1.0
    parts: list[Markup] = []
    for number, row in enumerate(rows):
        y = _ROW * number
        parts += _label(row, y)
        width = max(row.value / most * NARROW, 1.0)
        parts.append(element("rect", x=0, y=y + 23, width=f"{width:.1f}", height=8, rx=2, class_="bar"))
    return picture(_ROW * len(rows), title, parts, NARROW)


def intervals(rows: Sequence[Row], title: str) -> Markup:
    """Returns for each row its mean and interval on one logarithmic scale, and a mark at what its type may cost."""
    around = [x for row in rows for x in (row.low, row.high, row.limit, row.value) if x is not None]
    axis = LogAxis(around, 8, NARROW - 8, most_decades=12)
    foot = _ROW * len(rows)
    parts = [line(8, y, NARROW - 8, y, "grid") for y in (_ROW * n + 27 for n in range(len(rows)))]
    for tick in axis.ticks:
        x = axis.place(tick)
        parts += [line(x, 22, x, foot, "grid"), text(x, foot + 16, axis.words(tick), "middle", "tick")]
    for number, row in enumerate(rows):
        y = _ROW * number
        parts += _label(row, y)
        if row.low is not None and row.high is not None:
            parts.append(line(axis.place(row.low), y + 27, axis.place(row.high), y + 27, f"interval {row.status}"))
        if math.isfinite(row.value):
            x = axis.place(row.value)
            parts.append(element("circle", cx=f"{x:.1f}", cy=y + 27, r=5, class_=f"dot {row.status}"))
        if row.limit is not None:
            x = axis.place(row.limit)
            parts.append(line(x, y + 20, x, y + 34, "limit"))
    return picture(foot + _FOOT, title, parts, NARROW)


def _label(row: Row, y: float) -> list[Markup]:
    return [text(0, y + 14, row.label, class_="label"), text(NARROW, y + 14, row.words, "end", "value")]


@dataclass(frozen=True)
class Column:
    """Divergences at one place: the line goes from their median to the largest, the dot is their mean."""

    values: Sequence[float]
    title: str
    link: str | None = None


def by_position(records: Sequence[ScoredRecord]) -> tuple[Markup, int]:
    """Returns the divergence at each place of the answers, and how many places are taken together in one column."""
    longest = max(len(record.kld) for record in records)
    wide = math.ceil(longest / _MOST_COLUMNS)
    columns = []
    for start in range(0, longest, wide):
        values = [kld for record in records for kld in record.kld[start : start + wide]]
        name = f"token {start + 1}" if wide == 1 else f"tokens {start + 1} to {min(start + wide, longest)}"
        columns.append(Column(values, f"{name}: mean {nats(float(np.mean(values)))}, {len(values)} positions"))
    return _spread(columns, "KLD by position in the answer", 1, longest, "token of the answer"), wide


def by_record(records: Sequence[ScoredRecord], links: Mapping[int, str]) -> Markup:
    """Returns the divergence of each record, the worst first; `links` lead to those that the page shows."""
    columns = [
        Column(
            record.kld,
            f"record {record.number}: mean {nats(record.mean_kld)}, largest {nats(max(record.kld))}",
            links.get(record.number),
        )
        for record in records[:_MOST_COLUMNS]
    ]
    return _spread(columns, "KLD by record", 1, len(columns), "records, the worst first")


def by_layer(layers: Sequence[Mapping[str, Any]]) -> Markup:
    """Returns for each layer the relative error of its worst operation as a dot, and a mark at its noise floor."""
    bottom = _HEIGHT - 40
    values = [float(one[key]) for one in layers for key in ("relative_error", "floor")]
    axis = LogAxis(values, bottom, _TOP)
    parts = _heights(axis)
    step = (WIDTH - _RIGHT - _LEFT) / len(layers)
    for number, one in enumerate(layers):
        x, error, floor = _LEFT + (number + 0.5) * step, float(one["relative_error"]), float(one["floor"])
        words = f"layer {one['layer']}, {one['name']}, {one['tensor']}: relative error {error:.2g}, floor {floor:.2g}"
        half = min(step, 10) / 2
        marks = [element("title", words), line(x - half, axis.place(floor), x + half, axis.place(floor), "limit")]
        y = axis.place(error) if math.isfinite(error) else _TOP
        state = "pass" if error <= floor else "fail"
        marks.append(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{min(4.0, half):.1f}", class_=f"dot {state}"))
        parts.append(element("g", *marks))
    ends = str(layers[0]["layer"]), str(layers[-1]["layer"])
    return picture(_HEIGHT, "hidden states by layer", [*parts, *_below(*ends, "layer")])


def sizes_and_divergences(files: Sequence[TradeOff]) -> Markup:
    """Returns each file as a dot, its divergence by its logarithm over its size."""
    bottom = _HIGH - 40
    across, up = pareto_axes(files, (_LEFT, WIDTH - _RIGHT), (bottom, _TOP))
    parts = [*_heights(up), *_widths(across, "size of the file, MB", bottom)]
    for mark in marks(files, across, up):
        one = mark.trade_off
        told = element("title", f"{one.label}: {human_size(one.size_bytes)}, {MEAN_KLD} {nats(one.kld)}")
        dot = element("circle", cx=f"{mark.x:.1f}", cy=f"{mark.y:.1f}", r=4.5, class_=f"file-dot {one.kind}")
        parts.append(element("g", told, dot, text(mark.label_x, mark.label_y, one.label, mark.anchor, "file-name")))
    return picture(_HIGH, "divergence of each file over its size", parts)


def _heights(axis: Axis) -> list[Markup]:
    """Returns the lines of an upright axis, and what they stand for."""
    parts: list[Markup] = []
    for tick in axis.ticks:
        y = axis.place(tick)
        parts += [line(_LEFT, y, WIDTH - _RIGHT, y, "grid"), text(_LEFT - 6, y + 4, axis.words(tick), "end", "tick")]
    return parts


def _widths(axis: Axis, words: str, bottom: float) -> list[Markup]:
    """Returns the numbers of an axis below a picture, at most six or so, and what they are."""
    ticks = axis.ticks[:: math.ceil(len(axis.ticks) / 6)]
    parts = [text(axis.place(tick), bottom + 18, axis.words(tick), "middle", "tick") for tick in ticks]
    return [*parts, text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 34, words, "middle", "tick")]


def _below(first: str, last: str, words: str) -> list[Markup]:
    """Returns what is written below the columns: the first one, the last one, and what they are."""
    bottom = _HEIGHT - 40
    ends = [text(_LEFT, bottom + 18, first, class_="tick"), text(WIDTH - _RIGHT, bottom + 18, last, "end", "tick")]
    return [*ends, text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 34, words, "middle", "tick")]


def _spread(columns: Sequence[Column], title: str, first: int, last: int, below: str) -> Markup:
    finite = [[value for value in column.values if math.isfinite(value)] for column in columns]
    bottom = _HEIGHT - 40
    means = [float(np.mean(values)) for values in finite if values]
    axis = LogAxis([*means, *(max(values) for values in finite if values)], bottom, _TOP, most_decades=8)
    parts = _heights(axis)
    step = (WIDTH - _RIGHT - _LEFT) / max(len(columns), 1)
    for number, (column, values) in enumerate(zip(columns, finite, strict=True)):
        if values:
            parts.append(_column(column, values, axis, _LEFT + (number + 0.5) * step, min(step, 8)))
    has_links = any(column.link for column in columns)
    return picture(_HEIGHT, title, [*parts, *_below(str(first), str(last), below)], has_links=has_links)


def _column(column: Column, values: Sequence[float], axis: LogAxis, x: float, width: float) -> Markup:
    mean, middle, largest = float(np.mean(values)), float(np.median(values)), max(values)
    marks = [
        element("title", column.title),
        line(x, axis.place(middle), x, axis.place(largest), "reach"),
        element("circle", cx=f"{x:.1f}", cy=f"{axis.place(mean):.1f}", r=f"{min(3.0, width / 2):.1f}", class_="mean"),
    ]
    if column.link is None:
        return element("g", *marks)
    return element("a", *marks, href=column.link)


def losses(metrics: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Returns the losses of the training over its steps; None where none are known."""
    drawn = {name: points for name, points in curves(metrics).items() if points}
    everything = [point for points in drawn.values() for point in points]
    if not everything:
        return None
    bottom = _HEIGHT - 40
    across = LinearAxis(0, max(step for step, _ in everything), _LEFT, WIDTH - _RIGHT)
    up = LinearAxis(min(0, *(loss for _, loss in everything)), max(loss for _, loss in everything), bottom, _TOP)
    parts = [*_heights(up), *_widths(across, "step", bottom)]
    for name, points in drawn.items():
        thinned = points[:: math.ceil(len(points) / _MOST_POINTS)]
        places = [(across.place(step), up.place(loss)) for step, loss in thinned]
        parts.append(
            element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_=f"curve {name}")
        )
        if name == "evaluation":
            parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_=f"point {name}") for x, y in places]
    return picture(_HEIGHT, "losses of the training", parts)
