"""A tensor in a few numbers that no fault of an export leaves alone, whatever type the weights are rounded to.

The weights, in the checkpoint's own order, are cut into cells of equal length. Of each cell one number is kept: its sum
under fixed pseudo-random signs, over the root of the length. Rounding, whose errors are independent, moves it by the
rounding's own size; weights that are others move it by theirs, since two unrelated cells differ by sqrt(2) of their
root mean square (a sketch of Alon, Matias and Szegedy 1996). So the ratio of the two tells noise from fault, for each
cell and so for each place in the tensor.

A `Direction` is the leading pair of singular vectors of what training changed: u' W v tells how much of the change is
in a tensor, though the change be smaller than the rounding of each weight, as rounding averages out along u and v.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.parity.distributions import Doubles, Floats

_LEAST_CELL, _MOST_CELL = 256, 8192
_MOST_CELLS = 1_000_000
"""Cells of a whole model, 4 MB: a model of 1.2B parameters gets cells of 2,048 weights."""
_KEPT_WHOLE = 16_384
"""A tensor of no more weights, a norm's for example, has cells of one weight: nothing of it can hide."""


EXPECTED_SCALES = (0.5, 1.0, 2.0)
"""Scales of a change for which a reference has what each type leaves of it."""


@dataclass(frozen=True)
class Direction:
    """How a tensor was changed: u' W v before (`base`) and after (`merged`), for unit u (rows) and v (columns).

    `coarse` tells that it lay on a grid before, as the weights of a quantized file do. How rounding to another grid
    moves it then depends on how the two lie to one another, and not on chance alone.
    """

    u: Floats
    v: Floats
    base: float
    merged: float
    coarse: bool = False

    def share(self, weights: Floats) -> float:
        """Returns how much of the change is in `weights` (rows, columns): 0 before, 1 after, 2 made twice."""
        found = float(self.u.astype(np.float64) @ weights.astype(np.float64) @ self.v)
        return (found - self.base) / (self.merged - self.base)

    def noise(self, variances: Floats) -> float:
        """Returns the standard deviation of the share where weights err by these variances (rows, columns), each."""
        squares = (self.u**2).astype(np.float64) @ variances.astype(np.float64) @ (self.v**2)
        return float(np.sqrt(squares)) / abs(self.merged - self.base)

    @property
    def size(self) -> float:
        """How large the change is along the two vectors: its leading singular value."""
        return abs(self.merged - self.base)


@dataclass(frozen=True)
class Fingerprint:
    """One tensor of the checkpoint: `cells` (n,) float32, its shape, its root mean square, and that of each cell.

    `local_rms` (n,) is empty where cells hold one weight each, whose sum under signs tells it.
    """

    name: str
    shape: tuple[int, ...]
    cell: int
    rms: float
    cells: Floats
    local_rms: Floats
    direction: Direction | None = field(default=None, compare=False)

    @property
    def n_elements(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def rows_of(self, cells: npt.NDArray[Any]) -> tuple[int, int]:
        """Returns the first and the last row that these cells touch."""
        width = self.shape[-1]
        return int(cells.min()) * self.cell // width, (
            min((int(cells.max()) + 1) * self.cell, self.n_elements) - 1
        ) // width


def cell_size(n_elements: int, model_elements: int) -> int:
    """Returns the weights of a cell, a power of two, for a tensor in a model of so many weights."""
    if n_elements <= _KEPT_WHOLE:
        return 1
    size = _LEAST_CELL
    while size < _MOST_CELL and model_elements > size * _MOST_CELLS:
        size *= 2
    return size


def cell_sums(weights: Floats, size: int) -> Floats:
    """Returns the cells of flat weights; the last one may be a part."""
    whole = weights.size // size * size
    signs = _signs(size)
    sums = weights[:whole].reshape(-1, size) @ signs
    if whole < weights.size:
        sums = np.append(sums, weights[whole:] @ signs[: weights.size - whole])
    scaled: Floats = (sums / np.float32(np.sqrt(size))).astype(np.float32)
    return scaled


