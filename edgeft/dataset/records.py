"""Reads chat records from JSONL. Every fault is reported with its file and line; none is skipped in silence."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.artifacts import Message
from edgeft.dataset.findings import Finding, Place, raise_errors
from edgeft.errors import EdgeftError

_EXPECTED = (
    'expected one JSON object a line: {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}'
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """One conversation that ends with the assistant, and the tools (JSON schemas as OpenAI's) it may call.

    A message has `role` and `content`; an assistant's may have `tool_calls` beside or instead of its content, a tool's
    `tool_call_id` and `name`.
    """

    messages: tuple[Message, ...]
    place: Place
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def where(self) -> str:
        """The place as text, "file:line"."""
        return str(self.place)

    @property
    def prompt(self) -> list[Message]:
        """Everything before the last answer."""
        return list(self.messages[:-1])

    @property
    def answer(self) -> str:
        """The assistant's last message."""
        return str(self.messages[-1].get("content") or "")

    @property
    def content_hash(self) -> str:
        """A hash of the conversation, whatever file or line it is on."""
        content = [self.messages, self.tools] if self.tools else self.messages
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Returns the record as one JSONL line without the newline."""
        tools = {"tools": list(self.tools)} if self.tools else {}
        return json.dumps({"messages": list(self.messages)} | tools, ensure_ascii=False)


def read_records(path: Path) -> list[Record]:
    """Reads a JSONL file; blank lines are allowed. Raises EdgeftError naming every faulty line."""
    items = list(stream_records(path))
    raise_errors(item for item in items if isinstance(item, Finding))
    if not items:
        raise EdgeftError("the file holds no records", str(path), _EXPECTED)
    return [item for item in items if isinstance(item, Record)]


def stream_records(path: Path) -> Iterator[Record | Finding]:
    """Yields the records of a JSONL file and the errors among its lines, in their order; blank lines are allowed."""
    if not path.is_file():
        yield Finding("error", "no-file", Place(str(path)), "no such file", "name a JSONL file of chat records")
        return
    with path.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = Place(str(path), line_number)
            try:
                messages = _parse(line.removesuffix(b"\n"))
            except ValueError as error:
                yield Finding("error", "unreadable", place, str(error), _EXPECTED)
                continue
            faults = [Finding("error", "malformed", place, fault, remedy) for fault, remedy in _faults(messages)]
            if faults:
                yield from faults
            else:
                yield Record(tuple({"role": m["role"], "content": m["content"]} for m in messages), place)


def _parse(line: bytes) -> list[Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON at column {error.colno}: {error.msg.lower()}") from error
    except RecursionError as error:
        raise ValueError("not valid JSON: nested too deeply") from error
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        raise ValueError("no list under the key 'messages'")
    return list(value["messages"])


def _faults(messages: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yields (what, remedy) for everything wrong with one conversation."""
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            yield f"messages[{index}] is not an object with the strings 'role' and 'content'", _EXPECTED
            return
        if lost := message.keys() - {"role", "content"}:
            yield f"messages[{index}]: keys that would be lost: {', '.join(sorted(lost))}", "leave role and content"
        if _SURROGATE.search(message["content"]):
            yield f"messages[{index}]: half of a surrogate pair, which is no character", "write the character itself"
        if message["role"] == "assistant" and not message["content"].strip():
            yield f"messages[{index}]: the assistant's content is empty", "an empty answer teaches silence: remove it"
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user", "assistant"] * (len(turns) // 2)
    if turns != expected or not turns:
        yield (
            f"the roles are {', '.join(roles) or 'none'}",
            "an optional system message, then user and assistant in turn, ending with the assistant",
        )
