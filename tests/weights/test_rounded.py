"""Weights as a 4-bit model holds them, and models from weights that are no folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
from adapters import make_adapter
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from tiny_model import make_model

from edgeft import hf
from edgeft.artifacts import METHOD_RECORD, Adapter, Checkpoint
from edgeft.config import QuantizationConfig
from edgeft.errors import EdgeftError
from edgeft.files import write_json
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


def rounded_as_recorded(base: Checkpoint, folder: Path, device: str, **record: object) -> RoundedWeights:
    write_json(folder / METHOD_RECORD, record)
    rounding = hf.rounding_of(Adapter(folder))
    assert rounding is not None
    return RoundedWeights(CheckpointWeights(base), hf.quantized_names(base.config()), rounding, device)


@pytest.mark.parametrize(("kind", "double"), [("nf4", True), ("nf4", False), ("fp4", True)])
def test_rounding_is_that_of_the_4_bit_model(
    base: Checkpoint, tmp_path: Path, kind: Literal["nf4", "fp4"], double: bool
) -> None:
    config = QuantizationConfig(type=kind, double=double)
    model = hf.load_quantized(base, "cpu", config)
    rounded = rounded_as_recorded(base, tmp_path, "cpu", quantization=config.model_dump(), dtype="float32")
    quantized = {name: m for name, m in model.named_modules() if isinstance(m, Linear4bit)}
    assert {f"{name}.weight" for name in quantized} == hf.quantized_names(base.config())
    for name, module in quantized.items():
        weight = cast(Any, module.weight)
        assert torch.equal(rounded.read(f"{name}.weight"), dequantize_4bit(weight.data, weight.quant_state))


def test_weights_are_rounded_from_the_dtype_that_training_held_them_in(base: Checkpoint, tmp_path: Path) -> None:
    ours = rounded_as_recorded(base, tmp_path, "cpu", dtype="bfloat16")
    for name in hf.quantized_names(base.config()):
        as_stored = CheckpointWeights(base).read(name)
        theirs, state = quantize_4bit(as_stored.bfloat16().float(), quant_type="nf4", compress_statistics=True)
        assert torch.equal(ours.read(name), dequantize_4bit(theirs, state))


def test_an_adapter_over_a_base_in_16_bits_has_nothing_rounded(base: Checkpoint, tmp_path: Path) -> None:
    adapter = make_adapter(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=TARGETS), tmp_path / "plain")
    rounded = merged_weights(base, adapter, "dequantized").read("model.layers.0.self_attn.q_proj.weight")
    write_json(adapter.path / METHOD_RECORD, {"method": "lora", "init": "default", "quantization": None})
    kept = merged_weights(base, adapter, "dequantized").read("model.layers.0.self_attn.q_proj.weight")
    original = merged_weights(base, adapter, "original").read("model.layers.0.self_attn.q_proj.weight")
    assert torch.equal(kept, original)
    assert not torch.equal(rounded, original)


@pytest.mark.parametrize(
    ("dtype", "here", "device"),
    [
        ("bfloat16", True, "cuda"),
        ("float32", True, "cpu"),
        ("bfloat16", False, "cpu"),
        (None, True, "cuda"),
        (None, False, "cpu"),
    ],
)
def test_what_trained_on_a_gpu_is_rounded_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str | None, here: bool, device: str
) -> None:
    write_json(tmp_path / METHOD_RECORD, {"quantization": {}} | ({"dtype": dtype} if dtype else {}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    rounding = hf.rounding_of(Adapter(tmp_path))
    assert rounding is not None and rounding.device == device
    assert str(rounding.dtype) == f"torch.{dtype or ('bfloat16' if here else 'float32')}"


@pytest.mark.parametrize("record", [{"dtype": "int4"}, {"quantization": {"type": "int8"}}])
def test_a_record_that_training_did_not_write_is_refused(tmp_path: Path, record: dict[str, Any]) -> None:
    write_json(tmp_path / METHOD_RECORD, record)
    with pytest.raises(EdgeftError, match="no record of how") as caught:
        hf.rounding_of(Adapter(tmp_path))
    assert caught.value.problems[0].where.endswith(METHOD_RECORD)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_rounds_as_its_4_bit_model_does(dtype: torch.dtype, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", dtype=dtype)
    model = hf.load_quantized(base, "cuda")
    rounded = rounded_as_recorded(base, tmp_path, "cuda", dtype="bfloat16")
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            layer = hf.adapted_linear(module)
            assert layer is not None
            # The 4-bit model's matrix is rounded to bfloat16; a float32 base keeps its rounded values as they are.
            assert torch.equal(rounded.read(f"{name}.weight").bfloat16(), layer.dequantize().cpu().bfloat16())


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
