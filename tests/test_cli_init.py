"""A configuration to start from is one that can be loaded, and says what the model is."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_run import write_records

from edgeft.artifacts import Checkpoint
from edgeft.cli import main
from edgeft.config import load_config


def test_it_can_be_loaded_and_planned(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_records(tmp_path / "train.jsonl", 4)
    options = ["--model", str(tiny_checkpoint.path), "--data", str(tmp_path / "train.jsonl")]
    folder = tmp_path / "new"
    result = CliRunner().invoke(main, ["init", str(folder), *options])
    assert result.exit_code == 0, result.stderr
    config = load_config(folder / "edgeft.toml")
    assert config.base == str(tiny_checkpoint.path)
    assert config.dataset.max_tokens == 512
    assert "the model takes 512" in (folder / "edgeft.toml").read_text()
    assert [path.name for path in folder.iterdir()] == ["edgeft.toml"]
    assert CliRunner().invoke(main, ["run", "--dry-run", "-c", str(folder / "edgeft.toml")]).exit_code == 0


def test_hub_ids_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--model", "owner/model", "--data", "owner/records", "--test", "owner/tests"]
    assert CliRunner().invoke(main, ["init", *options]).exit_code == 0
    config = load_config(tmp_path / "edgeft.toml")
    assert (config.base, config.dataset.train, config.dataset.test) == ("owner/model", "owner/records", "owner/tests")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "edgeft.toml").write_text("mine")
    result = CliRunner().invoke(main, ["init", str(tmp_path), "--model", "a/b", "--data", "c/d"])
    assert (result.exit_code, (tmp_path / "edgeft.toml").read_text()) == (1, "mine")
