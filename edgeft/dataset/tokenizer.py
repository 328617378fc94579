"""What the dataset needs of a tokenizer, and one that a worker process opens in 0.1 s, without transformers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.artifacts import Message
from edgeft.pieces import piece_namer
from edgeft.template import render_template

Render = Callable[[Sequence[Message], bool, Sequence[dict[str, Any]]], str]
Encode = Callable[[str], list[int]]
Pieces = Callable[[Sequence[int]], list[bytes]]


@dataclass(frozen=True)
class TokenizerView:
    """A model's chat template, its encoder and what it knows of its tokens.

    `render(messages, add_generation_prompt, tools)` is the chat template and raises EdgeftError where it refuses.
    `encode` gives the ids of a rendered conversation, `encode_more` those of a text that goes on after others: without
    a BOS or a space of its own. `pieces` gives the exact bytes of each token, `end_ids` end generation, `special_ids`
    are the tokens that carry control rather than text. `encode_all` encodes many texts faster than one by one, to the
    same ids. `text_end` is the id put after a plain text, the tokenizer's own end of sequence.
    """

    render: Render
    encode: Encode
    encode_more: Encode
    pieces: Pieces
    end_ids: Collection[int]
    special_ids: Collection[int]
    encode_all: Callable[[Sequence[str]], list[list[int]]] | None = None
    text_end: int | None = None


OpenTokenizer = Callable[[], TokenizerView]
"""Opens the tokenizer, in a worker process once: it is pickled, so a function of a module or a bound method."""


@dataclass(frozen=True)
class PlainTokenizer:
    """A tokenizer as strings and numbers, which pickle.

    `model` is the text of its tokenizer.json, `template` its chat template, `special_tokens` those a template may name,
    as bos_token. `bos_id` is set before every text that does not start with it; None when the tokenizer adds none.
    """

    model: str
    template: str
    special_tokens: Mapping[str, str]
    bos_id: int | None
    end_ids: tuple[int, ...]
    text_end: int

    def open(self) -> TokenizerView:
        """Returns the tokenizer, ready; it needs the tokenizers library, and neither transformers nor torch."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.model)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        added = tokenizer.get_added_tokens_decoder()
        contents = {number: token.content.encode() for number, token in added.items()}
        plain = piece_namer(tokenizer)

        def render(messages: Sequence[Message], add_generation_prompt: bool, tools: Sequence[dict[str, Any]]) -> str:
            return render_template(
                self.template,
                messages,
                add_generation_prompt=add_generation_prompt,
                special_tokens=self.special_tokens,
                tools=tools,
            )

        def encode_bare(text: str) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False).ids)

        def encode_all(texts: Sequence[str]) -> list[list[int]]:
            encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
            return [self._with_bos(encoding.ids) for encoding in encodings]

        def encode_more(text: str) -> list[int]:
            ids = encode_after(text, encode_bare, pieces, self.special_tokens["eos_token"])
            return encode_all([text])[0] if ids is None else ids

        def pieces(ids: Sequence[int]) -> list[bytes]:
            return [contents[i] if i in contents else plain(str(tokenizer.id_to_token(i))) for i in ids]

        return TokenizerView(
            render=render,
            encode=lambda text: encode_all([text])[0],
            encode_more=encode_more,
            pieces=pieces,
            end_ids=self.end_ids,
            special_ids=frozenset(number for number, token in added.items() if token.special),
            encode_all=encode_all,
            text_end=self.text_end,
        )

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if self.bos_id is None or ids[:1] == [self.bos_id] else [self.bos_id, *ids]


def encode_after(text: str, encode: Encode, pieces: Pieces, end_token: str) -> list[int] | None:
    """Returns the ids of a text that goes on after others, with no space of the tokenizer's own before it.

    `encode` puts no BOS. None where no text is found after which it can be encoded.
    """
    found: list[list[int]] = []
    for anchor in (end_token, "\n", "a"):  # after some of these some tokenizers put a space
        start, ids = encode(anchor), encode(anchor + text)
        if ids[: len(start)] == start:
            found.append(ids[len(start) :])
            if b"".join(pieces(found[-1])) == text.encode():
                return found[-1]
    return found[0] if found else None
