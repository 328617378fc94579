"""Hidden states of a few positions, and how far noise in the weights moves each: what layers are compared by.

A state is the input or the output of a module that has a weight. Its features are kept in cells, sums under fixed
signs (`edgeft.parity.fingerprint`), whose squared differences are those of the features on average; of a small model
each feature is a cell. `gains` are measured: the square of a state's relative error, for independent errors of 1 (of
its root mean square) in every weight matrix of the model at once, so that errors of size e move it by gain x e^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeft.parity.distributions import Doubles, Floats
from edgeft.parity.fingerprint import cell_sums

MOST_BYTES = 4_000_000
"""Most that the states of a reference take, before compression."""
LOGITS = "logits"
"""The module's name of the model's own output."""
Side = Literal["input", "output"]


@dataclass(frozen=True)
class State:
    """One state: the module's name in the checkpoint, whether it is what goes in or comes out, and its size."""

    module: str
    side: Side
    features: int
    cell: int

    @property
    def n_cells(self) -> int:
        """Numbers that are kept of it at each position."""
        return -(-self.features // self.cell)


@dataclass(frozen=True)
class LayerStates:
    """States in the order in which the model computes them.

    `positions` are (record, position) pairs, `cells` (n_positions, n_cells) of each state, `gains` (n_positions,
    n_states).
    """

    states: list[State]
    positions: list[tuple[int, int]]
    cells: list[Floats]
    gains: Floats

    def positions_of(self, record: int) -> list[int]:
        """Returns the positions that are kept of a record."""
        return [position for number, position in self.positions if number == record]

    def within(self, n_ctx: int) -> LayerStates:
        """Returns the states at the positions that a context of so many tokens holds."""
        kept = [place for place, (_, position) in enumerate(self.positions) if position < n_ctx]
        positions = [self.positions[place] for place in kept]
        return LayerStates(self.states, positions, [rows[kept] for rows in self.cells], self.gains[kept])


def cell_for(features: Sequence[int], n_positions: int) -> int:
    """Returns the smallest cell, a power of two, with which states of so many features keep to `MOST_BYTES`."""
    cell = 1
    while n_positions * sum(-(-count // cell) for count in features) * 4 > MOST_BYTES:
        cell *= 2
    return cell


def sketched(rows: Floats, cell: int) -> Floats:
    """Returns the cells of states, (n_positions, n_features) -> (n_positions, n_cells)."""
    return rows.astype(np.float32) if cell == 1 else np.stack([cell_sums(row, cell) for row in rows])


def squared_errors(ours: Floats, theirs: Floats) -> Doubles:
    """Returns the squared relative error at each position (NMSE): (n_positions, n) -> (n_positions,)."""
    wanted = theirs.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        off = ((ours - wanted) ** 2).sum(axis=1)
    found: Doubles = off / np.maximum((wanted**2).sum(axis=1), np.finfo(np.float64).tiny)
    return found


# How a reference keeps states: what they are as JSON, numbers as two float32 arrays.

STATE_ARRAYS = ("state_cells", "state_gains")


def pack_states(states: LayerStates) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Returns states as a JSON object and as arrays."""
    rows = {"states": [asdict(one) for one in states.states], "positions": states.positions}
    arrays = (np.concatenate(states.cells, axis=1), states.gains)
    return rows, dict(zip(STATE_ARRAYS, arrays, strict=True))


def unpack_states(rows: dict[str, Any], cells: Floats, gains: Floats) -> LayerStates:
    """Returns what `pack_states` was given."""
    states = [State(**row) for row in rows["states"]]
    ends = np.cumsum([one.n_cells for one in states])[:-1]
    positions = [(record, position) for record, position in rows["positions"]]
    return LayerStates(states, positions, np.split(cells, ends, axis=1), gains)
