"""Packed batches: every token once, none predicted across sequences, and as many batches in every epoch."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeft.train.batches import IGNORED
from edgeft.train.packing import TokenBudgetSampler, pack

ROWS = [
    {"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]},
    {"input_ids": [8, 9], "labels": [8, 9]},
    {"input_ids": [3, 4, 2, 1], "labels": [IGNORED, IGNORED, 2, 1]},
]


SAME = [[0, 7, 3], [2, 1, 5], [4, 6]]


def test_a_pack_holds_sequences_one_behind_another() -> None:
    batch = pack(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 3, 4, 2, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3]]
    assert batch["boundaries"].tolist() == [0, 3, 5, 9]
    assert batch["boundaries"].dtype == torch.int32
    assert batch["longest"] == 4


def test_targets_are_the_trained_tokens_that_something_predicts() -> None:
    """The first token of a sequence is trained in no example: nothing of its own precedes it."""
    batch = pack(ROWS)
    assert batch["places"].tolist() == [0, 1, 3, 6, 7]
    assert batch["targets"].tolist() == [6, 7, 9, 2, 1]
    assert (batch["labels"][0] != IGNORED).sum() == len(batch["targets"])


@pytest.mark.parametrize("budget", [600, 2500, 10**6])
def test_batches_keep_the_budget_and_every_epoch_has_as_many(budget: int) -> None:
    rng = random.Random(1)
    lengths = [rng.randint(10, 500) for _ in range(403)]
    sampler = TokenBudgetSampler(lengths, budget, seed=3)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(index for batch in batches for index in batch) == list(range(403))
        assert max(sum(lengths[index] for index in batch) for batch in batches) <= budget
        orders.append(sorted(sorted(batch) for batch in batches))
    assert orders[0] != orders[1] or len(sampler) == 1
    assert sampler.efficiency == sum(lengths) / (len(sampler) * budget)
    assert sampler.efficiency > 0.9 or len(sampler) == 1


def test_equal_seeds_and_epochs_give_equal_batches() -> None:
    lengths = [random.Random(2).randint(10, 99) for _ in range(50)]
    first, second = (TokenBudgetSampler(lengths, 300, seed=7) for _ in range(2))
    second.set_epoch(1)
    assert list(first) != list(second)
    first.set_epoch(1)
    assert list(first) == list(second)


def test_the_longest_example_always_fits() -> None:
    batches = list(TokenBudgetSampler([100, 8, 60], 16, seed=0))
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2]
    assert [0] in batches


@given(st.lists(st.integers(1, 64), min_size=1, max_size=200), st.integers(1, 200), st.integers(0, 5))
def test_every_example_is_in_one_batch_that_holds_it(lengths: list[int], budget: int, epoch: int) -> None:
    sampler = TokenBudgetSampler(lengths, budget, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in batch) <= max(budget, *lengths) for batch in batches)


def test_batches_are_almost_full() -> None:
    """Conversations (median 256 tokens, sigma 0.8, at most 2048) and short commands."""
    rng = np.random.default_rng(0)
    conversations = np.clip(rng.lognormal(np.log(256), 0.8, 20_000), 1, 2048).astype(int).tolist()
    assert TokenBudgetSampler(conversations, 2048, seed=0).efficiency >= 0.97
    assert TokenBudgetSampler(rng.integers(20, 130, 13_000).tolist(), 2048, seed=0).efficiency >= 0.98


def test_each_epoch_has_other_neighbours_in_another_order() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(np.log(256), 0.8, 3000), 1, 2048).astype(int).tolist()
    sampler = TokenBudgetSampler(lengths, 2048, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    pairs = [{pair for row in rows for pair in itertools.combinations(sorted(row), 2)} for rows in (first, sampler)]
    assert len(pairs[0] & pairs[1]) < 0.05 * len(pairs[0])
    # Batches come mixed, not those of the longest examples first: the correlation of size and place is near 0.
    longest = [max(lengths[index] for index in row) for row in first]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_batches_are_the_same_everywhere() -> None:
    sampler = TokenBudgetSampler([5, 3, 8, 2, 7, 1, 5, 5], 12, seed=3)
    sampler.set_epoch(2)
    assert list(sampler) == SAME
