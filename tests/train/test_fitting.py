"""Out of memory: a training steps down, says so, and each of its steps trains as many records as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_run import make_run

from edgeft.artifacts import Checkpoint, Tokens
from edgeft.cli import main
from edgeft.config import LoraConfig, TrainConfig
from edgeft.errors import EdgeftError
from edgeft.progress import silent
from edgeft.resources import ModelShape
from edgeft.resources.choice import keep
from edgeft.resources.jobs import job_of, wish_of
from edgeft.train import train
from edgeft.train.fitting import Fitting

PADDED = TrainConfig(device="cpu", epochs=1, batch_size=8, learning_rate=2e-3, evaluations=2)
PACKED = PADDED.model_copy(update={"packing": True})
BUDGET = PACKED.model_copy(update={"token_budget": 400})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    config = make_run(tmp_path_factory.mktemp("fitting"), records=40, **shape)
    assert CliRunner().invoke(main, ["run", "tokens", "-c", str(config)]).exit_code == 0
    return config.parent


class FullCard:
    """A watcher that runs out of memory at a step, `times` over, as an allocation in it would."""

    def __init__(self, times: int, step: int = 1) -> None:
        self.times, self.step = times, step
        self.told: list[str] = []

    def __call__(self, done: float, total: float, status: str = "") -> None:
        if status.startswith("out of memory"):
            self.told.append(status)
        elif done == self.step and self.times:
            self.times -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def run(folder: Path, out: Path, config: TrainConfig, card: FullCard | None = None) -> dict[str, Any]:
    """Trains; returns what training.json says of the memory, and the weights."""
    base = Checkpoint.open(folder / "base")
    train(Tokens(folder / "run" / "tokens"), base, config, out, silent if card is None else card)
    memory: dict[str, Any] = json.loads((out / "training.json").read_text())["memory"]
    return memory | {"weights": load_file(out / "adapter_model.safetensors")}


@pytest.mark.parametrize("config", [PADDED, BUDGET], ids=["padded", "packed"])
def test_it_goes_on_with_half_the_batch_twice_as_often(folder: Path, tmp_path: Path, config: TrainConfig) -> None:
    """Half a token budget is dealt as if it had been asked for; half the records are parts of the batches before."""
    card = FullCard(times=2)
    got = run(folder, tmp_path / "down", config, card)
    changes: dict[str, Any] = {"gradient_checkpointing": True, "accumulation": 2}
    changes |= {"token_budget": 200} if config.token_budget else {"batch_size": 4}
    wanted = run(folder, tmp_path / "asked", config.model_copy(update=changes))
    assert len(card.told) == len(got["steps_down"]) == 2
    assert "computed again" in card.told[0]
    assert "accumulated 2 times" in card.told[1]
    assert (got["recompute"], got["accumulation"]) == (True, 2)
    assert (got["batch_size"], got["token_budget"]) == (wanted["batch_size"], wanted["token_budget"])
    if config.token_budget:
        assert all(torch.equal(got["weights"][name], tensor) for name, tensor in wanted["weights"].items())


@pytest.mark.parametrize("config", [PADDED, PACKED], ids=["padded", "packed"])
def test_a_step_down_in_an_epoch_trains_each_record_once(folder: Path, tmp_path: Path, config: TrainConfig) -> None:
    """From a checkpoint in the middle of the epoch on in smaller batches: the adapter is that of an undisturbed
    training, but for sums in another order."""
    config = config.model_copy(update={"lora": LoraConfig(dropout=0.0)})
    card = FullCard(times=2, step=4)
    got = run(folder, tmp_path / "down", config, card)["weights"]
    wanted = run(folder, tmp_path / "whole", config)["weights"]
    assert "accumulated 2 times" in card.told[1]
    moved = sum(float(wanted[name].norm()) ** 2 for name in wanted if "lora_B" in name) ** 0.5
    assert sum(float((got[name] - wanted[name]).norm()) ** 2 for name in wanted) ** 0.5 < 1e-3 * moved


def test_computing_again_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """Out of memory late: it goes on from the last checkpoint, to the adapter of an undisturbed training."""
    got = run(folder, tmp_path / "down", PACKED, FullCard(times=1, step=4))
    wanted = run(folder, tmp_path / "whole", PACKED)
    assert (got["recompute"], wanted["recompute"]) == (True, False)
    assert all(torch.equal(got["weights"][name], tensor) for name, tensor in wanted["weights"].items())


def fitting(folder: Path, path: Path, config: TrainConfig) -> Fitting:
    return Fitting(Checkpoint.open(folder / "base").config(), config, [60, 50, 40, 30], "cpu", path)


def full(times: int) -> Callable[[], None]:
    """Returns an attempt that runs out of memory so many times."""
    card = FullCard(times)
    return lambda: card(1, 1)


def test_a_resumed_training_is_cut_as_it_was(folder: Path, tmp_path: Path) -> None:
    config = BUDGET.model_copy(update={"token_budget": 240})
    first = fitting(folder, tmp_path / "memory.json", config)
    first.train(full(times=3), silent)
    assert (first.config.token_budget, first.config.accumulation) == (60, 4)
    resumed = fitting(folder, tmp_path / "memory.json", config)
    assert resumed.config == first.config
    assert resumed.steps_down == first.steps_down


def need(folder: Path, config: TrainConfig) -> int:
    """Returns the bytes that a plan as it is asked for is predicted to need."""
    shape = ModelShape.read(Checkpoint.open(folder / "base").config())
    return keep(job_of(shape, config, "cpu"), wish_of(config, [60, 50, 40, 30]), None).need.total


@pytest.mark.parametrize("recompute", [True, False])
def test_with_less_memory_a_resumed_training_steps_down_from_where_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recompute: bool
) -> None:
    """It had got to 2 records twice. Now there is room for one, or, where nothing was computed again, for two which
    are; never is it cut anew from what was asked for."""
    config = PACKED.model_copy(update={"batch_size": 4, "gradient_checkpointing": recompute})
    two = {"batch_size": 2, "accumulation": 2, "token_budget": None, "recompute": recompute, "steps_down": ["before"]}
    (tmp_path / "memory.json").write_text(json.dumps(two))
    halves = need(folder, config.model_copy(update={"batch_size": 2}))
    monkeypatch.setattr(Fitting, "_usable", lambda self: halves)
    assert fitting(folder, tmp_path / "memory.json", config).steps_down == ["before"]
    monkeypatch.setattr(Fitting, "_usable", lambda self: halves - 1)
    resumed = fitting(folder, tmp_path / "memory.json", config)
    cut = (resumed.config.batch_size, resumed.config.accumulation, resumed.config.gradient_checkpointing)
    assert cut == ((1, 4, True) if recompute else (2, 2, True))
    assert len(resumed.steps_down) == 2
    monkeypatch.setattr(Fitting, "_usable", lambda self: 1)
    with pytest.raises(EdgeftError, match="one record of 60 tokens needs"):
        fitting(folder, tmp_path / "memory.json", config)


def test_when_nothing_is_left_it_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="out of GPU memory: CUDA out of memory") as caught:
        fitting(folder, tmp_path / "memory.json", PACKED).train(full(times=9), silent)
    assert "dataset.max_tokens" in caught.value.problems[0].remedy


def test_other_errors_go_through(folder: Path, tmp_path: Path) -> None:
    def attempt() -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    with pytest.raises(RuntimeError, match="illegal"):
        fitting(folder, tmp_path / "memory.json", PACKED).train(attempt, silent)
