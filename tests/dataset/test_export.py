"""What is exported reads back as the same records; what a format cannot say is told and left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.dataset.export import ExportReport, Price, export
from edgeft.dataset.export_formats import Format
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.openai_rules import LEAST_EXAMPLES, MOST_BYTES, TOKEN_LIMIT, approximate_tokens, check_file
from edgeft.dataset.record import Record
from edgeft.dataset.records import read_records
from edgeft.errors import EdgeftError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANSWER = TEXT.filter(lambda text: bool(text.strip()))


def chat(*texts: str, system: str | None = None, tools: tuple[dict[str, Any], ...] = ()) -> Record:
    """Returns a record of alternating questions and answers."""
    turns: list[dict[str, Any]] = [{"role": "system", "content": system}] if system is not None else []
    turns += [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return Record(tuple(turns), Place("a", 1), tools)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A conversation with a system message or without, of one exchange or several, some of them not trained."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXT)})
    count = draw(st.integers(1, 3))
    for number in range(count):
        untrained = {"weight": 0} if number < count - 1 and draw(st.booleans()) else {}
        messages.append({"role": "user", "content": draw(TEXT)})
        messages.append({"role": "assistant", "content": draw(ANSWER)} | untrained)
    return Record(tuple(messages), Place("a", 1))


@st.composite
def calling(draw: st.DrawFn) -> Record:
    """A conversation with calls, answered or at its end."""
    arguments = draw(
        st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.lists(st.booleans(), max_size=2), max_size=2)
    )
    call = {"id": draw(ANSWER), "type": "function", "function": {"name": "light", "arguments": arguments}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": draw(TEXT)},
        {"role": "assistant", "content": draw(TEXT), "tool_calls": [call]},
        {"role": "tool", "content": draw(TEXT), "tool_call_id": call["id"]},
        {"role": "assistant", "content": draw(ANSWER)},
    ]
    tool = {"type": "function", "function": {"name": "light", "parameters": {"type": "object"}}}
    return Record(tuple(turns[: draw(st.sampled_from([2, 4]))]), Place("a", 1), (tool,))


def expressible(record: Record, to: Format) -> bool:
    """Returns whether a format has a place for all of a record."""
    weighted = any("weight" in message for message in record.messages)
    empty_system = record.messages[0] == {"role": "system", "content": ""}
    return not (record.tools and to != "openai") and not (to == "alpaca" and (weighted or empty_system))


@pytest.mark.parametrize("to", get_args(Format))
@settings(max_examples=40, deadline=None)
@given(st.lists(records() | calling(), min_size=1, max_size=4), st.sampled_from([".jsonl", ".json"]))
def test_what_is_exported_reads_back(
    tmp_path_factory: pytest.TempPathFactory, to: Format, made: list[Record], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("export")
    kept = [record for record in made if expressible(record, to)]
    if not kept:
        with pytest.raises(EdgeftError):
            export(made, to, folder / "there.jsonl")
        return
    report = export(made, to, folder / ("there.jsonl" if to == "openai" else f"there{suffix}"))
    assert (report.records_in, report.records_out, report.refused) == (len(made), len(kept), len(made) - len(kept))
    there = read_records(report.path)
    assert [(record.messages, record.tools) for record in there] == [(record.messages, record.tools) for record in kept]
    back = read_records(export(there, "openai", folder / "back.jsonl").path)
    assert [record.content_hash for record in back] == [record.content_hash for record in kept]


@pytest.mark.parametrize("to", get_args(Format))
def test_other_libraries_read_the_files(tmp_path: Path, to: Format) -> None:
    made = [chat(f"q{n}", f"a{n}", "again?", "yes", system="Be brief.") for n in range(3)]
    path = export(made, to, tmp_path / "out.jsonl").path
    dataset = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset.to_list() == [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_alpaca_rows(tmp_path: Path) -> None:
    path = export([chat("a", "b", "c", "d", system="s"), chat("a", "b")], "alpaca", tmp_path / "out.json").path
    assert json.loads(path.read_text()) == [
        {"instruction": "c", "input": "", "output": "d", "system": "s", "history": [["a", "b"]]},
        {"instruction": "a", "input": "", "output": "b"},
    ]


def test_sharegpt_rows(tmp_path: Path) -> None:
    path = export([chat("a", "b", system="s")], "sharegpt", tmp_path / "out.jsonl").path
    turns = [("system", "s"), ("human", "a"), ("gpt", "b")]
    assert json.loads(path.read_text()) == {"conversations": [{"from": who, "value": what} for who, what in turns]}


def codes(report: ExportReport) -> list[tuple[str, str, str]]:
    """Returns the severity, code and field of the findings."""
    return [(finding.severity, finding.code, finding.field) for finding in report.findings]


TOOL = {"type": "function", "function": {"name": "light"}}
PLAIN = Record(({"role": "text", "content": "Once."},), Place("b", 2))


@pytest.mark.parametrize(
    ("to", "refused", "field"),
    [
        ("openai", PLAIN, "text"),
        ("sharegpt", PLAIN, "text"),
        ("alpaca", PLAIN, "text"),
        ("sharegpt", chat("a", "b", tools=(TOOL,)), "tools"),
        ("alpaca", chat("a", "b", tools=(TOOL,)), "tools"),
        ("alpaca", chat("a", "b", system=""), "messages[0].content"),
    ],
)
def test_what_cannot_be_said_is_left_out_and_told(tmp_path: Path, to: Format, refused: Record, field: str) -> None:
    report = export([*[chat("a", "b")] * 10, refused], to, tmp_path / "out.jsonl")
    assert codes(report) == [("error", "not-expressible", field)]
    assert (report.records_out, report.refused, report.ok) == (10, 1, False)
    assert report.findings[0].place == refused.place
    with pytest.raises(EdgeftError):
        export([refused], to, tmp_path / "none.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_error_of_the_records_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Any:
        yield chat("a", "b")
        raise EdgeftError("no more")

    with pytest.raises(EdgeftError, match="no more"):
        export(failing(), "openai", tmp_path / "out.jsonl")
    with pytest.raises(EdgeftError, match="there are no records"):
        export([], "openai", tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_the_rules_of_the_hosted_service(tmp_path: Path) -> None:
    bad_name = {"type": "function", "function": {"name": "turn on"}}
    few = export([chat("a", "b")] * (LEAST_EXAMPLES - 1), "openai", tmp_path / "few.jsonl")
    assert codes(few) == [("error", "too-few-examples", "")]
    enough = [chat("a", "b")] * LEAST_EXAMPLES
    assert export(enough, "openai", tmp_path / "enough.jsonl").ok
    assert codes(export(enough[1:], "sharegpt", tmp_path / "other.jsonl")) == []
    named = export([*enough, chat("a", "b", tools=(bad_name,))], "openai", tmp_path / "named.jsonl")
    assert codes(named) == [("error", "tool-name", "tools[0].function.name")]
    assert named.records_out == LEAST_EXAMPLES
    many = export([*enough, chat("a", "b", tools=(TOOL,) * 129)], "openai", tmp_path / "many.jsonl")
    assert codes(many) == [("warning", "too-many-tools", "tools")]


def test_tokens_and_their_price(tmp_path: Path) -> None:
    made = [chat("one two three", "four five")] * 10
    # A chat: 3 for the reply, 3 a message, its role and its words.
    each = 3 + (3 + 1 + 3) + (3 + 1 + 2)
    price = Price(25.0, epochs=2)
    report = export(made, "openai", tmp_path / "a.jsonl", count=lambda text: len(text.split()), price=price)
    assert (report.tokens, report.counted, report.ok) == (each * 10, "with the tokenizer given", True)
    assert report.cost == pytest.approx(each * 10 * 2 * 25 / 1e6)
    guessed = export(made, "openai", tmp_path / "b.jsonl")
    assert (guessed.cost, guessed.counted.startswith("approximately")) == (None, True)
    assert export(made, "alpaca", tmp_path / "c.jsonl", price=price).cost is None
    assert approximate_tokens("äb🙂") == 2


def test_an_over_long_example_is_trained_as_far_as_the_limit(tmp_path: Path) -> None:
    made = [*[chat("a", "b")] * 9, chat("a", "b" * 4 * TOKEN_LIMIT)]
    report = export(made, "openai", tmp_path / "a.jsonl")
    assert codes(report) == [("warning", "too-many-tokens", "messages")]
    assert (report.ok, report.records_out) == (True, 10)
    assert report.tokens is not None
    assert TOKEN_LIMIT < report.tokens < TOKEN_LIMIT + 200
    assert codes(export(made, "openai", tmp_path / "b.jsonl", token_limit=10**6)) == []


def test_findings_are_counted_where_there_are_many(tmp_path: Path) -> None:
    report = export([chat("a", "b"), *[PLAIN] * 250], "sharegpt", tmp_path / "a.jsonl")
    assert len(report.findings) == 100
    assert report.counts == {"not-expressible": 250}
    assert all(isinstance(finding, Finding) for finding in report.findings)


def test_the_service_takes_only_one_ending(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"end with \.jsonl") as caught:
        export([chat("a", "b")], "openai", tmp_path / "out.json")
    assert caught.value.problems[0].remedy == f"write to {tmp_path / 'out.jsonl'}"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large() -> None:
    place = Place("out.jsonl")
    assert list(check_file(LEAST_EXAMPLES, MOST_BYTES, place)) == []
    (finding,) = check_file(LEAST_EXAMPLES, MOST_BYTES + 10**6, place)
    assert (finding.code, finding.message[:6]) == ("too-large-file", "513 MB")
