"""The Llama family: Llama 2 to 3.2, TinyLlama, SmolLM2, Mistral. GGUF architecture `llama`.

Follows llama.cpp's conversion/llama.py and src/models/llama.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFValueType, Keys, RopeScalingType

from edgeft.convert.plan import ConfigFields, KeyValue, Plan

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")

_ARCH = MODEL_ARCH.LLAMA
# What transformers assumes for a key that config.json leaves out, where it differs from Llama's.
_MISTRAL_KV_HEADS = 8
_MISTRAL_SLIDING_WINDOW = 4096


@dataclass(frozen=True)
class _Sizes:
    """The numbers of config.json that give the tensors their shapes."""

    blocks: int
    vocab: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int


def plan(config_json: Mapping[str, Any], where: str) -> Plan:
    """Returns the plan of a Llama or Mistral checkpoint; raises EdgeftError naming every key that cannot be served."""
    fields = ConfigFields(config_json, where)
    mistral = "MistralForCausalLM" in config_json["architectures"]
    sizes = _sizes(config_json, fields, mistral)
    rope_keys, generated = _rope(config_json, fields, sizes.head_dim)
    keys = {
        **_counts(sizes, _context_length(config_json, fields, mistral)),
        **rope_keys,
        Keys.Attention.LAYERNORM_RMS_EPS: KeyValue(fields.number("rms_norm_eps", 1e-6), GGUFValueType.FLOAT32),
    }
    fields.check()
    return Plan(
        arch=_ARCH,
        block_count=sizes.blocks,
        vocab_size=sizes.vocab,
        keys={key.format(arch=MODEL_ARCH_NAMES[_ARCH]): value for key, value in keys.items()},
        shapes={
            "model.embed_tokens.weight": (sizes.vocab, sizes.hidden),
            **_block_shapes(config_json, sizes),
            "model.norm.weight": (sizes.hidden,),
            "lm_head.weight": (sizes.vocab, sizes.hidden),
        },
        # llama.cpp takes the embedding where there is no output matrix; a tied checkpoint may still carry its copy.
        optional=frozenset({"lm_head.weight"} if config_json.get("tie_word_embeddings") else ()),
        transforms=_permutations(sizes),
        generated=generated,
    )


def permute_rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorders the rows of a query or key projection (or its bias) for llama.cpp's rotary embedding.

    transformers rotates the pairs (i, i + head_dim / 2) of a head, llama.cpp the neighbours (2i, 2i + 1).
    """
    rows = weight.shape[0]
    return weight.view(heads, 2, rows // heads // 2, -1).transpose(1, 2).reshape(weight.shape)


def llama3_frequency_factors(head_dim: int, rope: Mapping[str, float]) -> torch.Tensor:
    """Returns what llama.cpp divides each rotary frequency by under Llama 3.1's scaling; (head_dim / 2,), float32.

    High frequencies stay, low ones are slowed by `factor`, those between are blended. The same arithmetic as
    transformers' `_compute_llama3_parameters`, in float32 throughout.
    """
    frequencies = 1.0 / (rope["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    wavelengths = 2 * math.pi / frequencies
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    original_context = rope["original_max_position_embeddings"]
    blend = (original_context / wavelengths - low) / (high - low)
    factors = 1 / ((1 - blend) / factor + blend)
    factors[wavelengths > original_context / low] = factor
    factors[wavelengths < original_context / high] = 1.0
    return factors


def _sizes(config_json: Mapping[str, Any], fields: ConfigFields, mistral: bool) -> _Sizes:
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    sizes = _Sizes(
        blocks=fields.count("num_hidden_layers"),
        vocab=fields.count("vocab_size"),
        hidden=hidden,
        feed_forward=fields.count("intermediate_size"),
        heads=heads,
        kv_heads=fields.count("num_key_value_heads", _MISTRAL_KV_HEADS if mistral else heads),
        head_dim=fields.count("head_dim", hidden // heads),
    )
    if config_json.get("hidden_act", "silu") != "silu":
        fields.reject(f"activation {config_json['hidden_act']!r}: llama.cpp computes silu here", "hidden_act")
    if sizes.head_dim % 2:
        fields.reject(f"{sizes.head_dim} is odd: rotary embeddings need pairs", "head_dim")
    if heads % sizes.kv_heads:
        fields.reject(f"{sizes.kv_heads} does not divide num_attention_heads, {heads}", "num_key_value_heads")
    return sizes


def _counts(sizes: _Sizes, context_length: int) -> dict[str, KeyValue]:
    counts = {
        Keys.LLM.BLOCK_COUNT: sizes.blocks,
        Keys.LLM.CONTEXT_LENGTH: context_length,
        Keys.LLM.EMBEDDING_LENGTH: sizes.hidden,
        Keys.LLM.FEED_FORWARD_LENGTH: sizes.feed_forward,
        Keys.LLM.VOCAB_SIZE: sizes.vocab,
        Keys.Attention.HEAD_COUNT: sizes.heads,
        Keys.Attention.HEAD_COUNT_KV: sizes.kv_heads,
        Keys.Attention.KEY_LENGTH: sizes.head_dim,
        Keys.Attention.VALUE_LENGTH: sizes.head_dim,
        Keys.Rope.DIMENSION_COUNT: sizes.head_dim,
    }
    return {key: KeyValue(value, GGUFValueType.UINT32) for key, value in counts.items()}


def _block_shapes(config_json: Mapping[str, Any], sizes: _Sizes) -> dict[str, tuple[int, ...]]:
    hidden, query, key = sizes.hidden, sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    projections = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (sizes.feed_forward, hidden),
        "mlp.up_proj": (sizes.feed_forward, hidden),
        "mlp.down_proj": (hidden, sizes.feed_forward),
    }
    biased = {"self_attn": bool(config_json.get("attention_bias")), "mlp": bool(config_json.get("mlp_bias"))}
    shapes: dict[str, tuple[int, ...]] = {}
    for block in range(sizes.blocks):
        prefix = f"model.layers.{block}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}.{name}.weight"] = (hidden,)
        for name, shape in projections.items():
            shapes[f"{prefix}.{name}.weight"] = shape
            if biased[name.partition(".")[0]]:
                shapes[f"{prefix}.{name}.bias"] = shape[:1]
    return shapes


def _permutations(sizes: _Sizes) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    return {
        f"model.layers.{block}.self_attn.{projection}.{part}": partial(permute_rows, heads=heads)
        for block in range(sizes.blocks)
        for projection, heads in (("q_proj", sizes.heads), ("k_proj", sizes.kv_heads))
        for part in ("weight", "bias")
    }


def _rope(
    config_json: Mapping[str, Any], fields: ConfigFields, head_dim: int
) -> tuple[dict[str, KeyValue], dict[str, torch.Tensor]]:
    """Returns the keys and the generated tensors of the rotary embedding, transformers 4's and 5's spelling alike."""
    table = config_json.get("rope_parameters") or config_json.get("rope_scaling") or {}
    if not isinstance(table, Mapping):
        fields.reject(f"{table!r} is no table", "rope_scaling")
        return {}, {}
    table = {"rope_theta": config_json.get("rope_theta"), **table}
    base = fields.number("rope_theta", 10000.0, within=table)
    keys = {Keys.Rope.FREQ_BASE: KeyValue(base, GGUFValueType.FLOAT32)}
    kind = table.get("rope_type", table.get("type")) or "default"
    if (table.get("partial_rotary_factor") or 1.0) != 1.0:
        fields.reject("rotary embedding of a part of each head", "partial_rotary_factor")
    if kind == "linear":
        factor = fields.number("factor", within=table)
        keys[Keys.Rope.SCALING_TYPE] = KeyValue(RopeScalingType.LINEAR.value, GGUFValueType.STRING)
        keys[Keys.Rope.SCALING_FACTOR] = KeyValue(factor, GGUFValueType.FLOAT32)
    elif kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        numbers = {name: fields.number(name, within=table) for name in names}
        if numbers["high_freq_factor"] <= numbers["low_freq_factor"]:
            fields.reject("must be above low_freq_factor", "high_freq_factor")
        else:
            factors = llama3_frequency_factors(head_dim, {"rope_theta": base, **numbers})
            return keys, {"rope_freqs.weight": factors}
    elif kind != "default":
        fields.reject(f"RoPE scaling {kind!r} is not covered", "rope_scaling", "covered: default, linear, llama3")
    return keys, {}


def _context_length(config_json: Mapping[str, Any], fields: ConfigFields, mistral: bool) -> int:
    """Returns the positions over which llama.cpp computes what the model does.

    llama.cpp gives this architecture no sliding window, so a Mistral model with one is the same model within it only.
    """
    context = fields.count("max_position_embeddings")
    if not mistral:
        return context
    window = config_json.get("sliding_window", _MISTRAL_SLIDING_WINDOW)
    return context if window is None else min(context, fields.count("sliding_window", _MISTRAL_SLIDING_WINDOW))
