"""Several examples in one row of tokens, so that none of the row is padding, and each still sees itself alone.

Best-fit decreasing (Johnson 1974) over windows of shuffled examples: which examples share a row changes with every
epoch, and a row is filled almost to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeft.dataset.mask import Example
from edgeft.errors import EdgeftError

IGNORED = -100
"""torch's cross-entropy leaves out positions with this label."""

# Examples sorted together. Rows stay open from one window to the next, so small windows fill them too: 99.7 % of
# lognormal lengths, and of 3000 examples 1.6 % of the pairs in a row are in one row again in the next epoch. With one
# window for all of them it is 49 %: the longest always meet the same partners.
_WINDOW = 128


def pack(lengths: npt.ArrayLike, budget: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Returns rows of example indices: every example once, each row at most `budget` tokens.

    The rows depend on the arguments alone, so a training that resumes at row k takes `pack(...)[k:]`. The shuffling
    uses raw output of PCG64, which NumPy keeps the same across versions. Raises EdgeftError when an example is longer
    than the budget. O(n log n) time.
    """
    tokens = np.asarray(lengths, dtype=np.int64)
    if tokens.max(initial=0) > budget:
        raise EdgeftError(
            f"an example has {tokens.max()} tokens and a packed row has {budget}",
            remedy="make the rows at least as long as dataset.max_tokens",
        )
    numbers = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    order = _shuffled(len(tokens), numbers)
    rows = _Rows(budget)
    for start in range(0, len(order), _WINDOW):
        window = order[start : start + _WINDOW]
        decreasing = window[np.argsort(-tokens[window], kind="stable")]
        for index, length in zip(decreasing.tolist(), tokens[decreasing].tolist(), strict=True):
            rows.put(index, length)
    return [np.array(rows.filled[place], dtype=np.int64) for place in _shuffled(len(rows.filled), numbers)]


def _shuffled(count: int, numbers: np.random.PCG64) -> npt.NDArray[np.int64]:
    return np.argsort(np.asarray(numbers.random_raw(count)), kind="stable")


class _Rows:
    """Rows that are being filled."""

    def __init__(self, budget: int) -> None:
        self.filled: list[list[int]] = []
        self._budget = budget
        self._by_room: dict[int, list[int]] = {}  # rows with that many tokens left
        self._rooms = 0  # bit r is set when a row has r tokens left: the least room that suffices is one shift away

    def put(self, index: int, length: int) -> None:
        """Puts an example into the fullest row that has room for it, or into a new one."""
        fitting = self._rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = self._by_room[room].pop()
            if not self._by_room[room]:
                self._rooms ^= 1 << room
        else:
            room, row = self._budget, len(self.filled)
            self.filled.append([])
        self.filled[row].append(index)
        self._by_room.setdefault(room - length, []).append(row)
        self._rooms |= 1 << (room - length)


def packing_efficiency(lengths: npt.ArrayLike, rows: Sequence[npt.NDArray[np.int64]], budget: int) -> float:
    """Returns the share of the rows' tokens that are an example's, 0 to 1; 1 when there are no rows."""
    tokens = np.asarray(lengths, dtype=np.int64)
    return sum(int(tokens[row].sum()) for row in rows) / (budget * len(rows)) if rows else 1.0


@dataclass(frozen=True)
class PackedBatch:
    """Examples in one row without contact.

    `input_ids`, `labels` and `position_ids` are (1, tokens) int64; `labels` is IGNORED where a token carries no loss
    and at each example's first token, which would be predicted from the example before. `position_ids` start again at
    0 with each example. `cu_seqlens` (examples + 1,) int32 are the places where examples begin, and the end: what
    variable-length attention takes. `longest` is the tokens of the longest example.
    """

    input_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    position_ids: npt.NDArray[np.int64]
    cu_seqlens: npt.NDArray[np.int32]
    longest: int


def pack_examples(examples: Sequence[Example]) -> PackedBatch:
    """Returns the examples as one row, in their order."""
    lengths = [len(example.ids) for example in examples]
    bounds = np.cumsum([0, *lengths])
    ids = np.array([token for example in examples for token in example.ids], dtype=np.int64)
    trained = np.array([flag for example in examples for flag in example.trained], dtype=np.bool_)
    trained[bounds[:-1][np.asarray(lengths) > 0]] = False
    positions = np.arange(len(ids)) - np.repeat(bounds[:-1], lengths)
    labels = np.where(trained, ids, IGNORED)
    return PackedBatch(
        ids[None], labels[None], positions[None].astype(np.int64), bounds.astype(np.int32), max(lengths, default=0)
    )
