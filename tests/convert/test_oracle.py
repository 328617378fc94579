"""Our files equal those of llama.cpp's own converter, tensor for tensor and key for key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import oracle
import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.models import LLAMA3_ROPE, byte_level_tokenizer, llama, sentencepiece_model, to_gguf

_MODEL_CARD = """---
license: apache-2.0
language: [en]
tags: [tiny]
base_model: someone/Base-1B
datasets: [someone/texts]
---
A model.
"""


@dataclass(frozen=True)
class Case:
    """A checkpoint, the type it is stored in and the type it is converted to."""

    pre: str
    dtype: str
    source: torch.dtype = torch.float32
    settings: dict[str, Any] = field(default_factory=dict)
    ignore_merges: bool = False
    finish: Callable[[Path], None] = lambda folder: None


def _describe(folder: Path) -> None:
    (folder / "README.md").write_text(_MODEL_CARD)
    generation = {"temperature": 0.6, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1, "eos_token_id": [0, 2]}
    (folder / "generation_config.json").write_text(json.dumps(generation))


def _copy_head(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


_LINEAR_ROPE = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
_CASES = {
    "grouped-heads-tied": Case("llama-bpe", "f16", torch.bfloat16, {"tie_word_embeddings": True}, True, _describe),
    "bfloat16-as-it-is": Case("smaug-bpe", "bf16", torch.bfloat16),
    "biases": Case("smollm", "f32", settings={"attention_bias": True, "mlp_bias": True}),
    "llama3-rope-wide-heads": Case("gpt-2", "bf16", settings={"rope_parameters": LLAMA3_ROPE, "head_dim": 128}),
    "linear-rope": Case("gpt-2", "f16", torch.float16, {"rope_parameters": _LINEAR_ROPE}),
    "tied-with-copy": Case("qwen2", "f32", torch.float16, {"tie_word_embeddings": True}, finish=_copy_head),
    "mistral-sentencepiece": Case("default", "f16", settings={"mistral": True, "sliding_window": 128}),
}

# Where we differ on purpose: key -> may ours stand against theirs? None stands for a key that is absent.
_ALWAYS_STATED = "llama.cpp's default depends on the pre-tokenizer's name: the file says what transformers does"
_CLASS_DEFAULT = "config.json holds its class's default there, an ordinary word of this vocabulary"
_DIFFERENCES: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "tokenizer.ggml.add_bos_token": (_ALWAYS_STATED, lambda ours, theirs: theirs is None),
    "tokenizer.ggml.add_eos_token": (_ALWAYS_STATED, lambda ours, theirs: theirs is None and ours is False),
    "tokenizer.ggml.add_space_prefix": (
        "llama.cpp's default is right for some SentencePiece models only",
        lambda ours, theirs: theirs is None,
    ),
    "tokenizer.ggml.bos_token_id": (_CLASS_DEFAULT, lambda ours, theirs: ours is None and theirs == 1),
    "tokenizer.ggml.unknown_token_id": (
        "tokenizer_config.json names it; llama.cpp's converter looks names up in tokenizer.json only",
        lambda ours, theirs: (ours, theirs) == (0, None),
    ),
    "tokenizer.ggml.token_type": (
        "SentencePiece's user-defined pieces are matched before the text is split, in transformers too",
        lambda ours, theirs: {pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]} == {(4, 1)},
    ),
    "llama.context_length": (
        "llama.cpp has no sliding window for this architecture: the model is the same within the window only",
        lambda ours, theirs: (ours, theirs) == (128, 512),
    ),
}


@dataclass(frozen=True)
class Files:
    """One case converted by us and by llama.cpp."""

    ours: gguf.GGUFReader
    theirs: gguf.GGUFReader


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    root = tmp_path_factory.mktemp("oracle")
    oracle.converter_folder()
    jobs = []
    for name, case in _CASES.items():
        folder = root / name
        if case.pre == "default":
            sentencepiece_model(folder)
        else:
            splitting = "llama-bpe" if case.pre == "smaug-bpe" else case.pre
            byte_level_tokenizer(folder, splitting, case.ignore_merges, add_bos=case.pre == "llama-bpe")
        llama(folder, case.source, **case.settings)
        case.finish(folder)
        to_gguf(folder, root / f"{name}.ours.gguf", case.dtype)
        jobs.append(oracle.Job(folder, root / f"{name}.theirs.gguf", case.dtype, case.pre))
    oracle.convert_all(jobs)
    return {
        name: Files(gguf.GGUFReader(root / f"{name}.ours.gguf"), gguf.GGUFReader(root / f"{name}.theirs.gguf"))
        for name in _CASES
    }


def _keys(reader: gguf.GGUFReader) -> dict[str, Any]:
    found = {name: (entry.types, entry.contents()) for name, entry in reader.fields.items()}
    return {name: value for name, value in found.items() if not name.startswith("GGUF.")}


@pytest.mark.parametrize("name", _CASES)
def test_tensors_are_identical(name: str, converted: dict[str, Files]) -> None:
    ours = {tensor.name: tensor for tensor in converted[name].ours.tensors}
    theirs = {tensor.name: tensor for tensor in converted[name].theirs.tensors}
    assert list(ours) == list(theirs)
    for tensor_name, tensor in ours.items():
        other = theirs[tensor_name]
        assert tensor.tensor_type == other.tensor_type, tensor_name
        assert tensor.shape.tolist() == other.shape.tolist(), tensor_name
        assert tensor.data.tobytes() == other.data.tobytes(), tensor_name


@pytest.mark.parametrize("name", _CASES)
def test_keys_are_identical_but_for_the_listed_differences(name: str, converted: dict[str, Files]) -> None:
    ours, theirs = _keys(converted[name].ours), _keys(converted[name].theirs)
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) == theirs.get(key):
            continue
        _, allowed = _DIFFERENCES.get(key, ("", lambda ours, theirs: False))
        pair = [side[key][1] if key in side else None for side in (ours, theirs)]
        assert allowed(*pair), f"{key}: ours {pair[0]!r}, llama.cpp's {pair[1]!r}"
