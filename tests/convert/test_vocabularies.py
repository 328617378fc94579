"""Vocabularies of released causal models, rebuilt as Hugging Face tokenizers: llama.cpp splits as they do, on our file.

`make test-oracle` runs all; otherwise one of each kind runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import oracle
import pytest
from tokenizers import Tokenizer

from convert.vocabularies import rebuild, recorded
from edgeft.config import ConvertConfig
from edgeft.convert.tokenizer import prove_tokenizer

_SMALLEST = ("deepseek-coder", "phi-3")
_ALL = (
    *("aquila", "baichuan", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "gpt-neox"),
    *("llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder"),
)
_WHOLE = bool(os.environ.get("EDGEFT_WHOLE_MATRIX"))


@pytest.mark.parametrize("name", _ALL if _WHOLE else _SMALLEST)
def test_ids_are_those_of_the_released_model(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    vocabulary = oracle.vocabularies_folder() / f"ggml-vocab-{name}.gguf"
    size = rebuild(vocabulary, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    cases = recorded(vocabulary)
    for text, ids in cases:
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, repr(text)
    start = time.monotonic()
    count = 10_000 if _WHOLE else 500
    proved = prove_tokenizer(
        tmp_path / "model", {"model_type": "llama"}, size, "Model", ConvertConfig(random_texts=count), tuned=False
    )
    seconds = time.monotonic() - start
    texts = len(proved.expected.texts) + len(proved.expected.prompts)
    rules = f"{proved.vocabulary.kind}, {proved.vocabulary.pre}"
    record_property("vocabulary", (name, f"{len(cases)} recorded, {texts} proved in {seconds:.1f} s: {rules}"))
