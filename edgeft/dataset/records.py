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
from edgeft.dataset.findings import Place
from edgeft.errors import EdgeftError, Problem

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
    if not path.is_file():
        raise EdgeftError("no such file", where=str(path), remedy="name a JSONL file of chat records")
    records: list[Record] = []
    problems: list[Problem] = []
    for line_number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{line_number}"
        try:
            messages = _parse(line)
        except ValueError as error:
            problems.append(Problem(str(error), where, _EXPECTED))
            continue
        faults = list(_faults(messages))
        problems += [Problem(fault, where, remedy) for fault, remedy in faults]
        if not faults:
            records.append(
                Record(
                    tuple({"role": m["role"], "content": m["content"]} for m in messages), Place(str(path), line_number)
                )
            )
    if not records and not problems:
        problems.append(Problem("the file holds no records", str(path), _EXPECTED))
    if problems:
        raise EdgeftError(problems)
    return records


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
