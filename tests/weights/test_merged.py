"""Merged weights equal peft's own merge in float32, for every method, architecture, dtype and pattern."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import CONFIGS, make_adapter, make_base, peft_merge
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, TrainableTokensConfig
from transformers import AutoModelForCausalLM

from edgeft.artifacts import Adapter, Checkpoint
from edgeft.errors import EdgeftError
from edgeft.merge import merge
from edgeft.weights import CheckpointWeights, MergedWeights

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


def lora(**settings: Any) -> PeftConfig:
    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": LINEAR} | settings)


def ia3(**settings: Any) -> PeftConfig:
    plain = {"task_type": "CAUSAL_LM", "target_modules": ["k_proj", "v_proj"], "feedforward_modules": []}
    return IA3Config(**plain | settings)


_PATTERNS = {
    "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 8},
    "alpha_pattern": {"q_proj": 5, "^model.layers.0.mlp.up_proj": 7},
}
_EXPERTS = {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
_GPT2_IA3 = {"target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"], "fan_in_fan_out": True}
_BOTH_ENDS = {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}
CASES: dict[str, tuple[str, PeftConfig]] = {
    "lora": ("llama", lora()),
    "rank 1": ("llama", lora(r=1, lora_alpha=3)),
    "rslora": ("llama", lora(use_rslora=True)),
    "patterns": ("llama", lora(**_PATTERNS)),
    "rslora with patterns": ("llama", lora(use_rslora=True, **_PATTERNS)),
    "dora": ("llama", lora(use_dora=True)),
    "dora, rslora, patterns": ("llama", lora(use_dora=True, use_rslora=True, **_PATTERNS)),
    "dora of an embedding": ("llama", lora(use_dora=True, target_modules=["embed_tokens", "q_proj"])),
    "embedding and head": ("llama", lora(**_BOTH_ENDS)),
    "lora of biases": ("llama biased", lora(target_modules=ATTENTION, lora_bias=True)),
    "all biases": ("llama biased", lora(target_modules=["q_proj"], bias="all")),
    "biases of targets": ("llama biased", lora(target_modules=["q_proj"], bias="lora_only")),
    "saved head": ("llama", lora(modules_to_save=["lm_head"])),
    "saved embedding and norms": ("llama", lora(modules_to_save=["embed_tokens", "input_layernorm", "norm"])),
    "saved block": ("llama", lora(target_modules=["q_proj"], modules_to_save=["mlp"])),
    "tokens": ("llama", lora(trainable_token_indices=[3, 95])),
    "tokens of both ends": ("llama", lora(trainable_token_indices={"embed_tokens": [3, 95], "lm_head": [7]})),
    "tokens alone": ("llama", TrainableTokensConfig(token_indices=[2, 3], target_modules=["embed_tokens"])),
    "tokens of a tied model": ("llama tied", lora(trainable_token_indices=[3, 95])),
    "tokens alone, tied": ("llama tied", TrainableTokensConfig(token_indices=[2], target_modules=["embed_tokens"])),
    "saved head of a tied model": ("llama tied", lora(modules_to_save=["lm_head"])),
    "saved embedding of a tied model": ("llama tied", lora(modules_to_save=["embed_tokens"])),
    "ia3": ("llama", ia3(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3 with biases": ("qwen2", ia3()),
    "ia3 with a saved head": ("llama", ia3(modules_to_save=["lm_head"])),
    "ia3 of gpt2": ("gpt2", ia3(**_GPT2_IA3)),
    "gpt2": ("gpt2", lora(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
    "dora of gpt2": ("gpt2", lora(target_modules=["c_attn", "mlp.c_proj"], fan_in_fan_out=True, use_dora=True)),
    "phi3, fused": ("phi3", lora(target_modules=["qkv_proj", "gate_up_proj", "o_proj", "down_proj"])),
    "phi3, dora": ("phi3", lora(target_modules=["qkv_proj", "gate_up_proj"], use_dora=True)),
    "qwen2": ("qwen2", lora(**_PATTERNS)),
    "gemma3": ("gemma3", lora(**_PATTERNS)),
    "mixtral": ("mixtral", lora(target_modules=ATTENTION)),
    "mixtral's router": ("mixtral", lora(target_modules=["q_proj", "gate"])),
    "mixtral's experts": ("mixtral", lora(**_EXPERTS)),
    "one parameter of mixtral's experts": ("mixtral", lora(**_EXPERTS | {"target_parameters": ["experts.down_proj"]})),
    "experts with patterns": ("mixtral", lora(**_EXPERTS, rank_pattern={"experts.down_proj": 2}, use_rslora=True)),
    "qwen3's experts": ("qwen3 moe", lora(**_EXPERTS)),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: make_base(name, folder / name) for name in CONFIGS}


def merged_tensors(base: Checkpoint, adapter: Adapter) -> dict[str, torch.Tensor]:
    weights = MergedWeights(CheckpointWeights(base), adapter)
    return {name: weights.read(name) for name in weights.specs}


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        # Both compute in float32 the same products and sums; only the order of single roundings may differ.
        torch.testing.assert_close(ours[name], expected, rtol=2e-6, atol=2e-7, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_merge_equals_peft(case: str, bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    name, config = CASES[case]
    adapter = make_adapter(bases[name], config, tmp_path / "adapter")
    ours = merged_tensors(bases[name], adapter)
    assert_equal(ours, peft_merge(bases[name], adapter, tmp_path / "theirs"))
    before = CheckpointWeights(bases[name])
    changed = {n for n in ours if n not in before.specs or not torch.equal(ours[n], before.read(n))}
    assert changed
    assert changed <= MergedWeights(before, adapter).adapted | {"lm_head.weight"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_merges_the_same(case: str, bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    name, config = CASES[case]
    adapter = make_adapter(bases[name], config, tmp_path / "adapter")
    weights = MergedWeights(CheckpointWeights(bases[name]), adapter, "cuda")
    ours = {name: weights.read(name) for name in weights.specs}
    assert torch.cuda.max_memory_allocated() > 0
    assert_equal(ours, merged_tensors(bases[name], adapter))


_UNTYING = {
    "head": lora(target_modules=["lm_head", "q_proj"]),
    "embedding": lora(target_modules=["embed_tokens", "q_proj"]),
    "both": lora(**_BOTH_ENDS),
    "tokens of each": lora(trainable_token_indices={"embed_tokens": [3, 95], "lm_head": [7]}),
}


@pytest.mark.parametrize("case", _UNTYING)
def test_what_differs_at_both_ends_is_untied(case: str, bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    """The reference is peft's merge of the same model untied, and the model with its adapter active."""
    base = bases["llama tied"]
    adapter = make_adapter(base, _UNTYING[case], tmp_path / "adapter")
    weights = MergedWeights(CheckpointWeights(base), adapter)
    ours = merged_tensors(base, adapter)
    assert weights.config_changes == {"tie_word_embeddings": False}
    assert_equal(ours, peft_merge(base, adapter, tmp_path / "theirs", untie=True))
    untied = AutoModelForCausalLM.from_pretrained(merge(base, adapter, tmp_path / "merged").path)
    live = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), str(adapter.path))
    ids = torch.arange(96)[None]
    with torch.no_grad():
        torch.testing.assert_close(untied(ids).logits, live(ids).logits, rtol=1e-4, atol=1e-4)


