"""A GGUF file as the base of a run: imported within it, and everything after it follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tiny_run import make_run

from edgeft.artifacts import Checkpoint
from edgeft.cli import main
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights

_SHAPE: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 1}


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run whose base is a split GGUF file, the checkpoint that it was made of being gone."""
    config = make_run(tmp_path, records=12, **_SHAPE)
    source = Checkpoint.open(tmp_path / "base")
    settings = ConvertConfig(dtype="bf16", random_texts=0)
    made = convert(CheckpointWeights(source), source, settings, tmp_path / "base.gguf", split_max_bytes=100_000)
    assert len(made.parts) > 1
    source.path.rename(tmp_path / "original")
    config.write_text(config.read_text().replace('base = "base"', f'base = "{made.path.name}"'))
    return config


def planned(config: Path) -> dict[str, str]:
    """The artifacts of a dry run, with why each has to be made."""
    lines = invoke("run", "--dry-run", "-c", config).output.split("\n\n")[0].splitlines()[1:]
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1].strip() for line in lines if line.strip()}


def test_a_run_imports_its_base_and_follows_it(config: Path) -> None:
    root = config.parent / "run"
    assert planned(config)["base"] == "missing"
    assert "becomes a LlamaForCausalLM within the run" in invoke("doctor", "-c", config).output
    assert "missing" in invoke("show", "-c", config).output
    result = invoke("run", "convert", "-c", config)
    assert result.exit_code == 0, result.output
    assert "LlamaForCausalLM" in result.output
    record = json.loads((root / "adapter" / "base.json").read_text())
    assert CheckpointWeights(Checkpoint.open(root / "base")).fingerprint() in record.values()
    for name in ("tokens", "adapter", "gguf"):
        manifest = json.loads((root / name / "manifest.json").read_text())
        assert "base" in manifest["inputs"], name
    states = planned(config)
    assert {states[name] for name in ("base", "tokens", "adapter", "gguf")} == {"up to date"}
    # The kept configuration names the same file.
    assert "up to date" in invoke("show", root).output

    part = sorted(config.parent.glob("*.gguf"))[-1]
    content = bytearray(part.read_bytes())
    content[-3] ^= 1
    part.write_bytes(content)
    states = planned(config)
    assert states["base"].startswith("changed: part ")
    assert states["tokens"] == states["adapter"] == "follows base" or states["adapter"].startswith("follows base")


def test_what_rounding_does_to_a_training_is_told_once_the_base_is_imported(tmp_path: Path) -> None:
    """Merged into its own weights and rounded to the type that it had, the base comes back and the training is lost."""
    config = make_run(tmp_path, records=12, **_SHAPE)
    source = Checkpoint.open(tmp_path / "base")
    exact = convert(CheckpointWeights(source), source, ConvertConfig(random_texts=0), tmp_path / "exact.gguf")
    quantize(exact, "Q4_1", tmp_path / "base.gguf")
    config.write_text(config.read_text().replace('base = "base"', 'base = "base.gguf"'))
    result = invoke("run", "quantize", "-c", config, "--set", "train.method=lora", "--set", 'quantize.types=["Q4_1"]')
    assert result.exit_code == 0, result.output
    told = result.output.index("of a training that changes the weights by 2%")
    assert result.output.index("LlamaForCausalLM") < told < result.output.index("\nadapter ")


def test_a_base_that_cannot_be_imported_is_refused_before_anything_is_made(config: Path) -> None:
    first = sorted(config.parent.glob("*.gguf"))[0]
    first.write_bytes(first.read_bytes()[:2000])
    result = invoke("run", "-c", config)
    assert result.exit_code == 1
    assert first.name in result.stderr and "cannot be read" in result.stderr
    assert "cannot be read" in invoke("doctor", "-c", config).output
    assert not (config.parent / "run" / "base").exists()


def test_a_part_that_is_missing_is_named(config: Path) -> None:
    part = sorted(config.parent.glob("*.gguf"))[-1]
    part.unlink()
    result = invoke("run", "--dry-run", "-c", config)
    assert result.exit_code == 1
    assert f"{part.name}: this part is missing" in result.stderr
