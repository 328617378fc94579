"""What quantization leaves of the training, against llama.cpp's own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import pytest
import torch
from adapters import make_adapter
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny_model import make_model

from edgeft.artifacts import Adapter, Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.convert.survival import measure_survival
from edgeft.llamacpp.blocks import quantize_rows
from edgeft.quantize import quantize
from edgeft.weights import CheckpointWeights, MergedWeights

TYPES = ["Q8_0", "Q4_0", "Q4_K_M", "Q2_K"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("survival") / "base")


@pytest.fixture(scope="module")
def adapter(base: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    return make_adapter(base, config, tmp_path_factory.mktemp("survival") / "adapter")


def scaled(adapter: Adapter, factor: float, folder: Path) -> Adapter:
    """The adapter with another size of its updates."""
    folder.mkdir()
    tensors = load_file(adapter.path / "adapter_model.safetensors")
    changed = {name: tensor * (factor if "lora_B" in name else 1) for name, tensor in tensors.items()}
    save_file(changed, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text((adapter.path / "adapter_config.json").read_text())
    return Adapter.open(folder)


@pytest.mark.parametrize("type_name", TYPES)
def test_rows_are_quantized_as_llama_cpp_does(base: Checkpoint, tmp_path: Path, type_name: str) -> None:
    convert(CheckpointWeights(base), base, ConvertConfig(random_texts=0), tmp_path / "m.gguf")
    path = tmp_path / "m.gguf"
    quantize(GgufFile(path), type_name, tmp_path / "q.gguf", threads=1)
    exact = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for tensor in gguf.GGUFReader(tmp_path / "q.gguf").tensors:
        if tensor.tensor_type != gguf.GGMLQuantizationType.F32:
            rows = exact[tensor.name].data.astype(np.float32)
            assert np.array_equal(quantize_rows(rows, tensor.tensor_type.name), tensor.data), tensor.name


def test_a_large_update_survives_and_a_small_one_is_rounded_away(
    base: Checkpoint, adapter: Adapter, tmp_path: Path
) -> None:
    found = {}
    for name, factor in (("large", 1.0), ("small", 1e-3)):
        tuned = scaled(adapter, factor, tmp_path / name)
        weights = MergedWeights(CheckpointWeights(base), tuned)
        source = convert(weights, base, ConvertConfig(random_texts=0), tmp_path / f"{name}.gguf")
        for type_name in ("Q8_0", "Q2_K"):
            gguf_file = quantize(source, type_name, tmp_path / f"{name}-{type_name}.gguf", threads=1)
            report = tmp_path / f"{name}-{type_name}.json"
            content = measure_survival(weights, base, gguf_file, report, unquantized=source)
            assert json.loads(report.read_text()) == content
            assert content["tensors"].keys() == {
                f"blk.{block}.{part}.weight" for block in (0, 1) for part in ("attn_q", "attn_v", "ffn_down")
            }
            found[name, type_name] = content["overall"]
    large, small = found["large", "Q8_0"], found["small", "Q2_K"]
    assert large["cosine"] > 0.99 and abs(large["norm_ratio"] - 1) < 0.01 and large["unchanged_codes"] < 0.5
    assert small["cosine"] < 0.1 and small["unchanged_codes"] > 0.9
    assert found["large", "Q2_K"]["cosine"] < large["cosine"]


def test_the_figures_are_those_of_all_weights(base: Checkpoint, adapter: Adapter, tmp_path: Path) -> None:
    """Against two files quantized whole by llama.cpp: with the training and without."""
    files = {}
    tuned = MergedWeights(CheckpointWeights(base), adapter)
    for name, weights in (("without", CheckpointWeights(base)), ("with", tuned)):
        source = convert(weights, base, ConvertConfig(random_texts=0), tmp_path / f"{name}.gguf")
        files[name] = quantize(source, "Q4_K_M", tmp_path / f"{name}-q.gguf", threads=1)
    content = measure_survival(tuned, base, files["with"], unquantized="f16")
    one, two = ({t.name: t for t in gguf.GGUFReader(file.path).tensors} for file in files.values())
    for name, figures in content["tensors"].items():
        pair = [gguf.dequantize(side[name].data, side[name].tensor_type).astype(float) for side in (one, two)]
        before, after = tuned.before_and_after(_checkpoint_name(name))
        if "attn_q" not in name:  # whose rows are in another order in the file
            left, trained = pair[1] - pair[0], (after - before).double().numpy()
            cosine = (left * trained).sum() / np.sqrt((left**2).sum() * (trained**2).sum())
            assert figures["cosine"] == pytest.approx(cosine, rel=1e-6)
            assert figures["norm_ratio"] == pytest.approx(np.sqrt((left**2).sum() / (trained**2).sum()), rel=1e-6)
    assert torch.isfinite(torch.tensor(content["overall"]["cosine"]))


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_weights_that_f16_cannot_hold_are_measured(
    base: Checkpoint, adapter: Adapter, tmp_path: Path, dtype: Literal["bf16", "f32"]
) -> None:
    """They are rounded as the unquantized file was, of which the type or the file itself is named."""
    shutil.copytree(base.path, tmp_path / "large")
    tensors = load_file(tmp_path / "large" / "model.safetensors")
    tensors["model.layers.1.self_attn.q_proj.weight"][3, 5] = 100_000
    save_file(tensors, tmp_path / "large" / "model.safetensors", metadata={"format": "pt"})
    large = Checkpoint.open(tmp_path / "large")
    weights, config = MergedWeights(CheckpointWeights(large), adapter), ConvertConfig(dtype=dtype, random_texts=0)
    source = convert(weights, large, config, tmp_path / "m.gguf", split_max_bytes=500_000)
    assert len(source.parts) > 1
    quantized = quantize(source, "Q8_0", tmp_path / "q.gguf", threads=1)
    content = measure_survival(weights, large, quantized, unquantized=source)
    assert content == measure_survival(weights, large, quantized, unquantized=dtype)
    assert content["tensors"]["blk.0.attn_q.weight"]["cosine"] > 0.99
    assert "blk.1.attn_q.weight" in content["tensors"]


def _checkpoint_name(name: str) -> str:
    _, block, part, _ = name.split(".")
    module = {"attn_q": "self_attn.q_proj", "attn_v": "self_attn.v_proj", "ffn_down": "mlp.down_proj"}[part]
    return f"model.layers.{block}.{module}.weight"
