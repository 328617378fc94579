"""What a curriculum document is, and how it is written down in ChatML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from base_model.draw import Draw

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"


class Turn(NamedTuple):
    role: str
    content: str


Document = list[Turn] | str
"""A conversation, or plain prose."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of task: `make` writes one document; `weight` is its share of the documents drawn."""

    name: str
    weight: float
    make: Callable[[Draw], Document]


def ask(question: str, answer: str, system: str = "") -> list[Turn]:
    """One exchange, with a system message where there is one."""
    turns = [Turn("user", question), Turn("assistant", answer)]
    return [Turn("system", system), *turns] if system else turns


def render(document: Document) -> str:
    """The document as the model reads it; conversations exactly as the tokenizer's chat template writes them."""
    if isinstance(document, str):
        return document
    return "".join(f"{TURN_START}{turn.role}\n{turn.content}{TURN_END}\n" for turn in document)


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
