"""Which type each tensor gets: the least divergence for a size, or the least size for a divergence.

Divergences of single tensors add up where they are small. So it is a knapsack with one choice for each tensor, and the
greedy walk along the tensors' convex hulls gives its best solutions (Sinha and Zoltners 1979), all sizes at once.
Between two of them, a step of one large tensor apart, single changes that fit take what a budget has left.
"""

from __future__ import annotations

import itertools
import math
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


def within_size(costs: Sequence[TensorCosts], most_bytes: int) -> Assignment | None:
    """Returns the least divergence for at most so many bytes; None when the smallest types take more."""
    within = [one for one in frontier(costs) if one.size_bytes <= most_bytes]
    return _changed(within[-1], costs, most_bytes, math.inf) if within else None


def within_kld(costs: Sequence[TensorCosts], most_kld: float) -> Assignment | None:
    """Returns the least bytes for at most so much divergence; None when the best types diverge more."""
    within = [one for one in frontier(costs) if one.kld <= most_kld]
    return _changed(within[0], costs, within[0].size_bytes, most_kld) if within else None


def _changed(chosen: Assignment, costs: Sequence[TensorCosts], most_bytes: int, most_kld: float) -> Assignment:
    """Changes one tensor after another as long as that is within both and better by what is not limited."""
    by_size = math.isinf(most_kld)
    while True:
        best: tuple[float, Assignment] | None = None
        for cost in costs:
            now = chosen.types[cost.name]
            for name in cost.size_bytes:
                more_bytes, more_kld = cost.size_bytes[name] - cost.size_bytes[now], cost.kld[name] - cost.kld[now]
                size_bytes, kld = chosen.size_bytes + more_bytes, chosen.kld + more_kld
                better, price = (-more_kld, more_bytes) if by_size else (-more_bytes, more_kld)
                if better <= 0 or size_bytes > most_bytes or kld > most_kld:
                    continue
                worth = better / price if price > 0 else math.inf
                if best is None or worth > best[0]:
                    best = worth, Assignment({**chosen.types, cost.name: name}, size_bytes, kld)
        if best is None:
            return chosen
        chosen = best[1]


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