def test_one_update_for_both_ends_keeps_them_tied(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama tied"]
    config = lora(target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True)
    adapter = make_adapter(base, config, tmp_path / "adapter")
    weights = MergedWeights(CheckpointWeights(base), adapter)
    assert weights.config_changes == {}
    assert "lm_head.weight" not in weights.specs
    assert "model.embed_tokens.weight" in weights.adapted


def test_an_enlarged_vocabulary(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    from peft import get_peft_model

    resized = AutoModelForCausalLM.from_pretrained(bases["llama"].path)
    resized.resize_token_embeddings(100)
    expected = {name: tensor.clone() for name, tensor in resized.state_dict().items()}
    get_peft_model(resized, lora(modules_to_save=["embed_tokens", "lm_head"])).save_pretrained(tmp_path / "adapter")
    adapter = Adapter.open(tmp_path / "adapter")
    weights = MergedWeights(CheckpointWeights(bases["llama"]), adapter)
    assert weights.config_changes == {"vocab_size": 100}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(weights.read(name), expected[name])
    model = AutoModelForCausalLM.from_pretrained(merge(bases["llama"], adapter, tmp_path / "merged").path)
    assert model.get_input_embeddings().weight.shape == (100, 64)


def test_experts_in_one_tensor_are_refused(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    config = lora(target_modules=["q_proj"], target_parameters=["experts.down_proj"])
    adapter = make_adapter(bases["gpt oss"], config, tmp_path / "adapter")
    with pytest.raises(EdgeftError, match="lie in one tensor"):
        MergedWeights(CheckpointWeights(bases["gpt oss"]), adapter)


@pytest.mark.parametrize("seed", range(12))
def test_merge_equals_peft_at_random(seed: int, bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    """Any rank, alpha, pattern, target and dtype of base and adapter."""
    rng = random.Random(seed)
    name = rng.choice(["llama", "qwen2", "gemma3"])
    dtype, adapter_dtype = (rng.choice([torch.float32, torch.bfloat16, torch.float16]) for _ in range(2))
    base = make_base(name, tmp_path / "base", dtype)
    targets = rng.sample(LINEAR, rng.randint(1, 7))
    config = lora(
        r=rng.randint(1, 24),
        lora_alpha=rng.randint(1, 64),
        target_modules=targets,
        rank_pattern={target: rng.randint(1, 24) for target in targets if rng.random() < 0.4},
        alpha_pattern={f"layers.1.*{target}": rng.randint(1, 64) for target in targets if rng.random() < 0.4},
        use_rslora=rng.random() < 0.5,
        use_dora=rng.random() < 0.3,
    )
    adapter = make_adapter(base, config, tmp_path / "adapter", adapter_dtype)
    theirs = peft_merge(base, adapter, tmp_path / "theirs")
    for key, ours in merged_tensors(base, adapter).items():
        assert ours.dtype == dtype
        # Rounded once: at most the neighbouring value, where float32's own rounding decides between two.
        exact = theirs[key]
        step = torch.finfo(dtype).eps * exact.abs()
        assert ((ours.float() - exact).abs() <= 0.5001 * step + 2e-6 * exact.abs() + 1e-7).all(), key
