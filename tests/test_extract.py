"""A LoRA from two checkpoints: what it gives with peft and merged, what it lacks, and what it cannot be made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import CONFIGS, make_adapter, make_base
from click.testing import CliRunner
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from edgeft.artifacts import Adapter, Checkpoint
from edgeft.cli import main
from edgeft.errors import EdgeftError
from edgeft.extract import extract_adapter
from edgeft.merge import merge
from edgeft.weights import CheckpointWeights, MergedWeights

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS = {"phi3": ["qkv_proj", "gate_up_proj"], "gpt2": ["c_attn", "c_proj", "c_fc"]}
IDS = torch.arange(2, 34)[None]
# A change of single precision is added again: the last bits of the sums.
RTOL, ATOL = 2e-5, 2e-6


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": LINEAR} | settings)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: make_base(name, folder / name) for name in CONFIGS}


def tuned(base: Checkpoint, folder: Path, **settings: Any) -> Checkpoint:
    """The base with a random adapter merged into it."""
    adapter = make_adapter(base, lora(**settings), folder / "trained")
    return merge(base, adapter, folder / "tuned")


def edited(base: Checkpoint, folder: Path, changes: Mapping[str, torch.Tensor | None]) -> Checkpoint:
    """The base with other tensors; None leaves one out."""
    folder.mkdir()
    tensors: dict[str, torch.Tensor | None] = {**load_file(base.path / "model.safetensors"), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text((base.path / "config.json").read_text())
    return Checkpoint.open(folder)


def assert_gives(base: Checkpoint, adapter: Path, tuned: Checkpoint) -> None:
    """Merged by edgeft and active in peft, the adapter makes the base into the tuned checkpoint."""
    weights, wanted = MergedWeights(CheckpointWeights(base), Adapter.open(adapter)), CheckpointWeights(tuned)
    assert weights.specs == wanted.specs
    for name in wanted.specs:
        torch.testing.assert_close(weights.read(name), wanted.read(name), rtol=RTOL, atol=ATOL, msg=name)
    live: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), str(adapter))
    with torch.no_grad():
        ours = live.eval()(IDS).logits
        theirs = AutoModelForCausalLM.from_pretrained(tuned.path).eval()(IDS).logits  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "llama tied", "qwen2", "gemma3", "phi3", "gpt2"])
def test_the_rank_of_a_merged_adapter_gives_the_merged_model(
    name: str, bases: dict[str, Checkpoint], tmp_path: Path
) -> None:
    targets = TARGETS.get(name, LINEAR)
    whole = tuned(bases[name], tmp_path, target_modules=targets, fan_in_fan_out=name == "gpt2")
    made = extract_adapter(bases[name], whole, 4, tmp_path / "out")
    assert made.saved == []
    assert made.error < 1e-5
    assert sorted(Adapter.open(tmp_path / "out").config()["target_modules"]) == sorted(targets)
    assert_gives(bases[name], tmp_path / "out", whole)


def test_what_a_lower_rank_lacks_is_what_the_singular_values_say(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base, name = bases["llama"], "model.layers.1.mlp.down_proj.weight"
    whole = tuned(base, tmp_path, r=16)
    made = extract_adapter(base, whole, 5, tmp_path / "out")
    lacking = total = 0.0
    before, after = CheckpointWeights(base), CheckpointWeights(whole)
    for update in made.updates:
        values = torch.linalg.svdvals((after.read(update.name) - before.read(update.name)).double())
        assert update.error == pytest.approx(float(values[5:].norm() / values.norm()), rel=1e-5)
        lacking, total = lacking + float(values[5:].square().sum()), total + float(values.square().sum())
    assert made.error == pytest.approx((lacking / total) ** 0.5, rel=1e-5)
    update = next(update for update in made.updates if update.name == name)
    merged = MergedWeights(before, Adapter.open(tmp_path / "out")).read(name)
    left = (after.read(name) - merged).norm() / (after.read(name) - before.read(name)).norm()
    assert float(left) == pytest.approx(update.error, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("llama", ["embed_tokens", "lm_head", "model.norm", "input_layernorm"]),
        ("llama tied", ["embed_tokens", "lm_head"]),
        ("llama tied", ["lm_head"]),
        ("gpt2", ["ln_f"]),
    ],
)
def test_what_is_no_linear_layer_is_held_whole(
    name: str, saved: list[str], bases: dict[str, Checkpoint], tmp_path: Path
) -> None:
    base, targets = bases[name], ["mlp.c_fc"] if name == "gpt2" else ["q_proj"]
    whole = tuned(base, tmp_path, target_modules=targets, modules_to_save=saved, fan_in_fan_out=name == "gpt2")
    if saved == ["embed_tokens", "lm_head"]:  # the same for both: still tied
        tensors = load_file(whole.path / "model.safetensors")
        whole = edited(base, tmp_path / "tied", {name: t for name, t in tensors.items() if name != "lm_head.weight"})
    made = extract_adapter(base, whole, 64, tmp_path / "out")
    assert {tensor.name.split(".")[-2] for tensor in made.saved} == {name.split(".")[-1] for name in saved}
    assert_gives(base, tmp_path / "out", whole)


def test_biases_and_ranks_that_a_layer_has_not(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama biased"]
    name = "model.layers.0.self_attn.{}_proj.bias"
    changes = {name.format(part): torch.full((64 if part == "q" else 32,), 0.5) for part in "qk"}
    trained = make_adapter(base, lora(target_modules=["q_proj"]), tmp_path / "trained")
    whole = edited(merge(base, trained, tmp_path / "merged"), tmp_path / "tuned", changes)
    made = extract_adapter(base, whole, 100, tmp_path / "out")
    assert {update.rank for update in made.updates} == {64}
    assert {tensor.name for tensor in made.saved} == changes.keys()
    assert_gives(base, tmp_path / "out", whole)


def test_layers_that_were_left_alone_are_not_in_it(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    whole = tuned(bases["llama"], tmp_path, target_modules=["q_proj", "k_proj"], layers_to_transform=[1])
    made = extract_adapter(bases["llama"], whole, 4, tmp_path / "out")
    expected = [f"model.layers.1.self_attn.{part}" for part in ("k_proj", "q_proj")]
    assert sorted(update.name.removesuffix(".weight") for update in made.updates) == expected
    assert sorted(Adapter.open(tmp_path / "out").config()["target_modules"]) == expected
    assert_gives(bases["llama"], tmp_path / "out", whole)


def test_all_that_differs_otherwise_is_told_at_once(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama"]
    changes: dict[str, torch.Tensor | None] = {
        "model.embed_tokens.weight": torch.zeros(97, 64),
        "model.layers.0.mlp.up_proj.weight": torch.zeros(95, 64),
        "model.norm.weight": None,
        "model.other.weight": torch.zeros(3),
    }
    with pytest.raises(EdgeftError) as caught:
        extract_adapter(base, edited(base, tmp_path / "tuned", changes), 4, tmp_path / "out")
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == 4
    for words in ("model.norm", "model.other", "(95, 64)", "resize_token_embeddings"):
        assert sum(words in problem for problem in told) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_no_weight_is_passed_over(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    whole = tuned(bases["llama"], tmp_path, target_modules=["q_proj"])
    tensors = load_file(whole.path / "model.safetensors")
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    made = extract_adapter(bases["llama"], edited(whole, tmp_path / "older", tensors | more), 4, tmp_path / "out")
    assert len(made.updates) == 2 and made.saved == []


def test_experts_are_refused(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["mixtral"]
    name = "model.layers.0.block_sparse_moe.experts.1.w1.weight"
    other = edited(base, tmp_path / "tuned", {name: CheckpointWeights(base).read(name) + 1})
    with pytest.raises(EdgeftError, match=r"experts\.1\.w1"):
        extract_adapter(base, other, 4, tmp_path / "out")


def test_equal_checkpoints_are_refused(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="no linear layer was changed"):
        extract_adapter(bases["llama"], bases["llama"], 4, tmp_path / "out")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_finds_the_same(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama"]
    whole = tuned(base, tmp_path, r=16)
    one, two = (extract_adapter(base, whole, 5, tmp_path / device, device) for device in ("cpu", "cuda"))
    assert [update.error for update in two.updates] == pytest.approx([update.error for update in one.updates], rel=1e-6)
    weights = [MergedWeights(CheckpointWeights(base), Adapter.open(made.adapter)) for made in (one, two)]
    for update in one.updates:
        torch.testing.assert_close(*(merged.read(update.name) for merged in weights), rtol=RTOL, atol=ATOL)


def test_the_command(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    whole = tuned(bases["llama"], tmp_path, target_modules=["q_proj"], modules_to_save=["model.norm"])
    arguments = ["extract-adapter", str(bases["llama"].path), str(whole.path), "--rank", "2", "--out"]
    result = CliRunner().invoke(main, [*arguments, str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert [update["rank"] for update in figures["updates"]] == [2, 2]
    assert 0 < figures["error"] < 1
    assert [tensor["name"] for tensor in figures["saved"]] == ["model.norm.weight"]
    assert Adapter.open(tmp_path / "out").config()["base_model_name_or_path"] == str(bases["llama"].path)
    again = CliRunner().invoke(main, [*arguments, str(tmp_path / "other")])
    assert "q_proj" in again.stdout
    assert "held whole (256 B): model.norm.weight" in again.stdout
    refused = CliRunner().invoke(main, [*arguments, str(tmp_path / "out")])
    assert refused.exit_code == 1
