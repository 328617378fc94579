"""Ministral 3 and the text model of Mistral Small 3: GGUF architecture `mistral3`.

llama.cpp: conversion/mistral3.py, src/models/mistral3.cpp.
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
from edgeft.convert.draft import VISION, Draft
from edgeft.convert.gguf_fields import GgufFields, shortest
from edgeft.convert.plan import Plan
from edgeft.convert.rope import TABLE, add_rope, add_yarn, rope_kind, rope_of

ARCHITECTURES = ("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration")
GGUF_ARCHITECTURES = ("mistral3",)

_MINISTRAL = (Keys.Attention.TEMPERATURE_SCALE, Keys.Rope.SCALING_YARN_LOG_MUL)


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.MISTRAL3)
    require_activation(draft)
    add_sizes(draft, windowless=True)
    if config.value("model_type") == "ministral3":
        _add_scaled_rope(draft)
    else:
        add_rope(draft, ("linear",))
    draft.key(Keys.LLM.VOCAB_SIZE, draft.vocab)
    draft.key(Keys.Rope.DIMENSION_COUNT, draft.head_dim)
    add_embeddings(draft)
    for block in range(draft.blocks):
        add_norms(draft, block, LLAMA_NORMS)
        add_attention(draft, block, permuted=True)
        add_feed_forward(draft, block)
    draft.ignore(VISION)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model, its text part alone: the eyes are in a file of their own.

    Mistral Small 3's is a Mistral.
    """
    config = sizes_of(file) | {"sliding_window": None}
    beta, log_multiplier = (file.value(key.partition(".")[2]) for key in _MINISTRAL)
    rope = rope_of(file)
    if beta is None:
        config |= {"rope_parameters": rope}
        return {"architectures": ["MistralForCausalLM"], "model_type": "mistral", **config}
    rope |= {"mscale": 1.0, "mscale_all_dim": shortest(log_multiplier or 0), "llama_4_scaling_beta": shortest(beta)}
    config |= {"rope_parameters": rope}
    return {"architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3", **config}


def _add_scaled_rope(draft: Draft) -> None:
    """Adds YaRN without its scale of attention, and Llama 4's scale that grows with the position."""
    config = draft.config
    draft.key(Keys.Rope.FREQ_BASE, config.number("rope_theta", within=TABLE))
    if rope_kind(draft) != "yarn":
        config.reject(f"RoPE scaling {rope_kind(draft)!r} is not covered", TABLE, "covered: yarn")
        return
    add_yarn(draft, TABLE, any_beta=True)
    if config.number("mscale", 1.0, within=TABLE) != 1.0:
        config.reject("llama.cpp computes with 1", f"{TABLE}.mscale")
    draft.key(Keys.Rope.SCALING_YARN_LOG_MUL, config.number("mscale_all_dim", within=TABLE))
    draft.key(Keys.Attention.TEMPERATURE_SCALE, config.number("llama_4_scaling_beta", within=TABLE))
