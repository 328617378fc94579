"""What the pictures share: numbers to places on an axis, lines and labels beside it, the frame of an SVG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Protocol

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 44
_LEAST = 1e-300


class Axis(Protocol):
    """Gives each number its place in pixels, and has round numbers to write beside it."""

    @property
    def ticks(self) -> Sequence[float]: ...

    def place(self, value: float) -> float: ...

    def words(self, tick: float) -> str: ...


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

    def words(self, tick: float) -> str:
        """Returns a tick as it is written."""
        return f"{tick:,g}"


class LogAxis:
    """Numbers by their logarithms, from one power of ten to another; what is outside lies at the nearer end.

    The ticks are 1, 2 and 5 times powers of ten where there is room for so many, else powers alone.
    """

    def __init__(
        self, values: Sequence[float], start: float, end: float, most_decades: int = 9, most_ticks: int = 6
    ) -> None:
        found = [math.log10(value) for value in values if _LEAST < value < math.inf]
        top = math.ceil(max(found, default=0.0))
        # The noise of exact numbers reaches down for ever, and is nothing that anyone looks at.
        self._low = max(math.floor(min(found, default=-1.0)), top - most_decades)
        self._high = max(top, self._low + 1)
        self._start, self._end = start, end
        decades = self._high - self._low
        fine = 3 * decades < most_ticks
        powers = range(self._low, self._high + 1, 1 if fine else math.ceil(decades / (most_ticks - 1)))
        factors = (1, 2, 5) if fine else (1,)
        self.ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
        self.ticks = [tick for tick in self.ticks if tick <= float(f"1e{self._high}")]

    def place(self, value: float) -> float:
        """Returns the place of a number in pixels."""
        power = math.log10(value) if value > _LEAST else self._low
        share = (min(max(power, self._low), self._high) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def words(self, tick: float) -> str:
        """Returns a tick as it is written."""
        if 1e-4 < tick < 1e4:
            return f"{tick:g}"
        factor, _, power = f"{tick:.0e}".partition("e")
        return f"{factor}e{int(power)}"


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
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{y_axis.words(value)}</text>')
    for value in x_axis.ticks:
        x = x_axis.place(value)
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x_axis.words(value)}</text>')
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
