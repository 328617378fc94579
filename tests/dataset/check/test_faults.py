"""One broken set for each fault: it is found at its place, by its code, with a remedy, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from check_cases import CLEAN, Lines, check, found
from tiny_model import make_tokenizer

from edgeft import hf
from edgeft.artifacts import Message
from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.codes import GROUPS
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.records import Record
from edgeft.errors import EdgeftError

USER, ANSWER = "messages[0].content", "messages[1].content"
FIRST = "train.jsonl:1"
JSON = tuple((question, json.dumps({"intent": f"i{n}", "slot": n})) for n, (question, _) in enumerate(CLEAN))
LABELS = tuple((f"{question} {n}", ("yes", "no")[n % 2]) for n in range(3) for question, _ in CLEAN)

FAULTS: list[tuple[str, Lines, str, str]] = [
    ("warning mojibake", [("Wie heiÃŸt das CafÃ©?", "Reply")], FIRST, USER),
    ("warning mojibake", [("What?", "Itâ€™s late.")], FIRST, ANSWER),
    ("warning mojibake", [("a kind reply", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚")], FIRST, ANSWER),
    ("warning mojibake", [("a smile", "ðŸ˜€")], FIRST, ANSWER),
    ("warning mojibake", [("20Â°C", "warm")], FIRST, USER),
    ("warning mojibake", [("Gdzie jest Å‚Ã³dka", "warm")], FIRST, USER),
    ("warning replacement-character", [("caf\ufffd", "Reply")], FIRST, USER),
    ("error nul", [("hello", "a\x00b")], FIRST, ANSWER),
    ("error lone-surrogate", [("half \ud83d", "Reply")], FIRST, USER),
    ("warning control-character", [("be\x07ll", "Reply")], FIRST, USER),
    ("warning byte-order-mark", [("\ufeffhello", "Reply")], FIRST, USER),
    ("warning bidi-control", [("pay \u202e001\u202c now", "Reply")], FIRST, USER),
    ("warning blank-text", [(" \n", "Reply")], FIRST, USER),
    ("warning blank-text", [("",)], FIRST, "text"),
    ("warning answer-whitespace", [("hello", " Reply")], FIRST, ANSWER),
    ("warning answer-whitespace", [("hello", "Reply\n")], FIRST, ANSWER),
    ("warning foreign-token-in-text", [("hello", "Reply<|im_end|>")], FIRST, ANSWER),
    ("warning foreign-token-in-text", [("[INST] hello", "Reply")], FIRST, USER),
    ("warning duplicate", [CLEAN[3]], "train.jsonl:4", ""),
    ("warning contradiction", [(CLEAN[3][0], "Another")], "train.jsonl:4", ""),
    ("info near-duplicate", [("how do I boil an egg so that the yolk stays soft", "So")], "train.jsonl:4", ""),
    ("info near-duplicate", [("How do I boil an egg so that the yolk stays soft, ok?", "So")], "train.jsonl:4", ""),
]


@pytest.mark.parametrize(("what", "lines", "place", "field"), FAULTS)
def test_one_fault(what: str, lines: Lines, place: str, field: str) -> None:
    severity, code = what.split()
    before = place == FIRST
    train = [*lines, *CLEAN] if before else [*CLEAN, *lines]
    place = place if before else f"train.jsonl:{len(train)}"
    report = check(train)
    assert found(report) == [(severity, code, place, field)]
    assert report.ok == (severity != "error")


JSON_FAULTS = [
    ("error unbalanced-json", '{"intent": "a", "slot": 1', ANSWER),
    ("error unbalanced-json", '```json\n{"intent": "a", "slot": [1}\n```', ANSWER),
    ("error unbalanced-json", '{"intent": "a", "slot": NaN}', ANSWER),
    ("warning answer-not-json", "I cannot do that.", ANSWER),
    ("warning fenced-json", '```json\n{"intent": "a", "slot": 1}\n```', ""),
    ("info json-keys", '{"intent": "a", "slots": 1}', ""),
]


@pytest.mark.parametrize(("what", "answer", "field"), JSON_FAULTS)
def test_one_answer_among_json(what: str, answer: str, field: str) -> None:
    severity, code = what.split()
    report = check([*JSON, ("And this one?", answer)])
    assert found(report) == [(severity, code, "train.jsonl:11", field)]


def test_broken_json_is_named_with_its_column() -> None:
    (finding,) = [f for f in check([*JSON, ("And?", '{"intent": "a" "slot": 1}')]).findings if f.severity == "error"]
    assert 'column 16: expecting \',\' delimiter, at the end of "{"intent": "a" "' in finding.message


def test_json_is_asked_of_no_set_of_prose() -> None:
    assert found(check([*CLEAN, ("An open bracket?", "{"), ("A list?", "[1, 2")])) == []


HELD_OUT = [
    ("error leak", CLEAN[3]),
    ("warning leak-prompt", (CLEAN[3][0], "Another")),
    ("warning leak-near", ("where does the river Elbe rise", "Another")),
]


@pytest.mark.parametrize(("what", "line"), HELD_OUT)
@pytest.mark.parametrize("split", ["evaluation", "test"])
def test_what_is_held_out_is_not_trained_on(split: str, what: str, line: tuple[str, ...]) -> None:
    severity, code = what.split()
    held_out = [("What colour is grass in spring?", "Green"), line]
    report = check(CLEAN, **{split: held_out})
    assert found(report) == [(severity, code, f"{split}.jsonl:2", "")]
    (finding,) = [f for f in report.findings if f.code == code]
    assert finding.message.startswith(f"this {split} ")
    assert f"train.jsonl:{1 if code == 'leak-near' else 4}" in finding.message


def test_a_leak_counts_more_than_a_duplicate_of_the_same_split() -> None:
    report = check(CLEAN, test=[CLEAN[0], CLEAN[0]])
    assert [row[:2] for row in found(report)] == [("error", "leak")] * 2


def test_a_contradiction_shows_both_answers() -> None:
    (finding,) = [f for f in check([*CLEAN, (CLEAN[3][0], "Saturn\nand others")]).findings if f.code == "contradiction"]
    assert finding.message == (
        'the prompt "Name three planets with rings." has two answers:\n'
        'train.jsonl:4: "Reply number 3, and no other."\n'
        'train.jsonl:11: "Saturn and others"'
    )


def test_a_system_message_is_no_likeness() -> None:
    system = "You are a patient assistant of a library, and you answer in one sentence. " * 5
    assert found(check([(system, *line) for line in CLEAN])) == []
    again = check([("Be brief.", *CLEAN[0]), ("Be long.", *CLEAN[0]), *CLEAN[1:]])
    assert found(again) == [("info", "near-duplicate", "train.jsonl:2", "")]


@pytest.mark.parametrize("plain", [False, True])
def test_special_tokens_of_the_model(plain: bool) -> None:
    lines = [(" ".join(line),) if plain else line for line in CLEAN]
    last = tuple(f"{text} <turn|>" for text in lines.pop())
    severity, fields = ("warning", ["text"]) if plain else ("error", [USER, ANSWER])
    report = check([*lines, last], special_tokens=("<turn|>", "<pad>"))
    assert found(report) == [(severity, "special-token-in-text", "train.jsonl:10", field) for field in fields]


def template(messages: Sequence[Message], add_generation_prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
    """ChatML that refuses one word."""
    text = VIEW.render(messages, add_generation_prompt, tools)
    if "unsayable" in text:
        raise EdgeftError("the chat template refuses this conversation")
    return text


VIEW = hf.tokenizer_view(make_tokenizer(), Path("nowhere"))
PICKY = replace(VIEW, render=template)
LONG = ("Say it.", "word " * 99 + "word"), ("word " * 150 + "end",)


@pytest.mark.parametrize(
    ("fate", "severity", "done"),
    [
        ("error", "error", ["", ""]),
        ("drop", "warning", ["dropped", "dropped"]),
        ("truncate", "warning", ["", "cut into pieces"]),
    ],
)
def test_over_length(fate: str, severity: str, done: list[str]) -> None:
    report = check([*CLEAN, *LONG], tokenizer=PICKY, max_tokens=100, over_length=fate)
    expected = [(severity, "over-length", f"train.jsonl:{line}", "") for line in (11, 12)]
    if fate == "truncate":  # of a single exchange nothing can be removed
        expected[0] = ("error", *expected[0][1:])
    assert found(report) == expected
    messages = {f.place.line: f.message for f in report.findings if f.code == "over-length"}
    assert all(word in messages[line] for line, word in zip((11, 12), done, strict=True))
    lengths = report.figures["training"]["lengths"]
    longest = len(VIEW.encode(LONG[1][0])) + 1
    assert (lengths["unit"], lengths["longest"], lengths["longest_at"]) == ("tokens", longest, "train.jsonl:12")
    assert lengths["over_length"] == 2
    assert 0 < lengths["trained"] < lengths["total"]


def test_a_template_that_refuses() -> None:
    report = check([*CLEAN, ("Say it.", "unsayable")], tokenizer=PICKY)
    assert found(report) == [("error", "template-refuses", "train.jsonl:11", "")]


def test_what_cannot_be_trained_is_found_as_the_tokens_stage_finds_it() -> None:
    endless = replace(VIEW, end_ids=[])
    report = check(CLEAN, tokenizer=endless)
    assert {row[1] for row in found(report)} == {"turn-without-end"}
    assert report.found["error", "turn-without-end"] == len(CLEAN)
    assert "lengths" in report.figures["training"]


def test_thresholds() -> None:
    def codes(**settings: Any) -> set[str]:
        return {finding.code for finding in check(LABELS, **settings).findings}

    assert "few-records" in codes() and "few-records" not in codes(few_records=30)
    assert "label-imbalance" in codes(label_share=0.6) and "label-imbalance" not in codes()
    assert "rare-label" in codes(label_examples=11) and "rare-label" not in codes()
    alike = [*CLEAN, ("How do I boil an egg so that the yolk stays soft, ok?", "So")]
    assert [row[1] for row in found(check(alike))] == ["near-duplicate"]
    assert found(check(alike, near_threshold=0.99)) == []


def test_labels() -> None:
    # One prompt in three forms that differ in their last digit alone would be near-duplicates: only labels count here.
    def labels(lines: Lines) -> list[tuple[str, ...]]:
        return [row[1:3] for row in found(check(lines)) if "label" in row[1]]

    assert labels(LABELS) == []
    assert labels([*LABELS, ("One more of them?", "yess")]) == [("rare-label", "train.jsonl:31")]
    assert labels([(user, "yes" if n else "no") for n, (user, _) in enumerate(LABELS)]) == [
        ("label-imbalance", "train.jsonl"),
        ("rare-label", "train.jsonl:1"),
    ]
    assert check(LABELS).figures["training"]["labels"] == {"answer": {"yes": 20, "no": 10}}


def test_a_key_of_json_answers_may_be_the_label() -> None:
    lines = [(user, json.dumps({"intent": answer, "text": user})) for user, answer in LABELS]
    assert check(lines).figures["training"]["labels"] == {"intent": {"yes": 20, "no": 10}}


@pytest.mark.parametrize(("count", "word"), [(99, "trial"), (100, "narrow"), (999, "narrow"), (1000, "")])
def test_few_records(count: int, word: str) -> None:
    report = check([(f"{n * 7919}", f"{n}") for n in range(count)])
    (message,) = [f.message for f in report.findings if f.code == "few-records"] or [""]
    assert word in message and bool(word) == bool(message)


def test_what_a_reader_found_is_in_the_report() -> None:
    broken = Finding("error", "bad-json", Place("train.jsonl", 3), "not valid JSON", "mend it")
    report = check([*CLEAN[:2], broken, *CLEAN[2:]])
    assert found(report) == [("error", "bad-json", "train.jsonl:3", "")]
    assert report.records == {"training": 10}


BROKEN = Finding("error", "bad-json", Place("train.jsonl", 1), "no JSON", "mend it")


@pytest.mark.parametrize(("lines", "code"), [([], "no-records"), ([BROKEN], "bad-json")])
def test_no_records(lines: Lines, code: str) -> None:
    report = check(lines)
    assert not report.ok
    assert [finding.code for finding in report.findings] == [code]  # what is broken says why there is nothing else


def test_tool_calls_are_looked_at_and_no_blank_answer() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"q": "a\ufffd"}'}}
    messages = ({"role": "user", "content": "Look."}, {"role": "assistant", "content": None, "tool_calls": [call]})
    report = check_records([Record(messages, Place("t", 1), ({"name": "f"},))], None, None, CheckSettings())
    assert found(report) == [("warning", "replacement-character", "t:1", "messages[1].tool_calls")]


def test_every_fault_has_its_test() -> None:
    tables = ([row[0] for row in FAULTS], [row[0] for row in JSON_FAULTS], [row[0] for row in HELD_OUT])
    tested = {what.split()[1] for table in tables for what in table}
    elsewhere = {"few-records", "no-records", "label-imbalance", "rare-label", "special-token-in-text", "over-length"}
    elsewhere |= {"template-refuses", "language-mix", "language-not-trained", "script-not-trained"}
    found_by_checks = set().union(*(GROUPS[name] for name in ("Text", "Answers", "The set as a whole")))
    assert tested | elsewhere == found_by_checks | {"no-records", "lone-surrogate", "over-length", "template-refuses"}
