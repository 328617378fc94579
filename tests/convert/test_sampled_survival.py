"""What rounding will leave of a training: told before a file is made, by the share that a whole file keeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from adapters import make_adapter
from click.testing import CliRunner
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny_model import make_model

from edgeft.artifacts import Adapter, Checkpoint, GgufFile
from edgeft.cli import main
from edgeft.config import ConvertConfig
from edgeft.convert import Planner, convert
from edgeft.convert.sampled_survival import LEAST_SHARE, sample_survival, survival_warnings
from edgeft.convert.survival import measure_survival
from edgeft.llamacpp.blocks import PLAIN_TYPES, dequantize_rows, ordinary_error, quantize_rows
from edgeft.quantize import Recipe, plan_quantization, quantize
from edgeft.weights import CheckpointWeights, MergedWeights

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def planner_of(type_name: str) -> Planner:
    return partial(plan_quantization, recipe=Recipe(type_name))


def on_grid(base: Checkpoint, type_name: str, folder: Path) -> Checkpoint:
    """The base as a file of a type holds it: its matrices rounded to that type, by llama.cpp, and back."""
    shutil.copytree(base.path, folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if ".layers." in name and tensor.ndim == 2:
            rows = tensor.float().numpy()
            rounded = dequantize_rows(quantize_rows(rows, type_name), type_name, rows.shape[1])
            tensors[name] = torch.from_numpy(rounded)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint.open(folder)


def small(adapter: Adapter, size: float, weights: MergedWeights, folder: Path) -> Adapter:
    """The adapter with updates of `size`, the norm over that of the weights, in the mean over its matrices."""
    ratios = []
    for name in sorted(weights.adapted):
        before, after = weights.before_and_after(name)
        ratios.append(float((after - before).norm() / before.norm()))
    factor = size * len(ratios) / sum(ratios)
    shutil.copytree(adapter.path, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    changed = {name: tensor * (factor if "lora_B" in name else 1) for name, tensor in tensors.items()}
    save_file(changed, folder / "adapter_model.safetensors")
    return Adapter.open(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sampled")


@pytest.fixture(scope="module")
def ordinary(folder: Path) -> Checkpoint:
    return make_model(folder / "ordinary", dtype=torch.float32)


@pytest.fixture(scope="module")
def gridded(ordinary: Checkpoint, folder: Path) -> Checkpoint:
    return on_grid(ordinary, "Q4_1", folder / "gridded")


@pytest.fixture(scope="module")
def tuned(ordinary: Checkpoint, folder: Path) -> Callable[[Checkpoint], MergedWeights]:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=TARGETS)
    adapter = make_adapter(ordinary, config, folder / "adapter")
    weights = MergedWeights(CheckpointWeights(ordinary), adapter)
    adapter = small(adapter, 0.02, weights, folder / "small")
    return lambda base: MergedWeights(CheckpointWeights(base), adapter)


@pytest.mark.parametrize("type_name", sorted(PLAIN_TYPES))
def test_ordinary_weights_have_the_ordinary_error(ordinary: Checkpoint, type_name: str) -> None:
    """transformers draws them from a normal distribution; 65,536 of them have its error to a few percent."""
    rows = CheckpointWeights(ordinary).read("model.layers.0.mlp.gate_proj.weight").float().numpy()
    error = dequantize_rows(quantize_rows(rows, type_name), type_name, rows.shape[1]) - rows
    assert float((error**2).sum() / (rows**2).sum()) ** 0.5 == pytest.approx(ordinary_error(type_name), rel=0.05)


def test_a_base_on_the_grid_is_found_before_training(ordinary: Checkpoint, gridded: Checkpoint) -> None:
    types = ["Q8_0", "Q4_1", "Q4_0"]
    found = survival_warnings(CheckpointWeights(gridded), gridded, types, planner_of)
    assert [one.type_name for one in found] == ["Q4_1"]
    assert "grid" in found[0].what and "Q8_0 (share 1.00" in found[0].remedy and "Q4_1" not in found[0].remedy
    assert survival_warnings(CheckpointWeights(ordinary), ordinary, types, planner_of) == []


def test_what_is_left_is_told_before_the_file_is_made(
    ordinary: Checkpoint, gridded: Checkpoint, tuned: Callable[[Checkpoint], MergedWeights], tmp_path: Path
) -> None:
    """The sample's share is that of the whole file, made by llama.cpp: on the grid most of the training is lost.

    A sample of so few weights is the whole model here, up to rows that were left out; rounding noise is a tenth.
    """
    shares = {}
    for name, base in (("ordinary", ordinary), ("gridded", gridded)):
        weights = tuned(base)
        source = convert(weights, base, ConvertConfig(random_texts=0), tmp_path / f"{name}.gguf")
        sampled = sample_survival(weights, base, ["Q4_1", "Q8_0"], planner_of)
        for kind, one in sampled.items():
            whole = measure_survival(
                weights, base, quantize(source, kind, tmp_path / "q.gguf", threads=1), unquantized=source
            )["overall"]
            assert one.survival.share == pytest.approx(whole["cosine"] * whole["norm_ratio"], abs=0.1)
            assert one.survival.cosine == pytest.approx(whole["cosine"], abs=0.1)
            shares[name, kind] = one.survival.share
    assert shares["gridded", "Q4_1"] < LEAST_SHARE < shares["ordinary", "Q4_1"]
    assert min(shares["gridded", "Q8_0"], shares["ordinary", "Q8_0"]) > 0.95


def test_the_commands_say_so(
    gridded: Checkpoint,
    ordinary: Checkpoint,
    tuned: Callable[[Checkpoint], MergedWeights],
    folder: Path,
    tmp_path: Path,
) -> None:
    adapter = str(folder / "small")
    for base, is_told in ((gridded, True), (ordinary, False)):
        source = convert(tuned(base), base, ConvertConfig(random_texts=0), tmp_path / "m.gguf")
        way = ["convert", str(base.path), "--adapter", adapter, "--type", "Q4_1", "--out", str(tmp_path / "q.gguf")]
        result = CliRunner().invoke(main, way, catch_exceptions=False)
        assert ("of this training survives rounding" in result.output) == is_told, result.output
        way = ["quantize", str(source.path), "--type", "Q4_1", "--out", str(tmp_path / "q.gguf")]
        result = CliRunner().invoke(
            main, [*way, "--base", str(base.path), "--adapter", adapter], catch_exceptions=False
        )
        assert ("of this training survives rounding" in result.output) == is_told, result.output
        result = CliRunner().invoke(main, way, catch_exceptions=False)
        assert ("they lie near its grid" in result.output) == is_told, result.output
    source = convert(CheckpointWeights(gridded), gridded, ConvertConfig(random_texts=0), tmp_path / "m.gguf")
    result = CliRunner().invoke(main, way, catch_exceptions=False)
    assert "they lie on its grid" in result.output
    assert GgufFile.open(tmp_path / "q.gguf")
