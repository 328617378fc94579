"""What the dataset needs of a model's tokenizer, without the library that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.artifacts import Message

Render = Callable[[Sequence[Message], bool, Sequence[dict[str, Any]]], str]
Encode = Callable[[str], list[int]]
Pieces = Callable[[Sequence[int]], list[bytes]]


@dataclass(frozen=True)
class TokenizerView:
    """A model's chat template, its encoder and what it knows of its tokens.

    `render(messages, add_generation_prompt, tools)` is the chat template and raises EdgeftError where it refuses.
    `encode` gives the ids of a rendered conversation, `encode_more` those of a text that goes on after others: without
    a BOS or a space of its own. `pieces` gives the exact bytes of each token, `end_ids` end generation, `special_ids`
    are the tokens that carry control rather than text.
    """

    render: Render
    encode: Encode
    encode_more: Encode
    pieces: Pieces
    end_ids: Collection[int]
    special_ids: Collection[int]
