"""Gemma 3, its text model. llama.cpp: conversion/gemma.py, src/models/gemma3.cpp."""

from __future__ import annotations

from typing import Any

from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import (
    GEMMA_NORMS,
    add_attention,
    add_embeddings,
    add_feed_forward,
    add_head_norms,
    add_norms,
    add_one,
    add_sizes,
    add_window,
    query_scale_of,
    require_activation,
    require_query_scale,
    sizes_of,
    window_of,
)
from edgeft.convert.draft import VISION, Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Plan
from edgeft.convert.rope import TABLE, add_rope, rope_kind, rope_of

ARCHITECTURES = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
GGUF_ARCHITECTURES = ("gemma3",)

_FULL, _SLIDING = f"{TABLE}.full_attention", f"{TABLE}.sliding_attention"
_27B_BLOCKS = 62
_SLIDING_THETA = 10000.0  # llama.cpp's, where the file is silent


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.GEMMA3)
    require_activation(draft, "hidden_activation", "gelu_pytorch_tanh")
    config.require("attention_bias", False, "llama.cpp has none here")
    config.require("attn_logit_softcapping", None, "llama.cpp has none here")
    if config.flag("use_bidirectional_attention"):
        config.reject("llama.cpp generates from left to right", "use_bidirectional_attention")
    require_query_scale(draft, _27B_BLOCKS)
    add_sizes(draft)
    add_rope(draft, ("linear",), _FULL)
    if rope_kind(draft, _SLIDING) != "default":
        config.reject("llama.cpp scales the layers without a window only", _SLIDING)
    draft.key(Keys.Rope.FREQ_BASE_SWA, config.number("rope_theta", within=_SLIDING))
    if config.value("final_logit_softcapping"):
        draft.key(Keys.LLM.FINAL_LOGIT_SOFTCAPPING, config.number("final_logit_softcapping"))
    add_window(draft, every=6)
    add_embeddings(draft, plus_one=True)
    for block in range(draft.blocks):
        add_norms(draft, block, GEMMA_NORMS, add_one)
        add_attention(draft, block)
        add_head_norms(draft, block, add_one)
        add_feed_forward(draft, block)
    draft.ignore(VISION)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model, its text part alone: the eyes are in a file of their own."""
    config = sizes_of(file, activation="hidden_activation") | window_of(file, every=6)
    sliding = {"rope_type": "default", "rope_theta": file.number("rope.freq_base_swa", _SLIDING_THETA)}
    cap = file.value("final_logit_softcapping", 0.0)
    config |= {
        "rope_parameters": {"full_attention": rope_of(file), "sliding_attention": sliding},
        "final_logit_softcapping": cap or None,
        "query_pre_attn_scalar": query_scale_of(file, _27B_BLOCKS),
    }
    return {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", **config}
