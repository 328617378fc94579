"""The `tokenizer.*` keys of a GGUF file, from the tokenizer's files in a checkpoint folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFWriter

from edgeft.convert.special_tokens import SpecialTokens, read_special_tokens
from edgeft.convert.tokenizer_files import TokenizerFiles
from edgeft.convert.vocabulary import Vocabulary, read_vocabulary


def add_tokenizer(
    writer: GGUFWriter, folder: Path, config_json: Mapping[str, Any], vocab_size: int, *, tuned: bool
) -> None:
    """Adds vocabulary, special tokens and chat templates; raises EdgeftError where llama.cpp cannot do the same.

    A `tuned` model without a chat template has the one that it was tuned with.
    """
    files = TokenizerFiles.read(folder, tuned=tuned)
    vocabulary = read_vocabulary(files, vocab_size)
    special = read_special_tokens(files, vocabulary, config_json)
    _add_vocabulary(writer, vocabulary)
    _add_special_tokens(writer, special)
    templates = [{"name": name, "template": template} for name, template in files.templates.items()]
    if len(templates) > 1:
        writer.add_chat_template(templates)
    elif templates:
        writer.add_chat_template(templates[0]["template"])


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.kind == "llama":
        writer.add_token_scores(vocabulary.scores)
    else:
        writer.add_token_merges(vocabulary.merges)


def _add_special_tokens(writer: GGUFWriter, special: SpecialTokens) -> None:
    adders = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "eom": writer.add_eom_token_id,
        "unk": writer.add_unk_token_id,
        "sep": writer.add_sep_token_id,
        "pad": writer.add_pad_token_id,
        "mask": writer.add_mask_token_id,
    }
    for role, number in special.ids.items():
        adders[role](number)
    # Always stated: llama.cpp's default depends on the pre-tokenizer's name, and for some it is to add a token.
    writer.add_add_bos_token(special.add_bos)
    writer.add_add_eos_token(special.add_eos)
    if special.add_space_prefix is not None:
        writer.add_add_space_prefix(special.add_space_prefix)
