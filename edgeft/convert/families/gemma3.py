"""Gemma 3, its text model. llama.cpp: conversion/gemma.py, src/models/gemma3.cpp."""

from __future__ import annotations

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
    require_activation,
    require_query_scale,
)
from edgeft.convert.draft import VISION, Draft
from edgeft.convert.plan import Plan
from edgeft.convert.rope import TABLE, add_rope, rope_kind

ARCHITECTURES = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")

_FULL, _SLIDING = f"{TABLE}.full_attention", f"{TABLE}.sliding_attention"
_27B_BLOCKS = 62


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
