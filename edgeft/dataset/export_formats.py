"""Records -> the rows of other tools' formats, with a finding for each part that a format has no place for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from edgeft.artifacts import Message
from edgeft.dataset.faults import Faults
from edgeft.dataset.record import Record

Format = Literal["openai", "sharegpt", "alpaca"]
"""The formats that records can be exported to."""

_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
_REMEDY = "export as openai, or leave the record out"


def to_row(record: Record, to: Format, faults: Faults) -> dict[str, Any] | None:
    """Returns a record as a row of a format; None, and a finding for each reason, where it cannot say all of it."""
    row = _WRITERS[to](record, faults)
    return None if faults.errors else row


def _refuse(field: str, message: str, faults: Faults, remedy: str = _REMEDY) -> None:
    faults.add("not-expressible", field, message, remedy)


def _openai(record: Record, faults: Faults) -> dict[str, Any]:
    if record.is_text:
        _refuse("text", "plain text is no conversation", faults, "leave the record out")
    tools = {"tools": list(record.tools)} if record.tools else {}
    return {"messages": [_openai_message(message) for message in record.messages], **tools}


def _openai_message(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _json(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "content": message["content"] or None, "tool_calls": calls}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _sharegpt(record: Record, faults: Faults) -> dict[str, Any]:
    _refuse_tools(record, "ShareGPT's turns have no ids of calls", faults)
    conversations = [
        {"from": _SPEAKERS.get(message["role"], ""), "value": message["content"]}
        | ({"weight": 0} if message.get("weight") == 0 else {})
        for message in record.messages
    ]
    return {"conversations": conversations}


def _alpaca(record: Record, faults: Faults) -> dict[str, Any]:
    _refuse_tools(record, "Alpaca has no tools", faults)
    messages = list(record.messages)
    for index, message in enumerate(messages):
        if message.get("weight") == 0:
            _refuse(f"messages[{index}].weight", "Alpaca has no weights", faults)
    system: dict[str, Any] = {}
    if messages[0]["role"] == "system":
        system = {"system": messages.pop(0)["content"]}
        if not system["system"]:
            _refuse("messages[0].content", "an empty system message is none in Alpaca", faults, "remove the message")
    texts = [message["content"] for message in messages]
    history = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=False)]
    question, answer = texts[-2:] if len(texts) > 1 else ("", "")
    row = {"instruction": question, "input": "", "output": answer}
    return row | system | ({"history": history} if history else {})


def _refuse_tools(record: Record, why: str, faults: Faults) -> None:
    if record.is_text:
        _refuse("text", "plain text is no conversation", faults, "leave the record out")
    elif record.tools or any("tool_calls" in m or m["role"] == "tool" for m in record.messages):
        _refuse("tools" if record.tools else "messages", f"the record has tools: {why}", faults)


_WRITERS: dict[Format, Callable[[Record, Faults], dict[str, Any]]] = {
    "openai": _openai,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}
