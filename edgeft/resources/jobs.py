"""From a configuration to what the arithmetic takes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal

from edgeft.config import TrainConfig
from edgeft.errors import EdgeftError
from edgeft.resources.choice import Wish
from edgeft.resources.memory import Engine, Job
from edgeft.resources.shape import ModelShape


def job_of(shape: ModelShape, config: TrainConfig, device: Literal["cuda", "cpu"], processes: int = 1) -> Job:
    """Returns what `config` trains on such a model, by which code, in each of so many processes.

    Raises EdgeftError for what the arithmetic does not cover: it knows low-rank adapters over a double-quantized base.
    """
    if config.method != "qlora" or not config.quantization.double or config.trained_tokens:
        what = "the memory of such a training is not predicted"
        raise EdgeftError(what, "train.method", 'it is for "qlora" with double quantization and no trained tokens')
    engine: Engine = "padded"
    if config.packing:
        fast = shape.fast and config.lora.dropout == 0 and config.quantization.type == "nf4"
        engine = "fast" if fast else "plain"
    number_bytes = 2 if device == "cuda" else 4
    rank = max(config.lora.rank, *config.lora.rank_pattern.values(), 0)
    shards = processes if config.shard_weights and engine == "fast" else 1
    return Job(shape, rank, frozenset(config.lora.targets or shape.linears), engine, number_bytes, shards)


def wish_of(config: TrainConfig, lengths: Sequence[int]) -> Wish:
    """Returns what `config` asks for with records of such lengths in tokens, those for evaluation too."""
    return Wish(
        longest_first=heapq.nlargest(config.batch_size, lengths),
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        token_budget=config.token_budget if config.packing else None,
        recompute=config.gradient_checkpointing,
        padded=not config.packing,
    )
