"""Qwen2 and Qwen2.5. llama.cpp: conversion/qwen.py, src/models/qwen2.cpp."""

from __future__ import annotations

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
)
from edgeft.convert.draft import Draft
from edgeft.convert.plan import Plan
from edgeft.convert.rope import add_rope

ARCHITECTURES = ("Qwen2ForCausalLM",)


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
