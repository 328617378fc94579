"""Tokenized examples -> padded batches in which only the trained tokens carry loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import BatchSampler, Dataset, Sampler

from edgeft.dataset.findings import Place
from edgeft.dataset.tokens import TokenizedExamples

IGNORED = -100
"""torch's cross-entropy leaves out positions with this label."""

FILLER = -1
"""In the place of an example's number: two tokens of which none is trained."""


Row = Mapping[str, Sequence[int] | npt.NDArray[np.int64]]
"""An example: `input_ids`, and `labels` (IGNORED where a token carries no loss)."""


class ExampleDataset(Dataset[Row]):
    """Examples as arrays: lists of numbers took 25 ms a batch of 16,384 tokens to build, a tenth of a 1B step."""

    def __init__(self, examples: TokenizedExamples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [int(length) for length in self._examples.lengths]

    def place(self, index: int) -> Place:
        """Returns where the record of an example is."""
        return self._examples.place(index)

    def __getitem__(self, index: int) -> Row:
        if index == FILLER:
            return {"input_ids": [0, 0], "labels": [IGNORED, IGNORED]}
        ids, trained = self._examples.arrays(index)
        return {"input_ids": ids.astype(np.int64), "labels": np.where(trained, ids, IGNORED).astype(np.int64)}


class LengthGroupedSampler(Sampler[int]):
    """Random order in which the examples of a batch have about the same length: little padding.

    The order depends on the seed and the epoch alone (transformers' own sampler of this kind draws from torch's global
    generator), so a resumed training sees what the uninterrupted one would have seen.
    """

    _BATCHES_SORTED_TOGETHER = 16

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def efficiency(self, batch_size: int | None = None) -> float:
        """Returns the share of the tokens of padded batches of that size that are an example's, 0 to 1."""
        order, size = list(self), batch_size or self._batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        slots = sum(max(self._lengths[index] for index in batch) * len(batch) for batch in batches)
        return sum(self._lengths) / slots

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of this epoch; the Trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        shuffled = torch.randperm(len(self._lengths), generator=generator).tolist()
        window = self._batch_size * self._BATCHES_SORTED_TOGETHER
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), window):
            by_length = sorted(shuffled[start : start + window], key=lambda index: self._lengths[index])
            batches += [by_length[i : i + self._batch_size] for i in range(0, len(by_length), self._batch_size)]
        full = [batch for batch in batches if len(batch) == self._batch_size]
        for place in torch.randperm(len(full), generator=generator).tolist():
            yield from full[place]
        for batch in batches:
            if len(batch) < self._batch_size:
                yield from batch


class Rounds(Sampler[list[int]]):
    """Batches, as many as `processes` can share: the last round is filled up with batches that train nothing.

    accelerate deals batch i to process i modulo `processes`, so that an optimizer step takes the records that one
    process takes which accumulates `processes` times as many batches. (accelerate itself would fill the round up with
    records of the first batches, which are then trained twice.)
    """

    def __init__(self, batches: Sampler[list[int]], processes: int = 1) -> None:
        self._batches = batches
        self._processes = processes

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of this epoch."""
        ordered: Any = self._batches.sampler if isinstance(self._batches, BatchSampler) else self._batches
        ordered.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self._batches) // self._processes) * self._processes  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._batches
        for _ in range(len(self) - len(self._batches)):  # type: ignore[arg-type]
            yield [FILLER]


class Steps:
    """Which examples each optimizer step trains, all processes together. Steps count from 0."""

    def __init__(self, batches: Rounds, lengths: Sequence[int], batches_a_step: int) -> None:
        self._batches = batches
        self._lengths = lengths
        self._batches_a_step = batches_a_step
        self._known: tuple[int, list[list[int]]] = (-1, [])
        self.in_epoch = -(-len(batches) // batches_a_step)
        """Steps in an epoch."""

    def examples(self, step: int) -> list[int]:
        """Returns the numbers of the examples that a step trains."""
        epoch, place = divmod(step, self.in_epoch)
        if self._known[0] != epoch:
            self._batches.set_epoch(epoch)
            self._known = (epoch, list(self._batches))
        mine = self._known[1][place * self._batches_a_step : (place + 1) * self._batches_a_step]
        return [index for batch in mine for index in batch if index != FILLER]

    def tokens(self, step: int) -> int:
        """Returns how many tokens a step's examples have, padding not counted."""
        return sum(self._lengths[index] for index in self.examples(step))


def collate(examples: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Pads examples on the right to the longest: `input_ids`, `labels`, `attention_mask`, each (batch, tokens) int64.

    The padding id does not matter: the attention mask hides it and its label is IGNORED.
    """
    lengths = [len(example["input_ids"]) for example in examples]
    fills = {"input_ids": 0, "labels": IGNORED, "attention_mask": 0}
    rows = {name: np.full((len(examples), max(lengths)), fill, dtype=np.int64) for name, fill in fills.items()}
    for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
        rows["input_ids"][row, :length] = example["input_ids"]
        rows["labels"][row, :length] = example["labels"]
        rows["attention_mask"][row, :length] = 1
    return {name: torch.from_numpy(row) for name, row in rows.items()}
