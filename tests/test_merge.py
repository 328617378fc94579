"""Merged weights equal peft's own merge in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_model import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgeft.artifacts import Adapter, Checkpoint
from edgeft.errors import EdgeftError
from edgeft.merge import merge, write_weights
from edgeft.weights import CheckpointWeights, MergedWeights

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank 1": {"r": 1, "lora_alpha": 3},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 4, "layers.1.mlp.down_proj": 2},
        "alpha_pattern": {"q_proj": 5, "^model.layers.0.mlp.up_proj": 7},
    },
    "attention only": {"target_modules": ["q_proj", "v_proj"]},
}


def make_adapter(base: Checkpoint, folder: Path, **overrides: Any) -> Adapter:
    """Saves an adapter with random weights in both halves; `overrides` go to peft's LoraConfig."""
    settings: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.path), LoraConfig(**{**settings, **overrides}))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(folder)
    return Adapter.open(folder)


def theirs(base: Checkpoint, adapter: Adapter) -> dict[str, torch.Tensor]:
    """peft's own merge of a base that is float32."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter.path)).merge_and_unload()
    return {name: tensor for name, tensor in merged.state_dict().items() if name != "lm_head.weight"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_model(tmp_path_factory.mktemp("merge") / "base", dtype=torch.float32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_merge_equals_peft(base: Checkpoint, tmp_path: Path, variant: str) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", **VARIANTS[variant])
    merged = merge(base, adapter, tmp_path / "merged")
    ours, expected = load_file(merged.path / "model.safetensors"), theirs(base, adapter)
    assert ours.keys() == expected.keys()
    for name in expected:
        # Both compute base + scale * (B @ A) in float32; only the order of two roundings may differ.
        torch.testing.assert_close(ours[name], expected[name], rtol=1e-6, atol=1e-7, msg=name)
    changed = {name for name in ours if not torch.equal(ours[name], load_file(base.path / "model.safetensors")[name])}
    assert changed == MergedWeights(CheckpointWeights(base), adapter).adapted


def test_bfloat16_is_rounded_once(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", dtype=torch.bfloat16)
    adapter = make_adapter(base, tmp_path / "adapter")
    ours = load_file(merge(base, adapter, tmp_path / "merged").path / "model.safetensors")
    for name, expected in theirs(base, adapter).items():
        assert torch.equal(ours[name], expected.to(torch.bfloat16)), name


def test_shards_in_and_out(base: Checkpoint, tmp_path: Path) -> None:
    sharded = make_model(tmp_path / "base", dtype=torch.float32, max_shard_size="1MB")
    assert (sharded.path / "model.safetensors.index.json").is_file()
    whole, parts = CheckpointWeights(base), CheckpointWeights(sharded)
    assert whole.specs.keys() == parts.specs.keys()
    assert all(torch.equal(whole.read(name), parts.read(name)) for name in whole.specs)
    out = tmp_path / "written"
    out.mkdir()
    write_weights(parts, out, shard_bytes=1_000_000)
    (out / "config.json").write_text((base.path / "config.json").read_text())
    assert len(list(out.glob("model-*-of-*.safetensors"))) > 2
    reread = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(torch.equal(reread[name], whole.read(name)) for name in whole.specs)


def test_merged_folder_keeps_the_base_files(base: Checkpoint, tmp_path: Path) -> None:
    (base.path / "tokenizer.model").write_bytes(b"a vocabulary that saving again would lose")
    merged = merge(base, make_adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    (base.path / "tokenizer.model").rename(tmp_path / "tokenizer.model")
    assert (merged.path / "tokenizer.model").read_bytes() == (tmp_path / "tokenizer.model").read_bytes()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (merged.path / name).read_bytes() == (base.path / name).read_bytes()
    assert AutoTokenizer.from_pretrained(merged.path).chat_template


def test_every_misfit_is_named_and_nothing_is_written(base: Checkpoint, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    path = adapter.path / "adapter_model.safetensors"
    tensors = load_file(path)
    prefix = "base_model.model.model.layers"
    tensors[f"{prefix}.0.self_attn.q_proj.lora_A.weight"] = torch.zeros(8, 100)
    for half in ("A", "B"):
        tensors[f"{prefix}.9.mlp.up_proj.lora_{half}.weight"] = tensors.pop(
            f"{prefix}.1.mlp.up_proj.lora_{half}.weight"
        )
    tensors["base_model.model.lm_head.weight"] = torch.zeros(4, 4)
    save_file(tensors, path)
    with pytest.raises(EdgeftError) as caught:
        merge(base, adapter, tmp_path / "merged")
    where = [problem.where.rpartition("model.layers")[2] for problem in caught.value.problems]
    assert len(caught.value.problems) == 3
    assert any("0.self_attn.q_proj" in place for place in where)
    assert any("9.mlp.up_proj" in place for place in where)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("key", ["use_dora", "modules_to_save", "peft_type"])
def test_methods_that_cannot_be_merged_are_refused(base: Checkpoint, tmp_path: Path, key: str) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    config = adapter.config()
    config[key] = {"use_dora": True, "modules_to_save": ["lm_head"], "peft_type": "IA3"}[key]
    (adapter.path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(EdgeftError, match="IA3" if key == "peft_type" else key):
        MergedWeights(CheckpointWeights(base), adapter)


def test_a_truncated_and_a_missing_shard_are_refused(tmp_path: Path) -> None:
    sharded = make_model(tmp_path / "base", max_shard_size="500KB")
    shards = sorted(sharded.path.glob("model-*.safetensors"))
    shards[0].write_bytes(shards[0].read_bytes()[:-100])
    shards[1].unlink()
    with pytest.raises(EdgeftError) as caught:
        CheckpointWeights(sharded)
    assert {Path(problem.where).name for problem in caught.value.problems} == {shards[0].name, shards[1].name}


def test_an_index_that_lies_is_refused(tmp_path: Path) -> None:
    sharded = make_model(tmp_path / "base", max_shard_size="500KB")
    index_path = sharded.path / "model.safetensors.index.json"
    index = json.loads(index_path.read_text())
    index["weight_map"]["model.layers.7.mlp.up_proj.weight"] = sorted(index["weight_map"].values())[0]
    index_path.write_text(json.dumps(index))
    with pytest.raises(EdgeftError, match=r"layers\.7\.mlp\.up_proj"):
        CheckpointWeights(sharded)
