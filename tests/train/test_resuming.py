"""Nothing is lost: a training stopped by a signal, at any step and any number of times, ends as if it had not been."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_run import make_run
from tiny_training import CONFIG, PACKED, SMALL, STEPS, make_tokens, run

from edgeft.cli import main
from edgeft.config import LoraConfig
from edgeft.errors import Interrupted
from edgeft.progress import Progress
from edgeft.train.checkpoints import complete, keep_best, mark_complete, path_of

CONFIGS = {
    "padded": CONFIG,
    "packed": PACKED,
    "token budget": PACKED.model_copy(update={"token_budget": 300}),
    "packed with dropout": PACKED.model_copy(update={"lora": LoraConfig(rank=4, dropout=0.2)}),
}
VOLATILE = {"time", "tokens_per_second", "peak_gib"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokens(tmp_path_factory.mktemp("train"))


def signal_after(step: int, *numbers: signal.Signals) -> Progress:
    """Sends this process signals when a step is done."""

    def watch(done: float, total: float, status: str = "") -> None:
        if done == step and status not in ("", "resumed"):
            for number in numbers:
                os.kill(os.getpid(), number)

    return watch


def content(adapter: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Everything a training leaves, but what a clock says."""
    files = {path.name: path.read_bytes() for path in adapter.iterdir() if path.is_file()}
    lines = [json.loads(line) for line in (adapter / "logs" / "metrics.jsonl").read_text().splitlines()]
    files["loss.svg"] = (adapter / "logs" / "loss.svg").read_bytes()
    return files, [{key: line[key] for key in line.keys() - VOLATILE} for line in lines]


@pytest.mark.parametrize("name", CONFIGS)
def test_stopped_after_every_step_equals_uninterrupted(folder: Path, tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]
    whole = content(run(folder, tmp_path / "whole", config))
    for step in range(1, STEPS):
        with pytest.raises(Interrupted, match=f"step {step} of {STEPS} of training"):
            run(folder, tmp_path / "cut", config, signal_after(step, signal.SIGTERM))
        assert complete(tmp_path / "cut" / "checkpoints")[-1] == step
        assert not (tmp_path / "cut" / "adapter_model.safetensors").exists()
    assert content(run(folder, tmp_path / "cut", config)) == whole


def test_a_signal_at_the_last_step_changes_nothing(folder: Path, tmp_path: Path) -> None:
    whole = content(run(folder, tmp_path / "whole", CONFIG))
    assert content(run(folder, tmp_path / "signalled", CONFIG, signal_after(STEPS, signal.SIGINT))) == whole


def test_a_training_killed_when_it_had_ended_is_only_finished(folder: Path, tmp_path: Path) -> None:
    """The last checkpoint is complete, the adapter not written: no further step is made."""
    whole = content(run(folder, tmp_path / "whole", CONFIG))
    out = tmp_path / "cut"

    def kill(done: float, total: float, status: str = "") -> None:
        if done == STEPS - 1:
            (out / "training.json").mkdir(parents=True)  # the first file that is written cannot be

    with pytest.raises(OSError):
        run(folder, out, CONFIG, kill)
    (out / "training.json").rmdir()
    steps: list[float] = []
    assert content(run(folder, out, CONFIG, lambda done, total, status="": steps.append(done))) == whole
    assert steps == []


def test_a_second_ctrl_c_stops_at_once(folder: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(folder, tmp_path / "cut", CONFIG, signal_after(1, signal.SIGINT, signal.SIGINT))
    assert not isinstance(stopped.value, Interrupted)
    assert complete(tmp_path / "cut" / "checkpoints") == []
    assert signal.getsignal(signal.SIGINT) is before


def test_another_sigterm_does_not_stop_the_saving(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(folder, tmp_path / "cut", CONFIG, signal_after(1, signal.SIGTERM, signal.SIGTERM))
    assert complete(tmp_path / "cut" / "checkpoints") == [1]


def test_early_stopping_counts_evaluations_from_before(folder: Path, tmp_path: Path) -> None:
    """The loss rises from the start: stopped after each evaluation, the training ends where the whole one does."""
    wild = CONFIG.model_copy(update={"learning_rate": 20.0, "epochs": 4, "evaluations": 12, "patience": 3})
    whole = json.loads((run(folder, tmp_path / "whole", wild) / "training.json").read_text())
    assert whole["steps"] < whole["planned_steps"]
    for step in range(1, whole["steps"]):
        with pytest.raises(Interrupted):
            run(folder, tmp_path / "cut", wild, signal_after(step, signal.SIGTERM))
    assert json.loads((run(folder, tmp_path / "cut", wild) / "training.json").read_text()) == whole


@pytest.mark.parametrize(("keep", "best"), [(1, [8]), (3, [6, 8, 10])])
def test_the_best_checkpoints_and_the_last_are_kept(tmp_path: Path, keep: int, best: list[int]) -> None:
    """Of steps 2, 4, ..., 30 that of 8 is the best, then those of 6 and 10; that of 20 is old enough to be sound."""
    scores = {step: -abs(step - 7.9) for step in range(2, 32, 2)}
    for step in scores:
        path_of(tmp_path, step).mkdir()
        mark_complete(path_of(tmp_path, step))
        keep_best(tmp_path, scores, keep)
    assert complete(tmp_path) == [*best, 20, 22, 24, 26, 28, 30]


def test_sigterm_saves_exits_0_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """A real process and a real signal; the adapter is that of a run that was left alone."""
    config = make_run(tmp_path / "cut", records=42, extra="", **SMALL)
    options = ["--set", "train.epochs=20", "--set", "train.evaluations=2"]
    command = [sys.executable, "-m", "edgeft", "run", "train", "-c", str(config), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "cut" / "run" / "adapter.partial" / "logs" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0
    line = r"stopped at step \d+ of 100 of training, and saved: the same command goes on from there\n"
    assert re.fullmatch(line, said)
    assert not (tmp_path / "cut" / "run" / "adapter").exists()
    shown = CliRunner().invoke(main, ["run", "train", "--dry-run", "-c", str(config), *options]).output
    assert [line.split() for line in shown.splitlines() if line.startswith("adapter")] == [["adapter", "unfinished"]]
    alone = make_run(tmp_path / "alone", records=42, **SMALL)
    for path in (config, alone):
        result = CliRunner().invoke(main, ["run", "train", "-c", str(path), *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    files = [load_file(path.parent / "run" / "adapter" / "adapter_model.safetensors") for path in (config, alone)]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
