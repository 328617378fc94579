"""Tiny random models of several architectures, random adapters of every kind, and peft's own merge of the two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PretrainedConfig

from edgeft.artifacts import Adapter, Checkpoint

_SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 40, "head_dim": 16}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**_SHAPE),
    "llama tied": transformers.LlamaConfig(**_SHAPE, tie_word_embeddings=True),
    "llama biased": transformers.LlamaConfig(**_SHAPE, attention_bias=True),
    "qwen2": transformers.Qwen2Config(**_SHAPE),
    "gemma3": transformers.Gemma3TextConfig(**_SHAPE, head_dim=16),
    "phi3": transformers.Phi3Config(**_SHAPE),
    "mixtral": transformers.MixtralConfig(**_SHAPE, num_local_experts=4),
    "qwen3 moe": transformers.Qwen3MoeConfig(**_SHAPE, **_EXPERTS),
    "gpt oss": transformers.GptOssConfig(**_SHAPE, num_local_experts=4, head_dim=16, num_experts_per_tok=2),
    "gpt2": transformers.GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1),
}


def make_base(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Saves a random model without a tokenizer."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name])  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    model.to(dtype).save_pretrained(folder)
    return Checkpoint.open(folder)


def make_adapter(base: Checkpoint, config: PeftConfig, folder: Path, dtype: torch.dtype = torch.float32) -> Adapter:
    """Saves an adapter whose every trained tensor is random."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                spread = torch.randn_like(parameter) * 0.1
                parameter.copy_(parameter + spread if "magnitude" in name or "ia3" in name else spread)
                parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder)
    return Adapter.open(folder)


def peft_merge(base: Checkpoint, adapter: Adapter, folder: Path, *, untie: bool = False) -> dict[str, torch.Tensor]:
    """Returns the tensors, by the checkpoint's names, of peft's `merge_and_unload` in float32.

    peft merges what it wraps in place: an update of the output matrix of a tied model changes the embedding too, which
    the model with its adapter active does not do. So `untie` gives the base an output matrix of its own first.
    """
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    if untie:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    merged = PeftModel.from_pretrained(model, str(adapter.path)).merge_and_unload()
    merged.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def edit_config(adapter: Adapter, changes: Mapping[str, Any]) -> None:
    """Changes adapter_config.json."""
    (adapter.path / "adapter_config.json").write_text(json.dumps(adapter.config() | dict(changes)))
