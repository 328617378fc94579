"""Packed rows hold every example once, are almost full, depend on seed and epoch alone, and keep examples apart."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeft.dataset.mask import Example
from edgeft.dataset.packing import IGNORED, pack, pack_examples, packing_efficiency
from edgeft.errors import EdgeftError

LENGTHS = st.lists(st.integers(1, 64), max_size=200)


def lognormal(count: int) -> npt.NDArray[np.int64]:
    """Returns lengths as conversations have them: median 256, sigma 0.8, at most 2048."""
    lengths = np.random.default_rng(0).lognormal(np.log(256), 0.8, count)
    return np.clip(lengths, 1, 2048).astype(np.int64)


@given(LENGTHS, st.integers(0, 5), st.integers(0, 5))
def test_every_example_is_in_one_row_that_holds_it(lengths: list[int], seed: int, epoch: int) -> None:
    rows = pack(lengths, 64, seed, epoch)
    assert sorted(index for row in rows for index in row.tolist()) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in row) <= 64 for row in rows)
    assert [row.tolist() for row in pack(lengths, 64, seed, epoch)] == [row.tolist() for row in rows]


@given(LENGTHS)
def test_no_two_rows_would_fit_in_one(lengths: list[int]) -> None:
    fills = sorted(sum(lengths[index] for index in row) for row in pack(lengths, 64, 0, 0))
    assert len(fills) < 2 or fills[0] + fills[1] > 64


def test_rows_are_almost_full() -> None:
    rng = np.random.default_rng(1)
    for lengths in (lognormal(20_000), rng.integers(20, 130, 13_000)):
        for epoch in range(3):
            assert packing_efficiency(lengths, pack(lengths, 2048, 0, epoch), 2048) >= 0.99


def test_each_epoch_has_other_neighbours_in_another_order() -> None:
    lengths = lognormal(3000)
    first, second = (pack(lengths, 2048, 0, epoch) for epoch in (0, 1))
    pairs = [{(i, j) for row in rows for i in row.tolist() for j in row.tolist() if i < j} for rows in (first, second)]
    assert len(pairs[0] & pairs[1]) < 0.05 * len(pairs[0])
    sizes = [lengths[row].max() for row in first]
    # Rows come mixed, not the longest examples first: the correlation of size and place is near 0.
    assert abs(np.corrcoef(sizes, np.arange(len(sizes)))[0, 1]) < 0.2


def test_rows_are_the_same_everywhere() -> None:
    rows = pack([5, 3, 8, 2, 7, 1], 10, seed=3, epoch=2)
    assert [row.tolist() for row in rows] == SAME


SAME = [[0, 5], [4, 1], [2, 3]]


def test_what_is_longer_than_a_row_is_refused() -> None:
    with pytest.raises(EdgeftError, match="an example has 11 tokens and a packed row has 10"):
        pack([3, 11], 10, 0, 0)


def test_nothing_packs_to_nothing() -> None:
    assert pack([], 10, 0, 0) == []
    assert packing_efficiency([], [], 10) == 1


def test_time_is_about_linear() -> None:
    def seconds(count: int) -> float:
        lengths = lognormal(count)
        started = time.process_time()
        pack(lengths, 2048, 0, 0)
        return time.process_time() - started

    seconds(1000)
    # Ten times the examples; the bound leaves room for a busy machine, and a quadratic packing takes 100 times.
    assert seconds(200_000) < 25 * max(seconds(20_000), 0.01)


def test_a_packed_batch_keeps_examples_apart() -> None:
    batch = pack_examples([Example([4, 5, 6], [False, True, True]), Example([7, 8], [True, True])])
    assert batch.input_ids.tolist() == [[4, 5, 6, 7, 8]]
    assert batch.labels.tolist() == [[IGNORED, 5, 6, IGNORED, 8]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.cu_seqlens.tolist() == [0, 3, 5]
    assert batch.longest == 3
    assert [array.dtype for array in (batch.input_ids, batch.labels, batch.position_ids)] == [np.dtype(np.int64)] * 3
    assert batch.cu_seqlens.dtype == np.dtype(np.int32)


def test_an_empty_example_takes_no_room() -> None:
    batch = pack_examples([Example([], []), Example([7], [True]), Example([], [])])
    assert batch.input_ids.tolist() == [[7]]
    assert batch.labels.tolist() == [[IGNORED]]
    assert batch.cu_seqlens.tolist() == [0, 0, 1, 1]
