"""Llama 2 to 3.2, TinyLlama, SmolLM2, Mistral, and Mixtral: GGUF architecture `llama`.

llama.cpp: conversion/llama.py, src/models/llama.cpp.
"""

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
    add_norms,
    add_sizes,
    require_activation,
    sizes_of,
)
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Plan
from edgeft.convert.rope import add_rope, rope_of

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM")
GGUF_ARCHITECTURES = ("llama",)

_EXPERT_NAMES = {"gate": "w1", "down": "w2", "up": "w3"}


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.LLAMA)
    require_activation(draft)
    add_sizes(draft, windowless=True)
    add_rope(draft, ("linear", "yarn", "llama3"))
    draft.key(Keys.LLM.VOCAB_SIZE, draft.vocab)
    draft.key(Keys.Rope.DIMENSION_COUNT, draft.head_dim)
    experts = config.count("num_local_experts") if config.value("num_local_experts") else 0
    if experts:
        draft.key(Keys.LLM.EXPERT_COUNT, experts)
        draft.key(Keys.LLM.EXPERT_USED_COUNT, config.count("num_experts_per_tok"))
    add_embeddings(draft)
    for block in range(draft.blocks):
        add_norms(draft, block, LLAMA_NORMS)
        add_attention(draft, block, permuted=True, biased="qkvo" if config.flag("attention_bias") else "")
        if experts:
            width = config.count("intermediate_size")
            add_experts(draft, block, "block_sparse_moe", _EXPERT_NAMES, width, experts)
        else:
            add_feed_forward(draft, block, bias=config.flag("mlp_bias"))
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model."""
    config = sizes_of(file) | {"rope_parameters": rope_of(file)}
    if experts := file.value("expert_count", 0):
        routing = {"num_local_experts": experts, "num_experts_per_tok": file.count("expert_used_count")}
        return {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", **config, **routing}
    biases = {"attention_bias": file.has("blk.0.attn_q.bias"), "mlp_bias": file.has("blk.0.ffn_gate.bias")}
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **config, **biases}
