"""What is seen of a training: figures with tokens and speed, and where else they go."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from click.testing import CliRunner
from tiny_run import make_run
from tiny_training import PACKED, SMALL, make_tokens, run
from transformers import TrainerControl, TrainerState, TrainingArguments

from edgeft.cli import main
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.progress import silent
from edgeft.train.batches import Steps
from edgeft.train.guard import Guard
from edgeft.train.limit import Limit, flop_a_token, measure_limit
from edgeft.train.watching import Watcher


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_figures_count_the_tokens_of_records_alone(tmp_path: Path, packing: bool) -> None:
    folder = make_tokens(tmp_path / "base")
    said: list[str] = []
    config = PACKED.model_copy(update={"packing": packing, "epochs": 2})
    out = run(folder, tmp_path / "out", config, lambda done, total, status="": said.append(status))
    lines = [json.loads(line) for line in (out / "logs" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "loss" in line][-1]
    assert last["tokens"] == 2 * TokenizedExamples(folder / "run" / "tokens" / "train").lengths.sum()
    assert last["tokens_per_second"] > 0
    assert "limit_share" not in last, "there is no limit to a CPU"
    assert last["peak_gib"] > 0
    assert all(word in said[-1] for word in ("loss ", "evaluation ", " tokens/s", " GiB"))


def test_the_speed_counts_the_making_of_batches_and_no_evaluation(tmp_path: Path) -> None:
    steps = cast(Steps, SimpleNamespace(tokens=lambda step: 100))
    guard = cast(Guard, SimpleNamespace(loss=1.0))
    watcher = Watcher(silent, tmp_path / "metrics.jsonl", guard, steps, None)
    args, state, control = cast(TrainingArguments, None), TrainerState(), TrainerControl()
    began = time.perf_counter()
    time.sleep(0.05)  # what comes before the first step
    watcher.on_step_begin(args, state, control)
    watcher.on_step_end(args, state, control)
    time.sleep(0.05)  # batches
    watcher.on_step_begin(args, state, control)
    watcher.on_step_end(args, state, control)
    for done in (watcher.on_evaluate, watcher.on_save):
        time.sleep(0.05)
        done(args, state, control)
    watcher.on_step_begin(args, state, control)
    watcher.on_step_end(args, state, control)
    counted = 300 / watcher.complete({"loss": 1.0})["tokens_per_second"]
    assert 0.05 <= counted <= time.perf_counter() - began - 0.15


def test_the_limit_counts_weights_once_and_trained_ones_more() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 7))
    model[0].requires_grad_(False)
    assert flop_a_token(model) == 4 * 3 * 5 + 6 * 5 * 7
    assert Limit(flop_a_second=1000.0, flop_a_token=10.0).share(25.0) == 0.25
    assert measure_limit(model, 1) is None


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_reporter_that_is_not_installed_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    config = make_run(tmp_path, records=12, extra="", **SMALL)
    result = CliRunner().invoke(main, ["run", "-c", str(config), "--set", 'train.report_to=["wandb"]'])
    assert result.exit_code == 1
    assert "train.report_to: wandb is not installed\n    -> pip install wandb" in result.stderr
    assert not (tmp_path / "run" / "tokens").exists()


def test_who_watches_makes_nothing_stale(tmp_path: Path) -> None:
    config = make_run(tmp_path, records=42, **SMALL)
    assert CliRunner().invoke(main, ["run", "train", "-c", str(config)]).exit_code == 0
    options = ["--set", 'train.report_to=["tensorboard"]', "--set", "train.keep=3"]
    shown = CliRunner().invoke(main, ["run", "train", "--dry-run", "-c", str(config), *options]).output
    assert shown.count("up to date") == 2
    said = CliRunner().invoke(main, ["show", "-c", str(config)]).output
    assert "▁" in said
