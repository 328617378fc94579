"""Weights as a 4-bit model holds them, and models from weights that are no folder."""

from __future__ import annotations

import pytest
import torch
from adapters import make_adapter
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from tiny_model import make_model

from edgeft import hf
from edgeft.artifacts import Adapter, Checkpoint
from edgeft.merge import load_merged, merged_weights
from edgeft.weights import CheckpointWeights, RoundedWeights

TARGETS = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("rounded") / "base", dtype=torch.float32)


@pytest.fixture(scope="module")
def adapter(base: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=TARGETS, use_dora=True)
    return make_adapter(base, config, tmp_path_factory.mktemp("rounded") / "adapter")


def test_rounding_is_that_of_the_4_bit_model(base: Checkpoint) -> None:
    model = hf.load_quantized(base, "cpu")
    quantized = {name: m for name, m in model.named_modules() if isinstance(m, Linear4bit)}
    assert {f"{name}.weight" for name in quantized} == hf.nf4_names(base.config())
    original = CheckpointWeights(base)
    for name, module in quantized.items():
        layer = hf.adapted_linear(module)
        assert layer is not None
        assert torch.equal(hf.nf4_rounded(original.read(f"{name}.weight")), layer.dequantize())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_rounds_as_its_4_bit_model_does(base: Checkpoint, adapter: Adapter) -> None:
    model = hf.load_quantized(base, "cuda")
    rounded = RoundedWeights(CheckpointWeights(base), hf.nf4_names(base.config()), hf.nf4_rounded, "cuda")
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            layer = hf.adapted_linear(module)
            assert layer is not None
            torch.testing.assert_close(rounded.read(f"{name}.weight"), layer.dequantize().cpu().float())


def test_merged_into_the_rounded_base_is_the_model_that_was_trained(base: Checkpoint, adapter: Adapter) -> None:
    ids = list(range(3, 200))
    live = hf.logits(hf.load_adapted(base, adapter, "cpu"), ids)
    rounded = hf.logits(load_merged(base, adapter, "dequantized", "cpu"), ids)
    original = hf.logits(load_merged(base, adapter, "original", "cpu"), ids)
    # Products are summed in another order; NF4 moves the logits a hundred times as far at the least.
    assert (live - rounded).abs().max() < 0.01 * (live - original).abs().max()


def test_a_model_from_tensors_is_that_of_the_folder(base: Checkpoint, adapter: Adapter) -> None:
    weights = CheckpointWeights(base)
    tensors = {name: weights.read(name) for name in weights.specs}
    made = hf.load_tensors(base.config(), tensors, "cpu", torch.float32).state_dict()
    loaded = hf.load_model(base, "cpu", torch.float32).state_dict()
    assert made.keys() == loaded.keys()
    assert all(torch.equal(made[name], loaded[name]) for name in loaded)
    assert merged_weights(base, adapter, "dequantized").specs == merged_weights(base, adapter, "original").specs
