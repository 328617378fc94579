"""Phi-3, Phi-3.5 and Phi-4-mini: fused projections, and LongRoPE's two sets of frequency factors.

llama.cpp: conversion/phi.py, src/models/phi3.cpp. It takes the long factors when the context that it is opened with is
longer than the original one, transformers when the text is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import (
    LLAMA_NORMS,
    add_embeddings,
    add_norms,
    add_sizes,
    require_activation,
    require_whole_heads,
    sizes_of,
)
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import BASE_FREQUENCY, GgufFields, shortest
from edgeft.convert.plan import Plan
from edgeft.convert.rope import TABLE, rope_kind

ARCHITECTURES = ("Phi3ForCausalLM",)
GGUF_ARCHITECTURES = ("phi3",)


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.PHI3)
    require_activation(draft)
    require_whole_heads(draft)
    add_sizes(draft, windowless=True)
    _add_rope(draft)
    # llama.cpp has the key and no use for it.
    draft.key(Keys.Attention.SLIDING_WINDOW, config.value("sliding_window") or 0)
    add_embeddings(draft)
    width = config.count("intermediate_size")
    fused = (draft.heads + 2 * draft.kv_heads) * draft.head_dim
    for block in range(draft.blocks):
        source, name = f"model.layers.{block}", f"blk.{block}"
        add_norms(draft, block, LLAMA_NORMS)
        draft.linear(f"{source}.self_attn.qkv_proj", f"{name}.attn_qkv", fused, draft.hidden)
        draft.linear(f"{source}.self_attn.o_proj", f"{name}.attn_output", draft.hidden, draft.hidden)
        draft.linear(f"{source}.mlp.gate_up_proj", f"{name}.ffn_up", 2 * width, draft.hidden)
        draft.linear(f"{source}.mlp.down_proj", f"{name}.ffn_down", draft.hidden, width)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model."""
    config = sizes_of(file)
    window = file.value("attention.sliding_window", 0)
    # The key is written for both; the context that the file states is then at most the window.
    file.amend("context_length", min(file.context, window or file.context))
    original = file.count("rope.scaling.original_context_length", file.context)
    rotated = file.count("rope.dimension_count", file.head_dim)
    rope = {
        "rope_type": "default",
        "rope_theta": file.number("rope.freq_base", BASE_FREQUENCY),
        "partial_rotary_factor": rotated / file.head_dim,
    }
    factors = {f"{kind}_factor": file.tensor(f"rope_factors_{kind}.weight") for kind in ("short", "long")}
    if all(tensor is not None for tensor in factors.values()):
        # llama.cpp multiplies by 1 where the file is silent.
        rope |= {"rope_type": "longrope", "attention_factor": file.number("rope.scaling.attn_factor", 1.0)}
        rope |= {
            name: [shortest(one) for one in tensor.tolist()] for name, tensor in factors.items() if tensor is not None
        }
    config |= {"original_max_position_embeddings": original, "sliding_window": window or None, "rope_parameters": rope}
    return {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", **config}


def _add_rope(draft: Draft) -> None:
    """Adds the rotary embedding, with LongRoPE's factors and attention scale (Ding et al. 2024) where it is scaled."""
    config, values = draft.config, draft.config.table(TABLE)
    draft.key(Keys.Rope.FREQ_BASE, config.number("rope_theta", within=TABLE))
    rotated = int(draft.head_dim * config.number("partial_rotary_factor", 1.0, within=TABLE))
    draft.key(Keys.Rope.DIMENSION_COUNT, rotated)
    original = values.get("original_max_position_embeddings") or config.count("original_max_position_embeddings")
    draft.key(Keys.Rope.SCALING_ORIG_CTX_LEN, original)
    if rope_kind(draft) == "default":
        return
    if rope_kind(draft) != "longrope":
        config.reject(f"RoPE scaling {rope_kind(draft)!r} is not covered", TABLE, "covered: default, longrope")
        return
    scale = config.count("max_position_embeddings") / original
    usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    draft.key(Keys.Rope.SCALING_ATTN_FACTOR, config.number("attention_factor", usual, within=TABLE))
    for kind in ("long", "short"):
        factors = values.get(f"{kind}_factor")
        if not isinstance(factors, list) or len(factors) != rotated // 2:
            config.reject(f"must be a list of {rotated // 2} numbers", f"{TABLE}.{kind}_factor")
        else:
            draft.generate(f"rope_factors_{kind}.weight", torch.tensor(factors, dtype=torch.float32))
