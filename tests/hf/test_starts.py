"""Starts taken from the base's weights, against peft's own; and what is saved of them, against the trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from tiny_model import make_model

from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.config import LoraConfig, TrainConfig
from edgeft.errors import EdgeftError

TARGETS = ("q_proj", "down_proj")
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("base") / "base", hidden_size=64, intermediate_size=128)


def load(base: Checkpoint) -> hf.PreTrainedModel:
    return hf.load_model(base, "cpu", torch.float32)


def ours(base: Checkpoint, folder: Path, **options: Any) -> Any:
    config = TrainConfig.model_validate({"lora": {"targets": TARGETS, "rank": 8}, **options})
    return hf.load_for_training(base, config, "cpu", folder)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_starts_are_those_of_peft(base: Checkpoint, tmp_path: Path, init: Any) -> None:
    settings = {"targets": TARGETS, "rank": 8, "init": init, "use_rslora": True, "rank_pattern": {"q_proj": 4}}
    got = ours(base, tmp_path, method="lora", lora=settings).state_dict()
    theirs = PeftLoraConfig(
        r=8,
        lora_alpha=32,
        target_modules=list(TARGETS),
        init_lora_weights=init,
        use_rslora=True,
        rank_pattern={"q_proj": 4},
    )
    wanted = get_peft_model(load(base), theirs).state_dict()
    assert got.keys() == wanted.keys()
    assert all(torch.allclose(got[name], wanted[name], atol=1e-5) for name in wanted)


def test_an_adapter_starts_as_what_quantization_has_lost(base: Checkpoint, tmp_path: Path) -> None:
    """LoftQ's first step: the best update of its rank of the error, so that the error's other singular values stay."""
    model = ours(base, tmp_path, lora={"targets": TARGETS, "rank": 8, "init": "loftq"})
    layer = model.get_submodule(Q_PROJ)
    linear = hf.adapted_linear(layer)
    assert linear is not None
    whole = load(base).get_parameter("model.layers.0.self_attn.q_proj.weight")
    lost = whole.detach() - linear.dequantize()
    left = lost - layer.get_delta_weight("default")
    singular = torch.linalg.svdvals(lost)
    assert float(left.norm()) == pytest.approx(float(singular[8:].norm()), rel=1e-4)


@pytest.mark.parametrize(
    ("method", "init"),
    [("lora", "pissa"), ("lora", "olora"), ("qlora", "pissa"), ("qlora", "olora"), ("qlora", "loftq")],
)
def test_what_is_saved_starts_as_nothing_on_the_base_as_it_is(
    base: Checkpoint, tmp_path: Path, method: Any, init: Any
) -> None:
    """[B, -B0] [A; A0] is zero before a step, and the difference to B0 A0 after one, whatever peft makes of it."""
    settings = {"targets": TARGETS, "rank": 8, "init": init, "use_rslora": True, "alpha_pattern": {"q_proj": 4.0}}
    config = TrainConfig.model_validate({"method": method, "lora": settings})
    model: Any = hf.load_for_training(base, config, "cpu", tmp_path)
    layer = model.get_submodule(Q_PROJ)
    before = layer.get_delta_weight("default").detach().clone()
    with torch.no_grad():
        layer.lora_B["default"].weight += 0.1
    learned = layer.get_delta_weight("default").detach() - before
    hf.save_trained(model, config, torch.bfloat16, tmp_path)
    saved: Any = PeftModel.from_pretrained(load(base), str(tmp_path))
    assert torch.allclose(saved.get_submodule(Q_PROJ).get_delta_weight("default"), learned, atol=1e-5)
    untouched = saved.get_submodule(Q_PROJ.replace("0", "1")).get_delta_weight("default")
    assert float(untouched.norm()) < 1e-5


def test_a_start_that_is_there_is_taken(base: Checkpoint, tmp_path: Path) -> None:
    """A resumed training, on another device maybe, goes on from the same base."""
    lora = LoraConfig(targets=TARGETS, rank=8, init="pissa_niter_4")
    torch.manual_seed(0)
    first = ours(base, tmp_path, lora=lora.model_dump()).state_dict()
    torch.manual_seed(1)
    again = ours(base, tmp_path, lora=lora.model_dump()).state_dict()
    other = ours(base, tmp_path / "other", lora=lora.model_dump()).state_dict()
    tensors = [name for name in first if isinstance(first[name], torch.Tensor)]
    assert all(torch.equal(first[name], again[name]) for name in tensors)
    assert not all(torch.equal(first[name], other[name]) for name in tensors)


def test_a_start_needs_linear_layers(base: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="no linear layer"):
        ours(base, tmp_path, lora={"targets": ("embed_tokens",), "init": "pissa"})
