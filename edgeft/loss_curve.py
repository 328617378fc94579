"""A training's losses as a picture: an SVG file, and a line of text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, LinearAxis, grid, legend, svg

_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {"training": "#2b6cb0", "evaluation": "#c05621"}


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
    x_axis = LinearAxis(0, max((step for step, _ in everything), default=1), LEFT, WIDTH - RIGHT)
    y_axis = LinearAxis(
        0 if lowest >= 0 else lowest, max((loss for _, loss in everything), default=1), HEIGHT - BOTTOM, TOP
    )
    body = [*grid(x_axis, y_axis, "step"), *legend({name: _COLOURS[name] for name in drawn})]
    for name, points in drawn.items():
        places = " ".join(f"{x_axis.place(step):.1f},{y_axis.place(loss):.1f}" for step, loss in points)
        body.append(f'<polyline points="{places}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2"/>')
        if name == "evaluation" or len(points) == 1:
            body += [
                f'<circle cx="{x_axis.place(step):.1f}" cy="{y_axis.place(loss):.1f}" r="3" fill="{_COLOURS[name]}"/>'
                for step, loss in points
            ]
    return svg(title, body)
