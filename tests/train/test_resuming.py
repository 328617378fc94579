"""Nothing is lost: a training stopped by a signal, at any step and any number of times, ends as if it had not been."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import ANY

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
from edgeft.rundir import Recipe, RunDir
from edgeft.train.checkpoints import complete, keep_best, mark_complete, path_of, remove_all
from edgeft.train.trainers import PaddedTrainer

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


def test_a_signal_at_the_last_step_stops_when_everything_is_written(folder: Path, tmp_path: Path) -> None:
    whole = content(run(folder, tmp_path / "whole", CONFIG))
    with pytest.raises(Interrupted, match=f"step {STEPS} of {STEPS} of training"):
        run(folder, tmp_path / "signalled", CONFIG, signal_after(STEPS, signal.SIGINT))
    assert content(tmp_path / "signalled") == whole


def test_a_signal_in_the_last_evaluation_stops_and_the_same_command_only_renames(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(run(folder, tmp_path / "whole", CONFIG))
    honest, evaluated = PaddedTrainer.evaluate, 0

    def signalled(self: PaddedTrainer, *rest: Any, **named: Any) -> dict[str, float]:
        nonlocal evaluated
        evaluated += 1
        if self.state.global_step == STEPS:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, *rest, **named)

    monkeypatch.setattr(PaddedTrainer, "evaluate", signalled)
    runs, recipe = RunDir(tmp_path / "run"), Recipe("train", 1, CONFIG.model_dump(mode="json"))
    with pytest.raises(Interrupted), runs.produce("adapter", recipe, resumable=True) as out:
        run(folder, out, CONFIG)
    assert runs.why_stale("adapter", recipe) == "unfinished"
    before = evaluated
    with runs.produce("adapter", recipe, resumable=True) as out:
        run(folder, out, CONFIG)
    assert (runs.why_stale("adapter", recipe), evaluated) == ("", before)
    made = content(runs.path("adapter"))
    assert (made[0].pop("manifest.json"), made) == (ANY, whole)


def test_a_training_killed_when_it_had_ended_is_only_finished(folder: Path, tmp_path: Path) -> None:
    """The last checkpoint is complete, the adapter not written: no further step is made."""
    whole = content(run(folder, tmp_path / "whole", CONFIG))
    out = tmp_path / "cut"

    def kill(done: float, total: float, status: str = "") -> None:
        if done == STEPS - 1:
            (out / "training.json").mkdir(parents=True)  # the last file that is written cannot be

    with pytest.raises(OSError):
        run(folder, out, CONFIG, kill)
    (out / "training.json").rmdir()
    steps: list[float] = []
    assert content(run(folder, out, CONFIG, lambda done, total, status="": steps.append(done))) == whole
    assert steps == []


@pytest.mark.parametrize("killed_at", ["before", "a marker", "a checkpoint"])
def test_a_training_killed_while_its_checkpoints_go_is_not_trained_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """All is written: whatever is left of the checkpoints goes, markers first, and no model is loaded."""
    whole = content(run(folder, tmp_path / "whole", CONFIG))
    out = tmp_path / "cut"

    def kill(checkpoints: Path) -> None:
        for step in complete(checkpoints) if killed_at != "before" else []:
            (path_of(checkpoints, step) / "complete").unlink()
            if killed_at == "a checkpoint":
                (path_of(checkpoints, step) / "trainer_state.json").unlink()
                break
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr("edgeft.train.outcome.remove_all", kill)
        with pytest.raises(KeyboardInterrupt):
            run(folder, out, CONFIG)
    assert any((out / "checkpoints").iterdir())
    monkeypatch.setattr("edgeft.hf.load_for_training", None)
    assert content(run(folder, out, CONFIG)) == whole
    assert not (out / "checkpoints").exists()


def test_checkpoints_that_go_look_complete_at_no_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (2, 4):
        path_of(tmp_path / "checkpoints", step).mkdir(parents=True)
        mark_complete(path_of(tmp_path / "checkpoints", step))
    removed: list[list[int]] = []
    monkeypatch.setattr(shutil, "rmtree", lambda folder: removed.append(complete(folder)))
    remove_all(tmp_path / "checkpoints")
    remove_all(tmp_path / "none")
    assert removed == [[]]


def test_an_ended_training_is_not_that_of_other_rates(folder: Path, tmp_path: Path) -> None:
    """The folder of an unfinished artifact is handed on whatever `train.rate_from_step` is."""
    lower = CONFIG.model_copy(update={"rate_from_step": {3: 1e-4}})
    unused = CONFIG.model_copy(update={"rate_from_step": {STEPS: 1e-4}})
    whole = content(run(folder, tmp_path / "out", CONFIG))
    assert content(run(folder, tmp_path / "out", unused)) == whole
    with pytest.raises(Interrupted):
        run(folder, tmp_path / "out", lower, signal_after(1, signal.SIGTERM))
    other = content(run(folder, tmp_path / "out", lower))
    assert other == content(run(folder, tmp_path / "lower", lower)) != whole


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


@pytest.mark.parametrize("lost", [80, 69])
def test_the_best_before_a_loss_explodes_is_kept_for_the_checkpoint_that_is_gone_back_to(
    tmp_path: Path, lost: int
) -> None:
    """That of 40 is the best until that of the last step, which is too near to the explosion to be gone back to."""
    scores = {20: 0.0, 40: 2.0, 50: 1.0, 59: 1.5, lost: 3.0}
    for step in scores:
        path_of(tmp_path, step).mkdir()
        mark_complete(path_of(tmp_path, step))
        keep_best(tmp_path, scores, keep=1)
    sound = 59  # `SUSPECT` steps before 69, where the next step may find that the loss explodes
    assert complete(tmp_path) == [40, sound, lost]


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
