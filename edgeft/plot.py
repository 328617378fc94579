"""What the pictures share: numbers to places on an axis, lines and labels beside it, the frame of an SVG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Protocol

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 44


class Axis(Protocol):
    """Gives each number its place in pixels, and round numbers to write beside it."""

    @property
    def ticks(self) -> Sequence[float]: ...

    def place(self, value: float) -> float: ...


class LinearAxis:
    """Numbers from `low` to `high`, rounded outwards, between two places."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        step = _round_step((high - low) or 1.0)
        first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
        self.ticks = [number * step for number in range(first, last + 1)]
        self._low, self._high = self.ticks[0], self.ticks[-1]
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        """Returns the place of a number in pixels."""
        return self._start + (value - self._low) / (self._high - self._low) * (self._end - self._start)


class LogAxis:
    """Positive numbers by their logarithms; the ticks are 1, 2 and 5 times powers of ten, or the powers alone."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        first, last = math.floor(math.log10(low)), max(math.ceil(math.log10(high)), math.floor(math.log10(low)) + 1)
        factors = (1, 2, 5) if last - first <= 2 else (1,)
        inner = [factor * 10.0**power for power in range(first, last) for factor in factors]
        self.ticks = [*inner, 10.0**last]
        self._first, self._last = first, last
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        """Returns the place of a number in pixels."""
        share = (math.log10(value) - self._first) / (self._last - self._first)
        return self._start + share * (self._end - self._start)


def _round_step(span: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides the span into four to ten."""
    power = 10.0 ** math.floor(math.log10(span))
    return next(factor * power for factor in (0.1, 0.2, 0.5, 1.0) if span / (factor * power) <= 10)


def grid(x_axis: Axis, y_axis: Axis, x_name: str) -> list[str]:
    """Returns the lines of both axes with their numbers, and the name of the lower one."""
    lines = []
    for value in y_axis.ticks:
        y = y_axis.place(value)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x_axis.ticks:
        x = x_axis.place(value)
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    return lines


def legend(colours: dict[str, str]) -> list[str]:
    """Returns a line in each colour with its name, at the top on the right."""
    lines = []
    for number, (name, colour) in enumerate(colours.items()):
        x = WIDTH - RIGHT - 100 * (len(colours) - number)
        lines.append(f'<line x1="{x}" x2="{x + 20}" y1="18" y2="18" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{x + 26}" y="22">{escape(name)}</text>')
    return lines


def svg(title: str, body: Sequence[str]) -> str:
    """Returns the whole picture."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="#333">'
    )
    heading = f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', heading, *body, "</svg>"]) + "\n"
