"""What cannot be converted is refused, naming what, where and the remedy, and nothing is left under the final name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.models import byte_level_tokenizer, llama, to_gguf
from edgeft.artifacts import GgufFile
from edgeft.convert.families import plan_of
from edgeft.errors import EdgeftError

_Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
_DOWN_PROJ = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    byte_level_tokenizer(folder, "gpt-2")
    llama(folder)
    return folder


def _edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _refusal(folder: Path, dtype: str = "f16") -> str:
    out = folder.parent / "out" / "model.gguf"
    with pytest.raises(EdgeftError) as caught:
        to_gguf(folder, out, dtype)
    assert not list(out.parent.glob("*")), "a refused conversion left a file"
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_weight_that_is_not_finite_is_named(checkpoint: Path, value: float) -> None:
    _edit_tensors(checkpoint, lambda tensors: [tensors[name][3, 5].fill_(value) for name in (_Q_PROJ, _DOWN_PROJ)])
    message = _refusal(checkpoint)
    assert f"{_Q_PROJ}: 1 of 65536 weights are NaN or infinite" in message
    assert f"{_DOWN_PROJ}: 1 of" in message


@pytest.mark.parametrize("value", [-65505.0, 1e9])
def test_overflow_of_f16_is_refused_and_bf16_serves(checkpoint: Path, value: float) -> None:
    _edit_tensors(checkpoint, lambda tensors: tensors[_DOWN_PROJ][0, 0].fill_(value))
    message = _refusal(checkpoint, "f16")
    assert _DOWN_PROJ in message and "overflows F16" in message and "bf16" in message
    assert isinstance(to_gguf(checkpoint, checkpoint.parent / "m.gguf", "bf16"), GgufFile)


def test_the_largest_f16_is_no_overflow(checkpoint: Path) -> None:
    _edit_tensors(checkpoint, lambda tensors: tensors[_DOWN_PROJ][0, 0].fill_(65504.0))
    assert isinstance(to_gguf(checkpoint, checkpoint.parent / "m.gguf", "f16"), GgufFile)


def test_overflow_of_bf16_is_refused(checkpoint: Path) -> None:
    _edit_tensors(checkpoint, lambda tensors: tensors[_DOWN_PROJ][0, 0].fill_(torch.finfo(torch.float32).max))
    assert "overflows BF16" in _refusal(checkpoint, "bf16")


def test_missing_and_unexpected_tensors_are_named_together(checkpoint: Path) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(64)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(32)
        del tensors[_DOWN_PROJ], tensors["lm_head.weight"]

    _edit_tensors(checkpoint, edit)
    message = _refusal(checkpoint)
    assert f"{_DOWN_PROJ}: the checkpoint lacks this tensor" in message
    assert "lm_head.weight: the checkpoint lacks this tensor" in message
    assert "q_norm.weight: config.json leaves no place" in message
    assert "inv_freq" not in message


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        ({"vocab_size": 600}, "model.embed_tokens.weight: its shape is (576, 256), by config.json it is (600, 256)"),
        ({"num_attention_heads": 8, "head_dim": 64}, "q_proj.weight: its shape is (256, 256)"),
        ({"num_key_value_heads": 4}, "k_proj.weight: its shape is (128, 256), by config.json it is (256, 256)"),
        ({"num_hidden_layers": 3}, "model.layers.2.mlp.up_proj.weight: the checkpoint lacks"),
        ({"num_hidden_layers": 1}, "model.layers.1.mlp.up_proj.weight: config.json leaves no place"),
        ({"intermediate_size": 1024}, "up_proj.weight: its shape is (512, 256)"),
        ({"attention_bias": True}, "q_proj.bias: the checkpoint lacks"),
    ],
)
def test_a_config_that_lies_is_caught(checkpoint: Path, lie: dict[str, Any], named: str) -> None:
    _edit_json(checkpoint / "config.json", **lie)
    assert named in _refusal(checkpoint)


def test_every_bad_key_of_the_config_is_named(checkpoint: Path) -> None:
    bad: dict[str, Any] = {"hidden_size": "wide", "num_hidden_layers": 0, "hidden_act": "gelu", "rms_norm_eps": -1}
    bad["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 10000.0}
    _edit_json(checkpoint / "config.json", **bad)
    message = _refusal(checkpoint)
    for key in ("hidden_size", "num_hidden_layers", "hidden_act", "rms_norm_eps", "rope_parameters.factor"):
        assert f"config.json: {key}: " in message


def test_a_missing_shard_is_named(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00002.safetensors")
    held = load_file(checkpoint / "model-00001-of-00002.safetensors")
    index = {name: f"model-0000{1 + (name == _DOWN_PROJ)}-of-00002.safetensors" for name in held}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "model-00002-of-00002.safetensors" in _refusal(checkpoint)


def test_a_refused_conversion_keeps_the_older_file(checkpoint: Path) -> None:
    out = checkpoint.parent / "m.gguf"
    to_gguf(checkpoint, out)
    before = out.read_bytes()
    _edit_tensors(checkpoint, lambda tensors: tensors[_Q_PROJ][0].fill_(float("nan")))
    with pytest.raises(EdgeftError):
        to_gguf(checkpoint, out)
    assert out.read_bytes() == before
    assert not list(out.parent.glob("*.partial"))


@pytest.mark.parametrize("architectures", [["GPT2LMHeadModel"], [], None, "LlamaForCausalLM"])
def test_an_unsupported_architecture_is_refused_before_anything_else(architectures: object) -> None:
    with pytest.raises(EdgeftError, match=r"LlamaForCausalLM, .*MistralForCausalLM"):
        plan_of({"architectures": architectures}, "config.json")


def test_a_quantized_checkpoint_is_refused(checkpoint: Path) -> None:
    _edit_json(checkpoint / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert "already quantized" in _refusal(checkpoint)


def test_unknown_splitting_rules_are_shown(checkpoint: Path) -> None:
    rule = {"type": "Split", "pattern": {"Regex": r"\p{Han}+"}, "behavior": "Isolated", "invert": False}
    _edit_json(checkpoint / "tokenizer.json", pre_tokenizer=rule)
    message = _refusal(checkpoint)
    assert "no pre-tokenizer of llama.cpp splits by these rules:\n    \\p{Han}+" in message
    assert "tokenizer: [" in message and "llama.cpp: [" in message


def test_a_tokenizer_of_another_model_is_refused(checkpoint: Path) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 576, "content": "<extra>", "special": False})
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "go up to id 576, and config.json's vocab_size is 576" in _refusal(checkpoint)


def test_two_tokens_of_one_text_are_refused(checkpoint: Path) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 500, "content": "[PAD501]", "special": False})
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "tokens 500 and 501 have the same text, '[PAD501]'" in _refusal(checkpoint)


def test_a_tokenizer_without_an_end_is_refused(checkpoint: Path) -> None:
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    settings.pop("eos_token")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    _edit_json(checkpoint / "config.json", eos_token_id=300)  # an ordinary word, as a class's default would be
    assert "no end-of-sequence token" in _refusal(checkpoint)


def test_a_folder_without_a_tokenizer_is_refused(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    assert "no tokenizer.json" in _refusal(checkpoint)


@pytest.mark.parametrize("content", [b"not protobuf \xff\xff", b"", b"\x0a\x7f"])
def test_a_file_that_is_no_sentencepiece_model_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "tokenizer.model").write_bytes(content)
    assert "tokenizer.model" in _refusal(checkpoint)
