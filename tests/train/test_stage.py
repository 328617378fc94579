"""Training: the loss falls, only the adapter is trained, seeds repeat, and a resumed training equals a whole one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import cast

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_run import make_run

from edgeft import hf
from edgeft.artifacts import Checkpoint, Tokens
from edgeft.cli import main
from edgeft.config import LoraConfig, TrainConfig
from edgeft.errors import EdgeftError
from edgeft.progress import silent
from edgeft.train import train

CONFIG = TrainConfig(device="cpu", epochs=3, batch_size=8, learning_rate=2e-3, evaluations=6)
PACKED = CONFIG.model_copy(update={"packing": True, "epochs": 2, "lora": LoraConfig(dropout=0.0)})
BUDGET = PACKED.model_copy(update={"token_budget": 400})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_run(tmp_path_factory.mktemp("train"), records=80)
    assert CliRunner().invoke(main, ["run", "tokens", "-c", str(config)]).exit_code == 0
    return config.parent


def run(folder: Path, out: Path, config: TrainConfig = CONFIG, stop_after: int | None = None) -> Path:
    """Trains; `stop_after` steps it is cut short as a kill does it, by an exception from outside."""

    def watch(done: float, total: float, status: str = "") -> None:
        if stop_after is not None and done > stop_after:
            raise KeyboardInterrupt

    tokens, base = Tokens(folder / "run" / "tokens"), Checkpoint.open(folder / "base")
    return train(tokens, base, config, out, watch if stop_after is not None else silent).path


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(adapter / "adapter_model.safetensors")


def test_the_loss_falls_and_the_figures_say_so(folder: Path, tmp_path: Path) -> None:
    adapter = run(folder, tmp_path / "adapter")
    figures = json.loads((adapter / "training.json").read_text())
    assert figures["last_loss"] < 0.6 * figures["first_loss"]
    assert figures["best_evaluation_loss"] == min(figures["evaluation_losses"])
    assert 0.8 < figures["batch_efficiency"] < 1
    lines = [json.loads(line) for line in (adapter / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert not (adapter / "checkpoints").exists()
    adapted = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in weights(adapter)}
    assert adapted == {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}


def test_equal_seeds_train_equal_adapters_and_others_do_not(folder: Path, tmp_path: Path) -> None:
    short = CONFIG.model_copy(update={"epochs": 1})
    first, second = (weights(run(folder, tmp_path / name, short)) for name in ("first", "second"))
    other = weights(run(folder, tmp_path / "other", short.model_copy(update={"seed": 1})))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("stop_after", [3, 13, 25])
def test_a_resumed_training_equals_the_uninterrupted_one(folder: Path, tmp_path: Path, stop_after: int) -> None:
    whole = weights(run(folder, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cut", stop_after=stop_after)
    assert not (tmp_path / "cut" / "adapter_model.safetensors").exists()
    resumed = weights(run(folder, tmp_path / "cut"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("config", [PACKED, BUDGET], ids=["records", "tokens"])
def test_a_resumed_packed_training_equals_the_uninterrupted_one(
    folder: Path, tmp_path: Path, config: TrainConfig
) -> None:
    whole = weights(run(folder, tmp_path / "whole", config))
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cut", config, stop_after=13)
    resumed = weights(run(folder, tmp_path / "cut", config))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_packed_training_is_padded_training(folder: Path, tmp_path: Path, accumulation: int) -> None:
    """The same records in the same steps: the adapters agree, but for sums in another order."""
    padded = PACKED.model_copy(update={"packing": False, "epochs": 1, "accumulation": accumulation})
    wanted = weights(run(folder, tmp_path / "padded", padded))
    got = weights(run(folder, tmp_path / "packed", padded.model_copy(update={"packing": True})))
    moved = sum(float(wanted[name].norm()) ** 2 for name in wanted if "lora_B" in name) ** 0.5
    assert sum(float((got[name] - wanted[name]).norm()) ** 2 for name in wanted) ** 0.5 < 1e-3 * moved


def test_layers_with_dropout_stay_plain_and_train_packed(folder: Path, tmp_path: Path) -> None:
    config = PACKED.model_copy(update={"lora": LoraConfig(dropout=0.1)})
    figures = json.loads((run(folder, tmp_path / "adapter", config) / "training.json").read_text())
    assert figures["last_loss"] < 0.6 * figures["first_loss"]


def test_a_checkpoint_that_a_kill_left_incomplete_is_not_resumed_from(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cut", stop_after=13)
    checkpoints = sorted((tmp_path / "cut" / "checkpoints").glob("checkpoint-*"))
    broken = checkpoints[-1].with_name("checkpoint-1000")
    shutil.copytree(checkpoints[-1], broken)
    (broken / "complete").unlink()
    (broken / "optimizer.pt").write_bytes(b"cut")
    resumed = weights(run(folder, tmp_path / "cut"))
    whole = weights(run(folder, tmp_path / "whole"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_early_stopping_keeps_the_best_adapter(folder: Path, tmp_path: Path) -> None:
    """With a learning rate that wrecks the model the best adapter is an early one, and training does not go on."""
    wild = CONFIG.model_copy(update={"learning_rate": 20.0, "epochs": 6, "evaluations": 20, "patience": 2})
    figures = json.loads((run(folder, tmp_path / "adapter", wild) / "training.json").read_text())
    assert figures["steps"] < figures["planned_steps"]
    losses = figures["evaluation_losses"]
    assert len(losses) - 1 - losses.index(figures["best_evaluation_loss"]) == wild.patience


def test_unknown_targets_are_refused_with_the_layers_there_are(folder: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"lora": LoraConfig(targets=("q_proj", "query"))})
    with pytest.raises(EdgeftError, match="query") as caught:
        run(folder, tmp_path / "adapter", config)
    assert "down_proj" in caught.value.problems[0].remedy


def test_the_quantized_base_is_nf4_and_double_quantized(folder: Path) -> None:
    """What bitsandbytes holds is 4 bits a weight, and evaluating it does not change it (it would, on some CPUs)."""
    model = hf.load_quantized(Checkpoint.open(folder / "base"), "cpu")
    layer = cast(Linear4bit, model.get_submodule("model.layers.0.mlp.up_proj"))
    state = layer.weight.quant_state
    assert (state.quant_type, state.nested) == ("nf4", True)
    assert layer.weight.numel() == 256 * 512 // 2
    before = layer.weight.data.clone()
    hf.logits(model, [5, 6, 7])
    assert torch.equal(before, layer.weight.data)
    assert layer.weight.quant_state.nested
