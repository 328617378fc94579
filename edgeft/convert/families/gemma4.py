"""Gemma 4, its dense text model: per-layer embeddings, wider heads without a window, keys and values shared by layers.

llama.cpp: conversion/gemma.py, src/models/gemma4.cpp.
"""

from __future__ import annotations

from typing import Any

import torch
from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import (
    GEMMA_NORMS,
    add_embeddings,
    add_feed_forward,
    add_norms,
    add_sizes,
    require_activation,
    sizes_of,
    window_of,
)
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import BASE_FREQUENCY, GgufFields
from edgeft.convert.plan import Plan
from edgeft.convert.rope import TABLE, rope_kind

ARCHITECTURES = ("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration")
GGUF_ARCHITECTURES = ("gemma4",)

_FULL, _SLIDING = f"{TABLE}.full_attention", f"{TABLE}.sliding_attention"
_CAP = 30.0  # llama.cpp's, where the file is silent
_UNROTATED = 1e30  # what llama.cpp divides the frequency by of pairs that are not rotated


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.GEMMA4)
    require_activation(draft, "hidden_activation", "gelu_pytorch_tanh")
    config.require("attention_bias", False, "llama.cpp has none here")
    if config.flag("enable_moe_block"):
        config.reject("experts are not covered", "enable_moe_block")
    if config.value("use_bidirectional_attention") == "all":
        config.reject("llama.cpp generates from left to right", "use_bidirectional_attention")
    layers = _Layers(draft)
    add_sizes(draft)
    layers.add_keys()
    _add_rope(draft, layers.full_head_dim)
    # Absent, it would be 30 in llama.cpp.
    draft.key(Keys.LLM.FINAL_LOGIT_SOFTCAPPING, float(config.value("final_logit_softcapping") or 0))
    add_embeddings(draft)
    _add_per_layer_embeddings(draft)
    for block in range(draft.blocks):
        add_norms(draft, block, GEMMA_NORMS)
        layers.add_attention(block)
        add_feed_forward(draft, block, layers.feed_forward[block])
        draft.tensor(f"model.layers.{block}.layer_scalar", f"blk.{block}.layer_output_scale.weight", (1,))
    draft.ignore(r"(model\.)?(vision_tower|audio_tower|embed_vision|embed_audio|multi_modal_projector)\..*")
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model, its text part alone: the eyes are in a file of their own."""
    config = sizes_of(file, activation="hidden_activation") | window_of(file, every=6)
    sliding = [kind == "sliding_attention" for kind in config["layer_types"]]
    kv_heads = file.each_block("attention.head_count_kv")
    widths = file.each_block("feed_forward_length")
    shared = file.value("attention.shared_kv_layers", 0)
    own = range(file.blocks - shared)
    factors, width = file.tensor("rope_freqs.weight"), file.value("embedding_length_per_layer_input", 0)
    rotated = 1.0 if factors is None else float((factors == 1).float().mean())
    per_layer = file.tensor_shape("per_layer_token_embd.weight")
    layers = {
        "head_dim": file.count("attention.key_length_swa"),
        "global_head_dim": file.head_dim,
        "num_key_value_heads": next((n for n, slides in zip(kv_heads, sliding, strict=True) if slides), kv_heads[0]),
        "num_global_key_value_heads": next(
            (n for n, slides in zip(kv_heads, sliding, strict=True) if not slides), kv_heads[0]
        ),
        "attention_k_eq_v": any(not sliding[block] and not file.has(f"blk.{block}.attn_v.weight") for block in own),
        "num_kv_shared_layers": shared,
        "intermediate_size": min(widths),
        "use_double_wide_mlp": len(set(widths)) > 1,
        "hidden_size_per_layer_input": width,
        "vocab_size_per_layer_input": per_layer[0] if per_layer else file.vocab,
        "final_logit_softcapping": file.number("final_logit_softcapping", _CAP) or None,
    }
    config |= {
        **layers,
        "rope_parameters": {
            "full_attention": {
                "rope_type": "proportional",
                "rope_theta": file.number("rope.freq_base", BASE_FREQUENCY),
                "partial_rotary_factor": rotated,
            },
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": file.number("rope.freq_base_swa", BASE_FREQUENCY),
            },
        },
    }
    return {"architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text", **config}


class _Layers:
    """What differs from layer to layer."""

    def __init__(self, draft: Draft) -> None:
        config = draft.config
        self._draft = draft
        kinds = config.entries("layer_types")
        if len(kinds) != draft.blocks:
            config.reject(f"{len(kinds)} entries for {draft.blocks} blocks", "layer_types")
            kinds = ["full_attention"] * draft.blocks
        self._sliding = [kind == "sliding_attention" for kind in kinds]
        overrides = {int(number): layer for number, layer in config.table("per_layer_config").items()}
        own = [overrides.get(block, {}) for block in range(draft.blocks)]
        self._head_dim = [layer.get("head_dim", draft.head_dim) for layer in own]
        self._kv_heads = [layer.get("num_key_value_heads", draft.kv_heads) for layer in own]
        self._shared = config.count("num_kv_shared_layers") if config.value("num_kv_shared_layers") else 0
        self._keys_are_values = config.flag("attention_k_eq_v")
        width, wide = config.count("intermediate_size"), config.flag("use_double_wide_mlp")
        self.feed_forward = [width * (1 + (wide and self._reuses(block))) for block in range(draft.blocks)]
        full = {size for size, sliding in zip(self._head_dim, self._sliding, strict=True) if not sliding}
        if len(full) != 1:
            config.reject("layers without a window must have heads of one size", "per_layer_config")
        self.full_head_dim: int = max(full, default=draft.head_dim)

    def _reuses(self, block: int) -> bool:
        """Whether a layer takes the keys and values of an earlier one."""
        return block >= self._draft.blocks - self._shared

    def add_keys(self) -> None:
        """Adds the keys of attention and feed-forward."""
        draft = self._draft
        draft.key(Keys.Attention.SHARED_KV_LAYERS, self._shared)
        draft.key(Keys.Attention.SLIDING_WINDOW, draft.config.count("sliding_window"))
        draft.key(Keys.Attention.SLIDING_WINDOW_PATTERN, self._sliding)
        for key in (Keys.Attention.KEY_LENGTH, Keys.Attention.VALUE_LENGTH):
            draft.key(key, self.full_head_dim)
        for key in (Keys.Attention.KEY_LENGTH_SWA, Keys.Attention.VALUE_LENGTH_SWA):
            draft.key(key, draft.head_dim)
        if len(set(self._kv_heads)) > 1:
            draft.key(Keys.Attention.HEAD_COUNT_KV, self._kv_heads)
        if len(set(self.feed_forward)) > 1:
            draft.key(Keys.LLM.FEED_FORWARD_LENGTH, self.feed_forward)

    def add_attention(self, block: int) -> None:
        """Adds a layer's projections and norms; a checkpoint may hold keys and values that the layer does not use."""
        draft, hidden = self._draft, self._draft.hidden
        source, name = f"model.layers.{block}.self_attn", f"blk.{block}.attn"
        size, reuses = self._head_dim[block], self._reuses(block)
        query, key = draft.heads * size, self._kv_heads[block] * size
        draft.linear(f"{source}.q_proj", f"{name}_q", query, hidden)
        draft.linear(f"{source}.o_proj", f"{name}_output", hidden, query)
        draft.tensor(f"{source}.q_norm.weight", f"{name}_q_norm.weight", (size,))
        draft.tensor(f"{source}.k_norm.weight", f"{name}_k_norm.weight", (size,), optional=reuses)
        draft.tensor(f"{source}.k_proj.weight", f"{name}_k.weight", (key, hidden), optional=reuses)
        if self._sliding[block] or not self._keys_are_values:
            draft.tensor(f"{source}.v_proj.weight", f"{name}_v.weight", (key, hidden), optional=reuses)


