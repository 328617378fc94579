"""A record: what one example of training is made of, whatever file it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from edgeft.artifacts import Message
from edgeft.dataset.findings import Place


@dataclass(frozen=True)
class Record:
    """One conversation that ends with the assistant, and the tools (JSON schemas as OpenAI's) it may call.

    A message has `role` and `content`; an assistant's may have `tool_calls` beside its content, their arguments as
    objects, and `weight` 0, which keeps it from being trained; a tool's has `tool_call_id` and may have `name`. Plain
    text is no conversation: it is one message of the role "text", trained as it is and with an end token.
    """

    messages: tuple[Message, ...]
    place: Place
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def where(self) -> str:
        """The place as text, "file:line"."""
        return str(self.place)

    @property
    def is_text(self) -> bool:
        """Whether this is plain text."""
        return bool(self.messages[0]["role"] == "text")

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
