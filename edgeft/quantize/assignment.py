"""Which type each tensor gets: the least divergence for a size, or the least size for a divergence.

Divergences of single tensors add up where they are small. So it is a knapsack with one choice for each tensor, and the
greedy walk along the tensors' convex hulls gives its best solutions (Sinha and Zoltners 1979), all sizes at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeft.quantize.costs import TensorCosts


@dataclass(frozen=True)
class Assignment:
    """A type for each tensor, by name, with the bytes of all of them and the sum of their divergences, in nats."""

    types: dict[str, str]
    size_bytes: int
    kld: float


def frontier(costs: Sequence[TensorCosts]) -> list[Assignment]:
    """Returns the best assignments, from the smallest to the largest; each differs from the last in one tensor."""
    hulls = {cost.name: list(_hull(cost)) for cost in costs}
    by_name = {cost.name: cost for cost in costs}
    steps = [
        (_gain(by_name[name], smaller, larger), name, larger)
        for name, hull in hulls.items()
        for smaller, larger in itertools.pairwise(hull)
    ]
    types = {name: hull[0] for name, hull in hulls.items()}
    size_bytes = sum(by_name[name].size_bytes[chosen] for name, chosen in types.items())
    kld = sum(by_name[name].kld[chosen] for name, chosen in types.items())
    found = [Assignment(dict(types), size_bytes, kld)]
    # A stable sort: along one hull the gains fall, so its steps stay in their order.
    for _, name, larger in sorted(steps, key=lambda step: -step[0]):
        cost, smaller = by_name[name], types[name]
        size_bytes += cost.size_bytes[larger] - cost.size_bytes[smaller]
        kld += cost.kld[larger] - cost.kld[smaller]
        types[name] = larger
        found.append(Assignment(dict(types), size_bytes, kld))
    return found


def _gain(cost: TensorCosts, smaller: str, larger: str) -> float:
    """Returns the divergence that a byte more takes away."""
    return (cost.kld[smaller] - cost.kld[larger]) / (cost.size_bytes[larger] - cost.size_bytes[smaller])


def _hull(cost: TensorCosts) -> Iterator[str]:
    """Yields the types on the lower convex hull of divergence over size, from the smallest to the best."""
    left = sorted(cost.size_bytes, key=lambda name: (cost.size_bytes[name], cost.kld[name]))
    here = left[0]
    yield here
    while True:
        better = [
            name for name in left if cost.size_bytes[name] > cost.size_bytes[here] and cost.kld[name] < cost.kld[here]
        ]
        if not better:
            return
        here = max(better, key=lambda name: (_gain(cost, here, name), cost.size_bytes[name]))
        yield here
