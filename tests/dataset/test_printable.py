"""Whatever rows and names of files hold, what is said of them can be written; no name is too odd to be told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.record import Record
from edgeft.dataset.records import read_records
from edgeft.dataset.sources import stream
from edgeft.errors import EdgeftError

ROW = json.dumps({"prompt": "a", "completion": "b"})
CALL = {"id": "c", "type": "function", "function": {"name": "light", "arguments": {}}}
HALF = "\ud800"


def say(user: dict[str, Any], **tool: Any) -> dict[str, Any]:
    """Returns a conversation with a call that is answered."""
    calling = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    answering = {"role": "tool", "content": "on", "tool_call_id": "c", **tool}
    ask = {"role": "user", "content": "hi", **user}
    return {"messages": [ask, calling, answering, {"role": "assistant", "content": "done"}]}


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        ({HALF: 1}, "unknown-format", ""),
        (say({HALF: 1}), "unknown-key", "messages[0]"),
        (say({}, name=HALF), "lone-surrogate", "messages[2].name"),
        (say({}, tool_call_id=HALF), "lone-surrogate", "messages[2].tool_call_id"),
    ],
)
def test_half_a_surrogate_pair_beside_the_texts(tmp_path: Path, value: Any, code: str, field: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(value))
    found = [item for item in stream("a.jsonl", tmp_path) if isinstance(item, Finding) and item.severity == "error"]
    assert (code, field) in [(finding.code, finding.field) for finding in found]
    json.dumps([finding.to_json() for finding in found], ensure_ascii=False).encode()
    if field in ("", "messages[0]"):
        assert "\\ud800" in found[0].message
    with pytest.raises(EdgeftError) as caught:
        read_records(tmp_path / "a.jsonl")
    str(caught.value).encode()


def test_labels_with_half_a_surrogate_pair_are_counted() -> None:
    answer = json.dumps({HALF: "\udc00"})  # in the answer it is escaped, and only its value holds it
    turns = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": answer})
    report = check_records([Record(turns, Place("made", n)) for n in range(1, 9)], None, None, CheckSettings())
    assert report.figures["training"]["labels"]["\\ud800"] == {"\\udc00": 8}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jsonl")).write_text(f"{ROW}\n{{\n")
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.doc")).touch()
    first, second, third = stream(tmp_path)
    assert isinstance(first, Finding) and isinstance(second, Record) and isinstance(third, Finding)
    assert (first.code, first.place.file) == ("unread-file", f"{tmp_path}/caf\\udce9.doc")
    assert second.where == f"{tmp_path}/caf\\udce9.jsonl:1"
    assert (third.code, str(third.place)) == ("invalid-json", f"{tmp_path}/caf\\udce9.jsonl:2")


def test_names_in_other_alphabets_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "caf\u00e9-\u8bb0.jsonl").write_text(ROW)
    (record,) = stream(tmp_path)
    assert record.place.file == str(tmp_path / "caf\u00e9-\u8bb0.jsonl")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".jsonl", "x" * 300 + "@test"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (finding,) = stream(name, tmp_path)
    assert isinstance(finding, Finding)
    assert (finding.severity, finding.code) == ("error", "no-file")
