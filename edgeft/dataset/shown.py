"""Whether a chat template shows what a record holds for tools: many templates leave it out without a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgeft.artifacts import Message
from edgeft.dataset.findings import Finding, raise_errors
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError

_REMEDY = "use a model whose chat template knows tools, or write them into the text of the messages"


def require_tools_shown(record: Record, tokenizer: TokenizerView, text: str) -> None:
    """Raises EdgeftError when `text`, the rendered record, is the same without its tools, a call or a result.

    A record without any of these costs nothing.
    """
    raise_errors(_left_out(record, tokenizer, text))


def _left_out(record: Record, tokenizer: TokenizerView, text: str) -> Iterator[Finding]:
    messages = list(record.messages)
    if record.tools and _renders(tokenizer, messages, (), text):
        yield _finding(record, "tools-not-shown", "the chat template does not show the tools to the model", "tools")
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            rest = {key: value for key, value in message.items() if key != "tool_calls"}
            code, what = "tool-call-not-shown", "the chat template does not show this turn's tool calls"
        elif message["role"] == "tool" and message.get("content"):
            rest = message | {"content": ""}
            code, what = "tool-result-not-shown", "the chat template does not show this tool's result"
        else:
            continue
        if _renders(tokenizer, [*messages[:index], rest, *messages[index + 1 :]], record.tools, text):
            yield _finding(record, code, what, f"messages[{index}]")


def _renders(tokenizer: TokenizerView, messages: Sequence[Message], tools: Sequence[dict[str, Any]], text: str) -> bool:
    try:
        return tokenizer.render(messages, False, tools) == text
    except EdgeftError:
        return False


def _finding(record: Record, code: str, message: str, field: str) -> Finding:
    return Finding("error", code, record.place, message, _REMEDY, field)
