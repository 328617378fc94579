"""Every fault in a file of records is named with its line, all at once; none is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record, read_records
from edgeft.errors import EdgeftError, Problem

GOOD = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}'


def turns(*roles_and_contents: object) -> str:
    """Returns a record's line with alternating role and content."""
    pairs = zip(roles_and_contents[::2], roles_and_contents[1::2], strict=True)
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in pairs]})


def problems(folder: Path, content: str | bytes) -> list[Problem]:
    """Returns the problems of a file, `where` as line numbers."""
    path = folder / "train.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EdgeftError) as caught:
        read_records(path)
    assert all(problem.where.startswith(str(path)) for problem in caught.value.problems)
    return [
        Problem(problem.what, problem.where.removeprefix(str(path)).removeprefix(":"), problem.remedy)
        for problem in caught.value.problems
    ]


def test_good_records(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    several = turns("system", "be brief", "user", "a", "assistant", "b", "user", "", "assistant", "ä\u2028c")
    path.write_bytes(f'\n{GOOD}\r\n  \t\n{several}\n{GOOD[:-1]}, "id": 7}}'.encode())
    records = read_records(path)
    assert [record.where for record in records] == [f"{path}:2", f"{path}:4", f"{path}:5"]
    assert [message["role"] for message in records[1].messages] == ["system", "user", "assistant", "user", "assistant"]
    assert records[1].answer == "ä\u2028c"
    assert records[1].prompt == list(records[1].messages[:4])


def test_a_record_survives_writing_and_reading(tmp_path: Path) -> None:
    messages = ({"role": "user", "content": 'ä "q"\n\u2028🙂'}, {"role": "assistant", "content": "\\n\x00"})
    record = Record(messages, Place("here"))
    path = tmp_path / "again.jsonl"
    path.write_text(record.to_json() + "\n", encoding="utf-8")
    (again,) = read_records(path)
    assert again.messages == messages
    assert again.content_hash == record.content_hash


def test_the_content_hash_is_of_the_conversation_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    swapped = '{"messages": [{"content": "hi", "role": "user"}, {"content": "hello", "role": "assistant"}], "id": 1}'
    path.write_text(f"{GOOD}\n{swapped}\n{GOOD.replace('hello', 'hallo')}\n")
    first, same, other = (record.content_hash for record in read_records(path))
    assert first == same != other


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"messages": [', "not valid JSON at column 15: expecting value"),
        ("hello", "not valid JSON at column 1: expecting value"),
        (GOOD + GOOD, f"not valid JSON at column {len(GOOD) + 1}: extra data"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ("[]", "a list where an object is expected"),
        ("null", "null where an object is expected"),
        ('{"prompt": "a", "reply": "b"}', "the keys fit no format: prompt, reply"),
        ('{"messages": "hi"}', "messages: text where a list of messages is expected"),
        ('{"messages": []}', "messages: the roles are none"),
        ('{"messages": ["hi"]}', "messages[0]: text where a message is expected"),
        (turns("user", "a", "assistant", None), "messages[1].content: there is no text"),
        (turns("user", "a", "assistant", ["b"]), "messages[1].content[0]: text where a part of a content is expected"),
        (turns("user", "a", "assistant", ""), "messages[1].content: the assistant's content is empty"),
        (turns("user", "a", "assistant", " \n"), "messages[1].content: the assistant's content is empty"),
        (turns("user", "a"), "messages: the roles are user"),
        (turns("assistant", "a"), "messages: the roles are assistant"),
        (turns("system", "a"), "messages: the roles are system"),
        (turns("assistant", "a", "user", "b"), "messages: the roles are assistant, user"),
        (turns("user", "a", "user", "b", "assistant", "c"), "messages: the roles are user, user, assistant"),
        (turns("user", "a", "system", "b", "assistant", "c"), "messages: the roles are user, system, assistant"),
        (turns("user", "a", "assistant", "b", "user", "c"), "messages: the roles are user, assistant, user"),
        (turns("user", "a", "tool", "b", "assistant", "c"), "messages: the roles are user, tool, assistant"),
        (turns("User", "a", "assistant", "b"), "messages[0].role: 'User' is no role"),
        (
            turns("user", "\ud800", "assistant", "b"),
            "messages[0].content: half of a surrogate pair, which is no character",
        ),
    ],
)
def test_one_fault(tmp_path: Path, line: str, what: str) -> None:
    (problem,) = problems(tmp_path, f"{GOOD}\n{line}\n{GOOD}\n")
    assert (problem.what, problem.where) == (what, "2")
    assert problem.remedy


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD.encode() + b"\n\n" + GOOD.replace("hi", "h\u00e4").encode("latin-1"))
    assert (problem.what, problem.where) == (f"not UTF-8 at byte {GOOD.index('hi') + 2}", "3")


def test_all_faults_at_once(tmp_path: Path) -> None:
    lines = [GOOD, "{", turns("user", "a"), GOOD, turns("user", "a", "assistant", "", "assistant", " "), "[]"]
    assert [problem.where for problem in problems(tmp_path, "\n".join(lines))] == ["2", "3", "5", "5", "5", "6"]


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_a_file_without_records(tmp_path: Path, content: str) -> None:
    (problem,) = problems(tmp_path, content)
    assert problem.what == "the file holds no records"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"nowhere\.jsonl: no such file"):
        read_records(tmp_path / "nowhere.jsonl")
