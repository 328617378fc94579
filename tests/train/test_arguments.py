"""The configuration as transformers' Trainer takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.config import TrainConfig
from edgeft.train.arguments import training_arguments


@pytest.mark.parametrize(
    ("batches", "fraction", "warmup"), [(1, 0.1, 0), (2, 0.1, 1), (100, 0.1, 10), (4, 0.99, 3), (100, 0.0, 0)]
)
def test_some_step_is_left_behind_the_warmup(tmp_path: Path, batches: int, fraction: float, warmup: int) -> None:
    """The first of the steps that warm up has a rate of 0."""
    config = TrainConfig(device="cpu", epochs=1, warmup_fraction=fraction)
    arguments = training_arguments(config, tmp_path, "cpu", batches, recompute=False, processes=1)
    assert arguments.warmup_steps == warmup
