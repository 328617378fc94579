"""Granite 3 and the dense Granite 4: Llama with four scales.

llama.cpp: conversion/granite.py, src/models/granite.cpp. The dense Granite 4 is a GraniteMoeHybrid of attention layers
alone, whose one feed-forward layer is called the shared expert.
"""

from __future__ import annotations

from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import (
    LLAMA_NORMS,
    add_attention,
    add_embeddings,
    add_feed_forward,
    add_norms,
    add_sizes,
    require_activation,
    require_whole_heads,
)
from edgeft.convert.draft import Draft
from edgeft.convert.plan import Plan
from edgeft.convert.rope import add_rope

ARCHITECTURES = ("GraniteForCausalLM", "GraniteMoeHybridForCausalLM")

_SCALES = {
    "attention_multiplier": Keys.Attention.SCALE,
    "embedding_multiplier": Keys.LLM.EMBEDDING_SCALE,
    "residual_multiplier": Keys.LLM.RESIDUAL_SCALE,
    "logits_scaling": Keys.LLM.LOGIT_SCALE,
}


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.GRANITE)
    hybrid = config.value("model_type") == "granitemoehybrid"
    require_activation(draft)
    require_whole_heads(draft)
    add_sizes(draft, feed_forward=not hybrid, head_size=False)
    add_rope(draft, ("linear", "yarn", "llama3"))
    draft.key(Keys.LLM.VOCAB_SIZE, draft.vocab)
    draft.key(Keys.Rope.DIMENSION_COUNT, draft.head_dim)
    for name, key in _SCALES.items():
        draft.key(key, config.number(name))
    if hybrid:
        _require_dense(draft)
    add_embeddings(draft)
    for block in range(draft.blocks):
        add_norms(draft, block, LLAMA_NORMS)
        add_attention(draft, block, permuted=True, biased="qkvo" if config.flag("attention_bias") else "")
        if hybrid:
            _add_shared_expert(draft, block)
        else:
            add_feed_forward(draft, block, bias=config.flag("mlp_bias"))
    return draft.plan()


def _require_dense(draft: Draft) -> None:
    config = draft.config
    config.require("layer_types", ["full_attention"] * draft.blocks, "layers other than attention are not covered")
    if config.value("num_local_experts"):
        config.reject("experts are not covered", "num_local_experts")
    draft.key(Keys.LLM.FEED_FORWARD_LENGTH, config.count("shared_intermediate_size"))
    draft.key(Keys.Rope.SCALING_FINETUNED, config.value("position_embedding_type") == "rope")


def _add_shared_expert(draft: Draft, block: int) -> None:
    width, hidden = draft.config.count("shared_intermediate_size"), draft.hidden
    source, name = f"model.layers.{block}.shared_mlp", f"blk.{block}.ffn"
    fused = {f"{source}.input_linear.weight": (2 * width, hidden)}
    draft.made(fused, f"{name}_gate.weight", (width, hidden), lambda both: both[:width])
    draft.made(fused, f"{name}_up.weight", (width, hidden), lambda both: both[width:])
    draft.linear(f"{source}.output_linear", f"{name}_down", hidden, width)
