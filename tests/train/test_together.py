"""Processes that train together (on CPU, gloo) give the adapter of one, and one that is killed costs nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_run import make_run
from tiny_torchrun import OPTIONS, PACKED, SHARDED, alone, command, killed_once_saved, losses, together
from tiny_training import SMALL

from edgeft.cli import main


def assert_equal_adapters(first: Path, second: Path) -> None:
    """Gradients are summed in another order: float32 rounding over 12 steps. (With two processes even that agrees.)"""
    adapters = [load_file(path.parent / "run" / "adapter" / "adapter_model.safetensors") for path in (first, second)]
    assert sum(float(value.abs().sum()) for name, value in adapters[0].items() if "lora_B" in name) > 0
    for name, value in adapters[0].items():
        torch.testing.assert_close(value, adapters[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [OPTIONS, PACKED], ids=["padded", "packed"])
def test_two_processes_train_as_one(tmp_path: Path, options: list[str]) -> None:
    one, two = (make_run(tmp_path / name, records=42, **SMALL) for name in ("one", "two"))
    alone(one, options)
    code, out, err = together(two, options)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["tokens", "adapter"]
    assert_equal_adapters(one, two)
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-5)
    up_to_date = CliRunner().invoke(main, command(two, options)).output
    assert "up to date, nothing to do" in up_to_date


def test_two_processes_that_share_the_weights_out_train_as_one(tmp_path: Path) -> None:
    """Five layers, of which two at a time are whole, and evaluation of one batch in two processes."""
    one, two = (make_run(tmp_path / name, records=42, **SMALL | {"num_hidden_layers": 5}) for name in ("one", "two"))
    alone(one, SHARDED)
    code, _, err = together(two, SHARDED)
    assert code == 0, err
    assert_equal_adapters(one, two)
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-5)
    assert [shards(config) for config in (one, two)] == [1, 2]


def test_what_one_process_began_goes_on_with_two(tmp_path: Path) -> None:
    options = [*PACKED, "train.epochs=6", "train.evaluations=6"]
    config = make_run(tmp_path / "killed", records=42, **SMALL)
    assert killed_once_saved(config, options, processes=1)[0] == 1
    code, _, err = together(config, [*options, "train.shard_weights=true"])
    assert code == 0, err
    uninterrupted = make_run(tmp_path / "alone", records=42, **SMALL)
    alone(uninterrupted, options)
    assert_equal_adapters(uninterrupted, config)


def test_a_killed_process_ends_the_others_and_what_they_began_goes_on_with_one(tmp_path: Path) -> None:
    options = [*OPTIONS, "train.epochs=12", "train.evaluations=12"]
    config = make_run(tmp_path / "killed", records=42, **SMALL)
    code, err = killed_once_saved(config, options)
    assert code == 1
    assert re.search(r"error training: another process of this training has ended: .+\n.+the same command goes on", err)
    alone(config, options)
    uninterrupted = make_run(tmp_path / "alone", records=42, **SMALL)
    alone(uninterrupted, options)
    assert_equal_adapters(uninterrupted, config)


def shards(config: Path) -> int:
    figures: dict[str, Any] = json.loads((config.parent / "run" / "adapter" / "training.json").read_text())
    return int(figures["memory"]["shards"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["run", "train", "--set", "train.shard_weights=true", "--set", "train.accumulation=2"],
            "these weights cannot be shared out among processes",
        ),
        (["run"], "2 processes can train together, and nothing else"),
        (["run", "train", "--set", "train.accumulation=3"], "2 processes cannot share 3 forward passes"),
    ],
)
def test_what_several_processes_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    config = make_run(tmp_path, records=42, **SMALL)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("edgeft.hf.join_processes", lambda device: (0, 2))
    result = CliRunner().invoke(main, [*words, "-c", str(config)])
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (tmp_path / "run" / "adapter").exists()
