"""Tokenizers of checkpoints: their chat template, their ids, and a view that a worker process can open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from jinja2 import TemplateError
from transformers import AutoTokenizer
from transformers import PreTrainedTokenizerFast as Tokenizer

from edgeft.artifacts import Message
from edgeft.dataset.tokenizer import OpenTokenizer, PlainTokenizer, TokenizerView
from edgeft.errors import EdgeftError


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads a checkpoint's tokenizer; raises EdgeftError unless it has a chat template and an end token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise EdgeftError(f"no tokenizer can be loaded: {str(error).splitlines()[0]}", where=str(folder)) from error
    if tokenizer.chat_template is None:
        raise EdgeftError("the tokenizer has no chat template", str(folder), "start from a chat model")
    if tokenizer.eos_token_id is None:
        raise EdgeftError(
            "the tokenizer has no end-of-sequence token", str(folder), "set eos_token in its configuration"
        )
    return cast(Tokenizer, tokenizer)


def render(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool) -> str:
    """Renders a conversation with the tokenizer's own chat template; raises EdgeftError when it refuses."""
    try:
        return str(
            tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)
        )
    except TemplateError as error:
        raise EdgeftError(f"the chat template refuses this conversation: {error}") from error


def encode(tokenizer: Tokenizer, rendered: str) -> list[int]:
    """Returns the ids of a rendered conversation, with exactly one BOS where the tokenizer adds one of its own."""
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    return [bos, *ids] if _adds_bos(tokenizer) and ids[:1] != [bos] else ids


def end_token_ids(tokenizer: Tokenizer, folder: Path) -> list[int]:
    """Returns every id that ends generation: the tokenizer's eos, and those of generation_config.json."""
    ids = {int(tokenizer.eos_token_id)}
    path = folder / "generation_config.json"
    if path.is_file():
        eos = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        ids |= set(eos if isinstance(eos, list) else [] if eos is None else [eos])
    return sorted(ids)


# What a difference between transformers and its tokenizers library would show on.
_PROBE_TEXTS = ("", " a", "a\n\n b\t", "Café déjà vu 日本語 🙂 ﬁ", "a \u2028\r\n<0x41>", "1234567 x")


def tokenizer_opener(folder: Path) -> OpenTokenizer:
    """Returns what opens a checkpoint's tokenizer in a worker process: a function that pickles.

    It does without transformers, which takes seconds and 0.4 GB in each process, where rendering and encoding are the
    same without it on probes; and with it elsewhere. Raises EdgeftError as `load_tokenizer` does.
    """
    tokenizer = load_tokenizer(folder)
    view = _view(tokenizer, folder)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and isinstance(tokenizer.chat_template, str):
        plain = PlainTokenizer(
            model=backend.to_str(),
            template=tokenizer.chat_template,
            special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            bos_id=tokenizer.bos_token_id if _adds_bos(tokenizer) else None,
            end_ids=tuple(view.end_ids),
            text_end=int(tokenizer.eos_token_id),
        )
        if _probe(plain.open()) == _probe(view):
            return plain.open
    return partial(open_tokenizer, folder)


def open_tokenizer(folder: Path) -> TokenizerView:
    """Opens a checkpoint's tokenizer with transformers."""
    return _view(load_tokenizer(folder), folder)


def _view(tokenizer: Tokenizer, folder: Path) -> TokenizerView:
    return TokenizerView(
        render=lambda messages, prompt: render(tokenizer, messages, prompt),
        encode=lambda text: encode(tokenizer, text),
        end_ids=end_token_ids(tokenizer, folder),
        text_end=int(tokenizer.eos_token_id),
    )


def _adds_bos(tokenizer: Tokenizer) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _probe(view: TokenizerView) -> list[tuple[str, list[int]]]:
    """Returns what a tokenizer makes of texts and of conversations of every shape; "" for one it refuses."""
    question, answer = {"role": "user", "content": " hi\n"}, {"role": "assistant", "content": '{"a": 1} '}
    system = {"role": "system", "content": "Be brief."}
    shapes: list[list[Message]] = [[question], [question, answer], [system, question, answer], [question, answer] * 2]
    texts = list(_PROBE_TEXTS)
    for messages in shapes:
        try:
            texts += [view.render(messages, True), view.render(messages, False)]
        except EdgeftError:
            texts.append("")
    return [(text, view.encode(text)) for text in texts]


def special_texts(folder: Path) -> tuple[str, ...]:
    """Returns the special tokens of a checkpoint's tokenizer, as "<|im_end|>"."""
    added = load_tokenizer(folder).added_tokens_decoder.values()
    return tuple(sorted(token.content for token in added if token.special))
