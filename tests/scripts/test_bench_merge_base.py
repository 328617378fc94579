"""Answers of two models, compared in pairs."""

from __future__ import annotations

import pytest
from bench_merge_base import compared, mcnemar
from scipy.stats import binomtest

from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 3), (1, 9), (40, 20), (0, 350)])
def test_the_exact_test_is_scipys(won: int, lost: int) -> None:
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9)


def test_answers_won_and_lost_are_counted() -> None:
    turns = ({"role": "user", "content": "on"}, {"role": "assistant", "content": '{"state": "on"}'})
    records = [Record(turns, Place("here"))] * 4
    right, wrong = '{ "state":"on" }', '{"state": "off"}'
    found = compared(records, [right, right, wrong, wrong], [right, wrong, wrong, right])
    assert (found["exact"], found["won"], found["lost"], found["chance"]) == (0.5, 1, 1, 1.0)
