"""A folder of broken files: each fault is found by file, line and field, with a remedy, and nothing else is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from check_cases import CLEAN
from tiny_model import make_tokenizer

from edgeft import hf
from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.sources import stream

VIEW = hf.tokenizer_view(make_tokenizer(), Path("nowhere"))
SETTINGS = CheckSettings(max_tokens=120, special_tokens=("<|im_start|>", "<|im_end|>"))


def chat(*turns: tuple[str, Any], **keys: Any) -> str:
    """Returns a conversation as a line."""
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns], **keys})


def asked(question: str, answer: Any) -> str:
    return chat(("user", question), ("assistant", answer))


GOOD = [asked(*line) for line in CLEAN]
JSON = [asked(question, json.dumps({"intent": f"i{n}"})) for n, (question, _) in enumerate(CLEAN)]


def lines(*broken: str, good: list[str] = GOOD) -> bytes:
    """Returns good lines with broken ones after them: the first of these is line 11."""
    return "".join(f"{line}\n" for line in (*good, *broken)).encode("utf-8", "surrogatepass")


FIRST, SECOND = "messages[0].content", "messages[1].content"
FILES: dict[str, tuple[bytes, list[tuple[str, str, int, str]]]] = {
    "no-json.jsonl": (lines('{"messages": ['), [("error", "invalid-json", 11, "")]),
    "two-keys.jsonl": (lines('{"messages": [], "messages": []}'), [("error", "duplicate-key", 11, "")]),
    "nan.jsonl": (lines('{"prompt": "a", "completion": NaN}'), [("error", "not-a-number", 11, "")]),
    "keys.jsonl": (lines('{"foo": "a"}', "7"), [("error", "unknown-format", line, "") for line in (11, 12)]),
    "no-content.jsonl": (lines('{"messages": [{"role": "user"}]}'), [("error", "missing-key", 11, FIRST)]),
    "type.jsonl": (lines('{"messages": "hi"}'), [("error", "wrong-type", 11, "messages")]),
    "role.jsonl": (lines(chat(("user", "a"), ("bot", "b"))), [("error", "unknown-role", 11, "messages[1].role")]),
    "order.jsonl": (
        lines(chat(("assistant", "a"), ("user", "b")), chat(("user", "a"), ("user", "b"), ("assistant", "c"))),
        [("error", "role-order", line, "messages") for line in (11, 12)],
    ),
    "empty.jsonl": (
        lines(asked("a", ""), asked("b", " \n")),
        [("error", "empty-answer", line, SECOND) for line in (11, 12)],
    ),
    "latin-1.jsonl": (lines() + b'{"prompt": "caf\xe9", "completion": "a"}\n', [("error", "not-utf8", 11, "")]),
    "mojibake.jsonl": (lines(asked("Wie hei\u00c3\u0178t das?", "a")), [("warning", "mojibake", 11, FIRST)]),
    "nul.jsonl": (lines(asked("a\x00b", "a")), [("error", "nul", 11, FIRST)]),
    "surrogate.jsonl": (lines(asked("half \ud83d", "a")), [("error", "lone-surrogate", 11, FIRST)]),
    "unbalanced.jsonl": (
        lines(asked("And this?", '{"intent": "a"'), good=JSON),
        [("error", "unbalanced-json", 11, SECOND)],
    ),
    "duplicate.jsonl": (lines(GOOD[3]), [("warning", "duplicate", 11, "")]),
    "near.jsonl": (
        lines(asked("how do I boil an egg so that the yolk stays soft", "So")),
        [("info", "near-duplicate", 11, "")],
    ),
    "contradiction.jsonl": (lines(asked(CLEAN[3][0], "Another")), [("warning", "contradiction", 11, "")]),
    "injection.jsonl": (lines(asked("say <|im_end|> now", "a")), [("error", "special-token-in-text", 11, FIRST)]),
    "long.jsonl": (lines(asked("word " * 200, "a")), [("error", "over-length", 11, "")]),
    "cells.csv": (b"prompt,completion\nHello there,hi\na,b,c\n", [("error", "column-count", 3, "")]),
    "header.csv": (b"prompt,prompt\na,b\n", [("error", "bad-header", 1, "")]),
    "alpaca.json": (
        b'[\n{"instruction": "Name a tree", "output": "oak"},\n{"instruction": "Name one", "output": ""}\n]\n',
        [("error", "empty-answer", 3, "output")],
    ),
    "cut.jsonl.gz": (gzip.compress(lines(), mtime=0)[:-9], [("error", "truncated", 11, "")]),
    "fake.parquet": (b"PAR1", [("error", "corrupt-file", 0, "")]),
    "nothing.jsonl": (b"", [("error", "no-records", 0, "")]),
}
SOME = ("few-records", "rare-label", "language-mix")  # of ten records nothing else can be said


@pytest.mark.parametrize("name", FILES)
def test_each_fault_is_found_at_its_line(tmp_path: Path, name: str) -> None:
    content, expected = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    report = check_records(stream(path), None, None, SETTINGS, VIEW)
    found = [f for f in report.findings if f.code not in SOME]
    assert [(f.severity, f.code, f.place.line, f.field) for f in found] == expected
    assert all(f.place.file == str(path) and f.message and f.remedy for f in found)


def test_all_at_once(tmp_path: Path) -> None:
    for name, (content, _) in FILES.items():
        (tmp_path / name).write_bytes(content)
    report = check_records(stream(tmp_path), None, None, SETTINGS, VIEW)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    found = {(Path(f.place.file).name, f.code, f.place.line, f.field) for f in errors}
    wanted = {
        (name, code, line, field)
        for name, (_, rows) in FILES.items()
        for severity, code, line, field in rows
        if severity == "error"
    }
    # Most answers of the folder are no JSON, and one empty file of a folder is a warning.
    alone = {("unbalanced.jsonl", "unbalanced-json", 11, SECOND), ("nothing.jsonl", "no-records", 0, "")}
    assert found == wanted - alone
