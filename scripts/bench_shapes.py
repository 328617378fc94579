"""What training is measured on: known models' shapes with random weights, records with the lengths of instructions."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen3Config

from edgeft.config import LoraConfig

_SPECIAL: dict[str, Any] = {"bos_token": "t0", "eos_token": "t1", "pad_token": "t2"}
_SPECIAL_IDS: dict[str, Any] = {f"{role}_id": int(word[1:]) for role, word in _SPECIAL.items()}


def _llama_3(width: int, feed_forward: int, layers: int, heads: int = 32, *, tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        vocab_size=128_256,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        **_SPECIAL_IDS,
    )


SHAPES: dict[str, PreTrainedConfig] = {
    "70b": _llama_3(8192, 28672, 80, heads=64),
    "8b": _llama_3(4096, 14336, 32),
    "1b": _llama_3(2048, 8192, 16, tied=True),
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
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA = LoraConfig(rank=16, alpha=32, dropout=0.0, targets=LINEARS)
LEARNING_RATE = 2e-4
LONGEST = 2048
WARM_UP = 4
"""Steps before the clock starts."""
_TILE = 1 << 22
"""Random numbers that weights repeat: 70 billion would take minutes to draw."""


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
        _write_weights(SHAPES[shape], folder)
        words = {f"t{number}": number for number in range(SHAPES[shape].vocab_size)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="t3"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        made: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=tokenizer, unk_token="t3", **_SPECIAL
        )
        made.save_pretrained(folder)
    return folder


def _write_weights(config: PreTrainedConfig, folder: Path) -> None:
    """Writes bfloat16 weights and their index, a shard for each layer and one for the rest, and the configuration."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    names = {id(tensor): name for name, tensor in reversed(list(model.named_parameters(remove_duplicate=False)))}
    shards: dict[str, dict[str, torch.Size]] = {}
    for name, tensor in model.named_parameters():
        if names[id(tensor)] == name:
            part = name.split(".")[2] if ".layers." in name else "ends"
            shards.setdefault(f"model-{part}.safetensors", {})[name] = tensor.shape
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures, model.config.dtype = [type(model).__name__], torch.bfloat16
    model.config.save_pretrained(folder)
    numbers = torch.randn(_TILE, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    tile = numbers.view(torch.uint8).numpy().tobytes()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda shard: _write_shard(folder / shard[0], shard[1], tile), shards.items()))
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _write_shard(path: Path, tensors: Mapping[str, torch.Size], tile: bytes) -> None:
    """Writes a safetensors file: ones for norms, the tile's numbers for matrices, from another place for each."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, size in tensors.items():
        start, end = end, end + 2 * size.numel()
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [start, end]}
    described = json.dumps(header).encode()
    ones = torch.ones(1, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes()
    view = memoryview(tile)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for name, size in tensors.items():
            left = 2 * size.numel()
            if len(size) == 1:
                file.write(ones * size.numel())
                continue
            place = 2 * random.Random(name).randrange(len(tile) // 2)
            while left:
                piece = view[place : place + left]
                file.write(piece)
                left, place = left - len(piece), 0
