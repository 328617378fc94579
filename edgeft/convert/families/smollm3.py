"""SmolLM3: Llama without rotary embedding in every fourth block.

llama.cpp: conversion/llama.py, src/models/smollm3.cpp.
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
    sizes_of,
)
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Plan
from edgeft.convert.rope import add_rope, rope_of

ARCHITECTURES = ("SmolLM3ForCausalLM",)
GGUF_ARCHITECTURES = ("smollm3",)


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.SMOLLM3)
    require_activation(draft)
    config.require("mlp_bias", False, "llama.cpp has none here")
    config.require("attention_bias", False, "llama.cpp has none for the output projection")
    every_fourth = [int((block + 1) % 4 != 0) for block in range(draft.blocks)]
    config.require("no_rope_layers", every_fourth, "llama.cpp leaves the embedding out of every fourth block")
    add_sizes(draft, windowless=True)
    add_rope(draft)
    draft.key(Keys.LLM.VOCAB_SIZE, draft.vocab)
    draft.key(Keys.Rope.DIMENSION_COUNT, draft.head_dim)
    add_embeddings(draft)
    for block in range(draft.blocks):
        add_norms(draft, block, LLAMA_NORMS)
        add_attention(draft, block, permuted=True)
        add_feed_forward(draft, block)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model."""
    rotated = [int((block + 1) % 4 != 0) for block in range(file.blocks)]
    config = sizes_of(file) | {"rope_parameters": rope_of(file), "no_rope_layers": rotated, "use_sliding_window": False}
    return {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", **config}
