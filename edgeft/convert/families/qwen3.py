"""Qwen3, dense and with experts. llama.cpp: conversion/qwen.py, src/models/qwen3.cpp, src/models/qwen3moe.cpp."""

from __future__ import annotations

from typing import Any

from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import (
    LLAMA_NORMS,
    add_attention,
    add_embeddings,
    add_experts,
    add_feed_forward,
    add_head_norms,
    add_norms,
    add_sizes,
    require_activation,
    sizes_of,
)
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Plan
from edgeft.convert.rope import add_rope, rope_of

ARCHITECTURES = ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
GGUF_ARCHITECTURES = ("qwen3", "qwen3moe")

_EXPERT_NAMES = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    experts = _experts(config)
    draft = Draft(config, MODEL_ARCH.QWEN3MOE if experts else MODEL_ARCH.QWEN3)
    require_activation(draft)
    config.require("attention_bias", False, "llama.cpp has none for the output projection")
    add_sizes(draft, windowless=True)
    add_rope(draft)
    width = config.count("moe_intermediate_size") if experts else 0
    if experts:
        draft.key(Keys.LLM.EXPERT_COUNT, experts)
        draft.key(Keys.LLM.EXPERT_USED_COUNT, config.count("num_experts_per_tok"))
        draft.key(Keys.LLM.EXPERT_FEED_FORWARD_LENGTH, width)
    add_embeddings(draft)
    for block in range(draft.blocks):
        add_norms(draft, block, LLAMA_NORMS)
        add_attention(draft, block)
        add_head_norms(draft, block)
        if experts:
            add_experts(draft, block, "mlp", _EXPERT_NAMES, width, experts)
        else:
            add_feed_forward(draft, block)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model."""
    config = sizes_of(file) | {"rope_parameters": rope_of(file), "use_sliding_window": False}
    experts = file.value("expert_count", 0)
    if not experts:
        return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **config}
    routing = {
        "num_experts": experts,
        "num_experts_per_tok": file.count("expert_used_count"),
        "moe_intermediate_size": file.count("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
    return {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **config, **routing}


def _experts(config: ConfigFields) -> int:
    """Returns the number of experts in each block, 0 for a dense model."""
    if config.value("model_type") != "qwen3_moe":
        return 0
    config.require("decoder_sparse_step", 1, "llama.cpp has experts in every block here")
    config.require("norm_topk_prob", True, "llama.cpp normalizes the weights of the chosen experts here")
    if config.value("mlp_only_layers"):
        config.reject("llama.cpp has experts in every block here", "mlp_only_layers")
    return config.count("num_experts" if config.value("num_experts") else "num_local_experts")
