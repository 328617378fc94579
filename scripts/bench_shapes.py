"""What training is measured on: known models' shapes with random weights, records with the lengths of instructions."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen3Config

from edgeft.config import LoraConfig

_SPECIAL: dict[str, Any] = {"bos_token": "t0", "eos_token": "t1", "pad_token": "t2"}
_SPECIAL_IDS: dict[str, Any] = {f"{role}_id": int(word[1:]) for role, word in _SPECIAL.items()}
_LLAMA_3: dict[str, Any] = {
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    **_SPECIAL_IDS,
}
SHAPES: dict[str, PreTrainedConfig] = {
    "8b": LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        tie_word_embeddings=False,
        **_LLAMA_3,
    ),
    "1b": LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        tie_word_embeddings=True,
        **_LLAMA_3,
    ),
    "0.6b": Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151_936,
        tie_word_embeddings=True,
        **_SPECIAL_IDS,
    ),
}
LORA = LoraConfig(rank=16, alpha=32, dropout=0.0)
LEARNING_RATE = 2e-4
LONGEST = 2048
WARM_UP = 4
"""Steps before the clock starts."""


def record_ids(shape: str, count: int = 1500, seed: int = 0) -> list[list[int]]:
    """Returns records whose lengths are lognormal, median 256, sigma 0.8, from 32 to 2,048 tokens.

    Small ids are more frequent, so that there is something to learn.
    """
    rng = random.Random(seed)
    n_vocab = SHAPES[shape].vocab_size
    lengths = [max(32, min(LONGEST, round(math.exp(rng.gauss(math.log(256), 0.8))))) for _ in range(count)]
    return [[10 + int((n_vocab - 10) * rng.random() ** 8) for _ in range(length)] for length in lengths]


def random_model(shape: str) -> Any:
    """Returns the shape with random weights, bfloat16, on the GPU."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            SHAPES[shape], attn_implementation="sdpa"
        )
    torch.set_default_dtype(torch.float32)
    return model


def make_checkpoint(shape: str, folder: Path) -> Path:
    """Writes the shape with random weights and a tokenizer of as many words into `folder`, unless it is there."""
    if not (folder / "tokenizer.json").is_file():
        random_model(shape).save_pretrained(folder)
        torch.cuda.empty_cache()
        words = {f"t{number}": number for number in range(SHAPES[shape].vocab_size)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="t3"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        made: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=tokenizer, unk_token="t3", **_SPECIAL
        )
        made.save_pretrained(folder)
    return folder
