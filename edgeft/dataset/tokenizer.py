"""What the tokens stage needs of a tokenizer, and one that a worker process opens in 0.1 s, without transformers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from edgeft.artifacts import Message
from edgeft.dataset.mask import Encode, Render
from edgeft.template import render_template


@dataclass(frozen=True)
class TokenizerView:
    """A chat template, an encoder and the ids that end generation.

    `encode_all` encodes many texts faster than one by one, to the same ids. `text_end` is the id put after a plain
    text, the tokenizer's own end of sequence.
    """

    render: Render
    encode: Encode
    end_ids: Collection[int]
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

        def render(messages: Sequence[Message], add_generation_prompt: bool) -> str:
            return render_template(
                self.template,
                messages,
                add_generation_prompt=add_generation_prompt,
                special_tokens=self.special_tokens,
            )

        def encode_all(texts: Sequence[str]) -> list[list[int]]:
            encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
            return [self._with_bos(encoding.ids) for encoding in encodings]

        return TokenizerView(render, lambda text: encode_all([text])[0], self.end_ids, encode_all, self.text_end)

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if self.bos_id is None or ids[:1] == [self.bos_id] else [self.bos_id, *ids]
