"""Gemma 2. llama.cpp: conversion/gemma.py, src/models/gemma2.cpp."""

from __future__ import annotations

from typing import Any

from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import (
    GEMMA_NORMS,
    add_attention,
    add_embeddings,
    add_feed_forward,
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
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Plan
from edgeft.convert.rope import TABLE, add_rope, rope_kind, rope_of

ARCHITECTURES = ("Gemma2ForCausalLM",)
GGUF_ARCHITECTURES = ("gemma2",)

_THETA = 10000.0  # llama.cpp's, where the file is silent
_CAPS = (50.0, 30.0)  # likewise
_27B_BLOCKS = 46


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.GEMMA2)
    require_activation(draft, "hidden_activation", "gelu_pytorch_tanh")
    config.require("attention_bias", False, "llama.cpp has none here")
    config.require("tie_word_embeddings", True, "llama.cpp takes the embedding as output matrix here")
    require_query_scale(draft, _27B_BLOCKS)
    add_sizes(draft)
    if rope_kind(draft) != "default" or config.number("rope_theta", within=TABLE) != _THETA:
        add_rope(draft)
    draft.key(Keys.LLM.ATTN_LOGIT_SOFTCAPPING, config.number("attn_logit_softcapping"))
    draft.key(Keys.LLM.FINAL_LOGIT_SOFTCAPPING, config.number("final_logit_softcapping"))
    add_window(draft, every=2)
    add_embeddings(draft, plus_one=True)
    for block in range(draft.blocks):
        add_norms(draft, block, GEMMA_NORMS, add_one)
        add_attention(draft, block)
        add_feed_forward(draft, block)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model."""
    config = sizes_of(file, activation="hidden_activation") | window_of(file, every=2)
    caps = {
        "attn_logit_softcapping": file.number("attn_logit_softcapping", _CAPS[0]),
        "final_logit_softcapping": file.number("final_logit_softcapping", _CAPS[1]),
        "query_pre_attn_scalar": query_scale_of(file, _27B_BLOCKS),
    }
    config |= {"rope_parameters": rope_of(file), **caps}
    return {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", **config}
