"""Tokenized examples -> packed batches: sequences one behind another in one row, no padding."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from edgeft.train.batches import IGNORED, Row


def pack(examples: Sequence[Row]) -> dict[str, Any]:
    """Puts examples one behind another.

    Returns `input_ids`, `position_ids` (from 0 in each example) and `labels` (IGNORED for each first token, which
    nothing predicts), each (1, tokens) int64; `boundaries`, (n_examples + 1,) int32, and `longest`, a number, for the
    attention; `places`, the tokens whose next one is trained, and `targets`, those next ones, both (n_trained,) int64.
    """
    lengths = np.array([len(example["input_ids"]) for example in examples])
    boundaries = np.concatenate(([0], lengths.cumsum()))
    ids, labels = (np.concatenate([example[name] for example in examples]) for name in ("input_ids", "labels"))
    labels[boundaries[:-1]] = IGNORED
    next_labels = np.append(labels[1:], IGNORED)
    places = np.flatnonzero(next_labels != IGNORED)
    return {
        "input_ids": torch.from_numpy(ids)[None],
        "position_ids": torch.from_numpy(np.arange(len(ids)) - np.repeat(boundaries[:-1], lengths))[None],
        "labels": torch.from_numpy(labels)[None],
        "boundaries": torch.from_numpy(boundaries.astype(np.int32)),
        "longest": int(lengths.max()),
        "places": torch.from_numpy(places),
        "targets": torch.from_numpy(next_labels[places]),
    }


class TokenBudgetSampler(Sampler[list[int]]):
    """Batches of about equally many tokens, at most `budget`, in an order of the seed and the epoch alone.

    There are as few batches as hold everything, or a few more. Longest first, each example goes into the batch that
    has the fewest tokens. Lengths are rounded up for this, by less than 1/64: examples of one rounded length change
    places at random with every epoch, and so do the batches, while how many there are, and how full, stays the same,
    as the Trainer plans it. The shuffling uses raw output of PCG64, which NumPy keeps the same across versions.
    `budget` is at least the longest example.
    """

    def __init__(self, lengths: Sequence[int], budget: int, seed: int) -> None:
        tokens = np.asarray(lengths, dtype=np.int64)
        step = np.maximum(1, tokens // 64)
        self._rounded = -(-tokens // step) * step
        self._budget = max(budget, int(self._rounded.max()))
        self._seed = seed
        self._epoch = 0
        self.efficiency = 0.0
        """Share of the budget of all batches that examples fill, 0 to 1."""
        decreasing = np.sort(self._rounded)[::-1].tolist()
        n_batches = -(-sum(decreasing) // self._budget)
        while (places := self._fill(decreasing, n_batches)) is None:
            n_batches += max(1, n_batches // 400)
        self.efficiency = int(tokens.sum()) / (n_batches * self._budget)
        self._by_batch = np.argsort(places, kind="stable")
        self._ends = np.cumsum(np.bincount(places))

    def _fill(self, decreasing: Sequence[int], n_batches: int) -> npt.NDArray[np.int32] | None:
        """Returns the batch of each length; None when one of them gets more than the budget."""
        loads = [(0, batch) for batch in range(n_batches)]
        places = np.empty(len(decreasing), dtype=np.int32)
        for place, length in enumerate(decreasing):
            load, batch = loads[0]
            if load + length > self._budget:
                return None
            heapq.heapreplace(loads, (load + length, batch))
            places[place] = batch
        return places

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of this epoch; the Trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[list[int]]:
        numbers = np.random.PCG64(np.random.SeedSequence([self._seed, self._epoch]))
        decreasing = np.lexsort((numbers.random_raw(len(self._rounded)), -self._rounded))
        batches = np.split(decreasing[self._by_batch], self._ends[:-1])
        for place in np.argsort(np.asarray(numbers.random_raw(len(batches))), kind="stable").tolist():
            yield batches[place].tolist()
