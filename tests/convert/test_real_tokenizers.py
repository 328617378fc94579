"""Tokenizers of released models: recognised as llama.cpp's converter recognises them, and equal on recorded cases.

EDGEFT_TOKENIZERS names a folder with `llama-3`, `qwen2` and `llama-2`: each with a tokenizer's files and
`cases.jsonl`, lines of {"text": ..., "ids": [...]} with no special tokens added.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import oracle
import pytest
from transformers import AutoTokenizer

from convert.models import PROBES, llama, random_texts, to_gguf
from convert.runtime import vocabulary

_FOLDER = Path(os.environ.get("EDGEFT_TOKENIZERS", "/nowhere"))
# Sizes above the tokenizers' own, so that padding is covered.
_SIZES = {"llama-3": 128320, "qwen2": 151680, "llama-2": 32064}

pytestmark = pytest.mark.skipif(not _FOLDER.is_dir(), reason="EDGEFT_TOKENIZERS names no folder")


@pytest.fixture(scope="module", params=_SIZES)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    name: str = request.param
    folder = tmp_path_factory.mktemp(name) / name
    folder.mkdir()
    for path in (_FOLDER / name).iterdir():
        shutil.copyfile(path, folder / path.name)
    llama(folder, vocab_size=_SIZES[name], hidden_size=32, tie_word_embeddings=True, num_hidden_layers=1)
    return name, folder, to_gguf(folder, folder.parent / "ours.gguf", "f16").path


def test_recorded_ids(converted: tuple[str, Path, Path]) -> None:
    _, folder, path = converted
    lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    with vocabulary(path) as vocab:
        for case in map(json.loads, lines):
            assert vocab.encode(case["text"]) == case["ids"], repr(case["text"])


def test_ids_of_probes(converted: tuple[str, Path, Path]) -> None:
    name, folder, path = converted
    if name == "llama-2":
        pytest.skip("transformers cannot read a bare tokenizer.model without further packages")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with vocabulary(path) as vocab:
        for text in (*PROBES, *random_texts(2000, seed=4)):
            if name == "qwen2" and "\u0301" in text:
                continue  # its NFC normalizer composes this; llama.cpp normalizes nothing
            assert vocab.encode(text, add_special=True) == tokenizer.encode(text), repr(text)


def test_vocabulary_is_that_of_llama_cpps_converter(converted: tuple[str, Path, Path]) -> None:
    _, folder, path = converted
    oracle.convert_all([oracle.Job(folder, folder.parent / "theirs.gguf", "f16", "")])
    ours, theirs = (_tokenizer_keys(file) for file in (path, folder.parent / "theirs.gguf"))
    differing = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    stated = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix"}
    default_or_named = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.unknown_token_id"}
    assert differing <= stated | default_or_named


def _tokenizer_keys(path: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(path).fields
    return {name: entry.contents() for name, entry in fields.items() if name.startswith("tokenizer.")}
