"""The frontier of assignments: nothing smaller has less divergence, and each is as good as trying everything."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgeft.quantize.assignment import frontier
from edgeft.quantize.costs import TensorCosts

TYPES = ("Q2_K", "Q4_K", "Q6_K")
COST = st.tuples(*[st.tuples(st.integers(1, 50), st.floats(0.0, 1.0)) for _ in TYPES])


def costs(table: list[tuple[tuple[int, float], ...]]) -> list[TensorCosts]:
    return [
        TensorCosts(
            f"t{number}",
            {name: size for name, (size, _) in zip(TYPES, row, strict=True)},
            {name: kld for name, (_, kld) in zip(TYPES, row, strict=True)},
        )
        for number, row in enumerate(table)
    ]


@given(st.lists(COST, min_size=1, max_size=4))
def test_no_other_assignment_is_smaller_and_better(table: list[tuple[tuple[int, float], ...]]) -> None:
    """Against every combination: what the greedy walk offers is on the lower hull of them all."""
    every = [(sum(size for size, _ in chosen), sum(kld for _, kld in chosen)) for chosen in itertools.product(*table)]
    for offered in frontier(costs(table)):
        # Float sums in another order.
        assert not any(size < offered.size_bytes and kld < offered.kld - 1e-9 for size, kld in every)


@given(st.lists(COST, min_size=1, max_size=4))
def test_the_frontier_goes_from_the_smallest_to_the_best(table: list[tuple[tuple[int, float], ...]]) -> None:
    offered = frontier(costs(table))
    assert offered[0].size_bytes == sum(min(size for size, _ in row) for row in table)
    assert abs(offered[-1].kld - sum(min(kld for _, kld in row) for row in table)) < 1e-9
    for smaller, larger in itertools.pairwise(offered):
        assert smaller.size_bytes < larger.size_bytes
        assert smaller.kld >= larger.kld  # a step may be lost in the rounding of the sum
        assert sum(smaller.types[name] != larger.types[name] for name in smaller.types) == 1
