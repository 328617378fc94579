"""The numbers of the model in the file's keys, against the checkpoint's configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from edgeft.gguf_header import GgufHeader, Strings
from edgeft.llamacpp import dequantize
from edgeft.parity.distributions import Doubles
from edgeft.parity.ladder import Failure, Rung, rung
from edgeft.parity.reference import ModelFacts

NAME: Final = "metadata"

# transformers' model_type and the architecture under which llama.cpp computes it. A type that is not listed is not held
# to one.
ARCHITECTURES: Final = {
    **{"llama": "llama", "mistral": "llama", "mixtral": "llama", "ministral3": "mistral3", "smollm3": "smollm3"},
    **{"qwen2": "qwen2", "qwen2_moe": "qwen2moe", "qwen3": "qwen3", "qwen3_moe": "qwen3moe"},
    **{"gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3", "gemma3": "gemma3"},
    **{"phi3": "phi3", "granite": "granite", "lfm2": "lfm2", "olmo2": "olmo2"},
}

# Keys of config.json, the file's key for each, what it is called, and what llama.cpp takes where the key is missing.
_NUMBERS: Final = (
    ("num_hidden_layers", "block_count", "the number of layers", None),
    ("hidden_size", "embedding_length", "the width", None),
    ("intermediate_size", "feed_forward_length", "the width of the feed-forward layer", None),
    ("num_attention_heads", "attention.head_count", "the number of heads", None),
    ("num_key_value_heads", "attention.head_count_kv", "the number of key and value heads", "heads"),
    ("head_dim", "attention.key_length", "the width of a head", "head width"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon", "the norms' epsilon", None),
    ("layer_norm_eps", "attention.layer_norm_epsilon", "the norms' epsilon", None),
    ("attn_logit_softcapping", "attn_logit_softcapping", "the soft cap of attention", "soft cap"),
    ("final_logit_softcapping", "final_logit_softcapping", "the soft cap of the logits", "soft cap"),
    ("logits_scaling", "logit_scale", "the scale of the logits", "one"),
    ("residual_multiplier", "residual_scale", "the scale of the residual", "one"),
    ("embedding_multiplier", "embedding_scale", "the scale of the embedding", "one"),
    ("attention_multiplier", "attention.scale", "the scale of attention", None),
    ("num_local_experts", "expert_count", "the number of experts", None),
    ("num_experts_per_tok", "expert_used_count", "the number of experts used", None),
)
# llama.cpp's own values for gemma2 where a file is silent (src/models/gemma2.cpp).
_SOFT_CAPS: Final = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
# What newer architectures (Gemma 4) give to each layer in another way; it is held to where that is known not to be.
_BY_LAYER: Final = ("intermediate_size", "num_key_value_heads", "head_dim")
_SLIDING: Final = "sliding_attention"
# The kinds of layers that have a rotary embedding of their own, and the key of its base.
_BASES: Final = (
    ("", "rope.freq_base"),
    ("full_attention", "rope.freq_base"),
    (_SLIDING, "rope.freq_base_swa"),
)
# GGUF keeps float32, config.json a decimal of a few places.
_RELATIVE = 1e-6
# Frequencies are computed in float32 on both sides, by powers of a base: measured 4e-7 apart.
_FREQUENCY_RELATIVE = 1e-4
_REMEDY = "convert the model again; if another tool made the file, it misread config.json"


def check_metadata(header: GgufHeader, facts: ModelFacts) -> Rung:
    """Compares architecture, sizes, epsilons, soft caps, scales, sliding window and rotary frequencies."""
    failures = list(_failures(header, facts))
    return rung(NAME, failures, {"architecture": header.arch, "keys": len(header.keys), "compared": len(_NUMBERS)})


def _failures(header: GgufHeader, facts: ModelFacts) -> Iterator[Failure]:
    expected = ARCHITECTURES.get(str(facts.config.get("model_type")))
    if expected not in (None, header.arch):
        what = f"the file's architecture is {header.arch!r}, the model's is {expected!r}"
        yield Failure(NAME, what, "general.architecture", _REMEDY)
        return
    yield from _number_failures(header, facts.config)
    yield from _window_failures(header, facts.config)
    yield from _frequency_failures(header, facts)


def _number_failures(header: GgufHeader, config: Mapping[str, Any]) -> Iterator[Failure]:
    for name, key, meaning, default in _NUMBERS:
        theirs, ours = config.get(name), header.arch_key(key)
        ours = _default(default, name, header) if ours is None else ours
        if isinstance(ours, np.ndarray):  # one for each layer, 0 where a layer has none
            ours = ours.max().item()
        if name == "intermediate_size" and config.get("block_auto_adjust_ff_dim"):
            continue  # LFM2 computes its width from this one
        if name.endswith("softcapping"):
            theirs, ours = theirs or 0.0, ours or 0.0
        if not isinstance(theirs, int | float) or isinstance(ours, Strings) or (not theirs and ours is None):
            continue
        if name in _BY_LAYER and header.arch not in ARCHITECTURES.values():
            continue
        where = f"{header.arch}.{key}"
        if ours is None:
            yield Failure(NAME, f"{meaning} is missing, the model's is {theirs:g}", where, _REMEDY)
        elif not math.isclose(float(ours), float(theirs), rel_tol=_RELATIVE):
            yield Failure(NAME, f"{meaning} is {ours:g} in the file, the model's is {theirs:g}", where, _REMEDY)


def _default(kind: str | None, name: str, header: GgufHeader) -> Any:
    heads = header.arch_key("attention.head_count")
    if kind == "heads":
        return heads
    if kind == "head width" and isinstance(heads, int) and heads:
        return header.arch_key("embedding_length") // heads
    if kind == "soft cap" and header.arch == "gemma2":
        return _SOFT_CAPS[name]
    return 1.0 if kind == "one" else None


def _window_failures(header: GgufHeader, config: Mapping[str, Any]) -> Iterator[Failure]:
    """A window matters only to a context that is longer: a file may leave it out and be shorter instead."""
    window = config.get("sliding_window")
    if not isinstance(window, int) or config.get("use_sliding_window") is False:
        return
    context, ours = header.arch_key("context_length") or 0, header.arch_key("attention.sliding_window")
    where = f"{header.arch}.attention.sliding_window"
    if not ours and context > window:
        what = f"the sliding window of {window} tokens is missing, and the file allows {context} tokens of context"
        yield Failure(NAME, what, where, _REMEDY)
    elif ours and isinstance(ours, int) and ours != window:
        yield Failure(NAME, f"the sliding window is {ours} tokens in the file, the model's is {window}", where, _REMEDY)


def _frequency_failures(header: GgufHeader, facts: ModelFacts) -> Iterator[Failure]:
    """Compares what the rotary embedding turns by, whatever the keys that say so: base, scaling, factors."""
    for kind, bases in _BASES:
        theirs = np.array(facts.frequencies.get(kind, []), dtype=np.float64)
        ours = _frequencies(header, header.arch_key(bases), 2 * len(theirs), scaled=kind != _SLIDING)
        if not len(theirs) or ours is None or not _is_plain_rope(facts, kind):
            continue
        wrong = np.flatnonzero(np.abs(ours / theirs - 1) > _FREQUENCY_RELATIVE)
        if len(wrong):
            first = int(wrong[0])
            apart = f"dimension {2 * first} turns by {ours[first]:.4g} instead of {theirs[first]:.4g} a token"
            yield _frequency_failure(header, _table(facts, kind), bases, apart)


def _is_plain_rope(facts: ModelFacts, kind: str) -> bool:
    """YaRN and LongRoPE scale within llama.cpp by the length of the text: their keys are not computed here."""
    return _table(facts, kind).get("rope_type", "default") in ("default", "linear", "llama3")


def _table(facts: ModelFacts, kind: str) -> Mapping[str, Any]:
    table: dict[str, Any] = facts.config.get("rope_parameters") or {}
    found: dict[str, Any] = table.get(kind, table) if kind else table
    return found


def _frequencies(header: GgufHeader, base: Any, width: int, *, scaled: bool) -> Doubles | None:
    """Returns the radians a token of each pair of dimensions; llama.cpp scales no layers with a sliding window."""
    dimensions = int(header.arch_key("rope.dimension_count") or width)
    if dimensions != width:
        return None
    turns: Doubles = float(base or 10000.0) ** (-np.arange(0, width, 2, dtype=np.float64) / max(width, 1))
    if not scaled:
        return turns
    if header.arch_key("rope.scaling.type") == "linear":
        turns = turns / float(header.arch_key("rope.scaling.factor") or 1.0)
    factors = _factors(header)
    return turns if factors is None or len(factors) != len(turns) else turns / factors


def _factors(header: GgufHeader) -> Doubles | None:
    info = header.tensors.get("rope_freqs.weight")
    if info is None or not header.is_whole(info):
        return None
    data = np.fromfile(info.path, dtype=np.uint8, count=info.size_bytes, offset=info.start)
    return dequantize(data, info.type).astype(np.float64)


def _frequency_failure(header: GgufHeader, table: Mapping[str, Any], base_key: str, apart: str) -> Failure:
    """Names what of the rotary embedding is wrong: the base where it is another, else the scaling."""
    base, expected = float(header.arch_key(base_key) or 10000.0), float(table.get("rope_theta", 10000.0))
    arch = header.arch
    if not math.isclose(base, expected, rel_tol=_RELATIVE):
        what = f"the RoPE base is {base:g} in the file, the model's is {expected:g}"
        return Failure(NAME, what, f"{arch}.{base_key}", _REMEDY)
    kind = table.get("rope_type", "default")
    scaling = header.arch_key("rope.scaling.type") or "none"
    if kind == "llama3":
        missing = "rope_freqs.weight" not in header.tensors
        what = f"the RoPE scaling factors are {'missing' if missing else 'wrong'}: {apart}"
        return Failure(NAME, what, "rope_freqs.weight", _REMEDY)
    what = f"the RoPE scaling is {scaling!r} in the file, the model's is {kind!r}: {apart}"
    return Failure(NAME, what, f"{arch}.rope.scaling.type, {arch}.rope.scaling.factor", _REMEDY)
