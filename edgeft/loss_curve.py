"""A training's losses as a picture: an SVG file, and a line of text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 44
_COLOURS = {"training": "#2b6cb0", "evaluation": "#c05621"}

Points = Sequence[tuple[float, float]]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl that are whole; a kill may have cut the last one."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Returns at most `width` bars, each the mean of its part of the values; "" when there are none."""
    finite = [value for value in values if math.isfinite(value)]
    count = min(width, len(finite))
    parts = [finite[i * len(finite) // count : (i + 1) * len(finite) // count] for i in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Returns the (step, loss) points of training and evaluation from the lines of metrics.jsonl."""
    keys = {"training": "loss", "evaluation": "eval_loss"}
    return {
        name: [(line["step"], line[key]) for line in metrics if math.isfinite(line.get(key, math.nan))]
        for name, key in keys.items()
    }


def loss_curve_svg(metrics: Sequence[Mapping[str, Any]], title: str) -> str:
    """Returns an SVG picture of training and evaluation loss over steps; the lines of metrics.jsonl go in."""
    drawn = {name: points for name, points in curves(metrics).items() if points}
    everything = [point for points in drawn.values() for point in points]
    lowest = min((loss for _, loss in everything), default=0.0)
    x_axis = Axis(0, max((step for step, _ in everything), default=1), _LEFT, _WIDTH - _RIGHT)
    y_axis = Axis(
        0 if lowest >= 0 else lowest, max((loss for _, loss in everything), default=1), _HEIGHT - _BOTTOM, _TOP
    )
    body = [*_grid(x_axis, y_axis), *_legend(drawn)]
    for name, points in drawn.items():
        places = " ".join(f"{x_axis.place(step):.1f},{y_axis.place(loss):.1f}" for step, loss in points)
        body.append(f'<polyline points="{places}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2"/>')
        if name == "evaluation" or len(points) == 1:
            body += [
                f'<circle cx="{x_axis.place(step):.1f}" cy="{y_axis.place(loss):.1f}" r="3" fill="{_COLOURS[name]}"/>'
                for step, loss in points
            ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="#333">'
    )
    heading = f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', heading, *body, "</svg>"]) + "\n"


class Axis:
    """Numbers to places, with round numbers to write beside it."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        step = _round_step((high - low) or 1.0)
        first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
        self.ticks = [number * step for number in range(first, last + 1)]
        self._low, self._high = self.ticks[0], self.ticks[-1]
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        """Returns where a value is."""
        return self._start + (value - self._low) / (self._high - self._low) * (self._end - self._start)


def _round_step(span: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides the span into four to ten."""
    power = 10.0 ** math.floor(math.log10(span))
    return next(factor * power for factor in (0.1, 0.2, 0.5, 1.0) if span / (factor * power) <= 10)


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    lines = []
    for value in y_axis.ticks:
        y = y_axis.place(value)
        lines.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x_axis.ticks:
        x = x_axis.place(value)
        lines.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:,g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">step</text>')
    return lines


def _legend(names: Mapping[str, Points]) -> list[str]:
    lines = []
    for number, name in enumerate(names):
        x = _WIDTH - _RIGHT - 100 * (len(names) - number)
        lines.append(f'<line x1="{x}" x2="{x + 20}" y1="18" y2="18" stroke="{_COLOURS[name]}" stroke-width="2"/>')
        lines.append(f'<text x="{x + 26}" y="22">{name}</text>')
    return lines
