"""LFM2: short convolutions in most blocks, attention in some.

llama.cpp: conversion/lfm2.py, src/models/lfm2.cpp.
"""

from __future__ import annotations

from typing import Any

from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import add_embeddings, add_norms, add_sizes, sizes_of
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Change, Plan
from edgeft.convert.rope import add_rope, rope_of

ARCHITECTURES = ("Lfm2ForCausalLM",)
GGUF_ARCHITECTURES = ("lfm2",)

_NORMS = {"operator_norm": "attn_norm", "ffn_norm": "ffn_norm"}
_FEED_FORWARD = {"w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down"}


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.LFM2)
    config.require("conv_bias", False, "llama.cpp has none here")
    kinds = config.entries("layer_types")
    if len(kinds) != draft.blocks:
        config.reject(f"{len(kinds)} entries for {draft.blocks} blocks", "layer_types")
    width = _feed_forward_length(config)
    add_sizes(draft, feed_forward=False, epsilon="norm_eps")
    add_rope(draft)
    draft.key(Keys.LLM.VOCAB_SIZE, draft.vocab)
    draft.key(Keys.LLM.FEED_FORWARD_LENGTH, width)
    draft.key(Keys.Attention.HEAD_COUNT_KV, [draft.kv_heads if kind != "conv" else 0 for kind in kinds])
    draft.key(Keys.ShortConv.L_CACHE, config.count("conv_L_cache"))
    add_embeddings(draft, norm="model.embedding_norm", norm_name="token_embd_norm")
    for block, kind in enumerate(kinds):
        add_norms(draft, block, _NORMS)
        if kind == "conv":
            _add_convolution(draft, block)
        else:
            _add_attention(draft, block)
        for source, name in _FEED_FORWARD.items():
            shape = (draft.hidden, width) if source == "w2" else (width, draft.hidden)
            draft.tensor(f"model.layers.{block}.feed_forward.{source}.weight", f"blk.{block}.{name}.weight", shape)
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model."""
    config = sizes_of(file, epsilon="norm_eps") | {"rope_parameters": rope_of(file)}
    kv_heads = file.each_block("attention.head_count_kv")
    config |= {
        "layer_types": ["full_attention" if heads else "conv" for heads in kv_heads],
        "conv_L_cache": file.count("shortconv.l_cache"),
        "conv_bias": False,
        "block_auto_adjust_ff_dim": False,
    }
    return {"architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", **config}


def _feed_forward_length(config: ConfigFields) -> int:
    """Returns the width of the feed-forward layers, as transformers' Lfm2MLP computes it."""
    width = config.count("intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim"):
        return width
    width = int(2 * width / 3)
    if config.value("block_ffn_dim_multiplier") is not None:
        width = int(config.number("block_ffn_dim_multiplier") * width)
    step = config.count("block_multiple_of")
    return step * ((width + step - 1) // step)


def _add_convolution(draft: Draft, block: int) -> None:
    source, name, hidden = f"model.layers.{block}.conv", f"blk.{block}.shortconv", draft.hidden
    taps = draft.config.count("conv_L_cache")
    draft.linear(f"{source}.in_proj", f"{name}.in_proj", 3 * hidden, hidden)
    draft.linear(f"{source}.out_proj", f"{name}.out_proj", hidden, hidden)
    draft.made({f"{source}.conv.weight": (hidden, 1, taps)}, f"{name}.conv.weight", (hidden, taps), _WITHOUT_CHANNEL)


_WITHOUT_CHANNEL = Change(lambda weight: weight.squeeze(1), lambda weight: weight.unsqueeze(1))


def _add_attention(draft: Draft, block: int) -> None:
    source, name, hidden = f"model.layers.{block}.self_attn", f"blk.{block}.attn", draft.hidden
    query, key = draft.heads * draft.head_dim, draft.kv_heads * draft.head_dim
    for letter, rows in (("q", query), ("k", key), ("v", key)):
        draft.linear(f"{source}.{letter}_proj", f"{name}_{letter}", rows, hidden)
    draft.linear(f"{source}.out_proj", f"{name}_output", hidden, query)
    for letter in ("q", "k"):
        draft.tensor(f"{source}.{letter}_layernorm.weight", f"{name}_{letter}_norm.weight", (draft.head_dim,))
