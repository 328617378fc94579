"""What a reference says of the model and its tokenizer beside what they answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from edgeft import hf
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError
from edgeft.parity.conversations import PLAIN_TEMPLATE
from edgeft.parity.reference import ModelFacts, ReferenceRecord

_FREQUENCIES = "inv_freq"


def model_facts(model: hf.PreTrainedModel, tokenizer: hf.Tokenizer) -> ModelFacts:
    """Returns the numbers of a loaded model that a file must repeat."""
    config = model.config.get_text_config(decoder=True).to_dict()
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = described.get("merges")
    return ModelFacts(
        config={key: value for key, value in config.items() if _is_plain(value)},
        frequencies=_frequencies(model),
        tokenizer_size=len(tokenizer),
        merges=None if merges is None else len(merges),
        has_template=tokenizer.chat_template not in (None, PLAIN_TEMPLATE),
    )


def probe_prompts(view: TokenizerView, probes: Sequence[str]) -> list[str]:
    """Returns probes as a user's turns; as they are where the chat template refuses them.

    A SentencePiece model may get a space before a text that begins the input, and none after a special token: llama.cpp
    has one setting for both, so what counts is how the text stands in a prompt.
    """
    return [_rendered(view, text) for text in probes]


def _rendered(view: TokenizerView, text: str) -> str:
    try:
        return view.render([{"role": "user", "content": text}], True, ())
    except EdgeftError:
        return text


def control_ids(tokenizer: hf.Tokenizer, records: Sequence[ReferenceRecord]) -> list[int]:
    """Returns the special tokens that the chat template puts into the records: the device must know them as CONTROL."""
    special = {int(token) for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return sorted(special & {token for record in records for token in record.ids})


def pieces_of(view: TokenizerView, lists: Iterable[Sequence[int]]) -> dict[str, str]:
    """Returns the bytes of every token that occurs, by its number, as Latin-1 text, which JSON can hold."""
    ids = sorted({token for ids in lists for token in ids})
    return {str(token): piece.decode("latin-1") for token, piece in zip(ids, view.pieces(ids), strict=True)}


def _frequencies(model: hf.PreTrainedModel) -> dict[str, list[float]]:
    """Returns the rotary frequencies as the model has them: those of kinds of layers under the kind's name."""
    found: dict[str, list[float]] = {}
    for name, buffer in model.named_buffers():
        last = name.rpartition(".")[2]
        if last.endswith(_FREQUENCIES) and "original" not in last:
            found.setdefault(last.removesuffix(_FREQUENCIES).rstrip("_"), buffer.float().cpu().tolist())
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(one) for one in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, bool | int | float | str)