def _add_rope(draft: Draft, full_head_dim: int) -> None:
    """Adds both rotary embeddings. That of the layers without a window leaves the last pairs of a head alone."""
    config = draft.config
    draft.key(Keys.Rope.FREQ_BASE, config.number("rope_theta", within=_FULL))
    draft.key(Keys.Rope.FREQ_BASE_SWA, config.number("rope_theta", within=_SLIDING))
    draft.key(Keys.Rope.DIMENSION_COUNT, full_head_dim)
    draft.key(Keys.Rope.DIMENSION_COUNT_SWA, draft.head_dim)
    for table, covered in ((_FULL, "proportional"), (_SLIDING, "default")):
        if rope_kind(draft, table) != covered:
            config.reject(f"{rope_kind(draft, table)!r} is not covered", f"{table}.rope_type", f"covered: {covered}")
    rotated = int(full_head_dim * config.number("partial_rotary_factor", 1.0, within=_FULL) / 2)
    factors = torch.full((full_head_dim // 2,), _UNROTATED)
    factors[:rotated] = 1.0
    draft.generate("rope_freqs.weight", factors)


def _add_per_layer_embeddings(draft: Draft) -> None:
    config, hidden = draft.config, draft.hidden
    width = config.count("hidden_size_per_layer_input") if config.value("hidden_size_per_layer_input") else 0
    draft.key(Keys.LLM.EMBD_LENGTH_PER_LAYER_INP, width)
    if not width:
        return
    total = draft.blocks * width
    vocab = config.count("vocab_size_per_layer_input")
    draft.tensor("model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight", (vocab, total))
    draft.linear("model.per_layer_model_projection", "per_layer_model_proj", total, hidden)
    draft.tensor("model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight", (width,))
    for block in range(draft.blocks):
        source, name = f"model.layers.{block}", f"blk.{block}"
        draft.linear(f"{source}.per_layer_input_gate", f"{name}.inp_gate", width, hidden)
        draft.linear(f"{source}.per_layer_projection", f"{name}.proj", hidden, width)
        draft.tensor(f"{source}.post_per_layer_input_norm.weight", f"{name}.post_norm.weight", (hidden,))
