"""What OpenAI's hosted fine-tuning asks of a file, as its documentation said when this was written.

The guide to best practices says that the platform is being wound down: new accounts are not let in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from edgeft.dataset.faults import Faults
from edgeft.dataset.findings import Finding, Place

LEAST_EXAMPLES = 10
"""https://developers.openai.com/api/docs/guides/supervised-fine-tuning, "Right number of examples"."""

SUFFIX = ".jsonl"
MOST_BYTES = 512 * 10**6
"""https://platform.openai.com/docs/api-reference/files/create: only files so named, and of 512 MB at most."""

TOKEN_LIMIT = 65_536
"""The longest training example of gpt-4o and gpt-4.1 and their smaller models; what is over is cut off at the end.

https://developers.openai.com/api/docs/guides/fine-tuning-best-practices, "Token limits".
"""

# What a chat request takes: https://github.com/openai/openai-openapi, CreateChatCompletionRequest.tools. For a row of
# a training file, FineTuneChatRequestInput there, no limit is stated.
_MOST_TOOLS = 128
# https://github.com/openai/openai-python, src/openai/types/shared_params/function_definition.py.
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# What a chat costs beside its texts: each message, and the reply's start.
# https://developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken
_TOKENS_A_MESSAGE = 3
_TOKENS_A_REPLY = 3
# https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them: 4 characters of English a token.
_BYTES_A_TOKEN = 4


def approximate_tokens(text: str) -> int:
    """Returns a quarter of the UTF-8 bytes, rounded up: about what English text comes to."""
    return -(-len(text.encode("utf-8", errors="surrogatepass")) // _BYTES_A_TOKEN)


def count_tokens(row: dict[str, Any], count: Callable[[str], int]) -> int:
    """Returns the tokens of a row of chat messages, with those that a chat has beside its texts."""
    total = _TOKENS_A_REPLY
    for message in row["messages"]:
        total += _TOKENS_A_MESSAGE + count(message["role"]) + count(message["content"] or "")
        for call in message.get("tool_calls", ()):
            total += count(call["function"]["name"]) + count(call["function"]["arguments"])
    return total + sum(count(json.dumps(tool["function"])) for tool in row.get("tools", ()))


def check_row(row: dict[str, Any], tokens: int, limit: int, faults: Faults) -> None:
    """Notes what the service would refuse, or would train otherwise than it is written."""
    if tokens > limit:
        message = f"about {tokens:,} tokens, and the service cuts off the end of an example at {limit:,}"
        faults.add("too-many-tokens", "messages", message, "shorten the record", "warning")
    tools = row.get("tools", ())
    if len(tools) > _MOST_TOOLS:
        message = f"{len(tools)} tools, and a request to the service may have {_MOST_TOOLS}"
        faults.add("too-many-tools", "tools", message, "declare those that matter to the record", "warning")
    named = [(f"tools[{index}].function.name", tool["function"]["name"]) for index, tool in enumerate(tools)]
    for field, name in (*named, *_called(row)):
        if not _TOOL_NAME.fullmatch(name):
            message = f"{name!r} is no name of a tool there"
            faults.add("tool-name", field, message, "1 to 64 of the letters a-z and A-Z, digits, _ and -")


def _called(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for index, message in enumerate(row["messages"]):
        for number, call in enumerate(message.get("tool_calls", ())):
            yield f"messages[{index}].tool_calls[{number}].function.name", call["function"]["name"]


def check_file(n_examples: int, size_bytes: int, place: Place) -> Iterator[Finding]:
    """Yields what the service would say of the file as a whole."""
    if size_bytes > MOST_BYTES:
        message = f"{size_bytes / 1e6:,.0f} MB, and the service takes files of {MOST_BYTES / 1e6:,.0f} MB"
        yield Finding("error", "too-large-file", place, message, "give fewer records")
    if n_examples < LEAST_EXAMPLES:
        message = f"{n_examples} examples, and the service wants {LEAST_EXAMPLES} at least"
        yield Finding("error", "too-few-examples", place, message, "give more records")
