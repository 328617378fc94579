"""The report on records fits a terminal, and a pipe gets whole lines of plain text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeft.dataset.check.report import CheckReport, Tally
from edgeft.dataset.findings import Finding, Place
from edgeft.tables import findings_table


def report() -> CheckReport:
    tally = Tally()
    two = (
        'the prompt "[bold]Which?" has two answers:\ntrain.jsonl:4: "This, and it is a long one"\ntrain.jsonl:9: "That"'
    )
    tally.add(
        [
            Finding("warning", "contradiction", Place("train.jsonl", 9), two, "keep the right one"),
            *(Finding("error", "nul", Place("train.jsonl", n), f"NUL {n}", "remove it", "text") for n in range(1, 6)),
            Finding("info", "json-keys", Place("f" * 90, 1), "lacks a", "add a"),
            Finding("info", "json-keys", Place("g", 1), "lacks b", "add b"),
        ]
    )
    lengths = {"unit": "tokens", "percentiles": {"50": 12, "95": 1234}, "longest": 5000, "longest_at": "train.jsonl:7"}
    figures = {"training": {"lengths": lengths, "labels": {"intent": {"on": 3, "off": 1}}, "prompts": {}}}
    return tally.report({"training": 1234}, figures)


def printed(width: int, shown: CheckReport) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*findings_table(shown), sep="\n")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_in_a_pipe() -> None:
    assert printed(1000, report()).splitlines() == [
        "error nul  5  a NUL character, which ends the text in C programs",
        "  train.jsonl:1 text",
        "    NUL 1",
        "  train.jsonl:2 text",
        "    NUL 2",
        "  train.jsonl:3 text",
        "    NUL 3",
        "  and 2 more",
        "  -> remove it",
        "",
        "warning contradiction  1  one prompt with two answers",
        "  train.jsonl:9",
        '    the prompt "[bold]Which?" has two answers:',
        '      train.jsonl:4: "This, and it is a long one"',
        '      train.jsonl:9: "That"',
        "  -> keep the right one",
        "",
        "info json-keys  2  a JSON answer with other keys than nearly all have",
        "  " + "f" * 90 + ":1",
        "    lacks a",
        "    -> add a",
        "  g:1",
        "    lacks b",
        "    -> add b",
        "",
        "training  1,234 records",
        "  tokens: half within 12, 95% within 1,234, longest 5,000 at train.jsonl:7",
        "  intent: 75% on, 25% off",
        "",
        "5 errors, 1 warning, 2 notes  --places shows more of each kind, --json all",
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_on_a_terminal_nothing_is_cut(width: int) -> None:
    text = printed(width, report())
    assert max(map(len, text.splitlines())) <= width
    assert "".join(text.split()) == "".join(printed(1000, report()).split())


def test_nothing_to_say() -> None:
    text = printed(80, Tally().report({"training": 5000}, {}))
    assert text.split("\n") == ["training  5,000 records", "", "nothing to say", ""]
