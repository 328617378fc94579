"""Tokenized examples -> packed batches: sequences one behind another in one row, no padding."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from edgeft.train.batches import IGNORED


def pack(examples: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """Puts examples one behind another.

    Returns `input_ids`, `position_ids` (from 0 in each example) and `labels` (IGNORED for each first token, which
    nothing predicts), each (1, tokens) int64; `boundaries`, (n_examples + 1,) int32, and `longest`, a number, for the
    attention; `places`, the tokens whose next one is trained, and `targets`, those next ones, both (n_trained,) int64.
    """
    ids = [token for example in examples for token in example["input_ids"]]
    labels = [label for example in examples for label in (IGNORED, *example["labels"][1:])]
    lengths = [len(example["input_ids"]) for example in examples]
    next_labels = torch.tensor([*labels[1:], IGNORED])
    places = (next_labels != IGNORED).nonzero()[:, 0]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "labels": torch.tensor([labels]),
        "boundaries": torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        "longest": max(lengths),
        "places": places,
        "targets": next_labels[places],
    }


class TokenBudgetSampler(Sampler[list[int]]):
    """Batches of about equally many tokens, at most `budget`, in an order of the seed and the epoch alone.

    Lengths are rounded up to a multiple of 8 and each example, longest first, goes into the batch that has the fewest
    tokens. So how many batches there are, and how full, is the same in every epoch, as the Trainer plans it; examples
    of one rounded length change places at random, and so do the batches. `budget` is at least the longest example.
    """

    _ROUNDING = 8

    def __init__(self, lengths: Sequence[int], budget: int, seed: int) -> None:
        rounded = [-(-length // self._ROUNDING) * self._ROUNDING for length in lengths]
        self._classes: dict[int, list[int]] = {}
        for index, length in enumerate(rounded):
            self._classes.setdefault(length, []).append(index)
        self._ordered = sorted(rounded, reverse=True)
        self._seed = seed
        self._epoch = 0
        most = max(budget, *rounded)
        n_batches = -(-sum(rounded) // most)
        while not self._fits(n_batches, most):
            n_batches += max(1, n_batches // 200)
        self._n_batches = min(n_batches, len(lengths))

    def _fits(self, n_batches: int, budget: int) -> bool:
        loads = [0] * n_batches
        for length, batch in zip(self._ordered, self._places(n_batches), strict=True):
            loads[batch] += length
        return max(loads) <= budget

    def _places(self, n_batches: int) -> Iterator[int]:
        """Yields the batch of each of the ordered lengths."""
        loads = [(0, batch) for batch in range(n_batches)]
        for length in self._ordered:
            load, batch = heapq.heappop(loads)
            yield batch
            heapq.heappush(loads, (load + length, batch))

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of this epoch; the Trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        queues: dict[int, list[int]] = {}
        for length, members in self._classes.items():
            queues[length] = [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
        batches: list[list[int]] = [[] for _ in range(self._n_batches)]
        for length, batch in zip(self._ordered, self._places(self._n_batches), strict=True):
            batches[batch].append(queues[length].pop())
        for place in torch.randperm(self._n_batches, generator=generator).tolist():
            yield batches[place]
