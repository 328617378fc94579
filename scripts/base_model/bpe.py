"""The base model's tokenizer: byte-level BPE with the Qwen2 pre-tokenizer and no normalizer, so that it is lossless.

llama.cpp knows this pre-tokenizer as `tokenizer.ggml.pre = "qwen2"` (llama-vocab.cpp) and applies no normalizer either.
Digits are split singly, which helps arithmetic and the copying of numbers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from base_model.documents import CHAT_TEMPLATE, END_OF_TEXT, TURN_END, TURN_START
from base_model.draw import Draw
from base_model.families import draw_document

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)


def sample_texts(seed: int, sample_bytes: int) -> Iterator[str]:
    """Roles and contents of curriculum documents, about `sample_bytes` bytes in all, without the special tokens."""
    draw = Draw(random.Random(f"{seed}/tokenizer"))
    written = 0
    while written < sample_bytes:
        _, document = draw_document(draw)
        for text in [document] if isinstance(document, str) else [text for turn in document for text in turn]:
            written += len(text.encode())
            yield text


def train_tokenizer(seed: int, vocab_size: int, sample_bytes: int) -> Tokenizer:
    """A byte-level BPE tokenizer of exactly `vocab_size` entries, special tokens first, all 256 bytes in the alphabet.

    Raises ValueError when the sample is too small to give that many entries.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(seed, sample_bytes), trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"the sample gave {tokenizer.get_vocab_size()} entries, not {vocab_size}: enlarge the sample")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja as transformers reads them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "additional_special_tokens": [TURN_START],
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def load_or_train(path: Path, seed: int, vocab_size: int, sample_bytes: int) -> Tokenizer:
    """The tokenizer kept at `path`, trained and put there when it is missing."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        train_tokenizer(seed, vocab_size, sample_bytes).save(str(partial))
        partial.replace(path)
    return Tokenizer.from_file(str(path))
