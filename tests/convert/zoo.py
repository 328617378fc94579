"""One random tiny model for each family and each option of it that changes the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from edgeft.artifacts import Checkpoint
from edgeft.hf import load_model

VOCAB = 576  # room for the tokenizers that tests make, and padding behind them
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}

Difference = tuple[Any, Any]


@dataclass(frozen=True)
class Case:
    """A model by its transformers class and the settings of its configuration, which are added to `SIZES`.

    `stored` is the type of the checkpoint, `dtype` that of the file held to llama.cpp's converter. `differences` are
    keys that differ on purpose, as (ours, theirs), None for a key that is absent, with the reason in `why`.
    `tokens` is the length of the text on which logits are compared, and the context that llama.cpp is opened with;
    `edits` are made to config.json, `options` given to llama.cpp's converter.
    """

    family: str
    option: str
    architecture: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    stored: str = "bfloat16"
    dtype: str = "bf16"
    differences: Mapping[str, Difference] = field(default_factory=dict)
    why: str = ""
    sentencepiece: bool = False
    tokens: int = 160
    edits: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.family}: {self.option}"

    @property
    def tokenizer(self) -> str:
        """Which tokenizer its test makes: "spm", "bpe", or "qwen35", as transformers splits for this class itself."""
        rebuilt = self.architecture == "Qwen3_5ForConditionalGeneration"
        return "spm" if self.sentencepiece else "qwen35" if rebuilt else "bpe"


def make(case: Case, folder: Path, tokenizer: Path) -> transformers.PreTrainedModel:
    """Saves the case's model beside a copy of a tokenizer's files; returns it in float32."""
    shutil.copytree(tokenizer, folder)
    torch.manual_seed(0)
    model_class = getattr(transformers, case.architecture)
    settings = dict(case.settings)
    if "text_config" in settings:
        settings["text_config"] = {**SIZES, **settings["text_config"]}
    else:
        settings = {**SIZES, **settings}
    config = model_class.config_class(**settings)
    model: transformers.PreTrainedModel = model_class(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The default initialisation gives logits too flat, and zero biases and unit norms, that hide mistakes.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed" not in name:
                parameter.mul_(4)
    model.to(dtype=getattr(torch, case.stored))  # type: ignore[call-arg]
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | case.edits))
    return load_model(Checkpoint.open(folder), "cpu", torch.float32)
