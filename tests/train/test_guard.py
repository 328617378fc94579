"""A loss that is no number, or explodes, stops the training with the step, the figures, the records and a remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import CONFIG, make_tokens, run

from edgeft.errors import EdgeftError
from edgeft.train.checkpoints import complete
from edgeft.train.trainers import PaddedTrainer

LONG = CONFIG.model_copy(update={"epochs": 10, "evaluations": 10, "accumulation": 1, "patience": 100})


SHORT = LONG.model_copy(update={"epochs": 2})
Step = Callable[[int, torch.nn.Module, list[torch.Tensor]], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokens(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The adapter of a training in which nothing goes wrong."""
    return load_file(run(folder, tmp_path_factory.mktemp("whole") / "out", SHORT) / "adapter_model.safetensors")


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Step], None]:
    """Has a function called after each step, with its number, the model, and the losses that are looked at."""

    def install(fault: Step) -> None:
        honest, steps = PaddedTrainer.training_step, 0

        def faulty(self: PaddedTrainer, model: torch.nn.Module, *rest: Any) -> torch.Tensor:
            nonlocal steps
            steps += 1
            loss = honest(self, model, *rest)
            fault(steps, model, self._losses)
            return loss

        monkeypatch.setattr(PaddedTrainer, "training_step", faulty)

    return install


def test_an_exploding_loss(folder: Path, tmp_path: Path, spoil: Callable[[Step], None]) -> None:
    """From step 25 on it is 9 times what it was; soon the mean of ten is above 3 times the first."""

    def explode(step: int, model: torch.nn.Module, losses: list[torch.Tensor]) -> None:
        if step >= 25:
            losses[-1] = losses[-1] * 9

    spoil(explode)
    with pytest.raises(EdgeftError, match="the loss explodes") as caught:
        run(folder, tmp_path / "out", LONG)
    first, *records = caught.value.problems
    # At 31, where its mean is 2% beyond; other processors draw another dropout.
    assert first.where in [f"training, step {step} of 70" for step in (31, 32)]
    assert "learning rate" in first.what
    # Saved at 7, 14, 21 and 28, of which the last two are too near.
    assert complete(tmp_path / "out" / "checkpoints") == [14]
    table = "'train.rate_from_step={14 = 0.00125}'"
    assert first.remedy.startswith(f"nothing before step 14 is lost; go on from there with --set {table}")
    assert len(records) == 5
    assert all(re.fullmatch(rf"{folder}/train\.jsonl:\d+", problem.where) for problem in records)


def test_a_lower_rate_goes_on_from_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    """As with that rate from that step on from the beginning; at another rate from the start nothing can be kept."""
    config, lower = SHORT, SHORT.model_copy(update={"rate_from_step": {7: 1e-4}})
    wanted = load_file(run(folder, tmp_path / "whole", lower) / "adapter_model.safetensors")

    def kill(done: float, total: float, status: str = "") -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cut", config, kill)
    assert complete(tmp_path / "cut" / "checkpoints")[-1] == 9
    began: list[float] = []
    resumed = run(folder, tmp_path / "cut", lower, lambda done, total, status="": began.append(done))
    # The best and the last were kept; of those of steps 8 and 9 none is at the rate that holds from step 7 on.
    assert began[0] <= 7
    got = load_file(resumed / "adapter_model.safetensors")
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    rates = [json.loads(line) for line in (resumed / "logs" / "metrics.jsonl").read_text().splitlines()]
    by_step = {line["step"]: line["learning_rate"] for line in rates if "learning_rate" in line}
    assert by_step[8] < 1e-4 < by_step[7]


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_what_is_no_number(
    folder: Path, tmp_path: Path, spoil: Callable[[Step], None], whole: dict[str, torch.Tensor], broken: str
) -> None:
    """A fault that happens once: the step is not taken, and the same command goes on as if it had not happened."""

    def fail(step: int, model: torch.nn.Module, losses: list[torch.Tensor]) -> None:
        if step == 9 and broken == "loss":
            losses[-1] = losses[-1] * float("nan")
        if step == 9 and broken == "gradient":
            next(p.grad for p in model.parameters() if p.grad is not None).fill_(float("inf"))

    spoil(fail)
    with pytest.raises(EdgeftError, match=r"training, step 9 of 14: the loss is .*nan.*") as caught:
        run(folder, tmp_path / "out", SHORT)
    assert "nothing before step 8 is lost" in caught.value.problems[0].remedy
    assert "losses before: 5." in caught.value.problems[0].what
    got = load_file(run(folder, tmp_path / "out", SHORT) / "adapter_model.safetensors")
    assert all(torch.equal(whole[name], got[name]) for name in whole)
