"""The texts of a record with the names of their fields, and how a text is quoted in a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from edgeft.dataset.records import Record

_MOST_SHOWN = 60


class Text(NamedTuple):
    """One text of a record: `field` says where it is, as "messages[1].content"; `role` is who says it."""

    field: str
    role: str
    content: str


def texts(record: Record) -> Iterator[Text]:
    """Yields every text of a record; an assistant's tool calls come as the JSON that they are."""
    for index, message in enumerate(record.messages):
        role, content = message["role"], message.get("content")
        if isinstance(content, str):
            yield Text("text" if role == "text" else f"messages[{index}].content", role, content)
        if "tool_calls" in message:
            calls = json.dumps(message["tool_calls"], ensure_ascii=False)
            yield Text(f"messages[{index}].tool_calls", role, calls)


def answer_field(record: Record) -> str:
    """Returns the name of the field of the last answer."""
    return f"messages[{len(record.messages) - 1}].content"


def is_plain_text(record: Record) -> bool:
    """Returns whether a record is a plain text rather than a conversation."""
    return bool(record.messages[0]["role"] == "text")


def asked(record: Record) -> str:
    """Returns what tells one record from another: what precedes the last answer, less the system's message.

    A plain text, or a conversation in which nobody says anything before the answer, is told by its whole text.
    """
    said = [str(message.get("content") or "") for message in record.messages[:-1] if message["role"] != "system"]
    return "\n".join(said) if any(said) else record.answer


def excerpt(text: str, most: int = _MOST_SHOWN) -> str:
    """Returns the beginning of a text on one line, in quotation marks."""
    line = " ".join(text[: 4 * most].split())
    cut = len(line) > most or len(text) > 4 * most
    shown = line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}" if cut else line
    return f'"{shown}"'


def visible(text: str) -> str:
    """Returns a text on one line, in quotation marks, with what is invisible escaped."""
    return excerpt("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


def around(text: str, start: int, end: int) -> str:
    """Returns a part of a text with a little of what is beside it, as `visible` shows it."""
    return visible(text[max(0, start - 12) : end + 12])
