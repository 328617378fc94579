"""One optimizer step is the same however its records are cut into forward passes: padded, packed, accumulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_run import make_run
from tiny_training import SMALL, run

from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.cli import main
from edgeft.config import LoraConfig, TrainConfig
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.train.batches import ExampleDataset, collate

# Eight records, a step an epoch: the sampler's order, which depends on the batch's size, changes no step's records.
TOGETHER = TrainConfig(
    device="cpu",
    epochs=4,
    batch_size=8,
    learning_rate=1e-3,
    evaluations=4,
    warmup_fraction=0.0,
    lora=LoraConfig(rank=4),
)
CUTS: dict[str, dict[str, Any]] = {
    "one by one": {"batch_size": 1, "accumulation": 8},
    "in threes": {"batch_size": 3, "accumulation": 3},
    "packed": {"packing": True},
    "packed one by one": {"packing": True, "batch_size": 1, "accumulation": 8},
    "packed to a budget": {"packing": True, "token_budget": 128, "accumulation": 8},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records whose answers have 2 to 37 tokens."""
    config = make_run(tmp_path_factory.mktemp("cuts"), **SMALL)
    records = []
    for number in range(8):
        answer = "on " * number * number if number % 2 else "off"
        messages = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": answer.strip()}]
        records.append(json.dumps({"messages": messages}))
    (config.parent / "train.jsonl").write_text("\n".join(records) + "\n")
    command = ["run", "tokens", "-c", str(config), "--set", "dataset.evaluation=train.jsonl"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return config.parent


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(folder, tmp_path_factory.mktemp("whole") / "out", TOGETHER)


def logged(adapter: Path, key: str) -> list[float]:
    lines = map(json.loads, (adapter / "logs" / "metrics.jsonl").read_text().splitlines())
    return [line[key] for line in lines if key in line]


@pytest.mark.parametrize("cut", CUTS)
def test_every_cut_is_the_same_training(folder: Path, tmp_path: Path, whole: Path, cut: str) -> None:
    """Losses and gradient norms of every step agree to float32's rounding in sums of another order.

    So do the adapters in what they have moved; single elements less, where Adam divides a gradient near 0 by itself.
    """
    got = run(folder, tmp_path / "out", TOGETHER.model_copy(update=CUTS[cut]))
    for key in ("loss", "grad_norm", "eval_loss"):
        np.testing.assert_allclose(logged(got, key), logged(whole, key), rtol=1e-4, err_msg=key)
    assert len(logged(got, "loss")) == 4
    adapters = [load_file(path / "adapter_model.safetensors") for path in (whole, got)]
    moved = sum(float(value.norm()) ** 2 for name, value in adapters[0].items() if "lora_B" in name) ** 0.5
    apart = sum(float((value - adapters[1][name]).norm()) ** 2 for name, value in adapters[0].items()) ** 0.5
    assert moved > 0
    assert apart < 1e-3 * moved


def test_the_loss_is_the_mean_over_the_trained_tokens_of_the_step(folder: Path, whole: Path) -> None:
    """Against transformers' own loss of each record on the base, weighted by its trained tokens."""
    model = hf.load_quantized(Checkpoint.open(folder / "base"), "cpu")
    data = ExampleDataset(TokenizedExamples(folder / "run" / "tokens" / "train"))
    rows = [data[index] for index in range(len(data))]
    counts = [sum(label != -100 for label in row["labels"][1:]) for row in rows]
    assert max(counts) > 10 * min(counts)
    with torch.no_grad():
        losses = [float(model(**collate([row])).loss) for row in rows]
    assert logged(whole, "loss")[0] == pytest.approx(np.average(losses, weights=counts), rel=1e-5)
    assert logged(whole, "loss")[0] != pytest.approx(np.mean(losses), rel=1e-3)
