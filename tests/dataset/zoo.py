"""Tokenizers that know the special tokens of every template of the zoo, and what the tests do with them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.models import llama_tokenizer, sentencepiece_model
from template_zoo import SPECIAL_TOKENS
from tiny_model import make_tokenizer
from transformers import PreTrainedTokenizerFast

from edgeft import hf
from edgeft.artifacts import Message
from edgeft.dataset.findings import Place
from edgeft.dataset.mask import Example
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather at a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
CALL: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"place": "Łódź"}}}],
}
TOOL_USE: list[Message] = [
    {"role": "user", "content": "Is it cold in Łódź?"},
    CALL,
    {"role": "tool", "content": "3 degrees", "tool_call_id": "a1", "name": "weather"},
    {"role": "assistant", "content": "It is: 3 degrees."},
]


def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer; newlines at the edges of answers merge with those before them."""
    made = make_tokenizer()
    made.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS})
    made.bos_token, made.eos_token = "<s>", "</s>"
    return made


def sentencepiece_like(folder: Path) -> PreTrainedTokenizerFast:
    """A tokenizer of Llama 2's kind, with a BOS and a space of its own."""
    made: PreTrainedTokenizerFast = llama_tokenizer(folder, sentencepiece_model(folder))
    made.add_special_tokens({"additional_special_tokens": [t for t in SPECIAL_TOKENS if t not in ("<s>", "</s>")]})
    return made


def view_with(tokenizer: PreTrainedTokenizerFast, template: str, *ends: str) -> TokenizerView:
    """Returns a tokenizer with a chat template, where the tokens `ends` end generation."""
    made = copy.copy(tokenizer)
    made.chat_template = template
    vocabulary = made.get_vocab()
    return replace(hf.tokenizer_view(made, Path("nowhere")), end_ids=[vocabulary[end] for end in ends])


def record_of(messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> Record:
    """Returns a record at train.jsonl:7."""
    return Record(tuple(messages), Place("train.jsonl", 7), tuple(tools))


def runs(example: Example, view: TokenizerView) -> list[tuple[bool, str]]:
    """Returns the text of each run of tokens that are all trained or all not."""
    found: list[tuple[bool, list[int]]] = []
    for token, flag in zip(example.ids, example.trained, strict=True):
        if not found or found[-1][0] != flag:
            found.append((flag, []))
        found[-1][1].append(token)
    return [(flag, b"".join(view.pieces(ids)).decode("utf-8", "replace")) for flag, ids in found]


def trained_texts(example: Example, view: TokenizerView) -> list[str]:
    """Returns the text of each run of trained tokens."""
    return [text for flag, text in runs(example, view) if flag]
