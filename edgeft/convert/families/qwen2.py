"""Qwen2 and Qwen2.5. llama.cpp: conversion/qwen.py, src/models/qwen2.cpp."""

from __future__ import annotations

from typing import Any

from gguf import MODEL_ARCH

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
from edgeft.convert.plan import Plan
from edgeft.convert.rope import add_rope, rope_of

ARCHITECTURES = ("Qwen2ForCausalLM",)
GGUF_ARCHITECTURES = ("qwen2",)


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.QWEN2)
    require_activation(draft)
    require_whole_heads(draft)
    add_sizes(draft, windowless=True)
    add_rope(draft)
    add_embeddings(draft)
    for block in range(draft.blocks):
        add_norms(draft, block, LLAMA_NORMS)
        add_attention(draft, block, biased="qkv")
        add_feed_forward(draft, block)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model."""
    config = sizes_of(file) | {"rope_parameters": rope_of(file), "use_sliding_window": False}
    return {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **config}
