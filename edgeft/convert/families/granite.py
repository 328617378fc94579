"""Granite 3 and the dense Granite 4: Llama with four scales.

llama.cpp: conversion/granite.py, src/models/granite.cpp. The dense Granite 4 is a GraniteMoeHybrid of attention layers
alone, whose one feed-forward layer is called the shared expert.
"""

from __future__ import annotations

from typing import Any

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
    sizes_of,
)
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Change, Plan, unchanged
from edgeft.convert.rope import add_rope, rope_of

ARCHITECTURES = ("GraniteForCausalLM", "GraniteMoeHybridForCausalLM")
GGUF_ARCHITECTURES = ("granite",)

_SCALES = {
    "attention_multiplier": Keys.Attention.SCALE,
    "embedding_multiplier": Keys.LLM.EMBEDDING_SCALE,
    "residual_multiplier": Keys.LLM.RESIDUAL_SCALE,
    "logits_scaling": Keys.LLM.LOGIT_SCALE,
}
# What llama.cpp's converter writes of the layers that a dense model has none of.
_STATE_SPACE = ("conv_kernel", "group_count", "inner_size", "state_size", "time_step_rank")


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


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model: of a dense Granite 4 where the file says whether it has RoPE."""
    config = sizes_of(file) | {"rope_parameters": rope_of(file)}
    config |= {name: file.number(key.partition(".")[2]) for name, key in _SCALES.items()}
    biased = {"attention_bias": file.has("blk.0.attn_q.bias")}
    rotated = file.value("rope.scaling.finetuned")
    if rotated is None:
        biased["mlp_bias"] = file.has("blk.0.ffn_gate.bias")
        return {"architectures": ["GraniteForCausalLM"], "model_type": "granite", **config, **biased}
    file.idle("expert_shared_feed_forward_length", *(f"ssm.{name}" for name in _STATE_SPACE))
    dense = {
        "layer_types": ["attention"] * file.blocks,
        "shared_intermediate_size": config["intermediate_size"],
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "position_embedding_type": "rope" if rotated else None,
        # Of layers that it has none of; they must divide the hidden size all the same.
        "mamba_n_heads": 2 * file.heads,
        "mamba_d_head": file.hidden // file.heads,
    }
    architecture = {"architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid"}
    return {**architecture, **config, **biased, **dense}


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
    gate, up = Change(lambda both: both[:width], unchanged), Change(lambda both: both[width:], unchanged)
    draft.made(fused, f"{name}_gate.weight", (width, hidden), gate)
    draft.made(fused, f"{name}_up.weight", (width, hidden), up)
    draft.linear(f"{source}.output_linear", f"{name}_down", hidden, width)
