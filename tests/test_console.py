"""What a pipe gets is plain lines without spaces behind them; a terminal gets the same words."""

from __future__ import annotations

import pytest
from rich.console import Console

from edgeft.console import Output
from edgeft.errors import EdgeftError

ROWS = [("tokens", "", "12 records"), ("adapter", "[rank] was 8", ""), ("a-much-longer-name", "missing", "")]
LINES = [
    "artifact            state",
    "tokens              up to date    12 records",
    "adapter             [rank] was 8",
    "a-much-longer-name  missing",
]


def test_a_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Output().states(ROWS)
    assert capsys.readouterr().out.splitlines() == LINES


def test_a_place_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    output, place = Output(), "a.jsonl:100: wrong"
    output.line(place)
    output.problems(EdgeftError("wrong", "a.jsonl:100"))
    said = capsys.readouterr()
    assert said.out == f"{place}\n" and "a.jsonl:100:" in said.err


def test_a_table_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.out = Console(force_terminal=True, color_system=None, width=60)
    output.states(ROWS)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == LINES
