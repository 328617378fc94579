"""The chat template of a base model that has none: ChatML, or the same with nothing that the model does not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.files import read_object
from edgeft.pieces import is_byte_level

_OPEN, _CLOSE = "<|im_start|>", "<|im_end|>"
CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
    {{- 'These functions can be called, each with a JSON object between <tool_call> and </tool_call>:' }}
    {%- for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}
    {{- '<|im_end|>' + '\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {%- if message.content or not loop.first %}{{ '\\n' }}{% endif %}
            {%- set arguments = call.function.arguments %}
            {{- '<tool_call>{"name": ' + call.function.name | tojson + ', "arguments": ' }}
            {{- (arguments if arguments is string else arguments | tojson) + '}</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
"""ChatML, with tools; for a vocabulary that has its two tokens."""

# A token that is new to the vocabulary would have an embedding that nothing has trained, and an adapter of the linear
# layers does not train it either: the model could hardly read it and never say it. The tokenizer's own end token the
# model has seen after every text, and the names of the roles are words to it.
TURNS = CHATML.replace(f"'{_OPEN}", "'### ").replace(f"'{_CLOSE}'", "eos_token")
"""The same turns, headed by plain text and closed by the tokenizer's own end token; for any vocabulary."""


# transformers puts a space before SentencePiece text at the start of a conversation alone, llama.cpp after every
# special token or nowhere: they agree where a conversation begins with a special token.
_BOS = "{{- bos_token }}"


@dataclass(frozen=True)
class GivenTemplate:
    """A chat template for a model without one; `end_id` closes a turn, None where the tokenizer's end token does."""

    text: str
    end_id: int | None


def given_template(folder: Path) -> GivenTemplate | None:
    """Returns the template that a checkpoint is given, None when it has its own or has no tokenizer.

    It depends on the checkpoint's files alone, so that every stage gives the same.
    """
    settings = read_object(folder / "tokenizer_config.json")
    names = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")
    own = settings.get("chat_template") or (folder / "chat_template.jinja").is_file()
    if own or not any((folder / name).is_file() for name in names):
        return None
    special = dict(_special_tokens(folder, settings))
    if _OPEN in special and _CLOSE in special:
        return GivenTemplate(CHATML, special[_CLOSE])
    return GivenTemplate((_BOS if _has_pieces(folder) else "") + TURNS, None)


def _has_pieces(folder: Path) -> bool:
    """Tells whether the vocabulary is SentencePiece's, where what begins a text decides which spaces are added."""
    described = read_object(folder / "tokenizer.json")
    fallback = bool((described.get("model") or {}).get("byte_fallback")) and not is_byte_level(described)
    return (folder / "tokenizer.model").is_file() or fallback


def _special_tokens(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yields the special tokens and their ids: those that tokenizer_config.json lists, else tokenizer.json's."""
    listed = settings.get("added_tokens_decoder") or {}
    entries = [{"id": number, **entry} for number, entry in listed.items()]
    for entry in entries or read_object(folder / "tokenizer.json").get("added_tokens") or []:
        if entry.get("special"):
            yield entry["content"], int(entry["id"])
