"""Tokenizers of checkpoints: their chat template, their ids, and a view that a worker process can open."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from jinja2 import TemplateError
from transformers import AutoTokenizer
from transformers import PreTrainedTokenizerFast as Tokenizer

from edgeft.answer_form import AnswerForm
from edgeft.artifacts import Message
from edgeft.dataset.tokenizer import OpenTokenizer, Pieces, PlainTokenizer, TokenizerView, encode_after
from edgeft.errors import EdgeftError, Problem
from edgeft.files import require_object
from edgeft.given_template import given_template
from edgeft.hf.configs import load_auto
from edgeft.pieces import piece_namer


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads a checkpoint's tokenizer, with a chat template where it has none.

    Raises EdgeftError when there is no tokenizer that can be loaded, or it has no end token.
    """
    try:
        tokenizer = load_auto(AutoTokenizer, folder)
    except (OSError, ValueError) as error:
        raise EdgeftError(f"no tokenizer can be loaded: {str(error).splitlines()[0]}", where=str(folder)) from error
    if tokenizer.chat_template is None and (given := given_template(folder)):
        tokenizer.chat_template = given.text
    if tokenizer.eos_token_id is None:
        raise EdgeftError(
            "the tokenizer has no end-of-sequence token", str(folder), "set eos_token in its configuration"
        )
    return cast(Tokenizer, tokenizer)


def tokenizer_view(tokenizer: Tokenizer, folder: Path) -> TokenizerView:
    """Returns a tokenizer as the dataset needs it; `folder` is its checkpoint."""
    return TokenizerView(
        render=partial(render, tokenizer),
        encode=partial(encode, tokenizer),
        encode_more=partial(encode_more, tokenizer),
        pieces=piece_reader(tokenizer),
        end_ids=end_token_ids(tokenizer, folder),
        special_ids=frozenset(number for number, added in tokenizer.added_tokens_decoder.items() if added.special),
        text_end=int(tokenizer.eos_token_id),
    )


def token_ids(folder: Path, tokens: Sequence[str]) -> list[int]:
    """Returns the ids of tokens of a checkpoint's vocabulary; raises EdgeftError with all that are not in it."""
    vocabulary = load_tokenizer(folder).get_vocab() if tokens else {}
    remedy = "name tokens of its vocabulary; many models have reserved ones, which a chat template of one's own can use"
    problems = [
        Problem(f"the model has no token {token!r}, and its vocabulary is not enlarged", "train.trained_tokens", remedy)
        for token in tokens
        if token not in vocabulary
    ]
    if problems:
        raise EdgeftError(problems)
    return sorted({int(vocabulary[token]) for token in tokens})


def render(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    tools: Sequence[dict[str, Any]] = (),
) -> str:
    """Renders a conversation with the tokenizer's own chat template; raises EdgeftError when the template refuses."""
    try:
        text = tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise EdgeftError(f"the chat template refuses this conversation: {error}") from error
    return str(text)


def encode(tokenizer: Tokenizer, rendered: str) -> list[int]:
    """Returns the ids of a rendered conversation, with exactly one BOS where the tokenizer adds one of its own."""
    ids = _encode_bare(tokenizer, rendered)
    bos = tokenizer.bos_token_id
    return [bos, *ids] if _adds_bos(tokenizer) and ids[:1] != [bos] else ids


