"""What is chosen for a card, and how a training steps down."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_shapes import SHAPES

from edgeft.resources import Choice, Job, ModelShape, Wish, choose, step_down
from edgeft.resources.memory import Engine, Strategy, predict

GIB = 2**30
LENGTHS = (2000, 1500, 1200, 900, 800, 700, 600, 500)


def job(engine: Engine = "fast") -> Job:
    shape = ModelShape.read(SHAPES["8b"].to_dict())
    return Job(shape, 16, frozenset(shape.linears), engine)


def wish(**changes: int | bool | None) -> Wish:
    values = {"batch_size": 8, "accumulation": 2, "token_budget": None, "recompute": None} | changes
    return Wish(longest_first=LENGTHS, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("usable_gib", "recompute", "resident", "batch_size"),
    [(74, False, True, 8), (36, False, False, 8), (16, True, False, 8), (8, True, False, 1)],
    ids=["80 GB", "40 GB", "16 GB", "8 GB"],
)
def test_the_card_decides(usable_gib: int, recompute: bool, resident: bool, batch_size: int) -> None:
    chosen = choose(job(), wish(), usable_gib * GIB)
    assert chosen.fits
    assert chosen.need.total <= usable_gib * GIB
    assert (chosen.strategy.recompute, chosen.strategy.resident) == (recompute, resident)
    assert (chosen.batch_size, chosen.batch_size * chosen.accumulation) == (batch_size, 16)


def test_what_is_set_is_kept() -> None:
    assert not choose(job(), wish(recompute=False), 9 * GIB).strategy.recompute
    assert choose(job(), wish(recompute=True), 74 * GIB).strategy.recompute
    assert choose(job(), wish(token_budget=4096), 74 * GIB).strategy.tokens == 4096


def test_what_does_not_fit_is_said() -> None:
    chosen = choose(job(), wish(), 6 * GIB)
    assert (chosen.fits, chosen.batch_size, chosen.strategy.recompute) == (False, 1, True)


def test_a_cpu_is_not_cut() -> None:
    chosen = choose(job(), wish(), None)
    assert (chosen.batch_size, chosen.accumulation, chosen.strategy.recompute) == (8, 2, False)


@pytest.mark.parametrize("shards", [1, 2])
def test_two_cards_that_share_the_weights_out_need_not_compute_70b_again(shards: int) -> None:
    shared = replace(job(), shape=ModelShape.read(SHAPES["70b"].to_dict()), shards=shards)
    chosen = choose(shared, wish(token_budget=3072), 72 * GIB)
    assert chosen.fits
    assert (chosen.strategy.recompute, chosen.strategy.resident) == (shards == 1, False)


def test_weights_are_whole_while_they_are_loaded() -> None:
    alone = predict(job(), Strategy(64, 64, recompute=True))
    shared = predict(replace(job(), shards=8), Strategy(64, 64, recompute=True))
    assert shared.weights < alone.weights / 4
    assert shared.total == alone.weights + alone.embeddings


def steps(engine: Engine, choice: Choice, asked: Wish) -> list[Choice]:
    """All there is to step down to."""
    following = step_down(job(engine), asked, choice)
    return [] if following is None else [following, *steps(engine, following, asked)]


@pytest.mark.parametrize("engine", ["fast", "plain", "padded"])
def test_it_steps_down_to_recomputation_and_then_to_single_records(engine: Engine) -> None:
    asked = wish(batch_size=6, accumulation=1, padded=engine == "padded")
    found = steps(engine, choose(job(engine), asked, 400 * GIB), asked)
    assert [(c.batch_size, c.accumulation) for c in found] == [(6, 1), (3, 2), (1, 6)]
    assert all(choice.strategy.recompute and not choice.strategy.resident for choice in found)
    totals = [choice.need.total for choice in found]
    assert totals == sorted(totals, reverse=True)


def test_a_token_budget_is_halved_down_to_the_longest_record() -> None:
    asked = wish(token_budget=8000, recompute=True)
    found = steps("fast", choose(job(), asked, 74 * GIB), asked)
    assert [(c.token_budget, c.accumulation) for c in found] == [(4000, 4), (2000, 8)]


@pytest.mark.parametrize(
    ("asked", "cuts"),
    [
        (wish(batch_size=5), [(5, 2), (1, 10)]),
        (wish(batch_size=6), [(6, 2), (3, 4), (1, 12)]),
        (wish(token_budget=3000), [(8, 2), (8, 4)]),
    ],
    ids=["no half", "halves", "tokens"],
)
def test_processes_can_share_what_it_is_cut_into(asked: Wish, cuts: list[tuple[int, int]]) -> None:
    """A batch of 5 twice is no 2 five times for two processes, and 3,000 tokens twice are no 2,000 three times."""
    shared = replace(asked, processes=2, recompute=True)
    first = choose(job(), shared, 74 * GIB)
    assert [(c.batch_size, c.accumulation) for c in (first, *steps("fast", first, shared))] == cuts


def test_what_the_arithmetic_does_not_know_steps_down_as_well() -> None:
    asked = wish(batch_size=4, accumulation=1, padded=True, recompute=False)
    first = choose(None, asked, 9 * GIB)
    second = step_down(None, asked, first)
    assert second is not None
    third = step_down(None, asked, second)
    assert third is not None
    assert (first.strategy.recompute, second.strategy.recompute) == (False, True)
    assert (third.batch_size, third.accumulation, third.need.total) == (2, 2, 0)
