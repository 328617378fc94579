"""The rotary embedding: its keys, its scaling, and the order of rows that llama.cpp rotates in."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from gguf import Keys, RopeScalingType

from edgeft.convert.draft import Draft

TABLE = "rope_parameters"
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# What llama.cpp computes with, whatever the file says, except for the architectures that pass `any_beta`.
_YARN_BETAS = {
    "beta_fast": (32.0, Keys.Rope.SCALING_YARN_BETA_FAST),
    "beta_slow": (1.0, Keys.Rope.SCALING_YARN_BETA_SLOW),
}


def add_rope(draft: Draft, scalings: Collection[str] = ("linear", "yarn"), table: str = TABLE) -> None:
    """Adds base frequency and scaling; `scalings` are those that llama.cpp computes for this architecture.

    "dynamic" is always taken as none: it begins where the context that the file states ends.
    """
    config, values = draft.config, draft.config.table(table)
    draft.key(Keys.Rope.FREQ_BASE, config.number("rope_theta", within=table))
    kind = rope_kind(draft, table)
    if (values.get("partial_rotary_factor") or 1.0) != 1.0:
        config.reject("rotary embedding of a part of each head", f"{table}.partial_rotary_factor")
    if kind in ("default", "dynamic"):
        return
    if kind not in scalings:
        covered = ", ".join(("default", "dynamic", *scalings))
        config.reject(f"RoPE scaling {kind!r} is not covered", table, f"covered: {covered}")
    elif kind == "linear":
        draft.key(Keys.Rope.SCALING_TYPE, RopeScalingType.LINEAR.value)
        draft.key(Keys.Rope.SCALING_FACTOR, config.number("factor", within=table))
    elif kind == "yarn":
        add_yarn(draft, table)
    elif kind == "llama3":
        _add_llama3(draft, table)


def rope_kind(draft: Draft, table: str = TABLE) -> str:
    """Returns the name of the scaling: "default" for none."""
    values = draft.config.table(table)
    return str(values.get("rope_type") or values.get("type") or "default")


def add_yarn(draft: Draft, table: str, *, any_beta: bool = False) -> None:
    """Adds YaRN's keys (Peng et al. 2023), as transformers computes it and llama.cpp's ggml_rope_yarn_corr_dims.

    llama.cpp reads the two betas for `any_beta` architectures only, and scales attention by 0.1 ln(factor) + 1.
    """
    config, values = draft.config, draft.config.table(table)
    factor = config.number("factor", within=table)
    draft.key(Keys.Rope.SCALING_TYPE, RopeScalingType.YARN.value)
    draft.key(Keys.Rope.SCALING_FACTOR, factor)
    original = values.get("original_max_position_embeddings") or config.count("max_position_embeddings")
    draft.key(Keys.Rope.SCALING_ORIG_CTX_LEN, original)
    for name, (usual, key) in _YARN_BETAS.items():
        value = config.number(name, usual, within=table)
        if values.get(name) is not None:
            draft.key(key, value)
        if value != usual and not any_beta:
            config.reject(f"{value}: llama.cpp computes with {usual}", f"{table}.{name}")
    usual = 0.1 * math.log(factor) + 1
    if not math.isclose(config.number("attention_factor", usual, within=table), usual, rel_tol=1e-6):
        config.reject(f"llama.cpp computes with {usual:.6g}", f"{table}.attention_factor")
    if values.get("truncate") is False:
        config.reject("llama.cpp rounds the bounds of the ramp", f"{table}.truncate")


def _add_llama3(draft: Draft, table: str) -> None:
    numbers = {name: draft.config.number(name, within=table) for name in ("rope_theta", *_LLAMA3)}
    if numbers["high_freq_factor"] <= numbers["low_freq_factor"]:
        draft.config.reject("must be above low_freq_factor", f"{table}.high_freq_factor")
    else:
        draft.generate("rope_freqs.weight", llama3_frequency_factors(draft.head_dim, numbers))


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


def permute_rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorders the rows of a query or key projection (or its bias) for llama.cpp's rotary embedding.

    transformers rotates the pairs (i, i + head_dim / 2) of a head; llama.cpp, for the architectures that need this,
    the neighbours (2i, 2i + 1).
    """
    rows = weight.shape[0]
    return weight.view(heads, 2, rows // heads // 2, -1).transpose(1, 2).reshape(weight.shape)
