"""A training small enough for a test, of a model smaller still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner
from tiny_run import make_run

from edgeft.artifacts import Checkpoint, Tokens
from edgeft.cli import main
from edgeft.config import LoraConfig, TrainConfig
from edgeft.progress import Progress, silent
from edgeft.train import train

SMALL: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
# 7 batches an epoch, so the third step of an epoch has one batch, and the training ends in the middle of an epoch.
CONFIG = TrainConfig(
    device="cpu",
    epochs=1.5,
    batch_size=6,
    accumulation=3,
    learning_rate=5e-3,
    evaluations=3,
    lora=LoraConfig(rank=4, dropout=0.2),
)
STEPS = 5
PACKED = CONFIG.model_copy(update={"packing": True, "lora": LoraConfig(rank=4)})


def make_tokens(folder: Path) -> Path:
    """Makes a base model and the tokens of 42 records in `folder`, and returns it."""
    config = make_run(folder, records=42, **SMALL)
    assert CliRunner().invoke(main, ["run", "tokens", "-c", str(config)]).exit_code == 0
    return folder


def run(folder: Path, out: Path, config: TrainConfig, progress: Progress = silent) -> Path:
    """Trains on what `make_tokens` made in `folder`; returns the adapter's folder."""
    return train(Tokens(folder / "run" / "tokens"), Checkpoint.open(folder / "base"), config, out, progress).path


def stopping_after(steps: int | None) -> Progress:
    """Cuts a training short after so many steps as a kill does it, by an exception from outside; None for never."""

    def watch(done: float, total: float, status: str = "") -> None:
        if steps is not None and "loss" in status and done > steps:
            raise KeyboardInterrupt

    return watch
