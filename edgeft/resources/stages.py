"""What each stage needs beside training's own memory: disk that it writes, RAM, and GPU memory; upper bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeft.config import Config
from edgeft.files import parse_size
from edgeft.resources.memory import Need
from edgeft.resources.shape import ModelShape

_LIBRARIES_BYTES = 1_000_000_000
"""RAM of a process with torch and transformers in it."""
_TENSORS_AT_ONCE = 3
"""Merging and converting hold a tensor as it is stored, in float32, and changed."""
_CHECKPOINTS = 3
"""Of a training: the best, the last, and the one that is being written. Each has the adapter and two moments."""
_MOST_LOGITS_BYTES = 256_000_000
"""Which a parity reference keeps."""
_BYTES = {"f32": 4, "f16": 2, "bf16": 2}


@dataclass(frozen=True)
class StageNeed:
    """Bytes that a stage writes, and those it holds in RAM and on the GPU at most."""

    stage: str
    disk: int
    ram: int
    gpu: int = 0


def file_bytes(shape: ModelShape, type_name: str) -> int:
    """Returns the most that a GGUF file of a type takes: the bits in its name and one and a half.

    Scales take half a bit, and mixtures such as Q4_K_M store some tensors in larger types.
    """
    if type_name in ("F32", "F16", "BF16"):
        return _BYTES[type_name.lower()] * shape.weights
    digits = re.search(r"\d", type_name)
    bits = int(digits[0]) if digits else 16
    return round(shape.weights * (bits + 1.5) / 8)


def stage_needs(shape: ModelShape, config: Config, need: Need, tokens: int, *, cuda: bool) -> list[StageNeed]:
    """Returns the needs of every stage; `need` is training's, `tokens` those of all records."""
    largest = 4 * max(shape.n_vocab * shape.width, shape.width * shape.inner)
    converting = _LIBRARIES_BYTES + _TENSORS_AT_ONCE * largest
    unquantized = _BYTES[config.convert.dtype] * shape.weights
    adapter = 4 * shape.adapter_weights(config.train.lora.rank, config.train.lora.targets or shape.linears)
    made = config.convert.unquantized
    types = [name for name in config.quantize.types if not made or name != config.convert.dtype.upper()]
    # A file within a divergence is hardly larger than Q8_0, which is among the types that it may have.
    types += ["Q8_0"] * len(config.quantize.max_kld)
    quantized = sum(file_bytes(shape, name) for name in types) + sum(map(parse_size, config.quantize.max_size))
    logits = min(4 * config.parity.positions * shape.n_vocab, _MOST_LOGITS_BYTES)
    context = config.dataset.max_tokens + max(config.eval.max_new_tokens, config.parity.max_new_tokens)
    number = 2 if cuda else 4
    kv = 2 * number * shape.n_layers * shape.n_kv * context
    running = unquantized + kv + 4 * context * shape.n_vocab
    answering = number * shape.weights + kv * config.eval.batch_size

    def on_device(stage: str, disk: int, held: int, beside: int = 0) -> StageNeed:
        ram = _LIBRARIES_BYTES + beside
        return StageNeed(stage, disk, ram, held) if cuda else StageNeed(stage, disk, ram + held)

    return [
        StageNeed("import", 4 * shape.weights, converting),
        StageNeed("tokens", 5 * tokens, _LIBRARIES_BYTES),
        on_device("train", (1 + 3 * _CHECKPOINTS) * adapter, need.total),
        StageNeed("merge", 2 * shape.weights, converting),
        *([StageNeed("convert", unquantized, converting)] if made else []),
        StageNeed("imatrix", 0, running),
        StageNeed("quantize", quantized, 2 * largest if made else converting),
        on_device("reference", logits, 4 * shape.weights, logits),
        StageNeed("parity", 0, running),
        on_device("eval", 0, answering),
    ]
