"""From a configuration to what the arithmetic takes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal

from edgeft.config import TrainConfig
from edgeft.resources.choice import Wish
from edgeft.resources.memory import Engine, Job
from edgeft.resources.shape import ModelShape


def job_of(shape: ModelShape, config: TrainConfig, device: Literal["cuda", "cpu"]) -> Job:
    """Returns what `config` trains on such a model, and by which code."""
    engine: Engine = "padded"
    if config.packing:
        engine = "fast" if shape.fast and config.lora.dropout == 0 else "plain"
    number_bytes = 2 if device == "cuda" else 4
    return Job(shape, config.lora.rank, frozenset(config.lora.targets), engine, number_bytes)


def wish_of(config: TrainConfig, lengths: Sequence[int]) -> Wish:
    """Returns what `config` asks for with records of such lengths in tokens, those for evaluation too."""
    return Wish(
        longest_first=heapq.nlargest(config.batch_size, lengths),
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        token_budget=config.token_budget if config.packing else None,
        recompute=config.gradient_checkpointing,
    )
