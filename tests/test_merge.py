"""A merged folder: rounding, shards, the files beside the weights, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import edit_config
from click.testing import CliRunner
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_model import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgeft.artifacts import BASE_RECORD, METHOD_RECORD, Adapter, Checkpoint
from edgeft.cli import main
from edgeft.errors import EdgeftError
from edgeft.files import write_json
from edgeft.merge import choose_merge_base, merge, merged_weights, merging_device
from edgeft.weights import CheckpointWeights, MergedWeights
from edgeft.weights.saving import write_weights

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


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


def test_templates_beside_the_first_are_kept(base: Checkpoint, tmp_path: Path) -> None:
    copied = Checkpoint(tmp_path / "base")
    shutil.copytree(base.path, copied.path)
    (copied.path / "additional_chat_templates").mkdir()
    (copied.path / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    made = merge(copied, make_adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    assert (made.path / "additional_chat_templates" / "tool_use.jinja").read_text() == "{{ tools }}"


def test_a_tensor_without_dimensions_is_kept(base: Checkpoint, tmp_path: Path) -> None:
    copied = Checkpoint(tmp_path / "base")
    shutil.copytree(base.path, copied.path)
    tensors = load_file(base.path / "model.safetensors") | {"model.input_max": torch.tensor(3.5)}
    save_file(tensors, copied.path / "model.safetensors", metadata={"format": "pt"})
    made = merge(copied, make_adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    assert load_file(made.path / "model.safetensors")["model.input_max"] == torch.tensor(3.5)


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


_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another type": ({"peft_type": "LOHA"}, "LOHA"),
    "the wrong type": ({"peft_type": "IA3"}, "without a tensor"),
    "dora without magnitudes": ({"use_dora": True}, "use_dora"),
    "a module that was not saved": ({"modules_to_save": ["lm_head"]}, "lm_head"),
    "a start that changed the base": ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
    "a part of the tokens": ({"alora_invocation_tokens": [1]}, "alora"),
    "another rank": ({"r": 4}, "ranks 8 and 8"),
}


@pytest.mark.parametrize("name", _CHANGES)
def test_what_cannot_be_merged_is_refused(base: Checkpoint, tmp_path: Path, name: str) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    changes, message = _CHANGES[name]
    edit_config(adapter, changes)
    with pytest.raises(EdgeftError, match=message):
        MergedWeights(CheckpointWeights(base), adapter)


def test_a_pickle_is_refused(base: Checkpoint, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    (adapter.path / "adapter_model.safetensors").rename(adapter.path / "adapter_model.bin")
    with pytest.raises(EdgeftError, match="pickle"):
        Adapter.open(adapter.path)


def test_an_adapter_of_another_base_is_refused(base: Checkpoint, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    sharded = make_model(tmp_path / "same", dtype=torch.float32, max_shard_size="1MB")
    other = make_model(tmp_path / "other", dtype=torch.float32, seed=1)
    write_json(adapter.path / BASE_RECORD, {"fingerprint": CheckpointWeights(base).fingerprint()})
    MergedWeights(CheckpointWeights(sharded), adapter)
    with pytest.raises(EdgeftError, match="another base"):
        MergedWeights(CheckpointWeights(other), adapter)


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_asked_for_and_absent(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_checkpoint, tmp_path / "a")
    words = ["merge", str(tiny_checkpoint.path), str(adapter.path), "--out", str(tmp_path / "out"), "--device", "cuda"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "--device: a CUDA GPU is asked for and torch sees none" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_gpu_is_taken_where_it_is_worth_its_start(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model is a file that is nearly all hole."""
    shape = [400_000, 10_000]
    header = json.dumps({"w": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 2 * shape[0] * shape[1]]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + 2 * shape[0] * shape[1])
    (tmp_path / "config.json").write_text("{}")
    large = Checkpoint.open(tmp_path)
    assert merging_device("cpu", "", large) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert merging_device("auto", "", large) == "cuda"
    assert merging_device("auto", "", tiny_checkpoint) == "cpu"
    assert merging_device("cuda", "", tiny_checkpoint) == "cuda"


MERGE_BASES = ("original", "dequantized")
NF4 = {"type": "nf4", "double": True}


def test_the_record_beside_an_adapter_says_what_to_merge_into(tmp_path: Path) -> None:
    adapter = Adapter(tmp_path)
    assert choose_merge_base(adapter) == "original"  # one that others have trained
    assert choose_merge_base(adapter, "dequantized") == "dequantized"
    write_json(tmp_path / METHOD_RECORD, {"method": "qlora", "init": "default", "quantization": NF4})
    assert choose_merge_base(adapter) == "dequantized"
    assert choose_merge_base(adapter, "original") == "original"
    for record in (
        {"method": "lora", "init": "default", "quantization": None},
        {"method": "qlora", "init": "pissa", "quantization": NF4},
    ):
        write_json(tmp_path / METHOD_RECORD, record)
        assert choose_merge_base(adapter) == "original"
        with pytest.raises(EdgeftError, match="4 bits"):
            choose_merge_base(adapter, "dequantized")


def test_the_command_merges_into_what_training_saw(base: Checkpoint, tmp_path: Path) -> None:
    """The rounded base and the adapter, as `merged_weights` gives them, which the tests of rounding hold to
    bitsandbytes; and with --merge-base the original."""
    adapter = make_adapter(base, tmp_path / "adapter")
    record = {"method": "qlora", "init": "default", "quantization": NF4, "dtype": "float32"}
    write_json(adapter.path / METHOD_RECORD, record)
    name = "model.layers.0.self_attn.q_proj.weight"
    for merge_base, options in (("dequantized", []), ("original", ["--merge-base", "original"])):
        out = tmp_path / merge_base
        way = ["merge", str(base.path), str(adapter.path), "--out", str(out), *options]
        result = CliRunner().invoke(main, way, catch_exceptions=False)
        assert ("4 bits" in result.output) == (merge_base == "dequantized")
        expected = merged_weights(base, adapter, "dequantized" if merge_base == "dequantized" else "original")
        assert torch.equal(load_file(out / "model.safetensors")[name], expected.read(name))
    one, other = (load_file(tmp_path / merge_base / "model.safetensors")[name] for merge_base in MERGE_BASES)
    assert not torch.equal(one, other)
