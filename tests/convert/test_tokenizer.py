"""llama.cpp splits text with our file as the tokenizer that the model was trained with does."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from convert.models import (
    PROBES,
    byte_level_tokenizer,
    llama,
    llama_tokenizer,
    random_texts,
    sentencepiece_model,
    to_gguf,
)
from convert.runtime import vocabulary

_RANDOM_TEXTS = 400
_SPLITTINGS = [("gpt-2", False), ("smollm", False), ("llama-bpe", True), ("llama-bpe", False), ("qwen2", False)]


@pytest.mark.parametrize(("splitting", "ignore_merges"), _SPLITTINGS)
def test_byte_level_ids_are_those_of_transformers(splitting: str, ignore_merges: bool, tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path, splitting, ignore_merges=ignore_merges, add_bos=splitting == "llama-bpe")
    llama(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with vocabulary(to_gguf(tmp_path, tmp_path / "m.gguf").path) as vocab:
        for text in (*PROBES, *random_texts(_RANDOM_TEXTS, seed=0)):
            assert vocab.encode(text) == tokenizer.encode(text, add_special_tokens=False), repr(text)
            assert vocab.encode(text, add_special=True) == tokenizer.encode(text), repr(text)
        assert vocab.ends(tokenizer.eos_token_id)


def test_sentencepiece_ids_are_those_of_sentencepiece(tmp_path: Path) -> None:
    processor = sentencepiece_model(tmp_path)
    llama(tmp_path)
    with vocabulary(to_gguf(tmp_path, tmp_path / "m.gguf").path) as vocab:
        for text in (*PROBES, *random_texts(_RANDOM_TEXTS, seed=1)):
            if "<tool>" in text or "\0" in text:
                continue  # tokens matched in the text first: transformers' way, below
            assert vocab.encode(text) == processor.encode(text), repr(text)
            assert vocab.encode(text, add_special=True) == [1, *processor.encode(text)], repr(text)


def test_plain_text_without_scores(tmp_path: Path) -> None:
    tokenizer = llama_tokenizer(tmp_path, sentencepiece_model(tmp_path / "sentencepiece"))
    llama(tmp_path)
    with vocabulary(to_gguf(tmp_path, tmp_path / "m.gguf").path) as vocab:
        for text in (*PROBES, *random_texts(_RANDOM_TEXTS, seed=2)):
            # tokenizers puts no space before a space nor after an added token; SentencePiece and llama.cpp do.
            if not text.startswith(" ") and "tool>" not in text:
                assert vocab.encode(text) == tokenizer.encode(text, add_special_tokens=False), repr(text)


def test_conversations_without_scores(tmp_path: Path) -> None:
    tokenizer = llama_tokenizer(tmp_path, sentencepiece_model(tmp_path / "sentencepiece"), chat=True)
    llama(tmp_path)
    with vocabulary(to_gguf(tmp_path, tmp_path / "m.gguf").path) as vocab:
        for text in (*PROBES, *random_texts(_RANDOM_TEXTS, seed=3)):
            messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
            rendered = str(tokenizer.apply_chat_template(messages, tokenize=False))
            assert vocab.encode(rendered) == tokenizer.encode(rendered, add_special_tokens=False), repr(text)
        assert tokenizer.eos_token == "<|im_end|>" and vocab.ends(tokenizer.eos_token_id)