def cell_means(values: Floats, size: int) -> Floats:
    """Returns the sum of each cell of flat values over its length; of the last one, which may be a part, likewise."""
    whole = values.size // size * size
    sums = values[:whole].reshape(-1, size).sum(axis=1)
    if whole < values.size:
        sums = np.append(sums, values[whole:].sum())
    found: Floats = (sums / np.float32(size)).astype(np.float32)
    return found


def fingerprint(name: str, weights: Floats, size: int, direction: Direction | None = None) -> Fingerprint:
    """Returns the fingerprint of a tensor in the checkpoint's order."""
    flat = np.ascontiguousarray(weights, dtype=np.float32).reshape(-1)
    rms = float(np.sqrt(np.mean(flat.astype(np.float64) ** 2)))
    local = np.sqrt(cell_means(flat**2, size)) if size > 1 else np.zeros(0, dtype=np.float32)
    return Fingerprint(name, weights.shape, size, rms, cell_sums(flat, size), local, direction)


@lru_cache(maxsize=16)
def _signs(count: int) -> Floats:
    """Returns `count` signs, +1 or -1: the top bits of SplitMix64 (Steele, Lea and Flood 2014), the same everywhere."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.where(z >> np.uint64(63), np.float32(1), np.float32(-1))


# How a reference keeps fingerprints: numbers as JSON, cells as one float32 array, the cells' root mean squares as parts
# of the tensor's and vectors as one float16 array each.


def pack(prints: Iterable[Fingerprint]) -> tuple[list[dict[str, Any]], dict[str, npt.NDArray[Any]]]:
    """Returns fingerprints as JSON objects and as arrays."""
    rows: list[dict[str, Any]] = []
    cells: list[Floats] = [np.zeros(0, dtype=np.float32)]
    local: list[npt.NDArray[np.float16]] = [np.zeros(0, dtype=np.float16)]
    vectors: list[npt.NDArray[np.float16]] = [np.zeros(0, dtype=np.float16)]
    for one in prints:
        row: dict[str, Any] = {"name": one.name, "shape": list(one.shape), "cell": one.cell, "rms": one.rms}
        if one.direction is not None:
            row |= {key: getattr(one.direction, key) for key in ("base", "merged", "coarse")}
            vectors += [one.direction.u.astype(np.float16), one.direction.v.astype(np.float16)]
        rows.append(row)
        cells.append(one.cells)
        local.append((one.local_rms / np.float32(one.rms or 1.0)).astype(np.float16))
    return rows, {
        "cells": np.concatenate(cells),
        "local_rms": np.concatenate(local),
        "directions": np.concatenate(vectors),
    }


def unpack(rows: Iterable[dict[str, Any]], arrays: dict[str, npt.NDArray[Any]]) -> list[Fingerprint]:
    """Returns what `pack` was given; vectors have float16's precision."""
    cells, vectors = arrays["cells"], arrays["directions"].astype(np.float32)
    found, at, local_at, vector_at = [], 0, 0, 0
    for row in rows:
        shape = tuple(row["shape"])
        count = -(-int(np.prod(shape, dtype=np.int64)) // row["cell"])
        direction = None
        if "base" in row:
            u = vectors[vector_at : vector_at + shape[0]]
            v = vectors[vector_at + shape[0] : vector_at + shape[0] + shape[1]]
            vector_at += shape[0] + shape[1]
            direction = Direction(u, v, row["base"], row["merged"], row["coarse"])
        n_local = count if row["cell"] > 1 else 0
        local = arrays["local_rms"][local_at : local_at + n_local].astype(np.float32) * np.float32(row["rms"])
        found.append(Fingerprint(row["name"], shape, row["cell"], row["rms"], cells[at : at + count], local, direction))
        at, local_at = at + count, local_at + n_local
    return found


def relative_error(differences: Doubles | Floats, rms: float) -> float:
    """Returns the root mean square of differences between cells, over that of the weights."""
    size = float(np.sqrt(np.mean(np.asarray(differences, dtype=np.float64) ** 2)))
    return size / rms if rms else float(size > 0)
