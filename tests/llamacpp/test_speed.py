"""A speed is the median of rounds, and is called steady where other work did not move it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeft.answer_form import AnswerForm
from edgeft.artifacts import GgufFile
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record
from edgeft.evaluate.report import Answer, write_eval_report
from edgeft.llamacpp import Engine, file_speed, generation_speed
from edgeft.llamacpp.speed import speed_of

_FREE, _TAKEN = [True] * 5, [False] * 5


@pytest.mark.parametrize(
    ("rates", "free", "rate", "steady"),
    [
        ([10.0, 10.5, 9.5, 10.0, 10.0], _FREE, 10.0, True),
        ([10.0, 0.1, 10.0, 10.0, 10.0], _FREE, 10.0, True),  # one hiccup
        ([10.0, 10.0, 7.0, 7.0, 13.0], _FREE, 10.0, False),
        ([10.0] * 5, _TAKEN, 10.0, False),  # two programs that share the cores evenly
        ([10.0] * 5, [True, False, False, True, True], 10.0, True),
        ([10.0] * 5, [True, False, False, False, True], 10.0, False),
    ],
)
def test_what_is_steady(rates: Sequence[float], free: Sequence[bool], rate: float, steady: bool) -> None:
    found = speed_of(rates, free)
    assert (found.tokens_per_second, found.steady) == (rate, steady)


def test_a_short_context_has_a_speed_and_keeps_nothing(tiny_f16: GgufFile) -> None:
    with Engine(tiny_f16, 12, threads=1) as engine:
        assert generation_speed(engine).tokens_per_second > 0
        assert engine.n_ctx == 12
    assert file_speed(tiny_f16, threads=1).tokens_per_second > 0


@pytest.mark.parametrize(("rate", "written"), [(None, None), (12.345, 12.3)])
def test_a_speed_that_could_not_be_measured_is_left_out(rate: float | None, written: object, tmp_path: Path) -> None:
    record = Record(({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}), Place("test", 1))
    write_eval_report([record], [Answer("b", "b", 1, True)], AnswerForm(), lambda *_: "b", rate, tmp_path)
    assert json.loads((tmp_path / "eval.json").read_text())["tokens_per_second"] == written
