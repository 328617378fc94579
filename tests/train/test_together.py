"""Processes that train together (on CPU, gloo) give the adapter of one, and one that is killed costs nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_run import make_run
from tiny_torchrun import OPTIONS, PACKED, alone, command, killed_once_saved, losses, together
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


def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(tmp_path: Path) -> None:
    options = [*OPTIONS, "train.epochs=12", "train.evaluations=12"]
    config = make_run(tmp_path / "killed", records=42, **SMALL)
    code, err = killed_once_saved(config, options)
    assert code == 1
    assert re.search(r"error training: another process of this training has ended: .+\n.+the same command goes on", err)
    code, _, err = together(config, options)
    assert code == 0, err
    uninterrupted = make_run(tmp_path / "alone", records=42, **SMALL)
    alone(uninterrupted, options)
    assert_equal_adapters(uninterrupted, config)


@pytest.mark.parametrize(
    ("words", "said"),
    [
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
