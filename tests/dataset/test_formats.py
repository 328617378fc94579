"""Rows of every format become the records they mean, and each fault is found in its row, with its code and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.formats import convert
from edgeft.dataset.record import Record
from edgeft.dataset.records import stream_records
from edgeft.dataset.row import Row

PLACE = Place("made.jsonl", 7)
SCHEMA = {"name": "light", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}
TOOL = {"type": "function", "function": SCHEMA}


def call(arguments: Any = "{}", **settings: Any) -> dict[str, Any]:
    """Returns a call of the tool light."""
    return {"type": "function", "function": {"name": "light", "arguments": arguments}, **settings}


def say(*turns: Any) -> list[dict[str, Any]]:
    """Returns messages of (role, content), or of whole messages."""
    return [turn if isinstance(turn, dict) else {"role": turn[0], "content": turn[1]} for turn in turns]


ASK, ANSWER = ("user", "hi"), ("assistant", "hello")
CHAT = say(ASK, ANSWER)


def record(value: Any) -> Record:
    """Returns the record of a row, which has no error."""
    converted = convert(Row(PLACE, value))
    assert converted.record is not None, converted.findings
    return converted.record


@pytest.mark.parametrize(
    ("name", "value", "messages"),
    [
        ("openai", {"messages": CHAT}, CHAT),
        ("openai", {"messages": json.dumps(CHAT)}, CHAT),
        ("openai under 'conversations'", {"conversations": CHAT}, CHAT),
        ("openai", {"messages": CHAT, "system": "Be brief."}, say(("system", "Be brief."), *CHAT)),
        ("openai", {"messages": say(("developer", "Be brief."), *CHAT)}, say(("system", "Be brief."), *CHAT)),
        ("openai", {"messages": [{**message, "name": None, "tool_calls": []} for message in CHAT]}, CHAT),
        (
            "openai",
            {"messages": say(("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), ANSWER)},
            say(("user", "ab"), ANSWER),
        ),
        (
            "openai",
            {"messages": say(ASK, {"role": "assistant", "content": "no", "weight": 0}, ASK, {**CHAT[1], "weight": 1})},
            say(ASK, {"role": "assistant", "content": "no", "weight": 0}, ASK, ANSWER),
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello", "weight": None}]},
            CHAT,
        ),
        (
            "sharegpt under 'messages'",
            {"messages": [{"from": "user", "value": "hi"}, {"from": "assistant", "value": "hello"}]},
            CHAT,
        ),
        ("alpaca", {"instruction": "hi", "output": "hello", "text": "both"}, CHAT),
        ("alpaca", {"instruction": "Say", "input": "hi", "output": "hello"}, say(("user", "Say\n\nhi"), ANSWER)),
        (
            "alpaca",
            {"instruction": "hi", "input": "", "output": "hello", "history": [["a", "b"]], "system": "s"},
            say(("system", "s"), ("user", "a"), ("assistant", "b"), *CHAT),
        ),
        (
            "instruction-response",
            {"instruction": "hi", "context": "c", "response": "hello"},
            say(("user", "hi\n\nc"), ANSWER),
        ),
        ("prompt-completion", {"prompt": "hi", "completion": "hello"}, CHAT),
        (
            "prompt-completion",
            {"prompt": say(ASK, ANSWER, ASK), "completion": say(ANSWER)},
            say(ASK, {**CHAT[1], "weight": 0}, ASK, ANSWER),
        ),
        ("prompt-response", {"prompt": "hi", "response": "hello"}, CHAT),
        ("question-answer", {"question": "hi", "answer": "hello"}, CHAT),
        ("query-response", {"query": "hi", "response": "hello"}, CHAT),
        ("input-output", {"input": "hi", "output": "hello"}, CHAT),
        ("text", {"text": "Once upon a time."}, [{"role": "text", "content": "Once upon a time."}]),
        ("text", {"messages": [{"role": "text", "content": "Once."}]}, [{"role": "text", "content": "Once."}]),
    ],
)
def test_formats(name: str, value: Any, messages: list[dict[str, Any]]) -> None:
    converted = convert(Row(PLACE, value))
    assert (converted.format, converted.findings) == (name, ())
    assert converted.record is not None
    assert list(converted.record.messages) == messages
    assert converted.record.is_text == (messages[0]["role"] == "text")


def test_calls_keep_their_ids_and_have_objects_as_arguments() -> None:
    answered = {"role": "tool", "tool_call_id": "x", "name": "light", "content": "on"}
    made = record(
        {
            "messages": say(ASK, {"role": "assistant", "tool_calls": [call('{"on": true}', id="x")]}, answered, ANSWER),
            "tools": [TOOL],
        }
    )
    assert made.messages[1]["tool_calls"] == [call({"on": True}, id="x")]
    assert made.messages[1]["content"] == ""
    assert made.messages[2] == answered
    assert made.tools == (TOOL,)
    assert record(json.loads(made.to_json())) == made


def test_older_calls_and_those_of_sharegpt_are_the_same_calls() -> None:
    function = {"name": "light", "arguments": '{"on": true}'}
    older = {
        "messages": say(
            ASK, {"role": "assistant", "content": None, "function_call": function}, ("function", "on"), ANSWER
        ),
        "functions": [SCHEMA],
    }
    turns = [("human", "hi"), ("function_call", json.dumps(function)), ("observation", "on"), ("gpt", "hello")]
    sharegpt = {"conversations": [{"from": who, "value": what} for who, what in turns], "tools": json.dumps([SCHEMA])}
    made = record(older)
    assert made == record(sharegpt)
    assert made.messages[1]["tool_calls"] == [call({"on": True}, id="call_1_0")]
    assert made.messages[2]["tool_call_id"] == "call_1_0"
    assert made.tools == (TOOL,)


def test_a_conversation_may_end_with_a_call() -> None:
    made = record({"messages": say(ASK, {"role": "assistant", "tool_calls": [call(), call()]}), "tools": [TOOL]})
    assert [made.messages[1]["tool_calls"][n]["id"] for n in (0, 1)] == ["call_1_0", "call_1_1"]


def test_keys_of_rows_that_are_lost_are_named() -> None:
    value = {"messages": CHAT, "id": 7, "source": "x", "note": None, "tags": [], "prompt": "hi"}
    assert convert(Row(PLACE, value)).lost == ("id", "prompt", "source")


CALLING = {"role": "assistant", "tool_calls": [call(id="x")]}
TOLD = {"role": "tool", "tool_call_id": "x", "content": "on"}


def chat(*turns: Any) -> dict[str, Any]:
    """Returns a row of messages and the tool light."""
    return {"messages": say(*turns), "tools": [TOOL]}


BROKEN: list[tuple[Any, str, str]] = [
    ([], "unknown-format", ""),
    ({}, "unknown-format", ""),
    ({"a": 1}, "unknown-format", ""),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "unknown-format", ""),
    ({"question": "a", "answer": "b", "prompt": "a", "completion": "b"}, "ambiguous-format", ""),
    ({"messages": None}, "wrong-type", "messages"),
    ({"messages": "[{"}, "invalid-json", "messages"),
    ({"messages": ["a"]}, "wrong-type", "messages[0]"),
    ({"messages": []}, "role-order", "messages"),
    (chat({"content": "a"}, ANSWER), "missing-key", "messages[0].role"),
    (chat({"role": 1, "content": "a"}, ANSWER), "wrong-type", "messages[0].role"),
    (chat(("human", "a"), ANSWER), "unknown-role", "messages[0].role"),
    (chat(("user", None), ANSWER), "missing-key", "messages[0].content"),
    (chat(("user", 7), ANSWER), "wrong-type", "messages[0].content"),
    (
        chat(("user", [{"type": "image_url", "image_url": {"url": "x"}}]), ANSWER),
        "unsupported-content",
        "messages[0].content[0]",
    ),
    (chat({"role": "user", "content": "a", "mood": "b"}, ANSWER), "unknown-key", "messages[0]"),
    (chat({"role": "user", "content": "a", "weight": 1}, ANSWER), "unknown-key", "messages[0]"),
    (chat(ASK, {**CHAT[1], "weight": 0.5}), "bad-weight", "messages[1].weight"),
    (chat(ASK, {**CHAT[1], "weight": True}), "bad-weight", "messages[1].weight"),
    (chat(ASK, {**CHAT[1], "weight": 0}), "untrained-answer", "messages[1]"),
    (chat(ASK, ("assistant", " ")), "empty-answer", "messages[1].content"),
    (chat(("user", "a\udc00"), ANSWER), "lone-surrogate", "messages[0].content"),
    (chat(ASK, ASK, ANSWER), "role-order", "messages"),
    (chat(ASK, TOLD, ANSWER), "role-order", "messages"),
    (chat(ASK, CALLING, TOLD), "role-order", "messages"),
    (chat(ASK, CALLING, ANSWER), "unanswered-call", "messages[1].tool_calls"),
    (chat(ASK, CALLING, TOLD, TOLD, ANSWER), "unmatched-answer", "messages[3].tool_call_id"),
    (chat(ASK, {**CALLING, "tool_calls": [call()]}, TOLD, ANSWER), "missing-key", "messages[1].tool_calls[0].id"),
    (chat(ASK, CALLING, ("tool", "on"), ANSWER), "missing-key", "messages[2].tool_call_id"),
    (chat(ASK, CALLING, {**TOLD, "tool_call_id": 1}, ANSWER), "wrong-type", "messages[2].tool_call_id"),
    (
        chat(ASK, {**CALLING, "tool_calls": [call("{", id="x")]}),
        "bad-arguments",
        "messages[1].tool_calls[0].function.arguments",
    ),
    (
        chat(ASK, {**CALLING, "tool_calls": [call("[]", id="x")]}),
        "bad-arguments",
        "messages[1].tool_calls[0].function.arguments",
    ),
    (chat(ASK, {**CALLING, "tool_calls": [call({"a": "\ud800"}, id="x")]}), "lone-surrogate", "messages[1].tool_calls"),
    (chat(ASK, {**CALLING, "tool_calls": [{"id": "x"}]}), "missing-key", "messages[1].tool_calls[0].function"),
    (chat(ASK, {**CALLING, "tool_calls": ["x"]}), "wrong-type", "messages[1].tool_calls[0]"),
    (chat(ASK, {**CALLING, "tool_calls": {"x": 1}}), "wrong-type", "messages[1].tool_calls"),
    (chat(ASK, {**CALLING, "tool_calls": [call(id="x", index=0)]}), "unknown-key", "messages[1].tool_calls[0]"),
    (chat(ASK, {**CALLING, "tool_calls": [call(id=7)]}), "wrong-type", "messages[1].tool_calls[0].id"),
    (
        chat(ASK, {**CALLING, "tool_calls": [{**call(id="x"), "type": "custom"}]}),
        "unsupported-content",
        "messages[1].tool_calls[0].type",
    ),
    ({"messages": CHAT, "tools": 7}, "wrong-type", "tools"),
    ({"messages": CHAT, "tools": [7]}, "wrong-type", "tools[0]"),
    ({"messages": CHAT, "tools": [{"type": "function", "function": {}}]}, "missing-key", "tools[0].function.name"),
    ({"messages": CHAT, "tools": [{"type": "web_search", "function": {}}]}, "unsupported-content", "tools[0].type"),
    ({"messages": CHAT, "tools": "[7"}, "invalid-json", "tools"),
    ({"conversations": [{"from": "narrator", "value": "a"}]}, "unknown-role", "conversations[0].from"),
    ({"conversations": [{"from": "human", "value": 1}]}, "wrong-type", "conversations[0].value"),
    (
        {"conversations": [{"from": "human", "value": "a", "mood": "b"}, {"from": "gpt", "value": "b"}]},
        "unknown-key",
        "conversations[0]",
    ),
    ({"conversations": [{"from": "human", "value": "a"}, 7]}, "wrong-type", "conversations[1]"),
    (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "light"}]},
        "bad-arguments",
        "conversations[1].value",
    ),
    (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "[]"}]},
        "missing-key",
        "conversations[1].value",
    ),
    ({"instruction": "a", "output": ""}, "empty-answer", "output"),
    ({"instruction": "a", "output": None}, "missing-key", "output"),
    ({"instruction": 1, "output": "b"}, "wrong-type", "instruction"),
    ({"instruction": "a", "output": "b", "history": [["a"]]}, "wrong-type", "history[0]"),
    ({"instruction": "a", "output": "b", "history": "ab"}, "wrong-type", "history"),
    ({"instruction": "a", "output": "b", "history": [["a", ""]]}, "empty-answer", "history[0][1]"),
    ({"question": "a", "answer": {"text": ["b"]}}, "wrong-type", "answer"),
    ({"question": "a", "answer": "b", "context": 7}, "wrong-type", "context"),
    ({"prompt": say(ASK), "completion": say(ASK)}, "role-order", "prompt"),
    ({"text": 7}, "wrong-type", "text"),
    ({"text": "\ud800"}, "lone-surrogate", "text"),
]


@pytest.mark.parametrize(("value", "code", "field"), BROKEN)
def test_a_table_of_broken_rows(tmp_path: Path, value: Any, code: str, field: str) -> None:
    path = tmp_path / "train.jsonl"
    good = json.dumps({"messages": CHAT})
    path.write_text(f"{good}\n{json.dumps(value)}\n{good}\n")
    items = list(stream_records(path))
    (finding,) = (item for item in items if isinstance(item, Finding) and item.severity == "error")
    assert (finding.place, finding.code, finding.field) == (Place(str(path), 2), code, field)
    assert finding.message
    assert finding.remedy
    assert [item.place.line for item in items if isinstance(item, Record)] == [1, 3]


def test_a_column_without_a_name_is_no_context() -> None:
    for question, answer in (("prompt", "completion"), ("input", "output")):
        converted = convert(Row(PLACE, {"": "0", question: "hi", answer: "hello"}))
        assert converted.record is not None
        assert list(converted.record.messages) == CHAT
        assert converted.lost == ("",)


def test_every_fault_of_a_row_is_told() -> None:
    value = chat(("user", "\ud800"), {**CALLING, "weight": 7, "mood": 1}, ("assistant", ""), ("assistant", "a"))
    codes = [finding.code for finding in convert(Row(PLACE, value)).findings]
    assert sorted(codes) == [
        "bad-weight",
        "empty-answer",
        "lone-surrogate",
        "role-order",
        "unanswered-call",
        "unknown-key",
    ]


def test_a_tool_that_is_not_declared_is_a_warning() -> None:
    converted = convert(Row(PLACE, {"messages": say(ASK, CALLING)}))
    assert [(finding.severity, finding.code) for finding in converted.findings] == [("warning", "undeclared-tool")]
    assert converted.record is not None


def test_a_blank_text_is_left_out_with_a_warning() -> None:
    converted = convert(Row(PLACE, {"text": " \n"}))
    assert [(finding.severity, finding.code) for finding in converted.findings] == [("warning", "empty-text")]
    assert converted.record is None
