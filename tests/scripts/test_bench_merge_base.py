"""Answers of two models, compared in pairs."""

from __future__ import annotations

from itertools import product

import pytest
from bench_merge_base import compared, mcnemar

from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 3), (1, 9), (7, 4), (0, 12)])
def test_the_exact_test_counts_all_ways_to_win_and_lose(won: int, lost: int) -> None:
    """Every sequence of wins and losses is as likely as any other: those count that differ by as much or more."""
    ways = list(product((0, 1), repeat=won + lost))
    extreme = [way for way in ways if abs(2 * sum(way) - len(way)) >= abs(won - lost)]
    assert mcnemar(won, lost) == pytest.approx(len(extreme) / len(ways), rel=1e-12)


def test_answers_won_and_lost_are_counted() -> None:
    turns = ({"role": "user", "content": "on"}, {"role": "assistant", "content": '{"state": "on"}'})
    records = [Record(turns, Place("here"))] * 4
    right, wrong = '{ "state":"on" }', '{"state": "off"}'
    found = compared(records, [right, right, wrong, wrong], [right, wrong, wrong, right])
    assert (found["exact"], found["won"], found["lost"], found["chance"]) == (0.5, 1, 1, 1.0)