def encode_more(tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the ids of a text that goes on after others: no BOS, and no space of the tokenizer's own before it."""
    ids = encode_after(text, partial(_encode_bare, tokenizer), piece_reader(tokenizer), str(tokenizer.eos_token))
    return encode(tokenizer, text) if ids is None else ids


def decode(tokenizer: Tokenizer, ids: Sequence[int], *, special: bool = False) -> str:
    """Returns the text of ids, with that of special tokens only when `special`."""
    text = tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
    return str(text)


def answer_form(tokenizer: Tokenizer, end_ids: Sequence[int]) -> AnswerForm:
    """Returns the form that the tokenizer's chat template gives to answers; `end_ids` end them."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    ends = {str(token) for token in tokenizer.convert_ids_to_tokens(list(end_ids))}
    return AnswerForm.of(partial(render, tokenizer), special | ends)


def piece_reader(tokenizer: Tokenizer) -> Pieces:
    """Returns what gives the exact bytes of tokens: parts of characters, leading spaces, the text of special tokens."""
    plain = piece_namer(tokenizer.backend_tokenizer)
    added = {number: token.content.encode() for number, token in tokenizer.added_tokens_decoder.items()}

    def pieces(ids: Sequence[int]) -> list[bytes]:
        names = tokenizer.convert_ids_to_tokens(list(ids))
        return [added[i] if i in added else plain(str(name)) for i, name in zip(ids, names, strict=True)]

    return pieces


def end_token_ids(tokenizer: Tokenizer, folder: Path) -> list[int]:
    """Returns every id that ends generation: the tokenizer's eos, generation_config.json's, a given template's."""
    ids = {int(tokenizer.eos_token_id)}
    if (given := given_template(folder)) and given.end_id is not None:
        ids.add(given.end_id)
    eos = require_object(folder / "generation_config.json").get("eos_token_id")
    ids |= set(eos if isinstance(eos, list) else [] if eos is None else [eos])
    return sorted(ids)


# What a difference between transformers and its tokenizers library would show on.
_PROBE_TEXTS = ("", " a", "a\n\n b\t", "Café déjà vu 日本語 🙂 ﬁ", "a \u2028\r\n<0x41>", "1234567 x")
_PROBE_CALL = {"type": "function", "id": "call00001", "function": {"name": "look", "arguments": {"at": "Łódź <b>"}}}
_PROBE_TOOLS: tuple[dict[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "what's <there>",
            "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
        },
    },
)


def tokenizer_opener(folder: Path) -> OpenTokenizer:
    """Returns what opens a checkpoint's tokenizer in a worker process: a function that pickles.

    It does without transformers, which takes seconds and 0.4 GB in each process, where rendering and encoding are the
    same without it on probes; and with it elsewhere. Raises EdgeftError as `load_tokenizer` does.
    """
    tokenizer = load_tokenizer(folder)
    view = tokenizer_view(tokenizer, folder)
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
    return tokenizer_view(load_tokenizer(folder), folder)


def _encode_bare(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _adds_bos(tokenizer: Tokenizer) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _probe(view: TokenizerView) -> list[object]:
    """Returns what a tokenizer makes of texts and of conversations of every shape; "" for one it refuses."""
    question, answer = {"role": "user", "content": " hi\n"}, {"role": "assistant", "content": '{"a": 1} '}
    system = {"role": "system", "content": "Be brief."}
    call = {"role": "assistant", "content": None, "tool_calls": [_PROBE_CALL]}
    uses: list[Message] = [question, call, {"role": "tool", "tool_call_id": "call00001", "content": "3 °C"}, answer]
    shapes: list[list[Message]] = [[question], [question, answer], [system, question, answer], [question, answer] * 2]
    texts = list(_PROBE_TEXTS)
    for messages, tools in [*((shape, ()) for shape in shapes), ([question], _PROBE_TOOLS), (uses, _PROBE_TOOLS)]:
        for prompt in (True, False):
            try:
                texts.append(view.render(messages, prompt, tools))
            except EdgeftError:
                texts.append("")
    found: list[object] = [sorted(view.end_ids), sorted(view.special_ids), view.text_end]
    for text in texts:
        ids, more = view.encode(text), view.encode_more(text)
        found += [text, ids, more, view.pieces(ids), view.pieces(more)]
    return found


def special_texts(folder: Path) -> tuple[str, ...]:
    """Returns the special tokens of a checkpoint's tokenizer, as "<|im_end|>"."""
    added = load_tokenizer(folder).added_tokens_decoder.values()
    return tuple(sorted(token.content for token in added if token.special))
