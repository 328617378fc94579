"""How a training is cut so that it fits: recomputation first, then smaller batches of which more make a step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgeft.resources.memory import Job, Need, Strategy, predict

RESERVE = 0.08
"""Share of the card that is left alone: what lies unused between the allocator's blocks, and what is not counted."""


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        longest_first: tokens of the longest records, at least `batch_size` of them where there are as many.
        batch_size, accumulation: records of a forward pass, and forward passes of a step.
        token_budget: most tokens of a forward pass, in place of `batch_size`; for packed batches.
        padded: batches are padded to their longest record.
        recompute: None leaves it to the memory.
        processes: share the forward passes of a step, each as many.
    """

    longest_first: Sequence[int]
    batch_size: int
    accumulation: int
    token_budget: int | None
    recompute: bool | None
    padded: bool = False
    processes: int = 1


@dataclass(frozen=True)
class Choice:
    """How a training is cut, and what it then needs; `fits` says whether that may be used.

    Of a training that the arithmetic does not know, `job` None below, nothing is known to be needed.
    """

    batch_size: int
    accumulation: int
    token_budget: int | None
    strategy: Strategy
    need: Need
    fits: bool = True


def usable_bytes(free_bytes: int, card_bytes: int) -> int:
    """Returns what a training may plan with, of the free memory of a card."""
    return free_bytes - int(RESERVE * card_bytes)


def choose(job: Job | None, wish: Wish, usable: int | None) -> Choice:
    """Returns the first way that fits into `usable` bytes, or the smallest one there is, with `fits` false.

    In order: everything kept; every layer computed again, which changes no result; smaller batches. What remains of
    the memory then keeps the weights dequantized. With `usable` None (a CPU, which can borrow from its disk) nothing is
    cut and only what `wish` names is computed again.
    """
    if job is None or usable is None:
        return keep(job, wish, usable)
    choice = None
    for cut in _cuts(job, wish):
        for recompute in (False, True) if wish.recompute is None else (wish.recompute,):
            choice = _held_to(job, _with(job, cut, recompute=recompute), usable)
            if choice.fits:
                return choice
    assert choice is not None
    return choice


def keep(job: Job | None, wish: Wish, usable: int | None) -> Choice:
    """Returns what `wish` asks for, neither cut nor computed again to fit into `usable` bytes; `fits` says whether it
    does. What remains of the memory keeps the weights dequantized, which changes nothing but the speed."""
    return _held_to(job, _with(job, next(_cuts(job, wish)), recompute=bool(wish.recompute)), usable)


def step_down(job: Job | None, wish: Wish, choice: Choice, usable: int | None = None) -> Choice | None:
    """Returns what to do after `choice` ran out of memory: compute again, then half the batch; None for nothing more.

    The records of an optimizer step stay as many: half a batch is accumulated twice as often. With `usable` None it is
    taken to fit.
    """
    if not choice.strategy.recompute:
        return _held_to(job, _with(job, choice, recompute=True), usable)
    smaller = replace(
        wish, batch_size=choice.batch_size, accumulation=choice.accumulation, token_budget=choice.token_budget
    )
    following = next(itertools.islice(_cuts(job, smaller), 1, None), None)
    return None if following is None else _held_to(job, _with(job, following, recompute=True), usable)


def _cuts(job: Job | None, wish: Wish) -> Iterator[Choice]:
    """Yields the batches that are asked for, and smaller ones with the same number of records, or tokens, in a step.

    What the processes cannot share evenly is left out, or, where there is nothing to take instead, rounded up.
    """
    longest = wish.longest_first[0]
    batch_size, accumulation = wish.batch_size, wish.accumulation
    budget = None if wish.padded else wish.token_budget
    while True:
        if budget is not None:
            tokens = max(budget, longest)
        else:
            tokens = batch_size * longest if wish.padded else sum(wish.longest_first[:batch_size])
        if budget is not None or batch_size == 1:
            accumulation = -(-accumulation // wish.processes) * wish.processes
        if accumulation % wish.processes == 0:
            strategy = Strategy(tokens, longest, recompute=False)
            yield Choice(batch_size, accumulation, budget, strategy, _need(job, strategy))
        if budget is not None:
            if budget <= longest:
                return
            half = max(longest, budget // 2)
            accumulation, budget = round(accumulation * budget / half), half
        else:
            if batch_size == 1:
                return
            records = batch_size * accumulation
            batch_size = next(size for size in range(batch_size // 2, 0, -1) if records % size == 0)
            accumulation = records // batch_size


def _with(job: Job | None, choice: Choice, *, recompute: bool, resident: bool = False) -> Choice:
    strategy = replace(choice.strategy, recompute=recompute, resident=resident)
    return replace(choice, strategy=strategy, need=_need(job, strategy))


def _need(job: Job | None, strategy: Strategy) -> Need:
    return Need(0, 0, 0, 0, 0, 0, 0) if job is None else predict(job, strategy)


def _held_to(job: Job | None, choice: Choice, usable: int | None) -> Choice:
    """Says whether a choice fits, where that is known, and takes what room it leaves for the weights."""
    if job is None or usable is None:
        return replace(choice, fits=True)
    if choice.need.total > usable:
        return replace(choice, fits=False)
    return _with_room_for_weights(job, replace(choice, fits=True), usable)


def _with_room_for_weights(job: Job, choice: Choice, usable: int) -> Choice:
    """Keeps the weights dequantized where there is room; whoever computes again has little memory, or wants little."""
    if job.engine != "fast" or choice.strategy.recompute or job.shards > 1:
        return choice
    resident = _with(job, choice, recompute=False, resident=True)
    return resident if resident.need.total <= usable else choice
