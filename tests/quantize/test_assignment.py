"""The frontier of assignments: nothing smaller has less divergence, and each is as good as trying everything."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgeft.quantize.assignment import frontier, within_kld, within_size
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


@given(st.lists(COST, min_size=1, max_size=4), st.floats(0.0, 1.0))
def test_what_a_budget_has_left_is_used(table: list[tuple[tuple[int, float], ...]], share: float) -> None:
    """Within the budget, no worse than the frontier, and no single change of a tensor is within it and better."""
    given_costs = costs(table)
    offered = frontier(given_costs)
    most_bytes = offered[0].size_bytes + int(share * (offered[-1].size_bytes - offered[0].size_bytes))
    most_kld = offered[-1].kld + share * (offered[0].kld - offered[-1].kld)
    sized, near = within_size(given_costs, most_bytes), within_kld(given_costs, most_kld)
    assert sized is not None and near is not None
    assert sized.size_bytes <= most_bytes and near.kld <= most_kld
    assert sized.kld <= min(one.kld for one in offered if one.size_bytes <= most_bytes)
    assert near.size_bytes <= min(one.size_bytes for one in offered if one.kld <= most_kld)
    for chosen in (sized, near):
        assert chosen.size_bytes == sum(cost.size_bytes[chosen.types[cost.name]] for cost in given_costs)
        assert abs(chosen.kld - sum(cost.kld[chosen.types[cost.name]] for cost in given_costs)) < 1e-9
    for cost in given_costs:
        for name in TYPES:
            more = cost.size_bytes[name] - cost.size_bytes[sized.types[cost.name]]
            assert sized.size_bytes + more > most_bytes or cost.kld[name] >= cost.kld[sized.types[cost.name]] - 1e-9
            extra = cost.kld[name] - cost.kld[near.types[cost.name]]
            assert near.kld + extra > most_kld - 1e-9 or cost.size_bytes[name] >= cost.size_bytes[near.types[cost.name]]


def test_a_large_tensor_does_not_leave_a_budget_unused() -> None:
    """The frontier's next step is the large tensor's, which does not fit; a small one's does."""
    large = TensorCosts("large", {"Q2_K": 100, "Q6_K": 300}, {"Q2_K": 10.0, "Q6_K": 1.0})
    small = TensorCosts("small", {"Q2_K": 10, "Q6_K": 30}, {"Q2_K": 0.5, "Q6_K": 0.1})
    found = within_size([large, small], 200)
    assert found is not None and found.types == {"large": "Q2_K", "small": "Q6_K"}
    near = within_kld([large, small], 1.6)
    assert near is not None and near.types == {"large": "Q6_K", "small": "Q2_K"}


def test_what_cannot_be_had_is_none() -> None:
    one = [TensorCosts("t", {"Q2_K": 10}, {"Q2_K": 0.5})]
    assert within_size(one, 9) is None and within_kld(one, 0.4) is None
